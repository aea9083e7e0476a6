"""One threshold for all (document, label) cells: the one with the highest F1, and one that is steady on few cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.cells import check_probabilities, count_cells, document_chunks, true_cell_values
from pipeline.evaluation.label_counts import LabelMatrix, as_label_matrix, f1_score


def fit_global_threshold(true: LabelMatrix, probabilities: NDArray[np.float32]) -> float:
    """The threshold with the highest micro-F1 on these documents, among all probabilities that occur.

    Only probabilities of true cells are tried, and nothing is lost: between two of them a lower threshold
    adds false positives alone. Of equally good thresholds the highest is taken.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].

    Returns:
        A threshold in [0, 1] that float32 represents exactly.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if no cell is true, the shapes differ or a probability is not in [0, 1].

    Example:
        >>> from scipy import sparse
        >>> true = sparse.csr_array(np.array([[True, False], [True, False]]))
        >>> fit_global_threshold(true, np.float32([[0.75, 0.5], [0.25, 0.125]]))
        0.25
    """
    return _fit_with_f1(true, probabilities)[0]


def _fit_with_f1(true: LabelMatrix, probabilities: NDArray[np.float32]) -> tuple[float, float]:
    true = as_label_matrix("true", true)
    check_probabilities(probabilities, true.shape)
    if not true.indices.size:
        raise ValueError("true holds no label, so no threshold can be fitted; split val needs labeled documents.")
    values = np.sort(true_cell_values(true, probabilities))
    return best_threshold(values, count_cells(probabilities, values)[1])


def best_threshold(true_values: NDArray[np.float32], n_predicted: NDArray[np.integer]) -> tuple[float, float]:
    """The value with the highest F1, and that F1.

    Args:
        true_values: probabilities of true cells, ascending, at least one.
        n_predicted: how many cells reach each.
    """
    n_true = true_values.size
    n_found = n_true - np.searchsorted(true_values, true_values, side="left")
    f1 = f1_score(n_found, np.full_like(n_found, n_true), n_predicted.astype(np.int64))
    best = n_true - 1 - int(np.argmax(f1[::-1]))
    return float(true_values[best]), float(f1[best])


def expected_f1(probabilities: NDArray[np.float32]) -> float:
    """The micro-F1 that the best threshold reaches if every cell is true with its probability, whatever is true.

    The highest ``2 sum(p over predicted) / (sum(p) + n_predicted)`` over all thresholds, which is the one at half of
    itself; so it is found by steps from a lower one (Dinkelbach, "On Nonlinear Fractional Programming", Management
    Science 1967), each a pass over the cells.

    Args:
        probabilities: float32, shape (n_documents, n_labels), values in [0, 1].

    Example:
        >>> round(expected_f1(np.float32([[0.9, 0.1], [0.5, 0.0]])), 3)  # of 0.9 and 0.5: 2.8 / 3.5
        0.8
    """
    best, found = -1.0, 0.0
    while found > best:
        best, of_predicted, of_all, n_predicted = found, 0.0, 0.0, 0
        for chunk in document_chunks(*probabilities.shape):
            cells = probabilities[chunk]
            predicted = cells[cells >= best / 2]
            of_predicted += float(predicted.sum(dtype=np.float64))
            of_all += float(cells.sum(dtype=np.float64))
            n_predicted += predicted.size
        found = 2 * of_predicted / (of_all + n_predicted) if of_all else 0.0
    return best


def fit_calibrated_threshold(
    true: LabelMatrix, probabilities: NDArray[np.float32], *, shrinkage: float = 300.0, f1_shrinkage: float = 30.0
) -> float:
    r"""The global threshold of calibrated probabilities, steady where there are few documents.

    Of calibrated probabilities the threshold with the highest expected F1 is half of that F1. The fitted threshold t
    with its F1 F, from n true cells, is pulled there: ``(n t + shrinkage F / 2) / (n + shrinkage)``. With 90 true cells
    t alone moves by 0.1 and more from sample to sample, F by 0.03. Of a few true cells F says where the most
    probable of them happened to stand, so F is in turn pulled to what the probabilities themselves expect
    (:func:`expected_f1`): ``(n F + f1_shrinkage E) / (n + f1_shrinkage)``.

    Source: Lipton, Elkan and Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1 Measure", ECML 2014,
    theorem 1. The shrinkages are ours.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        shrinkage: true cells that the theorem is worth, at least 0.
        f1_shrinkage: true cells that the expected F1 is worth, at least 0.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as :func:`fit_global_threshold`, and if a shrinkage is negative.

    Example:
        >>> from scipy import sparse
        >>> true = sparse.csr_array(np.array([[True, False], [True, False]]))
        >>> probabilities = np.float32([[0.75, 0.5], [0.25, 0.125]])  # F1 is 0.8, expected 0.69
        >>> fit_calibrated_threshold(true, probabilities, shrinkage=2, f1_shrinkage=0)
        0.325
    """
    if shrinkage < 0 or f1_shrinkage < 0:
        raise ValueError(f"a shrinkage must be at least 0, got {shrinkage} and {f1_shrinkage}.")
    fitted, f1 = _fit_with_f1(true, probabilities)
    n_true = int(as_label_matrix("true", true).nnz)
    f1 = (n_true * f1 + f1_shrinkage * expected_f1(probabilities)) / (n_true + f1_shrinkage)
    return (n_true * fitted + shrinkage * f1 / 2) / (n_true + shrinkage)
