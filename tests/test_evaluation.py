"""Evaluation: predictions and gold labels joined by document, scores by hand, codes outside the space counted."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.coded import gold_labels, load_baseline_split, load_coded_split, raise_split
from pipeline.config import PipelineConfig
from pipeline.documents import ANNOTATOR_SCHEMA, DOCUMENT_SCHEMA
from pipeline.ensemble import CodingModel
from pipeline.errors import UserError
from pipeline.evaluation import compare_coders, find_label_groups, score
from pipeline.files import read_json
from pipeline.labels import LabelSpace
from pipeline.report_data import compare_baseline, count_splits
from pipeline.report_tables import group_scores, level_scores
from pipeline.stages.predict import prediction_schema

DIABETES, PRESSURE, KIDNEY, OUTSIDE = "icd10cm:E11.9", "icd10cm:I10", "icd10cm:N17.9", "icd10cm:Z99.89"
SPACE = LabelSpace((DIABETES, PRESSURE, KIDNEY), (None, None, None), (5, 9, 1))
GOLD = {"v1": [KIDNEY], "d1": [PRESSURE, OUTSIDE], "d2": [DIABETES, PRESSURE], "t1": [PRESSURE], "d3": [KIDNEY]}
PREDICTIONS = [  # not in the order of the documents, and the sets do not follow from the probabilities
    ("d3", "test", [0.2, 0.3, 0.1], []),
    ("v1", "val", [0.1, 0.1, 0.9], [2]),
    ("d2", "test", [0.3, 0.8, 0.6], [1, 2]),
    ("d1", "test", [0.1, 0.9, 0.2], [1]),
]
CODERS = [
    ("d1", "A", [PRESSURE, OUTSIDE]), ("d2", "A", [PRESSURE]), ("d3", "A", [KIDNEY]), ("v1", "A", [DIABETES]),
    ("d1", "B", [OUTSIDE]), ("d2", "B", [PRESSURE, DIABETES]),
]  # fmt: skip


def write(
    folder: Path,
    gold: dict[str, list[str]] = GOLD,
    predictions: list[tuple[str, str, list[float], list[int]]] = PREDICTIONS,
    coders: list[tuple[str, str, list[str]]] = CODERS,
    n_labels: int = 3,
) -> Path:
    """An experiment's tables, by hand."""
    documents = [
        {"document_id": one, "patient_id": f"p{one[0]}", "text": "a", "labels": labels} for one, labels in gold.items()
    ]
    pq.write_table(pa.Table.from_pylist(documents, DOCUMENT_SCHEMA), folder / "documents.parquet")
    for name, schema, rows in (
        ("predictions", prediction_schema(n_labels), predictions), ("annotators", ANNOTATOR_SCHEMA, coders)
    ):  # fmt: skip
        table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=False)) for row in rows], schema)
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def test_gold_and_predictions_are_joined_by_document(tmp_path: Path) -> None:
    coded = load_coded_split(write(tmp_path), "test", SPACE)
    assert coded is not None
    assert coded.document_ids == ["d3", "d2", "d1"]
    assert coded.true.toarray().astype(int).tolist() == [[0, 0, 1], [1, 1, 0], [0, 1, 0]]
    assert coded.predicted.toarray().astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0]]
    np.testing.assert_allclose(coded.probabilities, [[0.2, 0.3, 0.1], [0.3, 0.8, 0.6], [0.1, 0.9, 0.2]], rtol=1e-6)
    assert coded.n_outside == 1


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
    assert {"category/micro_f1", "chapter/train_count_1_10/macro_f1"} <= intervals.keys()


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


def test_principal_diagnosis_is_the_first_label_where_the_order_is_known(tmp_path: Path) -> None:
    """d1: I10, most probable and predicted. d2: E11.9, but I10 is more probable, and it is not predicted. d3: N17.9,
    neither. d4: the principal lies outside the label space: missed. d5: a procedure alone: no principal diagnosis.
    """
    gold = GOLD | {"d4": [OUTSIDE, PRESSURE], "d5": ["icd10pcs:0DTJ4ZZ"]}
    rows = [*PREDICTIONS, ("d4", "test", [0.1, 0.9, 0.1], [1]), ("d5", "test", [0.1, 0.9, 0.1], [1])]
    coded = load_coded_split(write(tmp_path, gold=gold, predictions=rows), "test", SPACE)
    assert coded is not None
    scores, _ = score(coded, ks=[1], n_resamples=0, seed=0, is_sequenced=True)
    assert (scores["principal_accuracy"], scores["principal_recall"]) == (1 / 4, 1 / 4)
    assert scores["n_documents_with_principal"] == 4
    assert "chapter/principal_accuracy" in scores
    assert not [one for one in score(coded, ks=[1], n_resamples=0, seed=0)[0] if "principal" in one]


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
    with pytest.raises(UserError, match=r"2 coded documents are not in documents.parquet \(first: x\)"):
        gold_labels(folder, ["d1", "x", "y"])
    (folder / "predictions.parquet").unlink()
    with pytest.raises(UserError, match=r"predictions.parquet is missing; run the stage 'predict' first"):
        load_coded_split(folder, "test", SPACE)


