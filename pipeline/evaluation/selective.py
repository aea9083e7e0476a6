"""Selective prediction: which documents and which codes can be taken without a human, and how good they are.

A document is as sure as the mean probability of its predicted labels: what share of them the model itself expects to
be right. A document without predicted labels is never sure. How sure is sure enough is chosen on split val, so that
what the evaluated split shows is what to expect of new documents, not the best that could be picked afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.cells import true_cell_values
from pipeline.evaluation.curves import wilson_interval
from pipeline.evaluation.label_counts import (
    Counts,
    Floats,
    LabelMatrix,
    as_label_matrices,
    count_by_document,
    is_exact_match,
    ratio,
    shared_labels,
)
from pipeline.evaluation.patients import independent_cases, number_patients


@dataclass(frozen=True)
class Taken:
    """What is taken without a human, and how good it is.

    Attributes:
        kind: "documents" or "codes".
        confidence: from which on it is taken, chosen on split val; None where nothing on val was good enough.
        coverage: share of the documents, or of the predicted codes, that is taken.
        n_taken: how many.
        precision: share of the taken codes (of the taken documents) that is right; 0 where none is taken.
        precision_low: end of its 95 % interval (Wilson, with as many cases as ``independent_cases`` of the patients).
        precision_high: end of the same.
        recall: share of the true codes of the taken documents that is found; for codes, of all documents.
        exact_match: share of the taken documents whose codes are exactly right; None for codes.
    """

    kind: str
    confidence: float | None
    coverage: float
    n_taken: int
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    exact_match: float | None


def document_confidence(predicted: sparse.csr_array, probabilities: NDArray[np.float32]) -> Floats:
    """Mean probability of the predicted labels of each document, shape (n_documents,); 0 without any."""
    n_predicted = count_by_document(predicted)
    rows = np.repeat(np.arange(n_predicted.size), n_predicted)
    sums = np.bincount(rows, weights=true_cell_values(predicted, probabilities), minlength=n_predicted.size)
    return ratio(sums, n_predicted)


def selective_curve(true: LabelMatrix, predicted: LabelMatrix, probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Scores of the surest documents as more of them are taken.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape.

    Returns:
        One row for each confidence that occurs, surest first, equally sure documents together: ``confidence``,
        ``coverage`` (share of all documents), ``precision``, ``recall``, ``exact_match``, ``n_documents``,
        ``n_predicted``, ``n_found``. Documents without predicted labels come last and are in no row.

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes differ.
    """
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    confidence = document_confidence(predicted, probabilities)
    order = np.argsort(-confidence, kind="stable")
    order = order[count_by_document(predicted)[order] > 0]
    ends = _ends_of_runs(confidence[order])
    n_true, n_predicted, n_found, n_exact = (
        counts[order].cumsum()[ends]
        for counts in (
            count_by_document(true),
            count_by_document(predicted),
            count_by_document(shared_labels(true, predicted)),
            is_exact_match(true, predicted).astype(np.int64),
        )
    )
    return pd.DataFrame(
        {
            "confidence": confidence[order][ends],
            "coverage": (ends + 1) / max(1, true.shape[0]),
            "precision": ratio(n_found, n_predicted),
            "recall": ratio(n_found, n_true),
            "exact_match": n_exact / (ends + 1),
            "n_documents": ends + 1,
            "n_predicted": n_predicted,
            "n_found": n_found,
        }
    )


def _ends_of_runs(values: NDArray[np.floating]) -> Counts:
    """Places of the last of each run of equal values."""
    return np.flatnonzero(np.append(values[1:] != values[:-1], True)) if values.size else np.zeros(0, dtype=np.int64)


