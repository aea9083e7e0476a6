"""Scores: by hand, against slow definitions, against scikit-learn, and in every undefined case."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse
from sklearn import metrics as sk

from pipeline.agreement import agreement, coder_comparison
from pipeline.curves import threshold_curve
from pipeline.icd_metric import IcdCodingMetric
from pipeline.label_counts import label_matrix, set_scores
from pipeline.metrics import (
    bootstrap_distributions,
    bootstrap_intervals,
    evaluate_predictions,
    label_metrics_table,
    metrics_by_frequency_band,
    rank_true_labels,
)
from pipeline.ranking import ranking_scores, roc_auc_by_label

Bools = NDArray[np.bool_]
Probabilities = NDArray[np.float32]


def csr(rows: object) -> sparse.csr_array:
    return sparse.csr_array(np.asarray(rows, dtype=bool))


def label_sets(*sets: set[int], n_labels: int) -> sparse.csr_array:
    return label_matrix([sorted(one) for one in sets], n_labels)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Bools, Bools, Probabilities]:
    """Small splits with empty rows, empty and full columns, and many equal probabilities."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 6)))
    true = draw(hnp.arrays(bool, shape))
    predicted = draw(hnp.arrays(bool, shape))
    values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))
    return true, predicted, draw(hnp.arrays(np.float32, shape, elements=values))


# By hand. Three documents, four labels, nobody has label 3:
#   true      {0, 1}  {0}  {1, 2}
#   predicted {0, 1}  {0}  {0}
# label 0: 2 true, 3 predicted, 2 right: P 2/3, R 1,   F1 4/5
# label 1: 2 true, 1 predicted, 1 right: P 1,   R 1/2, F1 2/3
# label 2: 1 true, none predicted: 0; label 3: 0.
TRUE = label_sets({0, 1}, {0}, {1, 2}, n_labels=4)
PREDICTED = label_sets({0, 1}, {0}, {0}, n_labels=4)


def test_micro_scores_of_the_worked_example() -> None:
    """3 right of 4 predicted and 5 true: P 3/4, R 3/5, F1 = 2·3 / (4 + 5)."""
    scores = set_scores(TRUE, PREDICTED)
    assert scores["micro_precision"] == pytest.approx(3 / 4)
    assert scores["micro_recall"] == pytest.approx(3 / 5)
    assert scores["micro_f1"] == pytest.approx(2 / 3)


def test_three_macro_f1_have_three_values_on_the_worked_example() -> None:
    """Edin: (4/5 + 2/3 + 0) / 3 present labels; all codes: the same sum / 4.

    CAML: macro P = (2/3 + 1) / 4 = 5/12, macro R = (1 + 1/2) / 4 = 3/8, harmonic mean 15/38.
    """
    scores = set_scores(TRUE, PREDICTED)
    assert scores["macro_f1"] == pytest.approx(22 / 45)
    assert scores["macro_f1_all_codes"] == pytest.approx(22 / 60)
    assert scores["macro_f1_caml"] == pytest.approx(15 / 38)


def test_document_scores_and_counts_of_the_worked_example() -> None:
    """Two of three documents are exact; the third shares nothing with its prediction."""
    scores = set_scores(TRUE, PREDICTED)
    assert scores["exact_match"] == pytest.approx(2 / 3)
    assert scores["jaccard"] == pytest.approx(2 / 3)
    assert {name: value for name, value in scores.items() if name.startswith("n_")} == {
        "n_documents": 3, "n_documents_without_labels": 0, "n_documents_without_predictions": 0,
        "n_labels": 4, "n_labels_present": 3, "n_true": 5, "n_predicted": 4, "n_true_positive": 3,
    }  # fmt: skip


def test_macro_f1_caml_is_not_the_mean_of_f1() -> None:
    """Label 0 has P 1, R 1/2; label 1 has P 1/2, R 1: each F1 is 2/3, CAML's value 3/4."""
    true = csr([[1, 1], [1, 0]])
    predicted = csr([[1, 1], [0, 1]])
    scores = set_scores(true, predicted)
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert scores["macro_f1_caml"] == pytest.approx(3 / 4)


