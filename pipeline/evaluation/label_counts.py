"""Counts of right and wrong labels, and the scores that need nothing else.

A label matrix is a SciPy CSR matrix of bool, one row a document and one column a label. Nothing here builds a
dense matrix, so label spaces of ten thousand codes cost as much as the labels in them.

Three scores are called "macro F1" in the literature; each has its own name here (``set_scores``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

LabelMatrix: TypeAlias = sparse.csr_array | sparse.csr_matrix
Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]

FITTING_BAND_STARTS = (0, 1, 3, 11, 101)
"""Training documents from which a band begins: none, 1-2, 3-10, 11-100, more."""


@dataclass(frozen=True)
class LabelCounts:
    """How often each label is true, predicted, and both; integers of shape (n_labels,) each."""

    n_true: Counts
    n_predicted: Counts
    n_true_positive: Counts

    @property
    def precision(self) -> Floats:
        """Share of a label's predictions that are right; 0 for a label never predicted."""
        return ratio(self.n_true_positive, self.n_predicted)

    @property
    def recall(self) -> Floats:
        """Share of a label's documents that are found; 0 for a label that no document has."""
        return ratio(self.n_true_positive, self.n_true)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall; 0 for a label neither true nor predicted anywhere."""
        return f1_score(self.n_true_positive, self.n_true, self.n_predicted)

    @property
    def is_present(self) -> NDArray[np.bool_]:
        """Which labels at least one document has."""
        return self.n_true > 0

    def select(self, labels: NDArray[np.integer] | NDArray[np.bool_]) -> LabelCounts:
        """The counts of some labels, by index or by mask."""
        return LabelCounts(self.n_true[labels], self.n_predicted[labels], self.n_true_positive[labels])


def fitting_bands(train_counts: ArrayLike) -> NDArray[np.int64]:
    """Band of each label by its number of training documents.

    Example:
        >>> fitting_bands([0, 2, 3, 500]).tolist()
        [0, 1, 2, 4]
    """
    bands: NDArray[np.int64] = (
        np.searchsorted(np.array(FITTING_BAND_STARTS), np.asarray(train_counts), side="right") - 1
    )
    return bands


def ratio(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> Floats:
    """Divide element by element; 0 where the denominator is 0.

    Example:
        >>> ratio(np.array([1, 0]), np.array([2, 0])).tolist()
        [0.5, 0.0]
    """
    is_zero = denominator == 0
    return np.where(is_zero, 0.0, numerator / np.where(is_zero, 1, denominator))


def f1_score(n_true_positive: Counts, n_true: Counts, n_predicted: Counts) -> Floats:
    """F1 as 2 TP / (true + predicted), element by element; 0 where nothing is true or predicted.

    Example:
        >>> f1_score(np.array([2]), np.array([4]), np.array([4])).tolist()
        [0.5]
    """
    return ratio(2 * n_true_positive, n_true + n_predicted)


def mean_or(values: Floats, otherwise: float) -> float:
    """Mean, or the given value where there is nothing to average."""
    return float(values.mean()) if values.size else otherwise


def label_matrix(label_lists: Sequence[Sequence[int]], n_labels: int, *, name: str = "label_lists") -> sparse.csr_array:
    """Make a label matrix of lists of label indices; an index that is given twice counts once.

    Args:
        label_lists: label indices of each document.
        n_labels: size of the label space.
        name: of the lists, for the message.

    Returns:
        bool CSR, shape (n_documents, n_labels).

    Raises:
        ValueError: if an index lies outside the label space.

    Example:
        >>> label_matrix([[1, 1], []], 2).toarray().tolist()
        [[False, True], [False, False]]
    """
    n_given = [len(labels) for labels in label_lists]
    indices = np.fromiter((label for labels in label_lists for label in labels), np.int64, sum(n_given))
    outside = np.flatnonzero((indices < 0) | (indices >= n_labels))
    if outside.size:
        row = int(np.searchsorted(np.cumsum(n_given), outside[0], side="right"))
        raise ValueError(
            f"{name}[{row}] holds the label index {indices[outside[0]]}, but the label space of {n_labels} "
            f"labels has the indices 0 to {n_labels - 1}."
        )
    indptr = np.concatenate([[0], np.cumsum(n_given)])
    matrix = sparse.csr_array((np.ones(indices.size, dtype=np.bool_), indices, indptr), (len(n_given), n_labels))
    matrix.sum_duplicates()
    return matrix


def label_lists(labels: sparse.csr_array) -> list[list[int]]:
    """Label indices of each document; what ``label_matrix`` takes.

    Example:
        >>> label_lists(label_matrix([[1, 0], []], 2))
        [[0, 1], []]
    """
    return [part.tolist() for part in np.split(labels.indices, labels.indptr[1:-1])]


def as_label_matrix(name: str, labels: LabelMatrix) -> sparse.csr_array:
    """Check a label matrix and give it without stored zeros or duplicates; the argument is not changed.

    Args:
        name: of the argument, for the message.
        labels: bool CSR, shape (n_documents, n_labels).

    Raises:
        TypeError: if it is not a CSR matrix of bool.
    """
    if not sparse.issparse(labels) or labels.format != "csr" or labels.dtype != np.bool_:
        what = f"{labels.format} of {labels.dtype}" if sparse.issparse(labels) else type(labels).__name__
        raise TypeError(f"{name} must be a scipy.sparse CSR matrix of bool, got {what}.")
    matrix = sparse.csr_array(labels)
    if not matrix.has_canonical_format or not matrix.data.all():
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    return matrix


def as_label_matrices(
    first_name: str, first: LabelMatrix, second_name: str, second: LabelMatrix
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Check two label matrices that describe the same documents and labels.

    Raises:
        TypeError: if one is not a CSR matrix of bool.
        ValueError: if their shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"{first_name} has shape {first.shape} but {second_name} has {second.shape}; both must have one "
            "row for each document and one column for each label of the same label space."
        )
    return as_label_matrix(first_name, first), as_label_matrix(second_name, second)


def shared_labels(first: sparse.csr_array, second: sparse.csr_array) -> sparse.csr_array:
    """The labels that a document has in both matrices, as a matrix of the same shape."""
    return sparse.csr_array(first.multiply(second))


def count_by_label(labels: sparse.csr_array) -> Counts:
    """How many documents have each label, shape (n_labels,)."""
    return np.bincount(labels.indices, minlength=labels.shape[1]).astype(np.int64)


def count_by_document(labels: sparse.csr_array) -> Counts:
    """How many labels each document has, shape (n_documents,)."""
    return np.diff(labels.indptr).astype(np.int64)


def count_labels(true: LabelMatrix, predicted: LabelMatrix) -> LabelCounts:
    """Count by label what is true, predicted and both.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.

    Raises:
        TypeError: if one is not a CSR matrix of bool.
        ValueError: if their shapes differ.
    """
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    return LabelCounts(count_by_label(true), count_by_label(predicted), count_by_label(shared_labels(true, predicted)))


def count_scores(counts: LabelCounts) -> dict[str, float]:
    """Micro and macro scores and the counts behind them; definitions at ``set_scores``."""
    n_true, n_predicted = counts.n_true.sum(), counts.n_predicted.sum()
    n_true_positive = counts.n_true_positive.sum()
    macro_precision = mean_or(counts.precision, 0.0)
    macro_recall = mean_or(counts.recall, 0.0)
    both = macro_precision + macro_recall
    return {
        "micro_precision": float(ratio(n_true_positive, n_predicted)),
        "micro_recall": float(ratio(n_true_positive, n_true)),
        "micro_f1": float(f1_score(n_true_positive, n_true, n_predicted)),
        "macro_f1": mean_or(counts.f1[counts.is_present], 0.0),
        "macro_f1_all_codes": mean_or(np.where(counts.is_present, counts.f1, 0.0), 0.0),
        "macro_f1_caml": 2 * macro_precision * macro_recall / both if both else 0.0,
        "n_labels": float(counts.n_true.size),
        "n_labels_present": float(counts.is_present.sum()),
        "n_true": float(n_true),
        "n_predicted": float(n_predicted),
        "n_true_positive": float(n_true_positive),
    }


def is_exact_match(true: sparse.csr_array, predicted: sparse.csr_array) -> NDArray[np.bool_]:
    """Which documents have exactly the predicted labels (none and none counts as exact)."""
    n_shared = count_by_document(shared_labels(true, predicted))
    matches: NDArray[np.bool_] = (n_shared == count_by_document(true)) & (n_shared == count_by_document(predicted))
    return matches


def jaccard_by_document(true: sparse.csr_array, predicted: sparse.csr_array) -> Floats:
    """Shared / united labels of each document, shape (n_documents,); 1 where both sets are empty."""
    n_shared = count_by_document(shared_labels(true, predicted))
    n_united = count_by_document(true) + count_by_document(predicted) - n_shared
    return np.where(n_united == 0, 1.0, ratio(n_shared, n_united))


def set_scores(true: LabelMatrix, predicted: LabelMatrix) -> dict[str, float]:
    """Score predicted label sets against the true ones.

    - ``micro_precision``, ``micro_recall``, ``micro_f1``: over all (document, label) cells. Precision is 0
      if nothing is predicted, recall 0 if nothing is true.
    - ``macro_f1``: mean F1 over the labels that some document has (Edin et al. 2023).
    - ``macro_f1_all_codes``: mean F1 over the whole label space; a label no document has counts 0.
    - ``macro_f1_caml``: harmonic mean of macro precision and macro recall, both over the whole label space
      with 0 where undefined (Mullenbach et al. 2018; LAAT, PLM-ICD and MSMN report this one).
    - ``exact_match``: share of documents with exactly the true label set.
    - ``jaccard``: mean over documents of shared / united labels; 1 where both sets are empty.
    - ``n_documents``, ``n_documents_without_labels``, ``n_documents_without_predictions``, ``n_labels``,
      ``n_labels_present``, ``n_true``, ``n_predicted``, ``n_true_positive``.

    Without any document or label every score is 0.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.

    Raises:
        TypeError: if one is not a CSR matrix of bool.
        ValueError: if their shapes differ.
    """
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    n_true, n_predicted = count_by_document(true), count_by_document(predicted)
    return count_scores(count_labels(true, predicted)) | {
        "exact_match": mean_or(is_exact_match(true, predicted).astype(np.float64), 0.0),
        "jaccard": mean_or(jaccard_by_document(true, predicted), 0.0),
        "n_documents": float(true.shape[0]),
        "n_documents_without_labels": float((n_true == 0).sum()),
        "n_documents_without_predictions": float((n_predicted == 0).sum()),
    }
