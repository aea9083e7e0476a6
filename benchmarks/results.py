"""Tables of measurements: printed as Markdown and, when asked, kept in RESULTS.md with date, command and machine."""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def growth_of_peak(run: Callable[[], object]) -> float | None:
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


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Example:
        >>> print(table(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    return "\n".join(_table_lines(header, rows))


def printed_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, each row printed as soon as it is measured."""
    lines = []
    for line in _table_lines(header, rows):
        print(line, flush=True)
        lines.append(line)
    print()
    return "\n".join(lines)


def _table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def command(name: str) -> str:
    """The command that this process was started with, but for ``--write``."""
    return shlex.join(["python", "-m", f"benchmarks.{name}", *(one for one in sys.argv[1:] if one != "--write")])


def keep(title: str, command: str, machine_text: str, parts: Sequence[str]) -> None:
    """Append tables and remarks to RESULTS.md."""
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    text = "\n\n".join([f"## {title}", f"{date}, `{command}`; {machine_text}.", *parts])
    with RESULTS_PATH.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
