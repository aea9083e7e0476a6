"""How many labels find a partner in their batch, by batch size and probability of bringing one.

    python -m benchmarks.partners [--write]     # seconds; no model, so the same on every machine

8,000 documents with 15 labels each, drawn from a Zipf law over 8,929 labels.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from benchmarks import results
from pipeline.training.sampling import BatchPlan, Partners

N_DOCUMENTS, N_LABELS, N_LABELS_EACH = 8000, 8929, 15
MAX_CARRIERS_OF_RARE = 10
BATCH_SIZES, PROBABILITIES = (16, 64, 256, 1024), (0.0, 0.5, 1.0)


def build_label_sets() -> list[list[int]]:
    """Label sets of all documents."""
    chance = np.random.default_rng(0)
    share = 1 / np.arange(1, N_LABELS + 1)
    share /= share.sum()
    return [chance.choice(N_LABELS, N_LABELS_EACH, replace=False, p=share).tolist() for _ in range(N_DOCUMENTS)]


def measure(label_sets: list[list[int]], batch_size: int, probability: float) -> tuple[float, float]:
    """Share of label occurrences with a partner in the batch: of all, and of labels with 2 to 10 carriers."""
    plan = BatchPlan(range(N_DOCUMENTS), batch_size, 0, Partners(probability, label_sets))
    n_carriers = Counter(label for labels in label_sets for label in labels)
    met: dict[bool, list[bool]] = {False: [], True: []}
    for batch in plan.global_batches(0):
        in_batch = Counter(label for row in batch for label in label_sets[row])
        for label, count in in_batch.items():
            is_rare = 2 <= n_carriers[label] <= MAX_CARRIERS_OF_RARE
            met[is_rare] += [count > 1] * count
    return float(np.mean(met[False] + met[True])), float(np.mean(met[True]))


def main() -> None:
    """Print the table, and keep it if asked."""
    parser = argparse.ArgumentParser(description="Labels with a partner in the batch.")
    parser.add_argument("--write", action="store_true", help="append the table to benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    label_sets = build_label_sets()
    rows = []
    for batch_size in BATCH_SIZES:
        found = [measure(label_sets, batch_size, probability) for probability in PROBABILITIES]
        rows.append([f"{batch_size:,}", *(f"{100 * of_all:.0f} % ({100 * rare:.1f} %)" for of_all, rare in found)])
    header = ["documents a batch", *(f"q = {probability:g}" for probability in PROBABILITIES)]
    remark = (
        f"Share of label occurrences with a partner in the batch; in brackets, of labels that 2 to "
        f"{MAX_CARRIERS_OF_RARE} of {N_DOCUMENTS:,} documents carry."
    )
    parts = [remark, results.table(header, rows)]
    print("\n\n".join(parts))
    if arguments.write:
        results.keep("Partners in a batch", "python -m benchmarks.partners", "no times, so any machine", parts)


if __name__ == "__main__":
    main()
