r"""A table of one's own: CSV, JSON lines or Parquet, several of them, or a folder of .txt files with a table of codes.

Source: whatever the user names; nothing is assumed but the columns given in ``data.options``.

- ``data.raw`` is a .csv, .csv.gz, .jsonl or .parquet file with one row a document; or a folder of such files, read in
  the order of their names; or a folder of .txt files, named by document id, with ``codes_file`` in it or beside it: a
  table with one row a document, or one row a code.
- Codes are a list (JSON lines, Parquet) or text with a delimiter. They must be text: a code that went through a
  number has lost its zeros. A number is refused; in a CSV, where all is text, so are 5,000 and more ICD-9 codes of
  which none begins with 0.
- ``code_system: none`` takes labels as they are; any other system checks and dots the codes.
- Documents without codes are left out, unless ``keep_uncoded`` says that they are documents that need none. One whose
  codes are all malformed is left out in any case.
- ``titles_path``, a CSV with the columns code and title, says what codes mean, before the packages do.
- ``date``, a column with dates, lets ``split.method: temporal`` train on the past and test on what came after.
- Text is text, ids are text or whole numbers: a value of another type, such as bytes, is refused.
- Ids that are whole numbers with a decimal ("123.0", which pandas writes where a value of the column is missing) lose
  it, which is counted: two spellings of one patient would be two patients.
- Words for an empty cell (NULL, null, NaN, nan, None, ``\N``, <NA>) are none of its content, and counted.
- Without a column for the patient every document counts as a patient of its own, which is only right where no
  patient has two documents.

Documents come in the order of the file; those of a folder in the order of their names.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from data_recipes import RawTable, require_raw
from data_recipes._raw.cells import as_text
from data_recipes._raw.table_files import KINDS, NAME_COLUMNS, Row, table_rows
from data_recipes._table.code_column import CodeColumn
from data_recipes._table.ids import AlikePatients, check_id, row_id
from data_recipes._table.options import Options
from data_recipes._table.sources import codes_path, source_rows, tables
from pipeline.errors import UserError
from pipeline.files import text_files
from pipeline.icd.codes import make_label, normalise
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport

__all__ = ["PUBLISHED", "Options", "raw_files", "raw_tables", "read", "read_titles"]

PUBLISHED: Mapping[str, int] = {}
_SPLITS = ("train", "val", "test")
_TITLE_COLUMNS = ("code", "title")


def raw_files(raw: Path | None, options: Options) -> list[Path]:
    """The tables, or all text files of the folder and the table of codes; then the titles."""
    titles = [options.titles_path] if options.titles_path else []
    if raw is None:
        return titles
    if found := tables(raw, options):
        return [*found, *titles]
    return [*text_files(raw), codes_path(raw, options), *titles]


def raw_tables(raw: Path | None, options: Options) -> list[RawTable]:
    """The tables, or the table of codes and all text files, see :class:`data_recipes.RawTable`."""
    path = require_raw(raw, f"a {KINDS}")
    titles = [RawTable(options.titles_path, _TITLE_COLUMNS)] if options.titles_path else []
    if found := tables(path, options):
        return [*(RawTable(table, tuple(options.columns()), if_missing=NAME_COLUMNS) for table in found), *titles]
    columns = tuple(name for name in options.columns() if name != options.text)
    texts = [RawTable(text) for text in text_files(path)]
    return [RawTable(codes_path(path, options), columns, if_missing=NAME_COLUMNS), *texts, *titles]


def read_titles(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Mapping[str, str]:
    """Label -> title from ``titles_path``; the first of several titles of a code counts.

    Raises:
        UserError: if the table or a column is missing, or a code is none of the code system.
    """
    titles: dict[str, str] = {}
    if options.titles_path is None:
        return titles
    if not options.titles_path.is_file():
        raise UserError(f"{options.titles_path}: no such file; data.options.titles_path must be a .csv file.")
    for row in table_rows(options.titles_path, list(_TITLE_COLUMNS), report=report, on_bad_row=options.on_bad_row):
        try:
            label = make_label(options.code_system, normalise(row["code"].strip(), options.code_system))
        except UserError as error:
            raise UserError(f"{options.titles_path}: {error}") from None
        if row["title"].strip():
            titles.setdefault(label, row["title"].strip())
    return titles


def read(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Iterator[Document]:
    """Documents of the table.

    Raises:
        UserError: if the table or a column is missing, a row cannot be read, a cell is of a type that its column cannot
            have, or codes have lost their zeros; rows are counted from 1.
    """
    path = require_raw(raw, f"a {KINDS}")
    is_folder = not tables(path, options)
    codes, patients = CodeColumn(path, options, report), AlikePatients()
    for where, row in source_rows(path, options, report):
        report.count("rows")
        if is_folder:  # the name of a text file, which is no number
            document_id = row[options.document_id]
            check_id(document_id, f"{path}: the name of a text file")
        else:
            document_id = row_id(row, options.document_id, where, report)
        if not document_id:
            report.drop("empty_document_id", where)
            continue
        split = _split(row, options, document_id, report)
        patient_id = row_id(row, options.patient_id, where, report) if options.patient_id else document_id
        if not patient_id:
            report.drop("empty_patient_id", document_id)
            continue
        if options.patient_id:
            patients.add(patient_id)
        labels = codes.labels_of(row[options.codes], document_id)
        if labels is None:
            report.drop("all_codes_malformed", document_id)
            continue
        date = _date(row, options, document_id, report)
        yield Document(document_id, patient_id, _text(row, options.text, document_id), labels, split, date)
    codes.check()
    if options.patient_id:
        patients.tell(options.patient_id, report)


def _text(row: Row, column: str, document_id: str) -> str:
    try:
        return as_text(row[column])
    except ValueError as error:
        raise UserError(f"document {document_id}: column {column!r}: {error}.") from None


def _split(
    row: Row, options: Options, document_id: str, report: IngestReport
) -> Literal["train", "val", "test"] | None:
    value = _text(row, options.split, document_id).strip().lower() if options.split else ""
    if value and value not in _SPLITS:
        raise UserError(
            f"document {document_id}: column {options.split!r} holds none of {', '.join(_SPLITS)}, nor nothing; "
            "mend it, or name another in data.options.split."
        )
    if options.split and not value:
        report.count("documents_without_given_split")
    return value or None  # type: ignore[return-value]


def _date(row: Row, options: Options, document_id: str, report: IngestReport) -> datetime.date | None:
    """Day of a document: a date or time of Parquet, or text of ISO 8601."""
    value = row[options.date] if options.date else None
    if isinstance(value, str) and value.strip():
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            raise UserError(
                f"document {document_id}: its date is not of the form YYYY-MM-DD (time may follow); mend column "
                f"{options.date!r}, or name another in data.options.date."
            ) from None
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    if value is not None and not isinstance(value, str):
        raise UserError(f"document {document_id}: its date is of type {type(value).__name__}, expected text or a date.")
    if options.date:
        report.count("documents_without_date")
    return None
