"""Scores: by hand, against slow definitions, against scikit-learn, and in every undefined case."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from metric_cases import PREDICTED, TRUE, Probabilities, csr, label_sets, random_split
from scipy import sparse

from pipeline.evaluation.curves import threshold_curve
from pipeline.evaluation.label_counts import label_matrix, set_scores
from pipeline.evaluation.metrics import (
    bands_of_scores,
    evaluate_predictions,
    label_metrics_table,
    metrics_by_frequency_band,
    rank_true_labels,
)
from pipeline.evaluation.ranking import ranking_scores, roc_auc_by_label


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
    monkeypatch.setattr("pipeline.evaluation.cells.CHUNK_CELLS", 20)
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


def test_the_table_of_bands_comes_back_from_the_flat_scores() -> None:
    true, predicted, probabilities = random_split(40, seed=3)
    counts = np.arange(30) ** 2
    scores = evaluate_predictions(true, predicted, probabilities, train_counts=counts)
    expected = metrics_by_frequency_band(true, predicted, counts, probabilities)
    pd.testing.assert_frame_equal(bands_of_scores(scores), expected)
    without = evaluate_predictions(true, predicted, None, train_counts=counts)
    pd.testing.assert_frame_equal(bands_of_scores(without), metrics_by_frequency_band(true, predicted, counts))


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
    assert table["n_predicted_patients"].tolist() == table["n_predicted"].tolist()


def test_label_table_counts_patients_beside_documents() -> None:
    """Documents 0 and 1 are of one patient: label 0, given to both and proposed for all three, has 1 and 2 patients."""
    names = ["a", "b", "c", "d"]
    table = label_metrics_table(
        TRUE, PREDICTED, labels=names, titles=names, train_counts=[4, 3, 2, 0], patients=["p", "p", "q"]
    )
    assert table[["n_true", "n_true_patients", "n_predicted", "n_predicted_patients"]].values.tolist() == [
        [2, 1, 3, 2], [2, 2, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip


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
