"""A table of one's own: CSV, JSON lines or Parquet, several of them, or a folder of .txt files with a table of codes.

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
- Ids that are whole numbers with decimals ("123.0", which pandas writes where a value of the column is missing) lose
  these, which is counted: two spellings of one patient would be two patients.
- Without a column for the patient every document counts as a patient of its own, which is only right where no
  patient has two documents.

Documents come in the order of the file; those of a folder in the order of their names.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_recipes import RawTable, require_raw
from data_recipes._raw.cells import as_id, as_list, check_are_codes, check_delimiter, check_leading_zeros
from data_recipes._raw.csv_columns import OnBadRow
from data_recipes._raw.table_files import KINDS, NAME_COLUMNS, Row, is_table, table_rows
from pipeline.errors import UserError
from pipeline.experiment.settings import Section, absolute
from pipeline.files import read_text, text_files
from pipeline.icd.codes import CodeSystem, make_label, normalise
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport

PUBLISHED: Mapping[str, int] = {}
_SPLITS = ("train", "val", "test")
_TITLE_COLUMNS = ("code", "title")
_MAX_ID_CHARS = 100


class Options(Section):
    """Columns and kind of codes."""

    document_id: str = Field("document_id", description="column with the unique id")
    patient_id: str | None = Field(None, description="column with the patient; null: every document its own")
    text: str = Field("text", description="column with the text")
    codes: str = Field("codes", description="column with the codes, a list or delimited text")
    delimiter: str = Field(";", min_length=1, description="between codes in delimited text")
    code_system: CodeSystem = Field("icd10cm", description="of all codes; 'none' for labels of another kind")
    split: str | None = Field(None, description="column with train, val or test; null for none")
    date: str | None = Field(None, description="column with the date, for split.method: temporal; null for none")
    codes_file: str = Field("codes.csv", description="table of codes beside a folder of .txt files")
    keep_uncoded: bool = Field(False, description="keep documents without codes, as documents that need none")
    titles_path: Path | None = Field(None, description="CSV with columns code and title; null for none")
    on_bad_row: OnBadRow = Field("error", description="a broken CSV row: stop, or skip and count it")

    _resolve = field_validator("titles_path")(absolute)

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        """A text that is read as an id or a code would reach messages and reports."""
        names = [self.document_id, self.text, self.codes, *filter(None, (self.split, self.date))]
        if len(set(names)) < len(names) or self.patient_id in (self.text, self.codes):
            raise ValueError(
                "document_id, text, codes, split and date must be different columns, patient_id another than text and "
                "codes"
            )
        return self


def raw_files(raw: Path | None, options: Options) -> list[Path]:
    """The tables, or all text files of the folder and the table of codes; then the titles."""
    titles = [options.titles_path] if options.titles_path else []
    if raw is None:
        return titles
    if tables := _tables(raw, options):
        return [*tables, *titles]
    return [*text_files(raw), _codes_path(raw, options), *titles]


def raw_tables(raw: Path | None, options: Options) -> list[RawTable]:
    """The tables, or the table of codes and all text files, see :class:`data_recipes.RawTable`."""
    path = require_raw(raw, f"a {KINDS}")
    titles = [RawTable(options.titles_path, _TITLE_COLUMNS)] if options.titles_path else []
    if tables := _tables(path, options):
        return [*(RawTable(table, tuple(_columns(options)), if_missing=NAME_COLUMNS) for table in tables), *titles]
    columns = tuple(name for name in _columns(options) if name != options.text)
    texts = [RawTable(text) for text in text_files(path)]
    return [RawTable(_codes_path(path, options), columns, if_missing=NAME_COLUMNS), *texts, *titles]


def _tables(raw: Path, options: Options) -> list[Path]:
    """The one file, or the tables of a folder; none where it is a folder of .txt files."""
    if not raw.is_dir():
        return [raw]
    if text_files(raw) or (raw / options.codes_file).exists():
        return []
    return sorted(path for path in raw.iterdir() if path.is_file() and is_table(path))


def _codes_path(folder: Path, options: Options) -> Path:
    """The table of codes of a folder: in it, or else beside it."""
    inside = folder / options.codes_file
    return inside if inside.exists() else folder.parent / options.codes_file


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
        UserError: if the table or a column is missing, a row cannot be read, or codes have lost their zeros; rows are
            counted from 1.
    """
    path = require_raw(raw, f"a {KINDS}")
    tables = _tables(path, options)
    n_codes, has_zeros, different = 0, False, set[str]()
    for number, row in enumerate(_rows(path, tables, options, report), start=1):
        report.count("rows")
        # The name of a text file is no number.
        document_id = _id(row, options.document_id, f"row {number}", report) if tables else row[options.document_id]
        if len(document_id) > _MAX_ID_CHARS:
            raise UserError(
                f"row {number}: {options.document_id!r} holds {len(document_id):,} characters, an id has "
                f"{_MAX_ID_CHARS} at most; name its column in data.options.document_id."
            )
        if not document_id:
            report.drop("empty_document_id", f"row {number}")
            continue
        split = _split(row, options, document_id, report)
        patient_id = _id(row, options.patient_id, f"row {number}", report) if options.patient_id else document_id
        if not patient_id:
            report.drop("empty_patient_id", document_id)
            continue
        codes = as_list(row[options.codes], options.codes, options.delimiter)
        labels = _labels(codes, options, document_id, report)
        n_codes += len(codes)
        if codes and not labels:
            report.drop("all_codes_malformed", document_id)
            continue
        date = _date(row, options, document_id, report)
        different.update(labels)
        has_zeros = has_zeros or any(code.strip().startswith("0") for code in codes)
        yield Document(document_id, patient_id, _text(row, options.text), labels, split, date)
    check_leading_zeros(path, options.code_system, n_codes, has_zeros=has_zeros)
    n_malformed = report.dropped("code_malformed")
    check_are_codes(path, options.codes, options.code_system, n_codes, len(different), n_malformed=n_malformed)


