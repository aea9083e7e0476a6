"""The evaluation: every score under a name of its own, by code system and by frequency, with intervals.

Definitions stand at ``label_counts.set_scores`` and ``ranking.ranking_scores``. No score is ever NaN, and
none warns: the value of each undefined case is written down there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.cells import check_probabilities
from pipeline.evaluation.intervals import bootstrap_distributions, bootstrap_intervals
from pipeline.evaluation.label_counts import (
    Counts,
    Floats,
    LabelMatrix,
    as_label_matrices,
    as_label_matrix,
    count_by_label,
    count_labels,
    count_scores,
    mean_or,
    set_scores,
)
from pipeline.evaluation.patients import sum_by_patient
from pipeline.evaluation.ranking import map_among, mean_auc, rank_true_labels, ranking_scores, roc_auc_by_label

__all__ = [
    "FREQUENCY_BANDS",
    "bootstrap_distributions",
    "bootstrap_intervals",
    "evaluate_predictions",
    "frequency_bands",
    "label_metrics_table",
    "metrics_by_frequency_band",
    "principal_diagnosis_scores",
    "rank_true_labels",
]

FREQUENCY_BANDS: tuple[tuple[int, int | None], ...] = (
    (0, 0), (1, 10), (11, 50), (51, 100), (101, 500), (501, None),
)  # fmt: skip
"""Lowest and highest number of training documents of a label, both inclusive."""


def evaluate_predictions(
    true: LabelMatrix,
    predicted: LabelMatrix,
    probabilities: NDArray[np.float32] | None,
    *,
    train_counts: ArrayLike | None = None,
    label_groups: Mapping[str, Sequence[int]] | None = None,
    ks: Sequence[int] = (5, 8, 15),
) -> dict[str, float]:
    """Score one split, overall, by group of labels and by training frequency.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape, values in [0, 1]; None leaves out what needs them.
        train_counts: documents of each label in split train, shape (n_labels,); None leaves out the bands.
        label_groups: name -> label indices, such as one group for each code system.
        ks: cut-offs of precision and recall.

    Returns:
        Flat names. Overall: those of ``set_scores`` and ``ranking_scores``. A group's scores are named
        ``<group>/<score>``; a band's ``train_count_1_10/<score>`` (highest: ``train_count_over_500``) with
        those of ``metrics_by_frequency_band``.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes or lengths differ, a probability is not in [0, 1], or a group names a label
            outside the label space.
    """
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    scores = set_scores(true, predicted)
    label_aucs = None
    if probabilities is not None:
        check_probabilities(probabilities, true.shape)
        label_aucs = roc_auc_by_label(true, probabilities)
        scores |= ranking_scores(true, probabilities, ks=ks, label_aucs=label_aucs)
    for group, indices in (label_groups or {}).items():
        labels = _group_labels(group, indices, true.shape[1])
        group_probabilities = None if probabilities is None else probabilities[:, labels]
        group_scores = evaluate_predictions(true[:, labels], predicted[:, labels], group_probabilities, ks=ks)
        scores |= {f"{group}/{name}": score for name, score in group_scores.items()}
    if train_counts is not None:
        bands = metrics_by_frequency_band(true, predicted, train_counts, probabilities, label_aucs=label_aucs)
        for band in bands.to_dict("records"):
            key = band_key(str(band.pop("band")))
            scores |= {f"{key}/{name}": float(score) for name, score in band.items()}
    return scores


def _group_labels(group: str, indices: Sequence[int], n_labels: int) -> NDArray[np.int64]:
    labels = np.asarray(indices, dtype=np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < n_labels:
        raise ValueError(
            f"label_groups[{group!r}] names label {labels.max() if labels.min() >= 0 else labels.min()}, "
            f"but the label space has the indices 0 to {n_labels - 1}."
        )
    return labels


def _train_counts(train_counts: ArrayLike, n_labels: int) -> Counts:
    counts = np.asarray(train_counts, dtype=np.int64)
    if counts.shape != (n_labels,):
        raise ValueError(f"train_counts must have one number for each of {n_labels} labels, got {counts.shape}.")
    return counts


def label_metrics_table(
    true: LabelMatrix,
    predicted: LabelMatrix,
    *,
    labels: Sequence[str],
    titles: Sequence[str],
    train_counts: ArrayLike,
    patients: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row a label, in the order of the label space: what was true, what was predicted, how well.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        labels: of the label space, n_labels.
        titles: of the labels, n_labels.
        train_counts: documents of each label in split train, shape (n_labels,).
        patients: whose each document is, (n_documents,); None: every document stands by itself.

    Returns:
        Columns label, title, train_count, n_true, n_predicted, n_true_positive (documents), n_true_patients,
        n_predicted_patients, precision, recall, f1; the scores are 0 where undefined.

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes or lengths differ.
    """
    counts = count_labels(true, predicted)
    n_true_patients, n_predicted_patients = (count_by_label(sum_by_patient(one, patients)) for one in (true, predicted))
    return pd.DataFrame(
        {
            "label": list(labels),
            "title": list(titles),
            "train_count": _train_counts(train_counts, counts.n_true.size),
            "n_true": counts.n_true,
            "n_predicted": counts.n_predicted,
            "n_true_positive": counts.n_true_positive,
            "n_true_patients": n_true_patients,
            "n_predicted_patients": n_predicted_patients,
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
        }
    )


