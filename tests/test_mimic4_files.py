"""The recipe of MIMIC-IV on synthetic raw folders: damaged, incomplete, and the real ones where they are."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mimic4_cases import (
    MARKER,
    PROCEDURES,
    ingest,
    message,
    read,
)

from data_recipes import synthetic
from data_recipes._mimic import mimic4
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mimic4"
    synthetic.make_raw(folder, synthetic.Options(n_documents=60))
    return folder


@pytest.fixture
def raw(_made: Path, tmp_path: Path) -> Path:
    """A synthetic raw folder of one's own, with a marker in every text."""
    shutil.copytree(_made, tmp_path / "raw")
    edit(tmp_path / "raw", "note/discharge", lambda text: text.replace("Name:  ___", f"Name:  {MARKER}"))
    return tmp_path / "raw"


def edit(raw: Path, name: str, change: Callable[[str], str]) -> None:
    path = raw / f"{name}.csv.gz"
    before = gzip.decompress(path.read_bytes()).decode()
    after = change(before)
    assert after != before
    path.write_bytes(gzip.compress(after.encode()))


@pytest.mark.parametrize("name", ["hosp/diagnoses_icd", "hosp/procedures_icd", "note/discharge"])
def test_a_missing_raw_file_is_named_before_anything_is_read(raw: Path, name: str) -> None:
    (raw / f"{name}.csv.gz").unlink()
    assert f"{Path(name).name}.csv.gz or {Path(name).name}.csv not found in {raw}" in message(raw)


def test_missing_title_tables_and_tables_never_read_are_no_fault(raw: Path) -> None:
    for name in ("d_icd_diagnoses", "d_icd_procedures", "patients", "admissions"):
        (raw / f"hosp/{name}.csv.gz").unlink()
    assert read(raw)[0]
    assert mimic4.read_titles(raw, mimic4.Options(), IngestReport(), raw) == {}


def test_a_raw_folder_that_is_not_there_or_not_named_is_said(tmp_path: Path) -> None:
    assert "no such file or folder" in message(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"data\.raw is not set"):
        next(mimic4.read(None, mimic4.Options(), IngestReport(), tmp_path))
    assert mimic4.raw_files(None, mimic4.Options()) == []


@pytest.mark.parametrize(
    ("name", "column"),
    [("hosp/diagnoses_icd", "icd_version"), ("hosp/procedures_icd", "hadm_id"), ("note/discharge", "text")],
)
def test_a_missing_column_is_named_with_file_and_those_found(raw: Path, name: str, column: str) -> None:
    edit(raw, name, lambda text: text.replace(column, "other", 1))
    told = message(raw)
    assert f"{name}.csv.gz: column '{column}' is missing; found subject_id" in told.replace("note_id, ", "")


@pytest.mark.parametrize("name", ["hosp/diagnoses_icd", "note/discharge"])
def test_a_gzip_cut_in_the_middle_is_refused(raw: Path, name: str) -> None:
    path = raw / f"{name}.csv.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{path}: damaged or cut off" in message(raw)


def test_a_broken_quote_is_refused_with_its_row_or_skipped_with_a_count(raw: Path, tmp_path: Path) -> None:
    def break_row(text: str) -> str:
        """Close the quotes of the third summary too early."""
        parts = text.split(MARKER)
        return MARKER.join([*parts[:3], f'"{parts[3]}', *parts[4:]])

    n_before = ingest(raw, tmp_path)["counts"]["summaries"]
    edit(raw, "note/discharge", break_row)
    assert "discharge.csv.gz, row 3: a broken quote" in message(raw)
    report = ingest(raw, tmp_path, on_bad_row="skip")
    assert report["dropped"]["broken_row"] == 1
    assert report["examples"]["broken_row"] == ["discharge.csv.gz row 3"]
    assert report["counts"]["summaries"] == n_before - 1


def test_a_code_that_is_no_code_an_empty_text_and_a_document_without_codes_are_counted(
    raw: Path, tmp_path: Path
) -> None:
    first, second, third = (one.document_id for one in read(raw)[0][:3])

    def spoil_codes(text: str) -> str:
        rows = [row.split(",") for row in text.splitlines()]
        rows = [row for row in rows if row[1] != second]
        next(row for row in rows if row[1] == first)[3] = "rash"
        return "\n".join(",".join(row) for row in rows) + "\n"

    def empty_text(text: str) -> str:
        rows = list(csv.reader(io.StringIO(text, newline="")))
        next(row for row in rows if row[2] == third)[7] = " \n"
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue()

    before = ingest(raw, tmp_path)
    edit(raw, "hosp/diagnoses_icd", spoil_codes)
    (raw / "hosp/procedures_icd.csv.gz").write_bytes(gzip.compress((",".join(PROCEDURES) + "\n").encode()))
    edit(raw, "note/discharge", empty_text)
    after = ingest(raw, tmp_path)
    assert (after["dropped"]["code_malformed"], after["examples"]["code_malformed"]) == (1, [first])
    assert after["examples"]["document_without_codes"] == [second]
    assert after["examples"]["empty_text"] == [third]
    assert after["counts"]["documents"] == before["counts"]["documents"] - 2


def test_duplicated_admissions_leave_the_first_one(raw: Path, tmp_path: Path) -> None:
    before = ingest(raw, tmp_path)
    texts = pq.read_table(tmp_path / "documents.parquet")["text"]
    edit(raw, "note/discharge", lambda text: text + text.split("\n", 1)[1])  # all rows once more
    after = ingest(raw, tmp_path)
    assert after["dropped"]["duplicate_document_id"] == before["counts"]["documents"]
    assert pq.read_table(tmp_path / "documents.parquet")["text"] == texts


@pytest.mark.mimic
@pytest.mark.skipif("ICD_MIMIC4" not in os.environ, reason="ICD_MIMIC4 names no folder with MIMIC-IV")
def test_real_mimic4_has_as_many_summaries_as_published(tmp_path: Path) -> None:
    report = ingest(Path(os.environ["ICD_MIMIC4"]), tmp_path)
    assert {check["verdict"] for check in report["published"].values()} <= {"pass", "not counted"}
