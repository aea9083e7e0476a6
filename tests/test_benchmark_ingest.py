"""The ingestion benchmark compares like with like, and sees memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.ingest import RECIPES, watch
from benchmarks.ingest_peers import mimic4, scan
from data_recipes import load_recipe, recipe_names, recipe_options
from data_recipes.synthetic import Options, make_raw
from pipeline.notes.ingest_report import IngestReport


def test_the_yardstick_makes_the_documents_that_ours_makes(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    make_raw(raw, Options(n_documents=60))
    recipe = load_recipe(next(name for name in RECIPES["mimic4"] if name in recipe_names()))
    report = IngestReport()
    read = recipe.read(raw, recipe_options(recipe, {}), report, tmp_path)
    ours = {
        one.document_id: (one.patient_id, one.text, [label.partition(":")[2].replace(".", "") for label in one.labels])
        for one in read
        if one.labels
    }
    theirs = {
        row["hadm_id"]: (row["subject_id"], row["text"], [*(row["icd_code"] or []), *(row["procedures"] or [])])
        for row in mimic4(raw).to_dicts()
    }
    assert theirs == ours
    assert 20 < len(ours) < 60
    assert scan(raw) > report.counts["summaries"] == 60


def test_memory_of_a_command_is_seen_from_outside() -> None:
    # It waits long enough to be looked at once more when all of it is there.
    measured = watch([sys.executable, "-c", "import time; x = b'1' * 200_000_000; print(len(x)); time.sleep(0.5)"])
    assert measured.output == "200000000\n"
    assert 200 < measured.peak_mb < 300


def test_a_command_that_fails_ends_the_benchmark_with_its_last_words() -> None:
    with pytest.raises(SystemExit, match="no such luck"):
        watch([sys.executable, "-c", "raise SystemExit('no such luck')"])
