"""Time and memory of the evaluation metric on 8,000 labels and 20,000 documents.

    python -m benchmarks.metric [--write]     # about a minute; label lists alone, and with all probabilities

Every document has 12 labels drawn from a Zipf law, of which a made-up system finds two thirds.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks import results
from pipeline.evaluation.icd_metric import IcdCodingMetric

N_DOCUMENTS, N_LABELS, N_LABELS_EACH = 20_000, 8_000, 12


def build_answers() -> tuple[list[list[int]], list[list[int]]]:
    """Label ids of every document: true ones, and what is predicted of them and beside them."""
    chance = np.random.default_rng(0)
    share = 1 / np.arange(1, N_LABELS + 1)
    drawn = chance.choice(N_LABELS, (N_DOCUMENTS, N_LABELS_EACH * 2), p=share / share.sum())
    true = [np.unique(row[:N_LABELS_EACH]).tolist() for row in drawn]
    n_found = N_LABELS_EACH * 2 // 3
    predicted = [np.unique(row[N_LABELS_EACH - n_found : -n_found]).tolist() for row in drawn]
    return true, predicted


def build_probabilities(true: list[list[int]]) -> NDArray[np.float32]:
    """Of every label of every document; those of true ones are higher on average."""
    probabilities = np.random.default_rng(1).random((N_DOCUMENTS, N_LABELS), dtype=np.float32) ** 8
    for row, labels in zip(probabilities, true, strict=True):
        row[labels] **= 0.25
    return probabilities


def measure(*, with_probabilities: bool) -> list[str]:
    """Cells of a row: what is scored, seconds, and growth of the peak."""
    true, predicted = build_answers()
    probabilities = build_probabilities(true) if with_probabilities else None
    seconds = []

    def run() -> None:
        started = time.perf_counter()
        metric = IcdCodingMetric(n_labels=N_LABELS)
        more = {} if probabilities is None else {"probabilities": probabilities}
        scores = metric.compute(predictions=predicted, references=true, **more)
        if not 0 < scores["micro_f1"] < 1:
            raise RuntimeError(f"micro-F1 is {scores['micro_f1']}")
        seconds.append(time.perf_counter() - started)

    growth = results.growth_of_peak(run)
    held = 0 if probabilities is None else probabilities.nbytes / 2**20
    what = "label lists and probabilities" if with_probabilities else "label lists"
    return [what, f"{seconds[0]:.1f}", "–" if growth is None else f"{growth:,.0f}", f"{held:,.0f}"]


def main() -> None:
    """Print the table, and keep it if asked."""
    parser = argparse.ArgumentParser(description="Time and memory of the metric.")
    parser.add_argument("--write", action="store_true", help="append the table to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    where = results.machine(1)
    print(where, file=sys.stderr)
    header = ["scored", "seconds", "memory on top, MB", "probabilities themselves, MB"]
    rows = (measure(with_probabilities=one) for one in (False, True))
    part = results.printed_table(header, rows)
    if arguments.write:
        title = f"The metric on {N_LABELS:,} labels and {N_DOCUMENTS:,} documents"
        results.keep(title, results.command("metric"), where, [part])


if __name__ == "__main__":
    main()