def metrics_by_frequency_band(
    true: LabelMatrix,
    predicted: LabelMatrix,
    train_counts: ArrayLike,
    probabilities: NDArray[np.float32] | None = None,
    *,
    label_aucs: Floats | None = None,
) -> pd.DataFrame:
    """Score the labels of each band of training frequency (``FREQUENCY_BANDS``) by themselves.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        train_counts: documents of each label in split train, shape (n_labels,).
        probabilities: float32, shape (n_documents, n_labels); None leaves out what needs them.
        label_aucs: ``ranking.roc_auc_by_label``, where they are known already.

    Returns:
        One row a band, rarest first: ``band`` ("0", "1-10", ..., "> 500"), the scores and counts of ``count_scores``,
        and, where probabilities are given, ``map`` (``ranking.map_among``) and ``macro_roc_auc``, as in
        ``ranking_scores``; all 0 for a band without labels.

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes or lengths differ.
    """
    counts = count_labels(true, predicted)
    bands = frequency_bands(_train_counts(train_counts, counts.n_true.size))
    table = pd.DataFrame([{"band": band} | count_scores(counts.select(labels)) for band, labels in bands.items()])
    if probabilities is not None:
        true = as_label_matrix("true", true)
        aucs = roc_auc_by_label(true, probabilities) if label_aucs is None else label_aucs
        table["map"] = [map_among(true, probabilities, labels) for labels in bands.values()]
        table["macro_roc_auc"] = [mean_auc(aucs[labels]) if labels.size else 0.0 for labels in bands.values()]
    return _with_whole_counts(table)


def bands_of_scores(scores: Mapping[str, float]) -> pd.DataFrame:
    """The table of ``metrics_by_frequency_band`` out of the flat scores of ``evaluate_predictions``."""
    rows = []
    for band in frequency_bands([]):
        prefix = f"{band_key(band)}/"
        rows.append(
            {"band": band} | {name.removeprefix(prefix): scores[name] for name in scores if name.startswith(prefix)}
        )
    return _with_whole_counts(pd.DataFrame(rows))


def _with_whole_counts(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({name: "int64" for name in table.columns if name.startswith("n_")})


def frequency_bands(train_counts: ArrayLike) -> dict[str, NDArray[np.int64]]:
    """The labels of each band of training frequency, rarest first; a band may be empty.

    Example:
        >>> {band: labels.tolist() for band, labels in frequency_bands([3, 700, 10]).items() if labels.size}
        {'1-10': [0, 2], '> 500': [1]}
    """
    n_train = np.asarray(train_counts, dtype=np.int64)
    return {
        _band_name(lowest, highest): np.flatnonzero(
            (n_train >= lowest) & (n_train <= (np.inf if highest is None else highest))
        )
        for lowest, highest in FREQUENCY_BANDS
    }


def _band_name(lowest: int, highest: int | None) -> str:
    if highest is None:
        return f"> {lowest - 1}"
    return str(lowest) if lowest == highest else f"{lowest}-{highest}"


def band_key(band: str) -> str:
    """The key of a band, which stands before its scores.

    Example:
        >>> band_key("1-10"), band_key("> 500")
        ('train_count_1_10', 'train_count_over_500')
    """
    return "train_count_" + band.replace("> ", "over_").replace("-", "_")


def principal_diagnosis_scores(
    principal: ArrayLike,
    predicted: LabelMatrix,
    probabilities: NDArray[np.float32],
    *,
    diagnoses: ArrayLike,
) -> dict[str, float]:
    """How well the first diagnosis of each document is met, where the order of its codes means something.

    - ``principal_accuracy``: share of these documents whose most probable diagnosis is the principal one
      (equally probable ones: the first of the label space).
    - ``principal_recall``: share whose principal diagnosis is among the predicted labels.
    - ``n_documents_with_principal``.

    Args:
        principal: label index of each document's principal diagnosis, shape (n_documents,); -1 where it lies
            outside the label space (never met), -2 where the document has none (left out).
        predicted: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape.
        diagnoses: indices of the labels that are diagnoses; a procedure is nobody's principal diagnosis.

    Returns:
        The scores, 0 where no document has a principal diagnosis.

    Raises:
        TypeError: if ``predicted`` is not a CSR matrix of bool.

    Example:
        >>> from pipeline.evaluation.label_counts import label_matrix
        >>> predicted = label_matrix([[0], [0]], 2)
        >>> principal_diagnosis_scores([0, 1], predicted, np.float32([[0.9, 0.2], [0.8, 0.1]]), diagnoses=[0, 1])
        {'principal_accuracy': 0.5, 'principal_recall': 0.5, 'n_documents_with_principal': 2.0}
    """
    principal, diagnoses = np.asarray(principal, dtype=np.int64), np.asarray(diagnoses, dtype=np.int64)
    predicted = as_label_matrix("predicted", predicted)
    is_first, is_found = np.zeros(principal.size), np.zeros(principal.size)
    for document in np.flatnonzero(principal >= 0):
        label = principal[document]
        is_first[document] = diagnoses[np.argmax(probabilities[document, diagnoses])] == label
        is_found[document] = label in predicted.indices[predicted.indptr[document] : predicted.indptr[document + 1]]
    has_one = principal > -2
    return {
        "principal_accuracy": mean_or(is_first[has_one], 0.0),
        "principal_recall": mean_or(is_found[has_one], 0.0),
        "n_documents_with_principal": float(has_one.sum()),
    }
