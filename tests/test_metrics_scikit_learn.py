"""Scores against scikit-learn and against slow definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import Bools, Probabilities, csr, splits
from sklearn import metrics as sk

from pipeline.evaluation.label_counts import set_scores
from pipeline.evaluation.ranking import ranking_scores


@settings(max_examples=60, deadline=None)
@given(splits())
def test_set_scores_equal_scikit_learn(split: tuple[Bools, Bools, Probabilities]) -> None:
    true, predicted, _ = split
    scores = set_scores(csr(true), csr(predicted))
    present = np.flatnonzero(true.any(axis=0))
    for name, average in (("micro_f1", "micro"), ("micro_precision", "micro"), ("micro_recall", "micro")):
        function = getattr(sk, name.replace("micro_", "") + "_score")
        assert scores[name] == pytest.approx(_sk(function, true, predicted, average=average))
    if present.size:
        expected = _sk(sk.f1_score, true[:, present], predicted[:, present], average="macro")
        assert scores["macro_f1"] == pytest.approx(expected)
    assert scores["macro_f1_all_codes"] == pytest.approx(_sk(sk.f1_score, true, predicted, average="macro"))
    assert scores["exact_match"] == pytest.approx((true == predicted).all(axis=1).mean())


def _sk(function: object, true: Bools, predicted: Bools, *, average: str) -> float:
    # A column of zeros more keeps scikit-learn from taking one label for a binary problem.
    n_labels = true.shape[1]
    pad = np.zeros((true.shape[0], 1), dtype=bool)
    true, predicted = np.hstack([true, pad]), np.hstack([predicted, pad])
    score = function(true, predicted, average=average, labels=range(n_labels), zero_division=0)  # type: ignore[operator]
    return float(score)


@settings(deadline=None)
@given(splits())
def test_macro_f1_caml_equals_its_definition(split: tuple[Bools, Bools, Probabilities]) -> None:
    true, predicted, _ = split
    precisions, recalls = [], []
    for t, p in zip(true.T, predicted.T, strict=True):
        precisions.append((t & p).sum() / p.sum() if p.any() else 0)
        recalls.append((t & p).sum() / t.sum() if t.any() else 0)
    precision, recall = np.mean(precisions), np.mean(recalls)
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert set_scores(csr(true), csr(predicted))["macro_f1_caml"] == pytest.approx(expected)


@settings(deadline=None)
@given(splits())
def test_jaccard_equals_its_definition(split: tuple[Bools, Bools, Probabilities]) -> None:
    true, predicted, _ = split
    values = [(t & p).sum() / (t | p).sum() if (t | p).any() else 1 for t, p in zip(true, predicted, strict=True)]
    assert set_scores(csr(true), csr(predicted))["jaccard"] == pytest.approx(np.mean(values))


@given(splits())
@settings(max_examples=50, deadline=None)
def test_areas_under_roc_curves_equal_scikit_learn(split: tuple[Bools, Bools, Probabilities]) -> None:
    true, _, probabilities = split
    before = probabilities.copy()
    scores = ranking_scores(csr(true), probabilities)
    assert np.array_equal(probabilities, before)
    by_label = [sk.roc_auc_score(t, p) for t, p in zip(true.T, probabilities.T, strict=True) if t.any() and not t.all()]
    expected = np.mean(by_label) if by_label else 0.5
    assert scores["macro_roc_auc"] == pytest.approx(expected)
    is_defined = true.any() and not true.all()
    expected = sk.roc_auc_score(true.ravel(), probabilities.ravel()) if is_defined else 0.5
    assert scores["micro_roc_auc"] == pytest.approx(expected)


@settings(deadline=None)
@given(splits())
def test_coverage_error_equals_scikit_learn(split: tuple[Bools, Bools, Probabilities]) -> None:
    true, _, probabilities = split
    if true.shape[1] == 1:  # scikit-learn takes one column for another kind of problem
        true, probabilities = np.repeat(true, 2, axis=1), np.repeat(probabilities, 2, axis=1)
    found = ranking_scores(csr(true), probabilities)["coverage_error"]
    assert found == pytest.approx(sk.coverage_error(true, probabilities))


@given(splits(), st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True))
def test_ranking_scores_equal_slow_loops(split: tuple[Bools, Bools, Probabilities], ks: list[int]) -> None:
    true, _, probabilities = split
    scores = ranking_scores(csr(true), probabilities, ks=ks)
    rankings = [sorted(range(true.shape[1]), key=lambda label, p=p: (-p[label], label)) for p in probabilities]
    documents = [[bool(t[label]) for label in order] for t, order in zip(true, rankings, strict=True)]
    labeled = [document for document in documents if any(document)]
    assert scores["map"] == pytest.approx(_mean(_slow_average_precision(one) for one in labeled))
    assert scores["r_precision"] == pytest.approx(_mean(sum(one[: sum(one)]) / sum(one) for one in labeled))
    for k in ks:
        assert scores[f"precision_at_{k}"] == pytest.approx(_mean(sum(one[:k]) / k for one in documents))
        assert scores[f"recall_at_{k}"] == pytest.approx(_mean(sum(one[:k]) / sum(one) for one in labeled))


def _slow_average_precision(is_true_in_order: Sequence[bool]) -> float:
    total = 0.0
    for rank in range(1, len(is_true_in_order) + 1):
        total += sum(is_true_in_order[:rank]) / rank * is_true_in_order[rank - 1]
    return total / sum(is_true_in_order)


def _mean(values: object) -> float:
    listed = list(values)  # type: ignore[call-overload]
    return sum(listed) / len(listed) if listed else 0.0
