"""What needs the probabilities themselves: ranks of the true labels, areas under curves.

Probabilities are looked at in chunks, as :mod:`pipeline.evaluation.cells` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.cells import check_probabilities, count_cells, document_chunks, true_cell_values
from pipeline.evaluation.label_counts import (
    Counts,
    Floats,
    LabelMatrix,
    as_label_matrix,
    count_by_document,
    count_by_label,
    mean_or,
    ratio,
)


def rank_true_labels(true: LabelMatrix, probabilities: NDArray[np.float32]) -> Counts:
    """Rank each true label among all labels of its document, the most probable one first.

    Equal probabilities are ranked by position in the label space, the first one first: a rule that knows
    nothing of the truth and does not depend on a sorting algorithm.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].

    Returns:
        Ranks from 1 to n_labels, shape (number of true cells,), in the row order of ``true``.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the shapes differ or a probability is not in [0, 1].
    """
    true = as_label_matrix("true", true)
    check_probabilities(probabilities, true.shape)
    ranks = np.empty(true.indices.size, dtype=np.int64)
    for document, (start, stop) in enumerate(zip(true.indptr[:-1], true.indptr[1:], strict=True)):
        if start < stop:
            ranks[start:stop] = _ranks_in_document(probabilities[document], true.indices[start:stop])
    return ranks


def _ranks_in_document(row: NDArray[np.float32], labels: NDArray[np.integer]) -> Counts:
    # A comparison for each true label beats sorting: a document has about 15 of 8,000 labels.
    values = row[labels][:, np.newaxis]
    n_above = (row > values).sum(axis=1)
    n_at_or_above = (row >= values).sum(axis=1)
    ranks: Counts = n_above + 1
    if (n_at_or_above > ranks).any():
        is_earlier = np.arange(row.size) < labels[:, np.newaxis]
        ranks = ranks + ((row == values) & is_earlier).sum(axis=1)
    return ranks


def scores_by_document(true: LabelMatrix, ranks: Counts, *, ks: Sequence[int]) -> dict[str, Floats]:
    """Ranking scores of each document from the ranks of its true labels.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        ranks: from ``rank_true_labels``.
        ks: cut-offs of precision and recall.

    Returns:
        Arrays of shape (n_documents,): ``precision_at_k`` (true labels among the first k, divided by k even
        if the label space is smaller), ``recall_at_k``, ``r_precision`` (precision among as many labels as
        the document has) and ``average_precision`` (mean over the true labels of the precision at their
        rank). The last three are 0 for a document without labels; leave such documents out of a mean.
    """
    true = as_label_matrix("true", true)
    n_documents = true.shape[0]
    n_true = count_by_document(true)
    rows = np.repeat(np.arange(n_documents), n_true)
    order = np.lexsort((ranks, rows))  # the rows are ascending already: sorts within each document
    place = np.arange(ranks.size) - np.repeat(true.indptr[:-1], n_true) + 1
    precision_at_rank = np.bincount(rows, weights=place / ranks[order], minlength=n_documents)
    scores = {
        "average_precision": ratio(precision_at_rank, n_true),
        "r_precision": ratio(np.bincount(rows, weights=ranks <= n_true[rows], minlength=n_documents), n_true),
    }
    for k in ks:
        n_found = np.bincount(rows, weights=ranks <= k, minlength=n_documents)
        scores[f"precision_at_{k}"] = n_found / k
        scores[f"recall_at_{k}"] = ratio(n_found, n_true)
    return scores


def rank_scores(
    true: LabelMatrix, probabilities: NDArray[np.float32], *, ks: Sequence[int] = (5, 8, 15)
) -> dict[str, float]:
    """Mean ranking scores over documents: those of ``ranking_scores`` but the areas, which cost most of its time.

    - ``precision_at_k``: over all documents; a document without labels counts 0.
    - ``recall_at_k``, ``r_precision``, ``map``: over the documents with at least one label, 0 if none has.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        ks: cut-offs, each at least 1.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ, a probability is not in [0, 1], or a cut-off is below 1.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"ks must be cut-offs of at least 1, got {tuple(ks)}.")
    true = as_label_matrix("true", true)
    by_document = scores_by_document(true, rank_true_labels(true, probabilities), ks=ks)
    has_labels = count_by_document(true) > 0
    scores = {f"precision_at_{k}": mean_or(by_document[f"precision_at_{k}"], 0.0) for k in ks} | {
        f"recall_at_{k}": mean_or(by_document[f"recall_at_{k}"][has_labels], 0.0) for k in ks
    }
    return scores | {
        "r_precision": mean_or(by_document["r_precision"][has_labels], 0.0),
        "map": mean_or(by_document["average_precision"][has_labels], 0.0),
    }


