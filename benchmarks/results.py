"""Tables of measurements: printed as Markdown and, when asked, kept in RESULTS.md with date, command and machine."""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

RESULTS_PATH = Path(__file__).with_name("RESULTS.md")


def machine(n_threads: int) -> str:
    """What a time depends on: processor, cores, threads, load and library."""
    models = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.machine()
    load = os.getloadavg()[0]
    return (
        f"{processor}, {os.cpu_count()} cores, {n_threads} threads, load before the run {load:.1f}, "
        f"torch {torch.__version__}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def growth_of_peak(run: Callable[[], None]) -> float | None:
    """Growth of the peak resident set in MB during a run, None where the system does not tell (it is not Linux)."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
        before = _resident_mb("VmRSS")
        run()
        return max(_resident_mb("VmHWM") - before, 0.0)
    except OSError:
        return None


def _resident_mb(name: str) -> float:
    return next(int(line.split()[1]) / 1024 for line in _lines("/proc/self/status") if line.startswith(name))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Example:
        >>> print(table(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [header, *rows]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(header), *text[1:]])


def keep(title: str, command: str, machine_text: str, parts: Sequence[str]) -> None:
    """Append tables and remarks to RESULTS.md."""
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    text = "\n\n".join([f"## {title}", f"{date}, `{command}`; {machine_text}.", *parts])
    with RESULTS_PATH.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