def _rows(path: Path, tables: Sequence[Path], options: Options, report: IngestReport) -> Iterator[Row]:
    for table in tables:
        yield from table_rows(table, _columns(options), report=report, on_bad_row=options.on_bad_row)
    if not tables:
        yield from _folder_rows(path, options, report)


def _columns(options: Options) -> list[str]:
    wanted = (options.document_id, options.patient_id, options.text, options.codes, options.split, options.date)
    return list(dict.fromkeys(name for name in wanted if name is not None))  # the patient may be one of the others


def _folder_rows(folder: Path, options: Options, report: IngestReport) -> Iterator[Row]:
    """Text files in the order of their names, with their codes; files without codes keep an empty list."""
    columns = [name for name in _columns(options) if name != options.text]
    codes_path = _codes_path(folder, options)
    if not codes_path.exists():
        raise UserError(
            f"{folder}: no table of codes {options.codes_file!r} in it or beside it (data.options.codes_file)."
        )
    paths = text_files(folder)
    if not paths:
        raise UserError(f"{folder}: no .txt file in this folder.")
    stems = {path.stem for path in paths}
    by_document: dict[str, dict[str, Any]] = {}
    for row in table_rows(codes_path, columns, report=report, on_bad_row=options.on_bad_row):
        named = str(row[options.document_id]).strip()
        document_id = named if named in stems else _id(row, options.document_id, str(codes_path), report)
        known = by_document.setdefault(document_id, {**row, options.codes: []})
        for column in (options.patient_id, options.split, options.date):
            if column is not None and known[column] != row[column]:
                raise UserError(f"{codes_path}: document {document_id} has two values of {column!r}.")
        known[options.codes] += as_list(row[options.codes], options.codes, options.delimiter)
    _check_same_ids(codes_path, by_document.keys() - stems, stems - by_document.keys())
    for document_id in sorted(by_document.keys() - stems):
        report.drop("codes_without_text_file", document_id)
    no_codes: dict[str, Any] = dict.fromkeys(columns, "") | {options.codes: []}  # and no patient that is known
    for path in paths:
        yield {**by_document.get(path.stem, no_codes), options.document_id: path.stem, options.text: read_text(path)}


def _check_same_ids(codes_path: Path, without_text: Iterable[str], without_codes: Iterable[str]) -> None:
    """Refuse ids that lost their zeros on the way into the table: their notes would count as notes without codes."""
    bare = {one.lstrip("0"): one for one in sorted(without_codes)}
    for document_id in sorted(without_text):
        if (file := bare.get(document_id.lstrip("0"))) is not None:
            raise UserError(
                f"{codes_path}: it has codes for document {document_id!r}, the folder has {file}.txt; write the id "
                "in the table as in the name of the file, with all zeros."
            )


def _id(row: Row, column: str, where: str, report: IngestReport) -> str:
    value = row[column]
    try:
        found, is_changed = as_id(value if isinstance(value, float) else _text(row, column))
    except ValueError as error:
        raise UserError(f"{where}: column {column!r}: {error}.") from None
    if is_changed:
        report.change("ids_without_their_decimals", where)
    return found


def _text(row: Row, column: str) -> str:
    value = row[column]
    if isinstance(value, (list, dict)):
        raise UserError(
            f"column {column!r} holds a {type(value).__name__}, expected text; name another in data.options."
        )
    return "" if value is None else str(value)


def _split(
    row: Row, options: Options, document_id: str, report: IngestReport
) -> Literal["train", "val", "test"] | None:
    value = _text(row, options.split).strip().lower() if options.split else ""
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


def _labels(codes: list[Any], options: Options, document_id: str, report: IngestReport) -> list[str]:
    labels = []
    for code in codes:
        if not isinstance(code, str):
            raise UserError(
                f"document {document_id}: a code is a {type(code).__name__}, not text, so zeros may be lost; "
                "export codes as text."
            )
        try:
            labels.append(make_label(options.code_system, normalise(code.strip(), options.code_system)))
        except UserError:
            check_delimiter(code, options.codes, options.code_system)
            report.drop("code_malformed", document_id)
    return labels
