"""Growth of the peak memory in a training step: a cell of the table of benchmarks/training.py, in a process of its own.

python -m benchmarks.training_memory classifier 64 1
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import datasets
import psutil
import torch
from accelerate import Accelerator

from benchmarks import results
from benchmarks.training_cases import STAGES, Stage, build_loader, build_ours, build_tokens
from pipeline.training.loop import run_backward

CASES: dict[str, tuple[Stage, bool]] = {
    "contrastive, activations kept": ("contrastive", False),
    "contrastive, `gradient_cache`": ("contrastive", True),
    "classifier": ("classifier", False),
}
"""Stage and whether micro-batches are recomputed."""


def growth_in_a_step(stage: Stage, batch_size: int, *, gradient_cache: bool) -> float:
    """Growth of the peak resident set in MB in a step of documents of at most 128 tokens, NaN if untold."""
    model = build_ours(stage, gradient_cache=gradient_cache).train()
    loader = build_loader(build_tokens(batch_size, 128), batch_size)
    accelerator = Accelerator(cpu=True)
    # Gradients of the parameters and what a library allocates once are no matter of the batch.
    run_backward(model, model, loader.collate([0, 1], 2), accelerator)
    batch = loader.collate(range(batch_size), batch_size)
    growth = results.growth_of_peak(lambda: run_backward(model, model, batch, accelerator))
    return float("nan") if growth is None else growth


def memory_rows(batch_sizes: Sequence[int], n_threads: int) -> Iterator[list[str]]:
    """Cells of the table of memory; a batch is left out where growth so far says that it would not fit."""
    growth = dict.fromkeys(CASES, 0.0)  # MB per document
    for batch_size in batch_sizes:
        cells = [str(batch_size)]
        for name, (stage, gradient_cache) in CASES.items():
            if growth[name] * batch_size > 0.8 * psutil.virtual_memory().available / 2**20:
                cells.append(f"about {growth[name] * batch_size:,.0f}, not run")
                continue
            command = [sys.executable, "-m", "benchmarks.training_memory", stage, str(batch_size), str(n_threads)]
            command += ["--gradient-cache"] if gradient_cache else []
            # Else glibc keeps freed blocks of many sizes, and what is resident is up to three times what is in use.
            environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found = float(result.stdout.split()[-1])
            growth[name] = found / batch_size
            cells.append(f"{found:,.0f}")
        yield cells


def main() -> None:
    """Print the growth of one step."""
    parser = argparse.ArgumentParser(description="Growth of the peak memory in a training step, in MB.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("n_threads", type=int)
    parser.add_argument("--gradient-cache", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.n_threads)
    datasets.disable_progress_bars()
    print(growth_in_a_step(arguments.stage, arguments.batch_size, gradient_cache=arguments.gradient_cache))


if __name__ == "__main__":
    main()