def map_among(true: LabelMatrix, probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """MAP of some labels, ranked among themselves: mean over the documents with one of them, 0 if none has.

    Memory is that of a chunk of documents, however many labels there are.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        labels: which, ascending label indices.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ or a probability is not in [0, 1].
    """
    part = as_label_matrix("true", true)[:, labels]
    ranks = [
        rank_true_labels(part[chunk], probabilities[chunk][:, labels])
        for chunk in document_chunks(part.shape[0], labels.size)
    ]
    by_document = scores_by_document(part, np.concatenate(ranks) if ranks else np.zeros(0, dtype=np.int64), ks=())
    return mean_or(by_document["average_precision"][count_by_document(part) > 0], 0.0)


def ranking_scores(
    true: LabelMatrix,
    probabilities: NDArray[np.float32],
    *,
    ks: Sequence[int] = (5, 8, 15),
    label_aucs: Floats | None = None,
) -> dict[str, float]:
    """Mean ranking scores over documents, and areas under ROC curves.

    Beside those of ``rank_scores``:

    - ``micro_roc_auc``: over all cells; 0.5 if all are true or none is.
    - ``macro_roc_auc``: mean over the labels that some documents have and others do not; 0.5 if none is so.
    - ``coverage_error``: how far down its ranking a document must be read to meet all its true labels, in
      labels; equally probable ones are all read. Mean over documents; one without labels counts 0, as in
      scikit-learn.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        ks: cut-offs, each at least 1.
        label_aucs: ``roc_auc_by_label``, where they are known already.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ, a probability is not in [0, 1], or a cut-off is below 1.
    """
    scores = rank_scores(true, probabilities, ks=ks)
    true = as_label_matrix("true", true)
    return scores | {
        "micro_roc_auc": micro_roc_auc(true, probabilities),
        "macro_roc_auc": mean_auc(roc_auc_by_label(true, probabilities) if label_aucs is None else label_aucs),
        "coverage_error": mean_or(coverage_by_document(true, probabilities), 0.0),
    }


def coverage_by_document(true: sparse.csr_array, probabilities: NDArray[np.float32]) -> Floats:
    """Labels at least as probable as the least probable true one, shape (n_documents,); 0 without labels."""
    depths = np.zeros(true.shape[0])
    has_labels = count_by_document(true) > 0
    if not has_labels.any():
        return depths
    least = np.zeros(true.shape[0], dtype=np.float32)
    least[has_labels] = np.minimum.reduceat(true_cell_values(true, probabilities), true.indptr[:-1][has_labels])
    for chunk in document_chunks(*probabilities.shape):
        depths[chunk] = (probabilities[chunk] >= least[chunk, np.newaxis]).sum(axis=1)
    return np.where(has_labels, depths, 0.0)


def micro_roc_auc(true: sparse.csr_array, probabilities: NDArray[np.float32]) -> float:
    """Chance that a true cell has a higher probability than a false one, ties half; 0.5 if undefined."""
    n_cells, n_true = probabilities.size, true.indices.size
    if n_true in {0, n_cells}:
        return 0.5
    n_above, n_at_or_above = count_cells(probabilities, np.sort(true_cell_values(true, probabilities)))
    return _auc(n_cells - n_at_or_above, n_cells - n_above, n_cells)


def roc_auc_by_label(true: sparse.csr_array, probabilities: NDArray[np.float32]) -> Floats:
    """Area under the ROC curve of each label, shape (n_labels,); NaN where all documents have it or none."""
    n_documents, n_labels = true.shape
    n_true = count_by_label(true)
    columns = true.tocsc()
    aucs = np.full(n_labels, np.nan)
    for labels in document_chunks(n_labels, n_documents):
        block = np.ascontiguousarray(probabilities[:, labels].T)  # (n_labels of the chunk, n_documents)
        for label, cells in zip(range(labels.start, labels.stop), block, strict=True):
            if 0 < n_true[label] < n_documents:
                values = np.sort(cells[columns.indices[columns.indptr[label] : columns.indptr[label + 1]]])
                ordered = np.sort(cells)  # a copy: the block may be a view of the caller's array
                below = np.searchsorted(ordered, values, side="left")
                aucs[label] = _auc(below, np.searchsorted(ordered, values, side="right"), n_documents)
    return aucs


def mean_auc(aucs: Floats) -> float:
    """Mean of the areas that are defined; 0.5 if none is."""
    return mean_or(aucs[~np.isnan(aucs)], 0.5)


def _auc(n_below: NDArray[np.integer], n_at_or_below: NDArray[np.integer], n_cells: int) -> float:
    # Mann-Whitney U: each true cell wins against what is below it and half wins against its equals; the
    # pairs among the true cells themselves add up to n_true² / 2.
    n_true = n_below.size
    wins = (int(n_below.sum()) + int(n_at_or_below.sum())) / 2 - n_true**2 / 2
    return float(wins / (n_true * (n_cells - n_true)))
