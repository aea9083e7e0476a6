"""Whose a document is: documents of one patient resemble each other, so a patient is what counts as one observation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse, stats

from pipeline.evaluation.label_counts import Counts, LabelMatrix

_FEW_PATIENTS = 20


def number_patients(patients: Sequence[str] | None, n_documents: int) -> NDArray[np.int64]:
    """Number of each document's patient, 0, 1, ... in the order in which they come; without patients its own.

    Raises:
        ValueError: if there are not as many as documents.
    """
    if patients is None:
        return np.arange(n_documents)
    if len(patients) != n_documents:
        raise ValueError(f"patients must have one entry a document, got {len(patients)} for {n_documents} documents.")
    return pd.factorize(np.asarray(patients, dtype=object))[0].astype(np.int64)


def sum_by_patient(values: LabelMatrix, patients: Sequence[str] | None) -> sparse.csr_array:
    """Sums of the rows of each patient's documents, shape (n_patients, n_columns).

    Args:
        values: bool or integers, shape (n_documents, n_columns).
        patients: whose each document is, (n_documents,); None: every document stands by itself.
    """
    n_documents = values.shape[0]
    patient_of = number_patients(patients, n_documents)
    whose = (np.ones(n_documents, np.int32), (patient_of, np.arange(n_documents)))
    n_patients = patient_of.max(initial=-1) + 1
    return sparse.csr_array(sparse.csr_array(whose, shape=(n_patients, n_documents)) @ values.astype(np.int32))


def draw_documents(generator: np.random.Generator, patients: NDArray[np.int64], n_samples: int) -> NDArray[np.int32]:
    """How often each document was drawn, shape (n_documents, n_samples): as often as its patient was.

    Args:
        generator: of the draws.
        patients: of :func:`number_patients`.
        n_samples: of as many patients as there are, with replacement.
    """
    if not patients.size:
        return np.zeros((0, n_samples), dtype=np.int32)
    n_patients = int(patients.max()) + 1
    drawn = generator.integers(n_patients, size=(n_samples, n_patients))
    cells = drawn + n_patients * np.arange(n_samples)[:, np.newaxis]
    counts = np.bincount(cells.ravel(), minlength=n_samples * n_patients).astype(np.int32)
    return np.ascontiguousarray(counts.reshape(n_samples, n_patients).T[patients])


def independent_cases(n_right: Counts, n: Counts) -> float:
    """How many independent cases a share over patients is worth: p (1 - p) by its variance between patients.

    Few patients tell that variance badly, so they are worth less by the square of z over Student's t.

    Args:
        n_right: cases of each patient that count, (n_patients,).
        n: all cases of each patient, (n_patients,).

    Returns:
        At most the number of cases; the number of patients with cases where all cases are alike, which tells nothing
        of their variance.

    Source: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 1998.

    Example:
        >>> round(independent_cases(np.array([1, 0] * 9), np.array([1] * 18)), 2)  # 17 * (1.96 / 2.11) ** 2
        14.67
        >>> independent_cases(np.array([9, 0]), np.array([9, 9])), independent_cases(np.array([9, 9]), np.array([9, 9]))
        (1.0, 2.0)
    """
    n_right, n = n_right[n > 0], n[n > 0]
    if len(n) < 2:
        return float(len(n))
    share = n_right.sum() / n.sum()
    residuals = n_right - share * n
    variance = len(n) / (len(n) - 1) * (residuals**2).sum() / n.sum() ** 2
    if variance == 0:
        return float(len(n))
    shrinkage = (stats.norm.ppf(0.975) / stats.t.ppf(0.975, len(n) - 1)) ** 2
    return float(np.clip(share * (1 - share) / variance * shrinkage, 1.0, n.sum()))


def few_patients_note(n_documents: int, n_patients: int) -> str | None:
    """What a reader of intervals should know where few patients stand behind them; None where there are enough."""
    if n_patients >= _FEW_PATIENTS:
        return None
    return (
        f"These {n_documents:,} documents are of {n_patients} patients. Intervals and p-values from fewer than "
        f"{_FEW_PATIENTS} say too little: take differences for undecided."
    )