def test_ranking_scores_by_hand() -> None:
    """True labels 1 and 3 come second and third: AP = (1/2 + 2/3) / 2; one of the first two is true."""
    scores = ranking_scores(label_sets({1, 3}, n_labels=4), np.float32([[0.9, 0.8, 0.1, 0.4]]), ks=(1, 2, 5))
    assert scores["map"] == pytest.approx(7 / 12)
    assert scores["r_precision"] == pytest.approx(1 / 2)
    assert [scores[f"precision_at_{k}"] for k in (1, 2, 5)] == pytest.approx([0, 1 / 2, 2 / 5])
    assert [scores[f"recall_at_{k}"] for k in (1, 2, 5)] == pytest.approx([0, 1 / 2, 1])


def test_equal_probabilities_are_ranked_by_position_in_the_label_space() -> None:
    """Label 2 is first; labels 0, 1 and 3 are equal and follow in this order."""
    ranks = rank_true_labels(csr([[1, 1, 1, 1]]), np.float32([[0.5, 0.5, 0.9, 0.5]]))
    assert ranks.tolist() == [2, 3, 1, 4]


def test_document_without_labels_counts_for_precision_only() -> None:
    """Document 0 finds its label first; document 1 has none: P@1 is halved, MAP, R@1, R-precision are not."""
    scores = ranking_scores(label_sets({0}, set(), n_labels=2), np.float32([[0.9, 0.1], [0.9, 0.1]]), ks=(1,))
    assert scores["precision_at_1"] == 0.5
    assert scores["map"] == scores["recall_at_1"] == scores["r_precision"] == 1.0


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


@pytest.mark.parametrize("predicted", [0, 1])
@pytest.mark.parametrize("true", [0, 1])
@pytest.mark.parametrize("n_documents", [0, 1, 3])
def test_all_negative_and_all_positive_columns_give_finite_scores(true: int, predicted: int, n_documents: int) -> None:
    """Warnings are errors in this suite, so a division by zero would fail here."""
    shape = (n_documents, 3)
    scores = evaluate_predictions(
        csr(np.full(shape, true)),
        csr(np.full(shape, predicted)),
        np.full(shape, 0.5, dtype=np.float32),
        train_counts=[0, 5, 700],
    )
    assert all(np.isfinite(list(scores.values())))
    assert scores["micro_roc_auc"] == scores["macro_roc_auc"] == 0.5
    assert scores["micro_f1"] == float(bool(true and predicted and n_documents))


def test_nothing_predicted_is_precision_zero() -> None:
    scores = set_scores(csr([[1, 0]]), csr([[0, 0]]))
    assert (scores["micro_precision"], scores["micro_recall"], scores["micro_f1"]) == (0, 0, 0)
    assert scores["n_documents_without_predictions"] == 1


def test_results_do_not_depend_on_the_size_of_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    true = csr(generator.random((23, 9)) < 0.3)
    probabilities = np.round(generator.random((23, 9)), 1).astype(np.float32)
    whole = ranking_scores(true, probabilities), threshold_curve(true, probabilities)
    monkeypatch.setattr("pipeline.ranking.CHUNK_CELLS", 20)
    assert ranking_scores(true, probabilities) == whole[0]
    assert threshold_curve(true, probabilities).equals(whole[1])


