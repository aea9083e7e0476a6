"""Small raw folders of MIMIC-III that tests of its recipes share."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_recipes import mimic3_full
from data_recipes._mimic import mimic3
from data_recipes._synthetic.mimic3 import COLUMNS
from pipeline.errors import UserError
from pipeline.notes.documents import Document, write_documents
from pipeline.notes.ingest_report import IngestReport

MARKER = "Zebrafinch"  # stands in every text; no message may hold it
SUMMARY = "Discharge summary"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def note(
    row_id: object,
    hadm_id: object,
    text: str,
    *,
    subject_id: object = 1,
    date: str = "2101-01-01",
    time: str = "",
    category: str = SUMMARY,
    description: str = "Report",
    iserror: str = "",
) -> tuple[object, ...]:
    return (row_id, subject_id, hadm_id, date, time, "", category, description, "", iserror, text)


def write_raw(
    folder: Path,
    notes: Sequence[Sequence[object]],
    *,
    diagnoses: Sequence[tuple[object, object, str]] = ((100, 1, "4019"), (200, 1, "4019")),
    procedures: Sequence[tuple[object, object, str]] = (),
) -> Path:
    """A raw folder; codes are given as (hadm_id, seq_num, code)."""
    folder.mkdir(exist_ok=True)
    codes = {"DIAGNOSES_ICD": diagnoses, "PROCEDURES_ICD": procedures}
    contents = {name: table(COLUMNS[name], [(1, 1, *row) for row in rows]) for name, rows in codes.items()}
    contents["NOTEEVENTS"] = table(COLUMNS["NOTEEVENTS"], notes)
    for name, content in contents.items():
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(content, compresslevel=1))
    return folder


def read(folder: Path, **options: Any) -> tuple[list[Document], IngestReport]:
    report = IngestReport()
    return list(mimic3.read(folder, mimic3.Options(**options), report, folder / "scratch")), report


def ingest(folder: Path, out: Path, **options: Any) -> dict[str, Any]:
    """The ingest report, after documents went through the checks of the documents table."""
    report = IngestReport(mimic3_full.PUBLISHED)
    documents = mimic3_full.read(folder, mimic3_full.Options(**options), report, out / "scratch")
    write_documents(documents, out / "documents.parquet", out / "annotators.parquet", report)
    return report.as_dict()


# What becomes of notes and codes.


def message(raw: Path) -> str:
    """What a user is told; never text of a note."""
    with pytest.raises(UserError) as caught:
        read(raw)
    assert MARKER not in str(caught.value)
    return str(caught.value)
