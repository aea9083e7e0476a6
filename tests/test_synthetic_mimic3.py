"""The synthetic corpus in the shape of MIMIC-III: tables, categories, ids and codes."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from pathlib import Path

import pytest

from data_recipes import synthetic
from data_recipes._synthetic import mimic3 as shape
from pipeline.icd.codes import category, normalise

N_DOCUMENTS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "mimic3"
    synthetic.make_raw(path, synthetic.Options(shape="mimic3", n_documents=N_DOCUMENTS, n_codes=300))
    return path


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    unpacked = {name: gzip.decompress((folder / f"{name}.csv.gz").read_bytes()).decode() for name in shape.COLUMNS}
    return {name: list(csv.DictReader(io.StringIO(raw, newline=""))) for name, raw in unpacked.items()}


def test_the_tables_have_the_columns_and_the_quoting_of_the_real_ones(folder: Path) -> None:
    for name, columns in shape.COLUMNS.items():
        lines = gzip.decompress((folder / f"{name}.csv.gz").read_bytes()).decode().split("\n")
        assert lines[0] == ",".join(f'"{column}"' for column in columns)
        assert len(next(csv.reader([lines[1] + ('"' if name == "NOTEEVENTS" else "")]))) == len(columns)
    assert re.fullmatch(r'1,\d+,1\d{5},\d{4}-\d\d-\d\d,,,"Discharge summary","\w+",,,"Admission Date:.*', lines[1])


def test_the_real_table_adds_up_to_its_published_rows() -> None:
    """2,083,180 rows, of which 59,652 are discharge summaries of 52,726 admissions."""
    assert shape.N_NOTES == 2_083_180
    assert shape.N_REPORTS + shape.N_ADDENDA == 59_652
    assert len(shape.CATEGORIES) + 1 == 15


def test_all_categories_come_in_their_real_proportions(tables: dict[str, list[dict[str, str]]]) -> None:
    """Of each category ceil(n * 60 / 52,726): by hand 936 of 822,497 Nursing/other, 1 of 98 Consult."""
    counts = Counter(row["CATEGORY"] for row in tables["NOTEEVENTS"])
    assert len(counts) == 15
    assert (counts["Nursing/other"], counts["Consult"], counts["Echo"]) == (936, 1, 53)
    summaries = Counter(row["DESCRIPTION"] for row in tables["NOTEEVENTS"] if row["CATEGORY"] == shape.DISCHARGE)
    assert summaries == {"Report": 63, "Addendum": 6}


def test_a_corpus_of_full_size_has_as_many_rows_as_the_real_table() -> None:
    n_all = (shape.N_REPORTS, shape.N_ADDENDA, *(one.n_notes for one in shape.CATEGORIES.values()))
    assert sum(shape._n_until(shape.N_ADMISSIONS, n) for n in n_all) == 2_083_180


def test_notes_of_an_admission_are_far_apart_and_addenda_stand_before_and_behind_their_report(
    tables: dict[str, list[dict[str, str]]],
) -> None:
    notes = tables["NOTEEVENTS"]
    assert [int(row["ROW_ID"]) for row in notes] == list(range(1, len(notes) + 1))
    summaries = [row for row in notes if row["CATEGORY"] == shape.DISCHARGE]
    assert notes[: len(summaries)] == summaries
    first_report = {row["HADM_ID"]: int(row["ROW_ID"]) for row in reversed(summaries) if row["DESCRIPTION"] == "Report"}
    addenda = [row for row in summaries if row["DESCRIPTION"] == "Addendum"]
    gaps = [int(row["ROW_ID"]) - first_report[row["HADM_ID"]] for row in addenda]
    assert min(gaps) == -1
    assert max(gaps) > 5
    assert len(first_report) == N_DOCUMENTS
    assert not any("___" in row["TEXT"] for row in notes)
    assert all("[**" in row["TEXT"] for row in notes)


def test_notes_of_outpatients_have_no_admission_and_summaries_neither_time_nor_error(
    tables: dict[str, list[dict[str, str]]],
) -> None:
    notes = tables["NOTEEVENTS"]
    assert {row["CATEGORY"] for row in notes if not row["HADM_ID"]} <= {"ECG", "Radiology"}
    assert 0.09 < sum(not row["HADM_ID"] for row in notes) / len(notes) < 0.13
    untimed = {row["CATEGORY"] for row in notes if not row["CHARTTIME"]}
    assert untimed == {shape.DISCHARGE, "ECG", "Echo"}
    assert {row["CATEGORY"] for row in notes if row["ISERROR"]} <= {"Nursing", "Physician "}


def test_ids_codes_and_titles_are_those_of_mimic3(tables: dict[str, list[dict[str, str]]]) -> None:
    admissions = [int(row["HADM_ID"]) for row in tables["ADMISSIONS"]]
    assert len(set(admissions)) == len(admissions)
    assert min(admissions) >= 100_001
    assert max(admissions) <= 199_999
    diagnoses = {row["ICD9_CODE"] for row in tables["DIAGNOSES_ICD"] if row["ICD9_CODE"]}
    procedures = {row["ICD9_CODE"].strip() for row in tables["PROCEDURES_ICD"]}
    assert all(category(code, "icd9cm") for code in diagnoses)
    assert all(normalise(code, "icd9pcs").replace(".", "") == code for code in procedures)
    assert len(diagnoses) > 100  # those of the tail are made up
    titled = {row["ICD9_CODE"] for row in tables["D_ICD_DIAGNOSES"]}
    assert 0 < len({code.strip() for code in diagnoses} - titled) < 0.15 * len(diagnoses)


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthetic.make_raw(tmp_path / name, synthetic.Options(shape="mimic3", n_documents=3, seed=seed))
    a, b, c = ((tmp_path / name / "NOTEEVENTS.csv.gz").read_bytes() for name in "abc")
    assert a == b != c


def test_more_admissions_than_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 80000 for shape mimic3"):
        synthetic.Options(shape="mimic3", n_documents=80_001)
