"""Whether one system is better than another on the same documents: differences, how sure they are, and where.

Both systems answer for the same documents, so an easy document is easy for both; what is resampled is the
document with both answers. Documents of one patient are no independent witnesses, so they stay together. Two
methods, each with random draws of its own:

- the interval comes from a paired bootstrap: patients drawn with replacement, both systems scored on their documents;
- the p-value from a permutation test: were the systems equally good, it would not matter whose answer is
  whose, so the answers for a random half of the patients change sides. The p-value is the share of such draws
  whose difference is at least as large, in either direction, as the one observed.

Neither says anything of another hospital or of another training run with another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from pipeline.evaluation.intervals import RESAMPLES_AT_A_TIME, SampleScorer, difference_interval
from pipeline.evaluation.label_counts import (
    Counts,
    Floats,
    LabelMatrix,
    as_label_matrices,
    count_labels,
)
from pipeline.evaluation.patients import draw_documents, number_patients, sum_by_patient

_ROUNDING = 1e-12  # differences closer than this are equal: sums of floats depend on their order


class PairedDifference(NamedTuple):
    """How much higher system A scores than system B.

    Attributes:
        difference: score of A minus score of B.
        low: end of the 95 % interval of the difference.
        high: end of the same.
        p_value: two-sided, of the permutation test; at least 1 / (1 + n_resamples).
    """

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def is_apart(self) -> bool:
        """Whether the documents tell the two apart: p below 5 % and an interval without 0."""
        return self.p_value < 0.05 and not self.low <= 0 <= self.high


def paired_differences(
    true: LabelMatrix,
    predicted_a: LabelMatrix,
    probabilities_a: NDArray[np.float32] | None,
    predicted_b: LabelMatrix,
    probabilities_b: NDArray[np.float32] | None,
    *,
    n_resamples: int,
    seed: int,
    patients: Sequence[str] | None = None,
    ks: Sequence[int] = (5, 8, 15),
    label_groups: Mapping[str, NDArray[np.int64]] | None = None,
) -> dict[str, PairedDifference]:
    """Differences of two systems on the same documents, with intervals and p-values.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted_a: of system A, the same shape.
        probabilities_a: float32, the same shape; None leaves out what needs probabilities.
        predicted_b: of system B, the same shape.
        probabilities_b: float32, the same shape; None as above.
        n_resamples: draws of the bootstrap and of the permutation test, at least 1.
        seed: of both.
        patients: whose each document is, (n_documents,); None: every document stands by itself.
        ks: cut-offs of precision and recall.
        label_groups: name -> label indices; their label scores are named ``<name>/<score>``.

    Returns:
        Name of each score of ``bootstrap_distributions`` -> difference; ``micro_f1``, ``macro_f1``, ``map``,
        ``precision_at_5`` and so on. Intervals are those of
        :func:`pipeline.evaluation.intervals.difference_interval`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ, a probability is not in [0, 1], there is no document or no draw, or patients
            are not one a document.

    Example:
        >>> from pipeline.evaluation.label_counts import label_matrix
        >>> true, b = label_matrix([[0], [1]] * 8, 2), label_matrix([[0], []] * 8, 2)
        >>> found = paired_differences(true, true, None, b, None, n_resamples=99, seed=0)
        >>> round(found["micro_f1"].difference, 3), found["micro_f1"].p_value < 0.05
        (0.333, True)
    """
    if n_resamples < 1 or not true.shape[0]:
        raise ValueError(f"n_resamples and documents must be at least 1, got {n_resamples} and {true.shape[0]}.")
    if probabilities_a is None or probabilities_b is None:
        probabilities_a = probabilities_b = None
    a = SampleScorer(true, predicted_a, probabilities_a, ks=ks, label_groups=label_groups)
    b = SampleScorer(true, predicted_b, probabilities_b, ks=ks, label_groups=label_groups)
    whole = _minus(a(np.ones((a.n_documents, 1), dtype=np.int32)), b(np.ones((a.n_documents, 1), dtype=np.int32)))
    patient_of = number_patients(patients, a.n_documents)
    generators = [np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(2)]
    drawn: dict[str, list[Floats]] = {name: [] for name in whole}
    n_as_large = dict.fromkeys(whole, 0)
    for start in range(0, n_resamples, RESAMPLES_AT_A_TIME):
        n_samples = min(RESAMPLES_AT_A_TIME, n_resamples - start)
        sample = draw_documents(generators[0], patient_of, n_samples)
        for name, values in _minus(a(sample), b(sample)).items():
            drawn[name].append(values)
        is_swapped = generators[1].integers(2, size=(patient_of.max() + 1, n_samples), dtype=np.int32)[patient_of]
        for name, values in _minus(*a.swapped(b, is_swapped)).items():
            n_as_large[name] += int((np.abs(values) >= abs(whole[name][0]) - _ROUNDING).sum())
    return {
        name: PairedDifference(
            float(whole[name][0]),
            *difference_interval(name, float(whole[name][0]), np.concatenate(drawn[name])),
            p_value=(1 + n_as_large[name]) / (1 + n_resamples),
        )
        for name in whole
    }


def _minus(a: Mapping[str, Floats], b: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name: a[name] - b[name] for name in a}


def label_wins(
    true: LabelMatrix,
    predicted_a: LabelMatrix,
    predicted_b: LabelMatrix,
    *,
    labels: Sequence[str],
    titles: Sequence[str],
    train_counts: ArrayLike,
    patients: Sequence[str] | None = None,
    false_discovery_rate: float = 0.05,
) -> pd.DataFrame:
    """Which system wins on which code.

    A document counts for A at a code where A is right about it (given or rightly not given) and B is wrong; a patient
    where more documents count for A than for B. Whether the patients of both sides differ by more than chance is an
    exact sign test (McNemar, where patients have one document each) for each code, over all codes with the false
    discovery rate of Benjamini and Hochberg (1995). Where more documents count for the one and more patients for the
    other there is no winner.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted_a: the same shape.
        predicted_b: the same shape.
        labels: n_labels.
        titles: n_labels.
        train_counts: documents of each label in split train, shape (n_labels,).
        patients: whose each document is, (n_documents,); None: every document stands by itself.
        false_discovery_rate: expected share of wrong wins among the wins, in (0, 1).

    Returns:
        One row for each label that is true or predicted by either, most frequent first: label, title,
        train_count, n_true, f1_a, f1_b, f1_difference, n_only_a_right, n_only_b_right (documents), p_value (of
        the label alone) and winner ("A", "B", or "" where the two cannot be told apart).

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes differ, or patients are not one a document.
    """
    counts_a, counts_b = count_labels(true, predicted_a), count_labels(true, predicted_b)
    only_right = _only_right(true, predicted_a, predicted_b)
    n_a, n_b = _count_signs(only_right)
    patients_for_a, patients_for_b = _count_signs(sum_by_patient(only_right, patients))
    p_values = _sign_test(patients_for_a, patients_for_b)
    frame = pd.DataFrame(
        {
            "label": list(labels),
            "title": list(titles),
            "train_count": np.asarray(train_counts, dtype=np.int64),
            "n_true": counts_a.n_true,
            "f1_a": counts_a.f1,
            "f1_b": counts_b.f1,
            "f1_difference": counts_a.f1 - counts_b.f1,
            "n_only_a_right": n_a,
            "n_only_b_right": n_b,
            "p_value": p_values,
        }
    )
    frame = frame[(counts_a.n_true + counts_a.n_predicted + counts_b.n_predicted) > 0]
    adjusted = stats.false_discovery_control(frame["p_value"]) if len(frame) else np.zeros(0)
    by_patient = np.sign(patients_for_a - patients_for_b)[frame.index]
    is_sure = (adjusted <= false_discovery_rate) & (by_patient == np.sign(n_a - n_b)[frame.index])
    frame = frame.assign(winner=np.where(is_sure, np.where(by_patient > 0, "A", "B"), ""))
    return frame.sort_values(["n_true", "label"], ascending=[False, True], ignore_index=True)


def _only_right(true: LabelMatrix, predicted_a: LabelMatrix, predicted_b: LabelMatrix) -> sparse.csr_array:
    """1 where A alone is right about a label of a document, -1 where B alone is, shape (n_documents, n_labels)."""
    true, predicted_a = as_label_matrices("true", true, "predicted_a", predicted_a)
    _, predicted_b = as_label_matrices("true", true, "predicted_b", predicted_b)
    only_a_gives_it = predicted_a.astype(np.int8) - predicted_b.astype(np.int8)  # -1 where only B does
    return sparse.csr_array(2 * only_a_gives_it.multiply(true.astype(np.int8)) - only_a_gives_it)


def _count_signs(values: sparse.csr_array) -> tuple[Counts, Counts]:
    """How many rows are above 0 and below 0, by column."""
    columns, n_columns = values.indices, values.shape[1]
    above, below = (np.bincount(columns[is_one], minlength=n_columns) for is_one in (values.data > 0, values.data < 0))
    return above, below


def _sign_test(n_a: Counts, n_b: Counts) -> Floats:
    """Two-sided exact p-values of n_a against n_b out of their sum; 1 where both are 0."""
    tail = stats.binom.cdf(np.minimum(n_a, n_b), n_a + n_b, 0.5)
    return np.minimum(1.0, 2 * tail)
