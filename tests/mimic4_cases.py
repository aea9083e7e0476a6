"""Small raw folders of MIMIC-IV that tests of its recipes share."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_recipes import mimic4_icd10
from data_recipes._mimic import mimic4
from pipeline.errors import UserError
from pipeline.notes.documents import Document, write_documents
from pipeline.notes.ingest_report import IngestReport

DISCHARGE = ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text")
DIAGNOSES = ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version")
PROCEDURES = ("subject_id", "hadm_id", "seq_num", "chartdate", "icd_code", "icd_version")
TITLES = ("icd_code", "icd_version", "long_title")
MARKER = "Zebrafinch"  # stands in every text; no message may hold it


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.getvalue().encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def summary(note_id: str, subject_id: object, hadm_id: object, note_seq: object, text: str) -> tuple[object, ...]:
    return (note_id, subject_id, hadm_id, "DS", note_seq, "2180-01-01 00:00:00", "2180-01-02 03:04:05", text)


def write_raw(
    folder: Path,
    *,
    diagnoses: Sequence[Sequence[object]] = (),
    procedures: Sequence[Sequence[object]] = (),
    summaries: Sequence[Sequence[object]] = (),
) -> Path:
    """A raw folder; codes are given as (hadm_id, seq_num, icd_code, icd_version)."""
    write_table(folder / "hosp/diagnoses_icd.csv.gz", DIAGNOSES, [(1, *row) for row in diagnoses])
    rows = [(1, hadm, seq, "2180-01-01", code, version) for hadm, seq, code, version in procedures]
    write_table(folder / "hosp/procedures_icd.csv.gz", PROCEDURES, rows)
    write_table(folder / "note/discharge.csv.gz", DISCHARGE, summaries)
    return folder


def read(folder: Path, **options: Any) -> tuple[list[Document], IngestReport]:
    report = IngestReport()
    return list(mimic4.read(folder, mimic4.Options(**options), report, folder)), report


def ingest(folder: Path, out: Path, **options: Any) -> dict[str, Any]:
    """The ingest report, after documents went through the checks of the documents table."""
    report = IngestReport(mimic4_icd10.PUBLISHED)
    documents = mimic4.read(folder, mimic4.Options(**options), report, folder)
    write_documents(documents, out / "documents.parquet", out / "annotators.parquet", report)
    return report.as_dict()


STAYS = [summary("1-DS-2", 1, 100, 2, f"{MARKER}\nfirst"), summary("2-DS-3", 2, 200, 3, f"{MARKER}\nsecond")]


def message(raw: Path) -> str:
    """What a user is told; never text of a note."""
    with pytest.raises(UserError) as caught:
        read(raw)
    assert MARKER not in str(caught.value)
    return str(caught.value)