def code_curve(true: LabelMatrix, predicted: LabelMatrix, probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Precision of the surest predicted codes as more of them are taken; columns as in ``selective_curve``.

    ``coverage`` is the share of the predicted codes, ``recall`` that of all true codes.
    """
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    values = true_cell_values(predicted, probabilities).astype(np.float64)
    is_right = _is_right(true, predicted)
    order = np.argsort(-values, kind="stable")
    ends = _ends_of_runs(values[order])
    n_found = is_right[order].cumsum()[ends]
    return pd.DataFrame(
        {
            "confidence": values[order][ends],
            "coverage": (ends + 1) / max(1, values.size),
            "precision": n_found / (ends + 1),
            "recall": n_found / max(1, true.indices.size),
            "n_predicted": ends + 1,
            "n_found": n_found,
        }
    )


def choose_confidence(curve: pd.DataFrame, *, target: float) -> float | None:
    """The lowest confidence at which what is taken is still precise enough: the most that can be taken.

    Args:
        curve: of split val.
        target: precision asked for, in [0, 1].

    Returns:
        A confidence, or None where no point of the curve reaches the target.

    Example:
        >>> curve = pd.DataFrame({"confidence": [0.9, 0.8, 0.7], "precision": [0.9, 1.0, 0.5]})
        >>> choose_confidence(curve, target=0.95)
        0.8
    """
    reached = curve.loc[curve["precision"] >= target, "confidence"]
    return float(reached.iloc[-1]) if len(reached) else None


def independent_taken(
    true: LabelMatrix,
    predicted: LabelMatrix,
    probabilities: NDArray[np.float32],
    patients: Sequence[str],
    confidence: float | None,
    *,
    kind: str,
) -> float:
    """How many independent cases the taken codes are worth; see :func:`pipeline.evaluation.patients.independent_cases`.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape.
        patients: whose each document is, (n_documents,).
        confidence: from which on documents, or codes, are taken; None takes nothing.
        kind: "documents" or "codes".
    """
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    n_predicted = count_by_document(predicted)
    if kind == "documents":
        of_cell = np.repeat(document_confidence(predicted, probabilities), n_predicted)
    else:
        of_cell = true_cell_values(predicted, probabilities).astype(np.float64)
    is_taken = of_cell >= (np.inf if confidence is None else confidence)
    patient_of_cell = np.repeat(number_patients(patients, true.shape[0]), n_predicted)[is_taken]
    n_right = np.bincount(patient_of_cell, weights=_is_right(true, predicted)[is_taken])
    return independent_cases(n_right.astype(np.int64), np.bincount(patient_of_cell))


def _is_right(true: sparse.csr_array, predicted: sparse.csr_array) -> NDArray[np.bool_]:
    """Whether each predicted cell is true, in the order of the predicted cells."""
    first_of_row = np.arange(true.shape[0]) * true.shape[1]
    given, proposed = (np.repeat(first_of_row, count_by_document(one)) + one.indices for one in (true, predicted))
    return np.isin(proposed, given)


def take(curve: pd.DataFrame, confidence: float | None, *, kind: str, n_independent: float | None = None) -> Taken:
    """What a confidence chosen elsewhere takes on the documents of a curve.

    Args:
        curve: ``selective_curve`` or ``code_curve`` of the split that is shown.
        confidence: chosen on split val; None takes nothing.
        kind: "documents" or "codes".
        n_independent: cases that the interval of the precision counts, ``independent_taken``; None: every code.
    """
    taken = curve[curve["confidence"] >= (np.inf if confidence is None else confidence)]
    if taken.empty:
        return Taken(kind, confidence, 0.0, 0, 0.0, 0.0, 1.0, 0.0, None)
    last = taken.iloc[-1]
    n_found, n_predicted = np.array([int(last["n_found"])]), np.array([int(last["n_predicted"])])
    worth = n_predicted if n_independent is None else np.array([n_independent])
    low, high = wilson_interval(n_found, n_predicted, n_independent=worth)
    return Taken(
        kind,
        confidence,
        float(last["coverage"]),
        int(last["n_documents" if kind == "documents" else "n_predicted"]),
        float(last["precision"]),
        float(low[0]),
        float(high[0]),
        float(last["recall"]),
        float(last["exact_match"]) if kind == "documents" else None,
    )
