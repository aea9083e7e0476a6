"""Files of new documents, streamed: what ``icd predict`` and ``icd review`` read."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import logging
import re
import sys
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.files import read_text, text_files, without_half_pairs
from pipeline.notes.row_files import find_column, json_rows, parquet_rows, parquet_schema

logger = logging.getLogger(__name__)

MAX_ID_CHARS = 100
_READ_SUFFIXES = ".csv, .csv.gz, .jsonl, .parquet, a folder of .txt files, or - for standard input"


class Columns(NamedTuple):
    """Which columns of a table, or keys of JSON lines, hold id and text."""

    document_id: str = "document_id"
    text: str = "text"


COLUMNS = Columns()
"""Where nobody says otherwise."""


@dataclass(frozen=True)
class NewDocument:
    """A document to be coded."""

    document_id: str
    text: str


def read_documents(source: str, columns: Columns = COLUMNS) -> Iterator[NewDocument]:
    """Stream documents from a file, a folder or standard input.

    Args:
        source: a .csv, .csv.gz, .jsonl or .parquet file; a folder of .txt files, whose names are the ids; or "-":
            standard input, JSON lines where its first line that is not blank begins with "{", else the text of one
            document, no table.
        columns: of a table; its header is matched without regard to case.

    Raises:
        UserError: if it is missing, of another kind, lacks a column, or a row cannot be read.
    """
    if columns.document_id.lower() == columns.text.lower():
        raise UserError(f"--id-column and --text-column are both {columns.text!r}; name the column of the ids, too.")
    path, name = Path(source), source.lower()
    if source == "-":
        return _read_stdin(columns)
    if not path.exists():
        raise UserError(f"{source}: no such file or folder; expected {_READ_SUFFIXES}.")
    if path.is_dir():
        return _read_folder(path)
    if name.endswith((".csv", ".csv.gz")):
        return _read_csv(path, columns)
    if name.endswith(".jsonl"):
        return _read_jsonl_file(path, columns)
    if name.endswith(".parquet"):
        return _read_parquet(path, columns)
    raise UserError(f"{source}: unknown kind of file {path.suffix!r}; expected {_READ_SUFFIXES}.")


def _read_csv(path: Path, columns: Columns) -> Iterator[NewDocument]:
    csv.field_size_limit(2**31 - 1)
    line = 0
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            line = rows.line_num
            places = [header.index(name) for name in _found(path, header, columns)]
            for row in rows:
                line = rows.line_num
                if row and len(row) != len(header):
                    raise UserError(
                        f"{path}, line {line}: {len(row)} fields, but the header has {len(header)}; put texts that "
                        "hold commas, quotes or line breaks in double quotes."
                    )
                if row:
                    yield new_document(f"{path}, line {line}", *(row[place] for place in places))
    except csv.Error:  # its message could quote what it read
        raise UserError(
            f"{path}, row that begins on line {line + 1}: a quote that is not closed or not doubled inside a text."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}, after line {line}: not UTF-8; convert the file to UTF-8.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}, after line {line}: a damaged gzip file; copy it again.") from None


def new_document(where: str, document_id: object, text: object) -> NewDocument:
    """A document of one row; a number serves as an id, blanks around an id are none of it, nothing is an empty text.

    Raises:
        UserError: if it has no id, that cannot be one, or either is of another type; the message begins with ``where``.
    """
    if isinstance(document_id, bool) or not isinstance(document_id, str | int) or not str(document_id).strip():
        raise UserError(f"{where}: document_id must be text or a whole number, not {_kind(document_id)}.")
    if not isinstance(text, str | None):
        raise UserError(f"{where}: text must be text, not {_kind(text)}.")
    found = without_half_pairs(str(document_id).strip())
    if not can_be_id(found):  # without it: where the wrong column is named, it is a patient's text
        raise UserError(
            f"{where}: document_id must be one line of at most {MAX_ID_CHARS} printable characters; name the column of "
            "the ids."
        )
    return NewDocument(found, without_half_pairs(text or ""))


def can_be_id(text: str) -> bool:
    r"""Whether a text may be the id of a document, which messages, logs and files of codes show.

    Example:
        >>> can_be_id("d 7"), can_be_id("Fever.\nCough."), can_be_id("a" * 101)
        (True, False, False)
    """
    return len(text) <= MAX_ID_CHARS and all(one.isprintable() or unicodedata.category(one) == "Zs" for one in text)


def _kind(value: object) -> str:
    return "empty" if value is None or (isinstance(value, str) and not value.strip()) else type(value).__name__


def _read_jsonl_file(path: Path, columns: Columns) -> Iterator[NewDocument]:
    with path.open(encoding="utf-8-sig") as lines:
        yield from _read_jsonl(lines, str(path), columns)


def _read_jsonl(lines: Iterable[str], source: str, columns: Columns) -> Iterator[NewDocument]:
    for number, row in json_rows(lines, source):
        if not isinstance(row, dict) or not set(columns) <= row.keys():
            raise UserError(f"{source}, line {number}: expected an object with {' and '.join(columns)}.")
        yield new_document(f"{source}, line {number}", *(row[name] for name in columns))


def _read_parquet(path: Path, columns: Columns) -> Iterator[NewDocument]:
    names = _found(path, parquet_schema(path).names, columns)
    for number, row in enumerate(parquet_rows(path, names), start=1):
        yield new_document(f"{path}, row {number}", *(row[name] for name in names))


def _read_folder(path: Path) -> Iterator[NewDocument]:
    files = text_files(path)
    if not files:
        raise UserError(f"{path}: no .txt file in this folder.")
    below = {file.parent for file in path.rglob("*") if file.suffix.lower() == ".txt"} - {path}
    if below:
        logger.warning("%s: texts in its %d folders below are not read (first: %s)", path, len(below), min(below).name)
    for file in files:
        yield new_document(str(file), file.stem, read_text(file))


def _read_stdin(columns: Columns) -> Iterator[NewDocument]:
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
    try:
        head = []  # to the first line that is not blank
        for line in lines:
            head.append(line)
            if line.strip():
                break
        everything = itertools.chain(head, lines)
        if not "".join(head).strip():
            return
        if head[-1].lstrip().startswith("{"):
            yield from _read_jsonl(everything, "standard input", columns)
            return
        if _is_table(head[-1], columns):
            raise UserError("standard input: a table; pipe JSON lines, or name the file with --input.")
        yield new_document("standard input", "stdin", "".join(everything))
    except UnicodeDecodeError:
        raise UserError("standard input: not UTF-8; convert it to UTF-8.") from None
    finally:
        lines.detach()


def _is_table(line: str, columns: Columns) -> bool:
    """Whether a line is the header of a CSV file with both columns, or begins a JSON array of objects."""
    names = {name.strip().strip('"').lower() for name in line.split(",")}
    return {name.lower() for name in columns} <= names or re.match(r"\s*\[\s*(\{|$)", line) is not None


def _found(path: Path, header: Sequence[str], columns: Columns) -> list[str]:
    """The two columns, as the header spells them."""
    places = [find_column(header, name, str(path)) for name in columns]
    missing = [name for name, place in zip(columns, places, strict=True) if place is None]
    if missing:
        # Without the names found: where the header was forgotten, they are a patient's text.
        raise UserError(
            f"{path}: column {' and '.join(missing)} missing among its {len(header)} columns; name those of id and "
            "text with --id-column and --text-column (in a CSV file: named by the first line, separated by commas)."
        )
    return [header[place] for place in places if place is not None]
