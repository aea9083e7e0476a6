"""Numbers of the report by hand: what is taken without a human, the baseline, codes by system, and a whole content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coded_cases import coded_by_hand
from experiment_tables import DIABETES, GOLD, KIDNEY, OUTSIDE, PRESSURE, SPACE, write

from pipeline.evaluation.coded import load_coded_split
from pipeline.files import write_json
from pipeline.icd.labels import LabelSpace
from pipeline.reports.report_data import compare_baseline, count_label_space, report_content, take_without_human

Z2 = 1.96**2


def test_how_sure_is_sure_enough_is_chosen_on_val_and_shown_on_the_evaluated_split() -> None:
    """Each document is given I10 or nothing, and I10 is proposed for all.

    On val 0.9 and 0.6 are right and 0.55 is wrong: 0.6 is sure enough, and takes two of three documents, both of one
    patient, who count once: the interval of their precision begins at 1 / (1 + z²). On test 0.9 is right, 0.7 wrong,
    0.65 right, 0.52 wrong: 0.6 takes three of four, and two of them are right. Chosen on test it would have been 0.9.
    """
    val = coded_by_hand(SPACE, [[PRESSURE], [PRESSURE], []], [[0, p, 0] for p in (0.9, 0.6, 0.55)], "aab")
    test = coded_by_hand(
        SPACE, [[PRESSURE], [], [PRESSURE, KIDNEY], []], [[0, p, 0] for p in (0.9, 0.7, 0.65, 0.52)], "cdef"
    )
    found = take_without_human(test, val, target=0.95)
    for on_val, here in ((found.documents_on_val, found.documents), (found.codes_on_val, found.codes)):
        assert on_val.confidence == here.confidence == pytest.approx(0.6)
        assert (on_val.n_taken, on_val.coverage, on_val.precision) == (2, pytest.approx(2 / 3), 1)
        assert on_val.precision_low == pytest.approx(1 / (1 + Z2))
        assert (here.n_taken, here.coverage, here.precision) == (3, 0.75, pytest.approx(2 / 3))
    assert (found.documents.recall, found.documents.exact_match) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.curve["confidence"].tolist() == pytest.approx([0.9, 0.7, 0.65, 0.52])


def test_intervals_beside_the_baseline_are_the_baselines_own_and_draw_patients() -> None:
    """The model proposes nothing: 0 in every sample, so it has no interval. The baseline is right of a, silent of b.

    Two patients with one document each are drawn aa, ab, ba or bb, and 0 to 1 is what the baseline may be. If both
    documents are of one patient, each sample is the whole: F1 of the baseline is 2/3, that of the model 2/3 below it,
    and changing sides changes the sign alone.
    """
    gold = [[PRESSURE], [PRESSURE]]
    model = coded_by_hand(SPACE, gold, [[0, 0, 0], [0, 0, 0]], "ab")
    baseline = coded_by_hand(SPACE, gold, [[0, 0.9, 0], [0, 0, 0]], "ab")
    found = compare_baseline(model, baseline, ks=[1], n_resamples=60, seed=0)
    low, high = found.intervals["micro_f1"]
    assert low < 2 / 3 < high
    assert found.metrics["micro_f1"] == pytest.approx(2 / 3)
    one_patient = compare_baseline(replace(model, patients=["a", "a"]), baseline, ks=[1], n_resamples=60, seed=0)
    assert dict(one_patient.intervals) == {}
    assert one_patient.differences["micro_f1"] == pytest.approx((-2 / 3, -2 / 3, -2 / 3, 1))


def test_codes_are_counted_by_system_and_ten_training_documents_are_still_few() -> None:
    procedures = ("icd9pcs:38.93", "icd9pcs:96.04")
    space = LabelSpace((DIABETES, PRESSURE, KIDNEY, *procedures), ("d", None, "k", "c", None), (9, 10, 11, 1, 40))
    gold = [[PRESSURE, OUTSIDE, "icd9pcs:99.15"], [PRESSURE, procedures[1], "icd9pcs:99.15"]]
    table = count_label_space(coded_by_hand(space, gold, [[0] * 5] * 2, "ab"))
    assert table.to_dict("records") == [
        {
            "code_system": "icd10cm", "n_labels": 3, "with_title": 2, "in_10_training_documents_or_fewer": 2,
            "median_of_training_documents": 10, "n_labels_present": 1, "n_true": 2, "given_but_outside": 1,
        },
        {
            "code_system": "icd9pcs", "n_labels": 2, "with_title": 1, "in_10_training_documents_or_fewer": 1,
            "median_of_training_documents": 20.5, "n_labels_present": 1, "n_true": 1, "given_but_outside": 2,
        },
    ]  # fmt: skip


def _leave_what_stages_leave(folder: Path) -> None:
    """Manifests, splits and histories beside the tables of a small experiment."""
    write(folder)
    splits = {"document_id": list(GOLD), "split": ["val", "test", "test", "train", "test"]}
    pq.write_table(pa.table(splits), folder / "splits.parquet")
    write_json(folder / "ingest_report.json", {"dropped": {"no_codes": 7}})
    (folder / "manifests").mkdir()
    common = {"git_commit": "0123456789abcdef", "duration_s": 2.0, "peak_memory_mb": 9, "inputs": {}, "outputs": {}}
    facts = {"threshold_range": [0.25, 0.5], "threshold_rule": "global", "model": "neural", "documents": 4}
    ingest = {"settings": {"data": {"recipe": "table"}}, "outputs": {"documents.parquet": "feedbeefcafe0"}, "facts": {}}
    trained = {"settings": {"train_classifier": {"epochs": 2}}, "facts": facts}
    for stage, manifest in {"ingest": ingest, "train_classifier": trained}.items():
        write_json(folder / "manifests" / f"{stage}.json", common | manifest)
    for part, rows in {"encoder": [], "classifier": [{"step": 1, "loss": 0.5}]}.items():
        (folder / part).mkdir()
        write_json(folder / part / "training_history.json", rows)


def test_the_content_of_a_report_is_that_of_its_tables(tmp_path: Path) -> None:
    """On test d1 and d2, of one patient, are given I10, d2 E11.9 too, d3 N17.9; I10 is found twice, N17.9 is false.

    Val is v1 alone: N17.9 at 0.9, and right. So 0.9 is sure enough for documents and codes; on test d1 and its I10 at
    0.9 are taken. Found are 2 of 4 given, 3 proposed, and one given code is outside.
    """
    _leave_what_stages_leave(tmp_path)
    coded = load_coded_split(tmp_path, "test", SPACE)
    assert coded is not None
    scores = {"n_true_outside_label_space": 1.0, "micro_f1_all_given": 0.5}
    content = report_content(
        tmp_path, coded, experiment="small", split="test", scores=scores, intervals={}, coders=None
    )
    rows = content.label_table.set_index("label")
    counts = ["n_true", "n_predicted", "n_true_positive", "n_true_patients", "n_predicted_patients", "train_count"]
    assert rows.loc[PRESSURE, counts].tolist() == [2, 2, 2, 1, 1, 9]
    assert rows.loc[KIDNEY, counts].tolist() == [1, 1, 0, 1, 1, 1]
    assert rows.loc[DIABETES, counts].tolist() == [1, 0, 0, 1, 0, 5]
    assert list(content.threshold_curves) == list(content.reliability) == ["test", "val"]
    selective = content.selective
    assert selective is not None
    assert selective.target == 0.95
    assert (selective.documents.confidence, selective.documents.n_taken) == (pytest.approx(0.9), 1)
    assert (selective.codes.n_taken, selective.codes.coverage) == (1, pytest.approx(1 / 3))
    assert (selective.codes_on_val.n_taken, selective.codes_on_val.precision) == (1, 1)
    assert content.split_counts.set_index("split")["n_documents"].to_dict() == {"train": 1, "val": 1, "test": 3}
    assert content.label_space is not None
    assert content.label_space["given_but_outside"].tolist() == [1]
    assert content.thresholds == (0.25, 0.5)
    assert content.threshold_note.endswith("fitted on split val")
    assert content.settings == {"data": {"recipe": "table"}, "train_classifier": {"epochs": 2}}
    assert content.facts == {"data": "table, sha256 feedbeefcafe", "code": "0123456789ab"}
    assert content.costs is not None
    assert content.costs.set_index("stage")["documents_per_second"].to_dict()["train_classifier"] == 2
    assert content.history is not None
    assert content.history["stage"].tolist() == ["train_classifier"]
    notes = " ".join(content.notes)
    assert "These 3 documents are of 2 patients" in notes
    assert "Counted as missed, micro-F1 is 0.500" in notes
    assert "no codes: 7" in notes
