"""Thresholds that turn probabilities into labels, fitted on split val only: one for each label.

A label is predicted where its probability is at or above its threshold. No document is forced to have a
label: a report without any code is a possible answer.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.evaluation.cells import check_probabilities, document_chunks
from pipeline.evaluation.label_counts import LabelMatrix, as_label_matrix, fitting_bands
from pipeline.evaluation.shared_threshold import best_threshold, fit_calibrated_threshold, fit_global_threshold

Thresholds = NDArray[np.float32]


def fit_label_thresholds(
    true: LabelMatrix,
    probabilities: NDArray[np.float32],
    *,
    shrinkage: float = 20.0,
    min_positives: int = 6,
    global_threshold: float | None = None,
) -> Thresholds:
    r"""One threshold a label, pulled toward the global one the less is known of the label.

    A label with n true documents and best own threshold t gets ``(n t + shrinkage g) / (n + shrinkage)``
    with the global threshold g; one with n < ``min_positives`` gets g.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        shrinkage: true documents that the global threshold is worth, at least 0; 0 takes the own one.
        min_positives: true documents a label needs for a threshold of its own, at least 1.
        global_threshold: to which the others are pulled; None fits it.

    Returns:
        float32, shape (n_labels,), values in [0, 1].

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if no cell is true, the shapes differ, a probability is not in [0, 1], ``shrinkage`` is
            negative or ``min_positives`` is below 1.
    """
    if shrinkage < 0 or min_positives < 1:
        raise ValueError(
            f"shrinkage must be at least 0 and min_positives at least 1, got {shrinkage} and {min_positives}."
        )
    if global_threshold is None:
        global_threshold = fit_global_threshold(true, probabilities)
    columns = as_label_matrix("true", true).tocsc()
    n_true = np.diff(columns.indptr)
    thresholds = np.full(n_true.size, global_threshold)
    for labels in document_chunks(n_true.size, true.shape[0]):
        block = np.ascontiguousarray(probabilities[:, labels].T)  # (n_labels of the chunk, n_documents)
        for label, cells in zip(range(labels.start, labels.stop), block, strict=True):
            if n_true[label] >= min_positives:
                values = np.sort(cells[columns.indices[columns.indptr[label] : columns.indptr[label + 1]]])
                n_predicted = cells.size - np.searchsorted(np.sort(cells), values, side="left")
                own_share = n_true[label] / (n_true[label] + shrinkage)
                own, _ = best_threshold(values, n_predicted)
                thresholds[label] = own_share * own + (1 - own_share) * global_threshold
    return thresholds.astype(np.float32)


def fit_band_thresholds(true: LabelMatrix, probabilities: NDArray[np.float32], train_counts: ArrayLike) -> Thresholds:
    """One calibrated threshold for all labels of a band of training frequency.

    Half of F1 is the best threshold of calibrated probabilities, and F1 of codes with two training documents is far
    below that of all. A band without a true cell takes the threshold of all labels.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        train_counts: documents of each label in split train, (n_labels,).

    Returns:
        float32, shape (n_labels,).

    Raises:
        TypeError, ValueError: as :func:`fit_calibrated_threshold`.
    """
    thresholds = np.full(true.shape[1], fit_calibrated_threshold(true, probabilities), dtype=np.float32)
    columns, bands = as_label_matrix("true", true).tocsc(), fitting_bands(train_counts)
    for band in np.unique(bands):
        labels = np.flatnonzero(bands == band)
        of_band = sparse.csr_array(columns[:, labels])
        if of_band.nnz:
            thresholds[labels] = fit_calibrated_threshold(of_band, np.ascontiguousarray(probabilities[:, labels]))
    return thresholds


def prevalence_thresholds(
    probabilities: NDArray[np.float32], *, train_counts: ArrayLike, n_train_documents: int
) -> Thresholds:
    """One threshold a label that marks as many documents as its share of split train lets expect.

    Of n documents the e = n · train_count / n_train_documents (rounded) most probable are marked. Where
    equal probabilities would mark more than e, fewer are marked: a label with e < 1/2, or one whose
    probabilities are all equal, marks none of these documents rather than all of them.

    Source: the class-aware rule of CAP (Xie et al., "Class-Distribution-Aware Pseudo Labeling for
    Semi-Supervised Multi-Label Learning", NeurIPS 2023): mark the share of documents that a class has among
    the labeled ones. The rule for ties and for e < 1 is ours.

    Args:
        probabilities: float32, shape (n_documents, n_labels), values in [0, 1]; of split val.
        train_counts: documents of each label in split train, shape (n_labels,).
        n_train_documents: documents of split train, at least 1.

    Returns:
        float32, shape (n_labels,). A value just above 1 marks nothing at all.

    Raises:
        TypeError: if probabilities is not a float32 array.
        ValueError: if a length differs, a probability is not in [0, 1], there is no document, or a label
            has more training documents than there are.
    """
    n_documents, n_labels = check_probabilities(probabilities).shape
    counts = np.asarray(train_counts, dtype=np.int64)
    if counts.shape != (n_labels,):
        raise ValueError(f"train_counts must have one number for each of {n_labels} labels, got {counts.shape}.")
    if not n_documents or n_train_documents < max(1, counts.max(initial=0)):
        raise ValueError(
            f"{n_documents} documents, {n_train_documents} training documents and up to "
            f"{counts.max(initial=0)} of one label: there must be a document, and no label can have more "
            "training documents than there are."
        )
    n_expected = np.rint(n_documents * counts / n_train_documents).astype(np.int64)
    thresholds = np.zeros(n_labels, dtype=np.float32)  # stays 0 for a label that every document has
    for labels in document_chunks(n_labels, n_documents):
        ordered = np.sort(probabilities[:, labels].T, axis=1)  # (n_labels of the chunk, n_documents)
        first_left_out = n_documents - 1 - n_expected[labels]
        values = ordered[np.arange(ordered.shape[0]), np.maximum(first_left_out, 0)]
        just_above = np.nextafter(values, np.float32(2))
        thresholds[labels] = np.where(first_left_out < 0, np.float32(0), just_above)
    return thresholds


def fit_thresholds(
    rule: Literal["global", "per_band", "per_label", "prevalence"],
    true: LabelMatrix,
    probabilities: NDArray[np.float32],
    *,
    train_counts: ArrayLike,
    n_train_documents: int,
) -> Thresholds:
    """One threshold for every label by the rule of that name, from calibrated probabilities of held-out documents.

    Args:
        rule: 'global' (:func:`fit_calibrated_threshold`), 'per_band' (:func:`fit_band_thresholds`), 'per_label'
            (:func:`fit_label_thresholds`, pulled to the global one) or 'prevalence' (:func:`prevalence_thresholds`).
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        train_counts: documents of each label in split train.
        n_train_documents: documents of split train.

    Returns:
        float32, shape (n_labels,).

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as the functions named above.
    """
    if rule == "prevalence":
        return prevalence_thresholds(probabilities, train_counts=train_counts, n_train_documents=n_train_documents)
    if rule == "per_band":
        return fit_band_thresholds(true, probabilities, train_counts)
    of_all = fit_calibrated_threshold(true, probabilities)
    if rule == "per_label":
        return fit_label_thresholds(true, probabilities, global_threshold=of_all)
    return np.full(true.shape[1], of_all, dtype=np.float32)


def apply_thresholds(probabilities: NDArray[np.float32], thresholds: float | ArrayLike) -> sparse.csr_array:
    """Predict the labels at or above their thresholds.

    Args:
        probabilities: float32, shape (n_documents, n_labels), values in [0, 1].
        thresholds: one for all labels, or shape (n_labels,); compared as float32.

    Returns:
        bool CSR, shape (n_documents, n_labels); a row may be empty.

    Raises:
        TypeError: if probabilities is not a float32 array.
        ValueError: if a probability is not in [0, 1], a threshold is not a number, or their number is
            neither 1 nor n_labels.

    Example:
        >>> apply_thresholds(np.float32([[0.5, 0.25], [0.25, 0.25]]), [0.5, 0.5]).toarray().tolist()
        [[True, False], [False, False]]
    """
    n_documents, n_labels = check_probabilities(probabilities).shape
    limits = np.asarray(thresholds, dtype=np.float32)
    if limits.shape not in {(), (n_labels,)} or np.isnan(limits).any():
        raise ValueError(
            f"thresholds must be one number or one for each of {n_labels} labels, got shape {limits.shape} "
            f"with {int(np.isnan(limits).sum())} that are not numbers."
        )
    n_predicted, labels = [np.zeros(1, dtype=np.int64)], [np.empty(0, dtype=np.int32)]
    for chunk in document_chunks(n_documents, n_labels):
        rows, columns = np.nonzero(probabilities[chunk] >= limits)
        n_predicted.append(np.bincount(rows, minlength=chunk.stop - chunk.start))
        labels.append(columns.astype(np.int32))
    indices, indptr = np.concatenate(labels), np.concatenate(n_predicted).cumsum()
    return sparse.csr_array((np.ones(indices.size, dtype=np.bool_), indices, indptr), shape=(n_documents, n_labels))
