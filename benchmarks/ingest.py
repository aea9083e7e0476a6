"""Time and peak memory of ingestion beside the polars script it replaces and the floor, on the same synthetic files.

    python -m benchmarks.ingest --shape mimic4 --scale 0.01              # a minute, most of it making the files
    python -m benchmarks.ingest --shape mimic3 --scale 0.1 0.5 1 --write # full size; adds the table to RESULTS.md

The floor is run twice, with zlib as most tools have it and with ISA-L as ours. Each run is a process of its own, which
is watched from outside (resident set of the process and its children). Ours is the stage as users run it, imports,
checks and digests of the raw files included. Raw files are made once for a size and kept in --dir. Scale 1 is MIMIC-III
1.4 (2.08 million notes) or MIMIC-IV-Note 2.2 (331,794 summaries).
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.ingest_peers import tables
from data_recipes import recipe_names

TITLES = {"mimic3": "MIMIC-III", "mimic4": "MIMIC-IV"}
N_DOCUMENTS = {"mimic3": 52_726, "mimic4": 331_794}
RECIPES = {"mimic3": ("mimic3_full",), "mimic4": ("mimic4_icd10", "mimic4")}
RESULTS = Path(__file__).with_name("RESULTS.md")
POLL_S = 0.02
HEADER = (
    "scale", "rows", "GB unpacked", "floor s, zlib", "floor s, ISA-L", "ours s (× floor, zlib)", "polars s (× ours)",
    "peak MB ours / polars", "documents ours / polars",
)  # fmt: skip


class Measured(NamedTuple):
    """One run: wall-clock seconds, peak resident set in MB, what it printed."""

    seconds: float
    peak_mb: float
    output: str


def watch(command: Sequence[str]) -> Measured:
    """Run a command and watch its memory from outside.

    Raises:
        SystemExit: if it fails; its last words are shown.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watched, peak = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        peak = max(peak, resident_mb(watched), high_water_mb(process.pid))
        time.sleep(POLL_S)
    seconds = time.perf_counter() - start
    output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return Measured(seconds, peak, output)


def resident_mb(process: psutil.Process) -> float:
    """Resident set of a process and all its children now; 0 if it has just ended."""
    try:
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6
    except psutil.Error:
        return 0.0


def high_water_mb(pid: int) -> float:
    """Highest resident set of the process so far, which catches peaks between two looks; 0 where not told."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)


def make_raw(folder: Path, shape: str, scale: float, *, n_codes: int, mean_words: int) -> Path:
    """Synthetic raw files; those made before with the same settings stay."""
    n_documents = max(round(N_DOCUMENTS[shape] * scale), 20)
    raw = folder / f"{shape}-{n_documents}-{n_codes}-{mean_words}"
    settings = {"shape": shape, "n-documents": n_documents, "n-codes": n_codes, "mean-words": mean_words, "seed": 0}
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "data_recipes.synthetic", "--output", str(raw), *flags], check=True)
    return raw


def unpacked_gb(raw: Path) -> float:
    """Size of all raw files without gzip."""
    n_bytes = 0
    for path in tables(raw):
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "gzip") as stream:
            while chunk := stream.read(4 << 20):
                n_bytes += len(chunk)
    return n_bytes / 1e9


def commands(shape: str, raw: Path, work: Path) -> dict[str, list[str]]:
    """What is run: the floor twice, ours, the yardstick."""
    recipe = next(name for name in RECIPES[shape] if name in recipe_names())
    config = {
        "experiment": "ingest",
        "work_dir": str(work),
        "tracking": {"enabled": False},
        "data": {"recipe": recipe, "raw": str(raw)},
    }
    work.mkdir(parents=True)
    (work / "ingest.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    peers = [sys.executable, "-m", "benchmarks.ingest_peers"]
    return {
        "floor, zlib": [*peers, "floor", str(raw), "--gunzip", "zlib"],
        "floor, ISA-L": [*peers, "floor", str(raw), "--gunzip", "isal"],
        "ours": [sys.executable, "-m", "pipeline.stages.ingest", "--config", str(work / "ingest.yaml")],
        "polars": [*peers, "yardstick", str(raw), "--shape", shape, "--output", str(work / "polars.parquet")],
    }


def measure(shape: str, raw: Path, work: Path, *, repeats: int) -> dict[str, list[Measured]]:
    """All runs; repeats alternate, so that a busy moment hits all alike."""
    shutil.rmtree(work, ignore_errors=True)
    of_name = commands(shape, raw, work)
    runs: dict[str, list[Measured]] = {name: [] for name in of_name}
    for name, command in list(of_name.items()) * repeats:
        runs[name].append(watch(command))
        print(f"{name}: {runs[name][-1].seconds:.1f} s, {runs[name][-1].peak_mb:,.0f} MB", file=sys.stderr, flush=True)
    return runs


def cells(scale: float, raw: Path, work: Path, runs: dict[str, list[Measured]]) -> list[str]:
    """One row of the table: least times, highest peaks."""
    seconds = {name: min(one.seconds for one in measured) for name, measured in runs.items()}
    peaks = [f"{max(one.peak_mb for one in runs[name]):,.0f}" for name in ("ours", "polars")]
    n_ours = pq.read_metadata(work / "ingest" / "documents.parquet").num_rows
    n_polars = json.loads(runs["polars"][-1].output)["documents"]
    return [
        f"{scale:g}",
        f"{json.loads(runs['floor, zlib'][-1].output)['rows']:,}",
        f"{unpacked_gb(raw):.2f}",
        f"{seconds['floor, zlib']:.1f}",
        f"{seconds['floor, ISA-L']:.1f}",
        f"{seconds['ours']:.1f} ({seconds['ours'] / seconds['floor, zlib']:.2f}×)",
        f"{seconds['polars']:.1f} ({seconds['polars'] / seconds['ours']:.2f}×)",
        " / ".join(peaks),
        f"{n_ours:,} / {n_polars:,}",
    ]


def main() -> None:
    """Print the table, and add it to the results where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(N_DOCUMENTS), default="mimic4")
    parser.add_argument("--scale", type=float, nargs="+", default=[0.01], help="parts of full size, such as 0.1 0.5 1")
    parser.add_argument("--mean-words", type=int, default=1_500, help="mean length of a summary")
    parser.add_argument("--n-codes", type=int, default=8_000, help="different codes that may come up")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; the least time counts")
    parser.add_argument("--dir", type=Path, default=Path("work/benchmarks"), help="holds raw files and outputs")
    parser.add_argument("--write", action="store_true", help="add the table to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for scale in arguments.scale:
        raw = make_raw(
            arguments.dir, arguments.shape, scale, n_codes=arguments.n_codes, mean_words=arguments.mean_words
        )
        work = arguments.dir / f"run-{arguments.shape}"
        runs = measure(arguments.shape, raw, work, repeats=arguments.repeats)
        lines.append("| " + " | ".join(cells(scale, raw, work, runs)) + " |")
    print("\n".join(lines))
    if arguments.write:
        write_results(arguments.shape, lines)


def write_results(shape: str, table: Sequence[str]) -> None:
    """Add the table with date, command and machine."""
    command = f"python -m benchmarks.ingest {' '.join(sys.argv[1:])}"
    today = datetime.datetime.now(datetime.UTC).date()
    heading = f"## Ingestion of a synthetic {TITLES[shape]}\n\n{today}, {psutil.cpu_count()} CPU cores, `{command}`."
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write("\n".join(["", heading, "", *table, ""]))


if __name__ == "__main__":
    main()
