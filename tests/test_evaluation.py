"""Evaluation: predictions and gold labels joined by document, scores by hand, codes outside the space counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.artifacts import read_json
from pipeline.config import PipelineConfig
from pipeline.documents import ANNOTATOR_SCHEMA, DOCUMENT_SCHEMA
from pipeline.errors import UserError
from pipeline.evaluation import compare_coders, count_splits, gold_labels, load_coded_split, score
from pipeline.labels import LabelSpace
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
    scores, intervals = score(coded, SPACE, ks=[1, 2], n_resamples=20, seed=0)
    expected = {
        "n_documents": 3, "n_true": 4, "n_predicted": 3, "n_true_positive": 2, "n_true_outside_label_space": 1,
        "micro_precision": 2 / 3, "micro_recall": 1 / 2, "micro_f1": 4 / 7, "micro_f1_all_given": 1 / 2,
        "macro_f1": 1 / 3, "map": 13 / 18, "precision_at_1": 2 / 3, "exact_match": 1 / 3,
    }  # fmt: skip
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    low, high = intervals["micro_f1"]
    assert 0 <= low <= 4 / 7 <= high <= 1
    assert score(coded, SPACE, ks=[1, 2], n_resamples=20, seed=0)[1] == intervals


def test_nothing_given_and_nothing_predicted_does_not_divide_by_zero(tmp_path: Path) -> None:
    write(tmp_path, gold={"d1": []}, predictions=[("d1", "test", [0.1, 0.2, 0.3], [])], coders=[])
    coded = load_coded_split(tmp_path, "test", SPACE)
    assert coded is not None
    scores, _ = score(coded, SPACE, ks=[1], n_resamples=0, seed=0)
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
    scores, _ = score(coded, space, ks=[1], n_resamples=0, seed=0)
    assert scores["micro_f1_all_given"] == pytest.approx(2 * 1 / (1 + 3))


def test_coders_and_model_are_compared_on_all_codes_that_anyone_gave(tmp_path: Path) -> None:
    """d1, d2, d3; Z99.89 lies outside the label space but counts. B gave d3 no code.

    Given: gold 5, A 4, B 3, model 3 (I10 | I10, N17.9 | none). Common: A and gold 4, B and gold 3, A and B 2 (Z99.89 in
    d1, I10 in d2), model and gold 2, model and A 2, model and B 1. F1 = 2 * common / sum of both. Equal sets: A and
    gold d1, d3; B and gold d2; model and B d3, where both have none; of the other pairs no document.
    """
    folder = write(tmp_path)
    coded = load_coded_split(folder, "test", SPACE)
    assert coded is not None
    table = compare_coders(folder, coded, SPACE)
    assert table is not None
    found = {
        (row.first, row.second): (row.micro_f1, row.exact_match, row.n_documents)
        for row in table.itertuples(index=False)
    }
    expected = {
        ("model", "gold"): (4 / 8, 0), ("A", "gold"): (8 / 9, 2 / 3), ("B", "gold"): (6 / 8, 1 / 3),
        ("A", "B"): (4 / 7, 0), ("model", "A"): (4 / 7, 0), ("model", "B"): (2 / 6, 1 / 3),
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for pair, (f1, exact) in expected.items():
        assert found[pair] == pytest.approx((f1, exact, 3)), pair


def test_data_without_coders_of_these_documents_has_no_comparison(tmp_path: Path) -> None:
    folder = write(tmp_path, coders=[("t1", "A", [PRESSURE])])
    coded = load_coded_split(folder, "test", SPACE)
    assert coded is not None
    assert compare_coders(folder, coded, SPACE) is None


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


ALL_STAGES = "ingest split tokenize train_encoder train_classifier predict evaluate"


@pytest.mark.slow
def test_the_scores_of_a_whole_run_are_those_of_scikit_learn_on_its_tables(
    tmp_path: Path, run_small: Callable[..., PipelineConfig], small_notes: list[dict[str, Any]]
) -> None:
    from sklearn.metrics import f1_score

    notes = [dict(note) for note in small_notes]
    next(note for note in notes if note["split"] == "test")["codes"] = ["I10", "N17.9"]  # N17.9 is nowhere in train
    folder = run_small(tmp_path, notes, ALL_STAGES).experiment_dir
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
    threshold = read_json(folder / "classifier" / "classifier.json")["settings"]["threshold"]
    for row in predictions:
        assert row["predicted"] == [index for index, one in enumerate(row["probabilities"]) if one >= threshold]
    assert "1 given codes of these documents lie outside the label space" in (folder / "report.html").read_text()