def test_memory_beyond_the_input_does_not_grow_with_it() -> None:
    """24 million cells: one float64 copy would be 192 MB, one index array of all cells too."""
    generator = np.random.default_rng(0)
    probabilities = generator.random((3_000, 8_000), dtype=np.float32)
    true = label_matrix(generator.integers(8_000, size=(3_000, 12)).tolist(), 8_000)
    tracemalloc.start()
    evaluate_predictions(true, true, probabilities, train_counts=np.ones(8_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6


def test_a_group_scores_like_its_columns_alone() -> None:
    generator = np.random.default_rng(1)
    true, predicted = generator.random((2, 12, 6)) < 0.4
    probabilities = generator.random((12, 6), dtype=np.float32)
    scores = evaluate_predictions(
        csr(true), csr(predicted), probabilities, label_groups={"icd10pcs": [4, 1], "icd10cm": [0, 2, 3, 5]}
    )
    alone = evaluate_predictions(csr(true[:, [4, 1]]), csr(predicted[:, [4, 1]]), probabilities[:, [4, 1]])
    assert {name: scores[f"icd10pcs/{name}"] for name in alone} == pytest.approx(alone)


def test_bands_of_training_frequency_by_hand() -> None:
    """Labels with 0, 10, 11 and 501 training documents fall into four bands; only the last is predicted."""
    true = csr([[1, 1, 1, 1], [0, 1, 0, 1]])
    predicted = csr([[0, 0, 0, 1], [0, 0, 0, 0]])
    table = metrics_by_frequency_band(true, predicted, [0, 10, 11, 501]).set_index("band")
    assert table.index.tolist() == ["0", "1-10", "11-50", "51-100", "101-500", "> 500"]
    assert table["n_labels"].tolist() == [1, 1, 1, 0, 0, 1]
    assert table["n_true"].tolist() == [1, 2, 1, 0, 0, 2]
    assert table.loc["> 500", "micro_f1"] == pytest.approx(2 / 3)
    assert table.loc["51-100", "macro_f1"] == 0


def test_a_band_is_ranked_among_its_own_labels() -> None:
    """Two labels of band 1-10 and one of > 500: of the first document's rare labels the wrong one is on top."""
    true = csr([[1, 0, 1], [0, 1, 0]])
    probabilities = np.float32([[0.2, 0.3, 0.9], [0.1, 0.4, 0.8]])
    table = metrics_by_frequency_band(true, true, [5, 6, 700], probabilities).set_index("band")
    assert table.loc["1-10", "map"] == pytest.approx((1 / 2 + 1) / 2)
    assert table.loc["1-10", "macro_roc_auc"] == pytest.approx(1.0)  # within each label both are in order
    assert table.loc["> 500", "map"] == 1
    assert table.loc["51-100", ["map", "macro_roc_auc"]].tolist() == [0, 0]


def test_bands_reach_the_flat_scores() -> None:
    scores = evaluate_predictions(TRUE, PREDICTED, None, train_counts=[600, 600, 3, 0])
    assert scores["train_count_over_500/micro_f1"] == pytest.approx(3 * 2 / 8)
    assert scores["train_count_1_10/n_true"] == 1
    assert scores["train_count_0/n_labels_present"] == 0


def test_label_table_has_one_row_a_label_in_order() -> None:
    table = label_metrics_table(
        TRUE, PREDICTED, labels=["a", "b", "c", "d"], titles=["A", "B", "C", "D"], train_counts=[4, 3, 2, 0]
    )
    assert table["label"].tolist() == ["a", "b", "c", "d"]
    assert table["precision"].tolist() == pytest.approx([2 / 3, 1, 0, 0])
    assert table["recall"].tolist() == pytest.approx([1, 1 / 2, 0, 0])
    assert table["f1"].tolist() == pytest.approx([4 / 5, 2 / 3, 0, 0])


def test_threshold_curve_by_hand() -> None:
    """At 0.5 three cells are predicted, two of four true ones; at 0.8 one, and it is true."""
    true = csr([[1, 0], [1, 1], [0, 1]])
    probabilities = np.float32([[0.9, 0.6], [0.5, 0.3], [0.1, 0.2]])
    curve = threshold_curve(true, probabilities, [0.5, 0.8])
    assert curve["n_predicted"].tolist() == [3, 1]
    assert curve["micro_precision"].tolist() == pytest.approx([2 / 3, 1])
    assert curve["micro_recall"].tolist() == pytest.approx([2 / 4, 1 / 4])
    assert curve["macro_f1"].tolist() == pytest.approx([(1 + 0) / 2, (2 / 3 + 0) / 2])


@settings(deadline=None)
@given(splits())
def test_threshold_curve_equals_scores_at_each_threshold(split: tuple[Bools, Bools, Probabilities]) -> None:
    true, _, probabilities = split
    curve = threshold_curve(csr(true), probabilities)
    for row in curve.iloc[:: max(1, len(curve) // 7)].itertuples():
        scores = set_scores(csr(true), csr(probabilities >= np.float32(row.threshold)))
        assert row.n_predicted == scores["n_predicted"]
        assert row.micro_f1 == pytest.approx(scores["micro_f1"])
        assert row.macro_f1 == pytest.approx(scores["macro_f1"])


@given(splits(), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_bootstrap_scores_equal_scores_of_the_drawn_documents(
    split: tuple[Bools, Bools, Probabilities], seed: int
) -> None:
    true, predicted, probabilities = split
    n_documents = true.shape[0]
    found = bootstrap_distributions(csr(true), csr(predicted), probabilities, n_resamples=3, seed=seed)
    drawn = np.random.default_rng(seed).integers(n_documents, size=(3, n_documents))
    for sample, rows in enumerate(drawn):
        scores = evaluate_predictions(csr(true[rows]), csr(predicted[rows]), probabilities[rows])
        for name, values in found.items():
            assert values[sample] == pytest.approx(scores[name])


def random_split(n_documents: int, seed: int) -> tuple[sparse.csr_array, sparse.csr_array, Probabilities]:
    generator = np.random.default_rng(seed)
    true = generator.random((n_documents, 30)) < 0.15
    probabilities = (0.5 * true + 0.6 * generator.random(true.shape)).clip(0, 1).astype(np.float32)
    return csr(true), csr(probabilities > 0.5), probabilities


def test_intervals_hold_the_score_and_shrink_with_more_documents() -> None:
    """Four times the documents: half the width, here with a generous margin."""
    widths = []
    for n_documents in (200, 800):
        split = random_split(n_documents, seed=5)
        scores = evaluate_predictions(*split)
        intervals = bootstrap_intervals(*split, n_resamples=300, seed=0)
        assert set(intervals) >= {"micro_f1", "macro_f1", "map", "precision_at_5", "exact_match"}
        assert all(low <= scores[name] <= high for name, (low, high) in intervals.items())
        widths.append(intervals["micro_f1"][1] - intervals["micro_f1"][0])
    assert 0.3 < widths[1] / widths[0] < 0.75


def test_macro_f1_interval_holds_the_score_where_plain_percentiles_lie_below_it() -> None:
    """Each label: 4 true documents, 1 found, F1 2/5. Found k times in a sample of 4 it is 2k / (4 + k).

    That bends downward, so by Jensen's inequality samples score below 2/5 on average: with 400 labels, all.
    """
    n_labels = 400
    true = label_matrix([[(d + i) % n_labels for i in range(4)] for d in range(n_labels)], n_labels)
    predicted = label_matrix([[d] for d in range(n_labels)], n_labels)
    samples = bootstrap_distributions(true, predicted, None, n_resamples=100, seed=0)["macro_f1"]
    low, high = bootstrap_intervals(true, predicted, None, n_resamples=100, seed=0)["macro_f1"]
    assert np.quantile(samples, 0.975) < 2 / 5
    assert low < 2 / 5 < high


def test_intervals_depend_on_the_seed_alone() -> None:
    split = random_split(60, seed=1)
    first = bootstrap_intervals(*split, n_resamples=120, seed=4)
    assert first == bootstrap_intervals(*split, n_resamples=120, seed=4)
    assert first != bootstrap_intervals(*split, n_resamples=120, seed=5)


def test_no_samples_give_no_intervals() -> None:
    assert bootstrap_intervals(*random_split(5, seed=0), n_resamples=0, seed=0) == {}


def test_agreement_is_symmetric_and_counts_labels_that_either_used() -> None:
    """Label 0 agrees (F1 1), label 1 only a, label 2 only b: macro 1/3; micro 2·1 / (2 + 2)."""
    a, b = label_sets({0, 1}, n_labels=4), label_sets({0, 2}, n_labels=4)
    scores = agreement(a, b)
    assert scores["micro_f1"] == pytest.approx(1 / 2)
    assert scores["macro_f1_either"] == pytest.approx(1 / 3)
    assert scores["n_labels_used"] == 3
    mirrored = agreement(b, a)
    assert {name: mirrored[name] for name in ("micro_f1", "macro_f1_either", "exact_match", "jaccard")} == {
        name: scores[name] for name in ("micro_f1", "macro_f1_either", "exact_match", "jaccard")
    }


def test_coder_comparison_has_a_row_for_each_pair() -> None:
    """Coder a equals gold; coder b gives {0} for {0, 1}: micro-F1 2·1 / (1 + 2) with a and with gold."""
    gold = label_sets({0, 1}, n_labels=3)
    coders = {"a": gold, "b": label_sets({0}, n_labels=3)}
    table = coder_comparison(coders, gold, label_sets({2}, n_labels=3)).set_index(["first", "second"])
    assert table["kind"].tolist() == [
        "model vs gold", "coder vs gold", "coder vs gold",
        "coder vs coder", "model vs coder", "model vs coder",
    ]  # fmt: skip
    assert table.loc[("a", "gold"), "exact_match"] == 1
    assert table.loc[("a", "b"), "micro_f1"] == pytest.approx(2 / 3)
    assert table.loc[("model", "gold"), "micro_f1"] == 0


def test_stored_zeros_and_duplicates_do_not_count_and_the_input_stays_as_it_is() -> None:
    data = np.array([True, True, False])
    messy = sparse.csr_array((data, np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))
    assert set_scores(messy, csr([[0, 1]]))["micro_f1"] == 1.0
    assert messy.nnz == 3


@pytest.mark.parametrize(
    ("true", "probabilities", "error", "message"),
    [
        (sparse.csr_array(np.ones((1, 2))), np.zeros((1, 2), np.float32), TypeError, "CSR matrix of bool"),
        (csr([[1, 0]]), np.zeros((1, 3), np.float32), ValueError, "shape"),
        (csr([[1, 0]]), np.zeros((1, 2)), TypeError, "float32"),
        (csr([[1, 0]]), np.float32([[0.1, np.nan]]), ValueError, "in \\[0, 1\\]"),
        (csr([[1, 0]]), np.float32([[0.1, 3.2]]), ValueError, "Were logits passed"),
    ],
)
def test_wrong_input_is_refused(
    true: sparse.csr_array, probabilities: Probabilities, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate_predictions(true, true, probabilities)


def test_wrong_shapes_groups_counts_and_cutoffs_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted has"):
        set_scores(csr([[1, 0]]), csr([[1]]))
    with pytest.raises(ValueError, match="names label 4"):
        evaluate_predictions(TRUE, PREDICTED, None, label_groups={"icd9cm": [0, 4]})
    with pytest.raises(ValueError, match="each of 4 labels"):
        evaluate_predictions(TRUE, PREDICTED, None, train_counts=[1, 2])
    with pytest.raises(ValueError, match="at least 1"):
        ranking_scores(csr([[1]]), np.float32([[0.5]]), ks=(0,))


def test_auc_of_a_label_that_all_or_no_documents_have_is_left_out() -> None:
    aucs = roc_auc_by_label(csr([[1, 0, 1], [1, 0, 0]]), np.float32([[0.5, 0.5, 0.9], [0.5, 0.5, 0.1]]))
    assert np.isnan(aucs[:2]).all()
    assert aucs[2] == 1.0


def test_evaluate_module_in_batches_equals_the_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, and without a trace in the cache folder."""
    monkeypatch.setattr(socket, "socket", _no_network)
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path / "cache")
    true, predicted, probabilities = random_split(12, seed=7)
    lists = [[row.indices.tolist() for row in _rows(matrix)] for matrix in (predicted, true)]
    metric = IcdCodingMetric(n_labels=30)
    for start in range(0, 12, 5):
        metric.add_batch(predictions=lists[0][start : start + 5], references=lists[1][start : start + 5])
    counts = list(range(30))
    found = metric.compute(probabilities=probabilities, train_counts=counts)
    assert found == pytest.approx(evaluate_predictions(true, predicted, probabilities, train_counts=counts))
    again = metric.compute(predictions=lists[0], references=lists[1])
    assert again == pytest.approx(evaluate_predictions(true, predicted, None))
    assert not (tmp_path / "cache").exists()


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("a socket was opened")


def _rows(matrix: sparse.csr_array) -> list[sparse.csr_array]:
    return [matrix[[row]] for row in range(matrix.shape[0])]


def test_evaluate_module_names_the_document_with_an_impossible_label() -> None:
    metric = IcdCodingMetric()
    with pytest.raises(ValueError, match=r"references\[1\] holds the label index 7"):
        metric.compute(predictions=[[0], [1]], references=[[0], [7]], n_labels=3)
    with pytest.raises(ValueError, match="n_labels is missing"):
        IcdCodingMetric().compute(predictions=[[0]], references=[[0]])
