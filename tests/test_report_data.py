"""What the report gathers: counts of splits, groups of codes beside the baseline, scores of a whole run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiment_tables import DIABETES, PRESSURE, SPACE, write

from pipeline.coding.ensemble import CodingModel
from pipeline.errors import UserError
from pipeline.evaluation.coded import load_coded_split
from pipeline.evaluation.metrics import bands_of_scores
from pipeline.evaluation.split_scores import find_label_groups, score
from pipeline.experiment.config import PipelineConfig
from pipeline.files import read_json, write_json
from pipeline.icd.labels import LabelSpace
from pipeline.reports.report_data import compare_baseline, count_splits, short_commit
from pipeline.reports.report_tables import band_keys, group_scores, level_scores


@pytest.mark.parametrize(
    ("commit", "shown"),
    [("0123456789abcdef", "0123456789ab"), ("0123456789abcdef+", "0123456789ab+"), (None, "unknown")],
)
def test_a_commit_is_shown_short_with_the_plus_of_a_modified_tree(commit: str | None, shown: str) -> None:
    assert short_commit(commit) == shown


def test_splits_are_counted_by_document_patient_and_label(tmp_path: Path) -> None:
    """d1 and d2 are of one patient; d1, d2, d3 carry 2, 2 and 1 labels, 4 different ones; nobody is in train."""
    folder = write(tmp_path)
    splits = {"document_id": ["d1", "d2", "d3", "v1"], "split": ["test", "test", "test", "val"]}
    pq.write_table(pa.table(splits), folder / "splits.parquet")
    rows = count_splits(folder).set_index("split").to_dict("index")
    assert rows["train"] == {
        "n_documents": 0, "n_patients": 0, "n_labels_given": 0, "labels_per_document": 0.0, "n_labels_present": 0,
    }  # fmt: skip
    assert rows["val"]["n_documents"] == 1
    assert rows["test"] == {
        "n_documents": 3, "n_patients": 2, "n_labels_given": 5, "labels_per_document": 5 / 3, "n_labels_present": 4,
    }  # fmt: skip
    (folder / "manifests").mkdir()
    write_json(folder / "manifests" / "split.json", {"facts": {"years": {"test": [2019, 2020]}}})
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
    table = group_scores(scores, {name: name for name in groups}, baseline.metrics, baseline.differences)
    assert table["group"].tolist() == ["frequent", "pressure"]
    assert table["Micro-F1, lexical baseline"].tolist() == ["100.0", "100.0"]
    assert table["Difference, Micro-F1"][0].startswith("\u221220.0 (")
    assert group_scores(scores, {}).empty
    assert not [name for name in level_scores(scores, without=list(groups)) if "frequent" in name]


def test_bands_of_training_frequency_stand_beside_the_baseline(tmp_path: Path) -> None:
    """As above, but each band has one label: E11.9 is missed where it is given, I10 found; the baseline finds both."""
    coded = load_coded_split(write(tmp_path), "test", replace(SPACE, train_counts=(3, 30, 300)))
    assert coded is not None
    scores, _ = score(coded, ks=[1], n_resamples=0, seed=0)
    baseline = compare_baseline(coded, replace(coded, predicted=coded.true), ks=[1], n_resamples=20, seed=0)
    table = group_scores(scores, band_keys(bands_of_scores(scores)), baseline.metrics, baseline.differences)
    assert table["group"].tolist() == ["1-10", "11-50", "101-500"]
    assert table["Micro-F1, lexical baseline"].tolist()[:2] == ["100.0", "100.0"]
    assert table["Micro-F1"].tolist()[:2] == ["0.0", "100.0"]
    assert table["Difference, Macro-F1"][0].startswith("\u2212100.0 (")


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
