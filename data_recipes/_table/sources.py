"""Which files a table of one's own is made of, and their rows, one a document."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from data_recipes._raw.cells import as_list, says_nothing
from data_recipes._raw.table_files import Row, is_table, table_rows
from data_recipes._table.ids import row_id
from data_recipes._table.options import Options
from pipeline.errors import UserError
from pipeline.files import is_hidden, read_text, text_files
from pipeline.notes.ingest_report import IngestReport

logger = logging.getLogger(__name__)

_PACKERS = (".gz", ".zip", ".bz2", ".xz")


def tables(raw: Path, options: Options) -> list[Path]:
    """The one file, or the tables of a folder; none where it is a folder of .txt files."""
    if not raw.is_dir():
        return [raw]
    if text_files(raw) or (raw / options.codes_file).exists():
        return []
    return sorted(path for path in raw.iterdir() if path.is_file() and is_table(path) and not is_hidden(path))


def codes_path(folder: Path, options: Options) -> Path:
    """The table of codes of a folder: in it, or else beside it."""
    inside = folder / options.codes_file
    return inside if inside.exists() else folder.parent / options.codes_file


def source_rows(raw: Path, options: Options, report: IngestReport) -> Iterator[tuple[str, Row]]:
    """All rows, each with the file and row (from 1) where it stands, such as "b.csv row 3".

    Cells that say in a word that they hold nothing ("NULL") are None, and counted. Unread parts of a folder are told.

    Raises:
        UserError: if a file is missing or cannot be read, or a column is missing.
    """
    found = tables(raw, options)
    if raw.is_dir():
        _tell_unread(raw, [*(found or text_files(raw)), codes_path(raw, options), options.titles_path], report)
    for path in found:
        yield from _table_rows(path, options.columns(), options, report)
    if not found:
        yield from _folder_rows(raw, options, report)


def _table_rows(path: Path, columns: list[str], options: Options, report: IngestReport) -> Iterator[tuple[str, Row]]:
    rows = table_rows(path, columns, report=report, on_bad_row=options.on_bad_row)
    for number, row in enumerate(rows, start=1):
        where = f"{path.name} row {number}"
        empty = [column for column in columns if says_nothing(row[column])]
        for _ in (column for column in empty if isinstance(row[column], str)):
            report.change("words_for_nothing_taken_out", where)
        yield where, {**row, **dict.fromkeys(empty)} if empty else row


def _tell_unread(folder: Path, read: Collection[Path | None], report: IngestReport) -> None:
    """Warn of files and folders in a folder that are not read; hidden ones are counted if they could be documents."""
    others = [path for path in sorted(folder.iterdir()) if path not in read]
    for path in others:
        if is_hidden(path) and (is_table(path) or path.suffix.lower() == ".txt"):
            report.drop("hidden_file", path.name)
    others = [path for path in others if not is_hidden(path)]
    files = [path for path in others if path.is_file()]
    if others:
        kinds = ", ".join(sorted({_kind(path) for path in files}))
        logger.warning(
            "%s: not read: %d files%s and %d folders",
            folder,
            len(files),
            kinds and f" ({kinds})",
            len(others) - len(files),
        )


def _kind(path: Path) -> str:
    packed = path.suffix.lower() in _PACKERS
    return "".join(path.suffixes[-2:] if packed else path.suffixes[-1:]).lower() or "without a suffix"


def _folder_rows(folder: Path, options: Options, report: IngestReport) -> Iterator[tuple[str, Row]]:
    """Text files in the order of their names, with their codes; files without codes keep an empty list."""
    columns = [name for name in options.columns() if name != options.text]
    table = codes_path(folder, options)
    if not table.exists():
        raise UserError(
            f"{folder}: no table of codes {options.codes_file!r} in it or beside it (data.options.codes_file)."
        )
    paths = text_files(folder)
    if not paths:
        raise UserError(f"{folder}: no .txt file in this folder.")
    stems = {path.stem for path in paths}
    by_document = _by_document(table, columns, stems, options, report)
    _check_same_ids(table, by_document.keys() - stems, stems - by_document.keys())
    _tell_without_row(table, sorted(stems - by_document.keys()), options, report)
    for document_id in sorted(by_document.keys() - stems):
        report.drop("codes_without_text_file", document_id)
    no_codes: dict[str, Any] = dict.fromkeys(columns, "") | {options.codes: []}  # and no patient that is known
    for path in paths:
        row = by_document.get(path.stem, no_codes)
        yield path.name, {**row, options.document_id: path.stem, options.text: read_text(path)}


def _by_document(
    table: Path, columns: list[str], stems: set[str], options: Options, report: IngestReport
) -> dict[str, dict[str, Any]]:
    """The rows of a table of codes as one for each document, with all its codes."""
    by_document: dict[str, dict[str, Any]] = {}
    for where, row in _table_rows(table, columns, options, report):
        named = str(row[options.document_id]).strip()
        document_id = named if named in stems else row_id(row, options.document_id, where, report)
        if not document_id:
            report.drop("empty_document_id", where)
            continue
        known = by_document.setdefault(document_id, {**row, options.codes: []})
        for column in (options.patient_id, options.split, options.date):
            if column is not None and known[column] != row[column]:
                raise UserError(f"{table}: document {document_id} has two values of {column!r}.")
        known[options.codes] += as_list(row[options.codes], options.codes, options.delimiter)
    return by_document


def _tell_without_row(table: Path, without: list[str], options: Options, report: IngestReport) -> None:
    if not without:
        return
    report.count("text_files_without_a_row_of_codes", len(without))
    if options.keep_uncoded:
        logger.warning(
            "%s: it has no row for %d .txt files (first: %s.txt), which count as documents that need no code, since "
            "data.options.keep_uncoded is set; take out those that are none",
            table, len(without), without[0],
        )  # fmt: skip


def _check_same_ids(table: Path, without_text: Iterable[str], without_codes: Iterable[str]) -> None:
    """Refuse ids that lost their zeros on the way into the table: their notes would count as notes without codes."""
    bare = {one.lstrip("0"): one for one in sorted(without_codes)}
    for document_id in sorted(without_text):
        if (file := bare.get(document_id.lstrip("0"))) is not None:
            raise UserError(
                f"{table}: it has codes for document {document_id!r}, the folder has {file}.txt; write the id "
                "in the table as in the name of the file, with all zeros."
            )