def test_splits_are_counted_by_document_patient_and_label(tmp_path: Path) -> None:
    """d1, d2, d3 are of patient pd and carry 2, 2 and 1 labels, 4 different ones; nobody is in train."""
    folder = write(tmp_path)
    splits = {"document_id": ["d1", "d2", "d3", "v1"], "split": ["test", "test", "test", "val"]}
    pq.write_table(pa.table(splits), folder / "splits.parquet")
    rows = count_splits(folder).set_index("split").to_dict("index")
    assert rows["train"] == {
        "n_documents": 0, "n_patients": 0, "n_labels_given": 0, "labels_per_document": 0.0, "n_labels_present": 0,
    }  # fmt: skip
    assert rows["val"]["n_documents"] == 1
    assert rows["test"] == {
        "n_documents": 3, "n_patients": 1, "n_labels_given": 5, "labels_per_document": 5 / 3, "n_labels_present": 4,
    }  # fmt: skip
    table = pq.read_table(folder / "documents.parquet")
    days = {"d1": datetime.date(2020, 3, 1), "d2": datetime.date(2019, 12, 31)}
    dates = pa.array([days.get(one) for one in table["document_id"].to_pylist()], pa.date32())
    pq.write_table(table.set_column(table.schema.get_field_index("date"), "date", dates), folder / "documents.parquet")
    years = count_splits(folder).set_index("split")["years"].to_dict()
    assert years == {"train": "", "val": "", "test": "2019 to 2020"}


def test_groups_of_labels_are_scored_by_themselves_beside_the_baseline(tmp_path: Path) -> None:
    """Of E11.9 and I10: 3 given, 2 predicted, 2 found, so 4/5. The baseline found them all and nothing false."""
    coded = load_coded_split(write(tmp_path), "test", SPACE)
    assert coded is not None
    groups = find_label_groups(SPACE, {"frequent": ["icd10cm:I*", DIABETES], "pressure": [PRESSURE]})
    assert groups == {"frequent": [0, 1], "pressure": [1]}
    scores, intervals = score(coded, ks=[1], n_resamples=20, seed=0, label_groups=groups)
    assert scores["frequent/micro_f1"] == pytest.approx(4 / 5)
    assert scores["pressure/micro_f1"] == 1
    low, high = intervals["frequent/micro_f1"]
    assert low <= 4 / 5 <= high
    perfect = replace(coded, predicted=coded.true)
    baseline = compare_baseline(coded, perfect, ks=[1], n_resamples=20, seed=0, label_groups=groups)
    assert baseline.metrics["frequent/micro_f1"] == 1
    assert baseline.differences["frequent/micro_f1"].difference == pytest.approx(-1 / 5)
    assert baseline.differences["pressure/micro_f1"][:3] == (0, 0, 0)
    table = group_scores(scores, list(groups), baseline.metrics, baseline.differences)
    assert table["group"].tolist() == ["frequent", "pressure"]
    assert table["Micro-F1, lexical baseline"].tolist() == ["100.0", "100.0"]
    assert table["Difference, micro-F1"][0].startswith("\u221220.0 (")
    assert group_scores(scores, []).empty
    assert not [name for name in level_scores(scores, without=list(groups)) if "frequent" in name]


def test_a_group_without_a_label_is_refused_and_a_pattern_without_one_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(UserError, match=r"'late' matches none of the 3 labels, which look like 'icd10cm:E11\.9'"):
        find_label_groups(SPACE, {"late": ["icd10cm:Z*"]})
    caplog.clear()
    assert find_label_groups(SPACE, {"late": [PRESSURE, "icd10cm:Z*"]}) == {"late": [1]}
    assert "'icd10cm:Z*' of 'late' matches no label" in caplog.text


ALL_STAGES = "ingest split tokenize train_encoder train_classifier predict evaluate"


@pytest.mark.slow
def test_the_scores_of_a_whole_run_are_those_of_scikit_learn_on_its_tables(
    tmp_path: Path, run_small: Callable[..., PipelineConfig], small_notes: list[dict[str, Any]]
) -> None:
    from sklearn.metrics import f1_score

    from pipeline.stages import evaluate, run_stage

    notes = [dict(note) for note in small_notes]
    next(note for note in notes if note["split"] == "test")["codes"] = ["I10", "N17.9"]  # N17.9 is nowhere in train
    config = run_small(tmp_path, notes, ALL_STAGES)
    folder = config.experiment_dir
    metrics = read_json(folder / "metrics.json")
    space = LabelSpace.load(folder / "label_space.json")
    predictions = pq.read_table(folder / "predictions.parquet", filters=[("split", "==", "test")]).to_pylist()
    columns = [*space.labels, "icd10cm:N17.9"]
    given = {note["document_id"]: {f"icd10cm:{code}" for code in note["codes"]} for note in notes}
    true = np.array([[label in given[row["document_id"]] for label in columns] for row in predictions])
    predicted = np.array([[index in row["predicted"] for index in range(len(columns))] for row in predictions])
    assert len(predictions) == 3
    scores = metrics["scores"]
    assert scores["micro_f1_all_given"] == pytest.approx(f1_score(true, predicted, average="micro", zero_division=0))
    inside = f1_score(true[:, :-1], predicted[:, :-1], average="micro", zero_division=0)
    assert scores["micro_f1"] == pytest.approx(inside)
    assert scores["n_true_outside_label_space"] == 1
    thresholds = CodingModel.load(folder / "classifier").thresholds
    for row in predictions:
        over = np.array(row["probabilities"], dtype=np.float32) >= thresholds
        assert row["predicted"] == np.flatnonzero(over).tolist()
    assert "1 given codes of these documents lie outside the label space" in (folder / "report.html").read_text()
    assert metrics["baseline"] is not None
    # The predictions themselves as a baseline: evaluated again, it differs nowhere.
    shutil.copy(folder / "predictions.parquet", folder / "baseline_predictions.parquet")
    assert run_stage(config, "evaluate", evaluate.run) == 0
    baseline = read_json(folder / "metrics.json")["baseline"]
    assert baseline["metrics"]["micro_f1"] == scores["micro_f1"]
    assert baseline["differences"]["micro_f1"] == [0, 0, 0, 1]
    assert "Lexical baseline" in (folder / "report.html").read_text()
