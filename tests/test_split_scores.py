"""Evaluation: predictions and gold labels joined by document, scores by hand, codes outside the space counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from coded_cases import coded_by_hand
from experiment_tables import DIABETES, GOLD, OUTSIDE, PREDICTIONS, PRESSURE, SPACE, write

from pipeline.errors import UserError
from pipeline.evaluation.coded import load_baseline_split, load_coded_split, raise_split
from pipeline.evaluation.split_scores import compare_coders, score
from pipeline.experiment.config import PipelineConfig, view_for_stage
from pipeline.experiment.stage_tracking import StageRun
from pipeline.icd.labels import LabelSpace
from pipeline.stages import evaluate
from pipeline.stages.predict import prediction_schema


def test_gold_and_predictions_are_joined_by_document(tmp_path: Path) -> None:
    coded = load_coded_split(write(tmp_path), "test", SPACE)
    assert coded is not None
    assert coded.document_ids == ["d3", "d2", "d1"]
    assert coded.patients == ["pd3", "pd1", "pd1"]
    assert coded.true.toarray().astype(int).tolist() == [[0, 0, 1], [1, 1, 0], [0, 1, 0]]
    assert coded.predicted.toarray().astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0]]
    np.testing.assert_allclose(coded.probabilities, [[0.2, 0.3, 0.1], [0.3, 0.8, 0.6], [0.1, 0.9, 0.2]], rtol=1e-6)
    assert coded.n_outside == 1


@pytest.mark.parametrize(
    ("in_split", "message"),
    [("test", "of it was coded; run the stage 'predict' again"), ("train", r"is in it; set split\.test above 0")],
)
def test_a_split_without_predictions_is_refused_with_what_is_missing(
    make_config: Callable[..., PipelineConfig], in_split: str, message: str
) -> None:
    config = make_config()
    config.experiment_dir.mkdir(parents=True)
    folder = write(config.experiment_dir, predictions=[one for one in PREDICTIONS if one[1] == "val"])
    SPACE.save(folder / "label_space.json")
    pq.write_table(pa.table({"document_id": ["d1", "v1"], "split": [in_split, "val"]}), folder / "splits.parquet")
    with pytest.raises(UserError, match=rf"evaluate\.split is 'test', but no document {message}"):
        evaluate.run(view_for_stage(config, "evaluate"), StageRun(None, "", ""))


def test_scores_of_a_small_table_are_those_by_hand(tmp_path: Path) -> None:
    """Three documents of test, labels E11.9, I10, N17.9.

    Found: I10 in d1 and d2 (2). Predicted: 3. Given inside the space: 4, so micro-F1 = 2 * 2 / (3 + 4) = 4/7; with
    the one outside 5, so 4 / (3 + 5) = 1/2. Macro: precision and recall of the labels are (0, 0), (1, 1), (0, 0), both
    means and their F1 are 1/3. Exact: only d1, 1/3.
    Ranks: d1 has I10 first, AP 1. d2 has I10 first and E11.9 third, (1 + 2/3) / 2 = 5/6. d3 has N17.9 last of three,
    AP 1/3. MAP = (1 + 5/6 + 1/3) / 3 = 13/18. P@1 = (1 + 1 + 0) / 3.
    """
    coded = load_coded_split(write(tmp_path), "test", SPACE)
    assert coded is not None
    scores, intervals = score(coded, ks=[1, 2], n_resamples=20, seed=0)
    expected = {
        "n_documents": 3, "n_true": 4, "n_predicted": 3, "n_true_positive": 2, "n_true_outside_label_space": 1,
        "micro_precision": 2 / 3, "micro_recall": 1 / 2, "micro_f1": 4 / 7, "micro_f1_all_given": 1 / 2,
        "macro_f1": 1 / 3, "map": 13 / 18, "precision_at_1": 2 / 3, "exact_match": 1 / 3,
    }  # fmt: skip
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    low, high = intervals["micro_f1"]
    assert 0 <= low <= 4 / 7 <= high <= 1
    assert score(coded, ks=[1, 2], n_resamples=20, seed=0)[1] == intervals


def test_nothing_given_and_nothing_predicted_does_not_divide_by_zero(tmp_path: Path) -> None:
    write(tmp_path, gold={"d1": []}, predictions=[("d1", "test", [0.1, 0.2, 0.3], [])], coders=[])
    coded = load_coded_split(tmp_path, "test", SPACE)
    assert coded is not None
    scores, _ = score(coded, ks=[1], n_resamples=0, seed=0)
    assert (scores["micro_f1_all_given"], scores["n_true"]) == (0, 0)


def test_labels_are_raised_to_the_level_of_the_space_and_counted_once(tmp_path: Path) -> None:
    """E11.9 and E11.65 are one E11; I10 and I12.9 are I10 and, outside, I12."""
    space = LabelSpace(("icd10cm:E11", "icd10cm:I10"), (None, None), (1, 1), "category")
    gold = {"d1": [DIABETES, "icd10cm:E11.65", PRESSURE, "icd10cm:I12.9"]}
    write(tmp_path, gold=gold, predictions=[("d1", "test", [0.9, 0.1], [0])], coders=[], n_labels=2)
    coded = load_coded_split(tmp_path, "test", space)
    assert coded is not None
    assert coded.true.toarray().astype(int).tolist() == [[1, 1]]
    assert coded.n_outside == 1
    scores, _ = score(coded, ks=[1], n_resamples=0, seed=0)
    assert scores["micro_f1_all_given"] == pytest.approx(2 * 1 / (1 + 3))


def test_coders_and_model_are_compared_on_all_codes_that_anyone_gave(tmp_path: Path) -> None:
    """d1, d2, d3; Z99.89 lies outside the label space but counts. B was not given d3, so B is compared on d1 and d2.

    Given: gold 5, A 4, model 3 (I10 | I10, N17.9 | none); in d1 and d2: gold 4, A 3, B 3, model 3. Common: A and gold
    4, B and gold 3, A and B 2 (Z99.89 in d1, I10 in d2), model and gold 2, model and A 2, model and B 1. F1 =
    2 * common / sum of both. Equal sets: A and gold d1, d3; B and gold d2; of the other pairs no document.
    """
    folder = write(tmp_path)
    coded = load_coded_split(folder, "test", SPACE)
    assert coded is not None
    table = compare_coders(folder, coded)
    assert table is not None
    found = {
        (row.first, row.second): (row.micro_f1, row.exact_match, row.n_documents, row.n_documents_left_out)
        for row in table.itertuples(index=False)
    }
    expected = {
        ("model", "gold"): (4 / 8, 0, 3, 0), ("A", "gold"): (8 / 9, 2 / 3, 3, 0), ("B", "gold"): (6 / 7, 1 / 2, 2, 1),
        ("A", "B"): (4 / 6, 0, 2, 1), ("model", "A"): (4 / 7, 0, 3, 0), ("model", "B"): (2 / 6, 0, 2, 1),
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for pair, numbers in expected.items():
        assert found[pair] == pytest.approx(numbers), pair


def test_coders_are_scored_within_the_label_space_too(tmp_path: Path) -> None:
    """Without Z99.89, which the model cannot give: gold 3 and B 2 in d1 and d2, both I10 and E11.9 of d2: 4/5."""
    folder = write(tmp_path)
    coded = load_coded_split(folder, "test", SPACE)
    assert coded is not None
    table = compare_coders(folder, coded)
    assert table is not None
    inside = table.set_index(["first", "second"])["micro_f1_in_label_space"]
    assert inside["B", "gold"] == pytest.approx(4 / 5)
    assert inside["model", "gold"] == pytest.approx(score(coded, ks=[1], n_resamples=0, seed=0)[0]["micro_f1"])


def test_levels_above_count_a_category_met_by_a_code_outside_the_label_space(tmp_path: Path) -> None:
    """E11.22 lies outside; at category level E11 is true, and predicted by E11.9 or E11.65 together once.

    d1: E11, I10 true, E11 predicted; d2: I10 true and predicted: F1 = 2 * 2 / (2 + 3). Probabilities of E11 are the
    higher of E11.65 and E11.9. Train has E11 in two documents, one of which carries both codes, and I10 in one.
    """
    space = LabelSpace(("icd10cm:E11.65", DIABETES, PRESSURE), (None,) * 3, (1, 1, 1))
    gold = {"d1": ["icd10cm:E11.22", PRESSURE], "d2": [PRESSURE]}
    predictions = [("d1", "test", [0.6, 0.9, 0.1], [0, 1]), ("d2", "test", [0.3, 0.2, 0.8], [2])]
    coded = load_coded_split(write(tmp_path, gold=gold, predictions=predictions, coders=[]), "test", space)
    assert coded is not None
    train = [["icd10cm:E11.65", DIABETES], [DIABETES, PRESSURE]]
    raised = raise_split(coded, "category", train)
    assert raised is not None
    assert raised.label_space.labels == ("icd10cm:E11", PRESSURE)
    assert raised.label_space.train_counts == (2, 1)
    assert raised.true.toarray().tolist() == [[True, True], [False, True]]
    assert raised.predicted.toarray().tolist() == [[True, False], [False, True]]
    assert raised.probabilities.tolist() == np.float32([[0.9, 0.1], [0.3, 0.8]]).tolist()
    scores, intervals = score(coded, ks=[1], n_resamples=10, seed=0, train_label_sets=train)
    assert scores["micro_f1"] == pytest.approx(2 * 1 / (3 + 2))
    assert scores["category/micro_f1"] == pytest.approx(4 / 5)
    assert scores["category/train_count_1_10/n_labels"] == 2
    assert scores["chapter/micro_f1"] == pytest.approx(4 / 5)
    assert "chapter/train_count_1_10/macro_f1" in scores
    assert not intervals, "both documents are of one patient, so every draw is the same"


def test_levels_that_are_not_above_are_left_out(tmp_path: Path) -> None:
    space = LabelSpace(("none:a", "none:b"), (None, None), (1, 1))
    write(tmp_path, gold={"d1": ["none:a"]}, predictions=[("d1", "test", [0.9, 0.1], [0])], coders=[], n_labels=2)
    coded = load_coded_split(tmp_path, "test", space)
    assert coded is not None
    assert not [name for name in score(coded, ks=[1], n_resamples=0, seed=0)[0] if name.startswith("c") and "/" in name]
    chapters = LabelSpace(("icd10cm:E00-E89", "icd10cm:I00-I99"), (None, None), (1, 1), "chapter")
    coded = load_coded_split(tmp_path, "test", chapters)
    assert coded is not None
    assert raise_split(coded, "category", []) is None


def test_principal_diagnosis_is_what_the_source_says(tmp_path: Path) -> None:
    """d1: I10, most probable and predicted. d2: E11.9, but I10 is more probable, and it is not predicted. d3: N17.9,
    neither. d4: the principal lies outside the label space: missed. d5: no principal diagnosis is known.
    """
    gold = GOLD | {"d4": [OUTSIDE, PRESSURE], "d5": [PRESSURE]}
    rows = [*PREDICTIONS, ("d4", "test", [0.1, 0.9, 0.1], [1]), ("d5", "test", [0.1, 0.9, 0.1], [1])]
    coded = load_coded_split(write(tmp_path, gold=gold, predictions=rows), "test", SPACE)
    assert coded is not None
    assert not [one for one in score(coded, ks=[1], n_resamples=0, seed=0)[0] if "principal" in one]
    coded = dataclasses.replace(coded, principals=[*(labels[0] for labels in coded.gold[:-1]), None])
    scores, _ = score(coded, ks=[1], n_resamples=0, seed=0)
    assert (scores["principal_accuracy"], scores["principal_recall"]) == (1 / 4, 1 / 4)
    assert scores["n_documents_with_principal"] == 4
    assert "chapter/principal_accuracy" in scores


def test_a_principal_diagnosis_is_met_at_the_level_that_is_scored_and_never_by_a_procedure() -> None:
    """Each document has the procedure, which is the most probable label of all.

    a: 401.9 is the more probable diagnosis, and predicted: met. b: 250.00 is, but principal is 250.02, outside the
    label space: met as a category, 250, alone. c: 250.00 is, but principal is 401.9, which is predicted, too.
    """
    labels = ("icd9cm:250.00", "icd9cm:401.9", "icd9pcs:38.93")
    space = LabelSpace(labels, (None,) * 3, (5, 9, 7))
    principals = [labels[1], "icd9cm:250.02", labels[1]]
    gold = [[one, labels[2]] for one in principals]
    said = [[0.1, 0.8, 0.9], [0.7, 0.2, 0.9], [0.7, 0.6, 0.9]]
    scores, _ = score(coded_by_hand(space, gold, said, "abc", principals=principals), ks=[1], n_resamples=0, seed=0)
    assert scores["n_documents_with_principal"] == scores["category/n_documents_with_principal"] == 3
    assert (scores["principal_accuracy"], scores["principal_recall"]) == pytest.approx((1 / 3, 2 / 3))
    for level in ("category", "chapter"):
        found = scores[f"{level}/principal_accuracy"], scores[f"{level}/principal_recall"]
        assert found == pytest.approx((2 / 3, 1)), level


def test_errors_of_calibration_are_over_all_cells_and_over_those_from_a_tenth_on() -> None:
    """Of six cells 0.05 is false twice, 0.05 off; 0.15 true once of twice, 0.35 off; 0.9 and 0.8 are true, 0.1 and 0.2
    off. Over all (2 * 0.05 + 2 * 0.35 + 0.1 + 0.2) / 6; from 0.1 on (2 * 0.35 + 0.1 + 0.2) / 4.
    """
    said = [[0.05, 0.15, 0.9], [0.05, 0.15, 0.8]]
    coded = coded_by_hand(SPACE, [[PRESSURE, SPACE.labels[2]], [SPACE.labels[2]]], said, "ab")
    scores, _ = score(coded, ks=[1], n_resamples=0, seed=0)
    assert scores["calibration_error"] == pytest.approx(1.1 / 6)
    assert scores["calibration_error_from_10_percent"] == pytest.approx(1.0 / 4)


def test_the_baseline_is_read_in_the_order_of_the_model_or_refused(tmp_path: Path) -> None:
    coded = load_coded_split(write(tmp_path), "test", SPACE)
    assert coded is not None
    assert load_baseline_split(tmp_path, coded, "test") is None  # no file
    rows = [("d1", "test", [0.1, 0.2, 0.3], [2]), ("d2", "test", [0, 0, 0], []), ("d3", "test", [1, 0, 0], [0])]
    for kept, expected in (
        ((), None),
        ((0, 1, 2), [[True, False, False], [False, False, False], [False, False, True]]),
    ):
        table = [dict(zip(prediction_schema(3).names[:4], rows[one], strict=True)) for one in kept]
        pq.write_table(pa.Table.from_pylist(table, prediction_schema(3)), tmp_path / "baseline_predictions.parquet")
        baseline = load_baseline_split(tmp_path, coded, "test")
        assert (None if baseline is None else baseline.predicted.toarray().tolist()) == expected
    pq.write_table(pa.Table.from_pylist(table[:2], prediction_schema(3)), tmp_path / "baseline_predictions.parquet")
    with pytest.raises(UserError, match="model and baseline coded different documents of split test"):
        load_baseline_split(tmp_path, coded, "test")


def test_data_without_coders_of_these_documents_has_no_comparison(tmp_path: Path) -> None:
    folder = write(tmp_path, coders=[("t1", "A", [PRESSURE])])
    coded = load_coded_split(folder, "test", SPACE)
    assert coded is not None
    assert compare_coders(folder, coded) is None


def test_what_cannot_be_scored_is_refused_or_said(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert load_coded_split(folder, "train", SPACE) is None
    with pytest.raises(UserError, match="predictions and label space differ; run the stage 'predict' again"):
        load_coded_split(folder, "test", LabelSpace(SPACE.labels[:2], (None, None), (1, 1)))
    rows = pq.read_table(folder / "documents.parquet")
    pq.write_table(rows.filter(pc.is_in(rows["document_id"], pa.array(["d1", "v1"]))), folder / "documents.parquet")
    with pytest.raises(UserError, match=r"2 coded documents are not in documents.parquet \(first: d3\)"):
        load_coded_split(folder, "test", SPACE)
    (folder / "predictions.parquet").unlink()
    with pytest.raises(UserError, match=r"predictions.parquet is missing; run the stage 'predict' first"):
        load_coded_split(folder, "test", SPACE)
