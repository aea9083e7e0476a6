"""Time and memory of iterative stratification, and how well it matches labels beside chance.

    python -m benchmarks.splits --n-documents 300000 --n-labels 8000

Labels follow a Zipf law, 15 a document on average; a patient has 1.8 documents on average. Memory is the peak of the
whole process, label sets as Python lists included.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy import sparse

from pipeline.notes.splits import assign_splits
from pipeline.notes.stratification import label_match


def build_corpus(n_documents: int, n_labels: int, seed: int) -> tuple[list[str], list[list[int]]]:
    """Patient and label ids of each document."""
    generator = np.random.default_rng(seed)
    patients = generator.integers(max(n_documents // 2, 1), size=n_documents)
    share = 1 / np.arange(1, n_labels + 1)
    counts = generator.poisson(14, size=n_documents) + 1
    drawn = generator.choice(n_labels, size=counts.sum(), p=share / share.sum())
    ids = [np.unique(one).tolist() for one in np.split(drawn, np.cumsum(counts)[:-1])]
    return [f"p{patient}" for patient in patients], ids


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description="Time and memory of iterative stratification by patient.")
    parser.add_argument("--n-documents", type=int, default=30_000)
    parser.add_argument("--n-labels", type=int, default=8_000)
    arguments = parser.parse_args()
    patient_ids, ids = build_corpus(arguments.n_documents, arguments.n_labels, seed=0)
    names = [f"icd10cm:{number:05d}" for number in range(arguments.n_labels)]
    label_sets = [[names[one] for one in document] for document in ids]
    rows = np.repeat(np.arange(len(ids)), [len(one) for one in ids])
    columns = np.concatenate([np.array(one) for one in ids])
    shape = (len(ids), arguments.n_labels)
    labels = sparse.csr_array((np.ones(len(columns), dtype=bool), (rows, columns)), shape=shape)
    print(
        f"{shape[0]:,} documents, {len(set(patient_ids)):,} patients, {shape[1]:,} labels, {labels.nnz:,} occurrences"
    )
    for method, given in (("random", None), ("stratified", label_sets)):
        start = time.perf_counter()
        splits = assign_splits(patient_ids, val=0.1, test=0.15, seed=0, label_sets=given)
        seconds = time.perf_counter() - start
        match = label_match(labels, splits)
        shown = ", ".join(
            f"{name}: {splits.count(name) / len(splits):.3f} of documents, difference "
            f"{one['share_difference']:.2e}, {one['n_labels_absent']:.0f} labels absent"
            for name, one in match.items()
        )
        print(f"{method}: {seconds:.1f} s; {shown}", flush=True)
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
