"""The evaluation: every score under a name of its own, by code system and by frequency, with intervals.

Definitions stand at ``label_counts.set_scores`` and ``ranking.ranking_scores``. No score is ever NaN, and
none warns: the value of each undefined case is written down there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.intervals import bootstrap_distributions, bootstrap_intervals
from pipeline.label_counts import (
    Counts,
    LabelMatrix,
    as_label_matrices,
    as_label_matrix,
    count_labels,
    count_scores,
    mean_or,
    set_scores,
)
from pipeline.ranking import rank_true_labels, ranking_scores, threshold_curve

__all__ = [
    "FREQUENCY_BANDS",
    "agreement",
    "bootstrap_distributions",
    "bootstrap_intervals",
    "coder_comparison",
    "evaluate_predictions",
    "label_metrics_table",
    "metrics_by_frequency_band",
    "rank_true_labels",
    "threshold_curve",
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
        micro_f1, macro_f1, n_labels, n_labels_present and n_true.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes or lengths differ, a probability is not in [0, 1], or a group names a label
            outside the label space.
    """
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    scores = set_scores(true, predicted)
    if probabilities is not None:
        scores |= ranking_scores(true, probabilities, ks=ks)
    for group, indices in (label_groups or {}).items():
        labels = _group_labels(group, indices, true.shape[1])
        group_probabilities = None if probabilities is None else probabilities[:, labels]
        group_scores = evaluate_predictions(true[:, labels], predicted[:, labels], group_probabilities, ks=ks)
        scores |= {f"{group}/{name}": score for name, score in group_scores.items()}
    if train_counts is not None:
        for band in metrics_by_frequency_band(true, predicted, train_counts).to_dict("records"):
            names = ("micro_f1", "macro_f1", "n_labels", "n_labels_present", "n_true")
            scores |= {f"train_count_{_band_key(str(band['band']))}/{name}": float(band[name]) for name in names}
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
) -> pd.DataFrame:
    """One row a label, in the order of the label space: what was true, what was predicted, how well.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        labels: of the label space, n_labels.
        titles: of the labels, n_labels.
        train_counts: documents of each label in split train, shape (n_labels,).

    Returns:
        Columns label, title, train_count, n_true, n_predicted, n_true_positive, precision, recall, f1; the
        scores are 0 where undefined.

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes or lengths differ.
    """
    counts = count_labels(true, predicted)
    return pd.DataFrame(
        {
            "label": list(labels),
            "title": list(titles),
            "train_count": _train_counts(train_counts, counts.n_true.size),
            "n_true": counts.n_true,
            "n_predicted": counts.n_predicted,
            "n_true_positive": counts.n_true_positive,
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
        }
    )


def metrics_by_frequency_band(true: LabelMatrix, predicted: LabelMatrix, train_counts: ArrayLike) -> pd.DataFrame:
    """Score the labels of each band of training frequency (``FREQUENCY_BANDS``) by themselves.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        train_counts: documents of each label in split train, shape (n_labels,).

    Returns:
        One row a band, rarest first: ``band`` ("0", "1-10", ..., "> 500") and the scores and counts of
        ``count_scores``, all 0 for a band without labels.

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes or lengths differ.
    """
    counts = count_labels(true, predicted)
    n_train = _train_counts(train_counts, counts.n_true.size)
    rows = []
    for lowest, highest in FREQUENCY_BANDS:
        is_inside = (n_train >= lowest) & (n_train <= (np.inf if highest is None else highest))
        rows.append({"band": _band_name(lowest, highest)} | count_scores(counts.select(is_inside)))
    table = pd.DataFrame(rows)
    return table.astype({name: "int64" for name in table.columns if name.startswith("n_")})


def _band_name(lowest: int, highest: int | None) -> str:
    if highest is None:
        return f"> {lowest - 1}"
    return str(lowest) if lowest == highest else f"{lowest}-{highest}"


def _band_key(band: str) -> str:
    return band.replace("> ", "over_").replace("-", "_")


def agreement(label_sets_a: LabelMatrix, label_sets_b: LabelMatrix) -> dict[str, float]:
    """Agreement of two coders on the same documents; it does not matter which one comes first.

    Args:
        label_sets_a: bool CSR, shape (n_documents, n_labels).
        label_sets_b: the same shape.

    Returns:
        ``micro_f1``; ``macro_f1_either``: mean F1 over the labels that either coder used (not ``macro_f1``,
        which takes one side for the truth and skips the labels that only the other used);
        ``exact_match``; ``jaccard``; ``n_documents``; ``n_labels_used`` by either; ``n_a``, ``n_b`` and
        ``n_shared``: labels given.

    Raises:
        TypeError: if one is not a CSR matrix of bool.
        ValueError: if their shapes differ.
    """
    scores = set_scores(label_sets_a, label_sets_b)
    counts = count_labels(label_sets_a, label_sets_b)
    is_used = counts.n_true + counts.n_predicted > 0
    return {name: scores[name] for name in ("micro_f1", "exact_match", "jaccard", "n_documents")} | {
        "macro_f1_either": mean_or(counts.f1[is_used], 0.0),
        "n_labels_used": float(is_used.sum()),
        "n_a": scores["n_true"],
        "n_b": scores["n_predicted"],
        "n_shared": scores["n_true_positive"],
    }


def coder_comparison(
    coders: Mapping[str, LabelMatrix], gold: LabelMatrix, model_predicted: LabelMatrix
) -> pd.DataFrame:
    """Put the model beside human coders, all on the same documents and in one union label space.

    A gold standard made from the coders' own votes flatters them: coder against coder is the honest row.

    Args:
        coders: name -> bool CSR, shape (n_documents, n_labels).
        gold: the same shape.
        model_predicted: the same shape.

    Returns:
        One row a pair: ``kind`` ("model vs gold", "coder vs gold", "coder vs coder", "model vs coder"),
        ``first``, ``second``, and ``micro_f1``, ``macro_f1_either``, ``exact_match``, ``jaccard``,
        ``n_documents`` as ``agreement`` gives them.

    Raises:
        TypeError: if one is not a CSR matrix of bool.
        ValueError: if the shapes differ.
    """
    gold = as_label_matrix("gold", gold)
    pairs: list[tuple[str, str, str, LabelMatrix, LabelMatrix]] = [
        ("model vs gold", "model", "gold", model_predicted, gold)
    ]
    pairs += [("coder vs gold", name, "gold", labels, gold) for name, labels in coders.items()]
    pairs += [
        ("coder vs coder", first, second, coders[first], coders[second]) for first, second in combinations(coders, 2)
    ]
    pairs += [("model vs coder", "model", name, model_predicted, labels) for name, labels in coders.items()]
    shown = ("micro_f1", "macro_f1_either", "exact_match", "jaccard", "n_documents")
    rows = []
    for kind, first, second, first_labels, second_labels in pairs:
        scores = agreement(first_labels, second_labels)
        rows.append({"kind": kind, "first": first, "second": second} | {name: scores[name] for name in shown})
    return pd.DataFrame(rows).astype({"n_documents": "int64"})
