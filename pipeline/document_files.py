"""Files of new documents, streamed: what ``icd predict`` and ``icd review`` read."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.files import read_text, text_files, without_half_pairs

_COLUMNS = ("document_id", "text")
_BUFFER_BYTES = 1 << 20
_READ_SUFFIXES = ".csv, .jsonl, .parquet, a folder of .txt files, or - for standard input"


@dataclass(frozen=True)
class NewDocument:
    """A document to be coded."""

    document_id: str
    text: str


def read_documents(source: str) -> Iterator[NewDocument]:
    """Stream documents from a file, a folder or standard input.

    Args:
        source: a .csv, .jsonl or .parquet file with columns document_id and text; a folder of .txt files, whose
            names are the ids; or "-": standard input, JSON lines where its first line that is not
            blank begins with "{", else one document.

    Raises:
        UserError: if it is missing, of another kind, lacks a column, or a row cannot be read.
    """
    path = Path(source)
    if source == "-":
        return _read_stdin()
    if not path.exists():
        raise UserError(f"--input {source}: no such file or folder; expected {_READ_SUFFIXES}.")
    if path.is_dir():
        return _read_folder(path)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl_file, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise UserError(f"--input {source}: unknown kind of file {path.suffix!r}; expected {_READ_SUFFIXES}.")
    return readers[path.suffix](path)


def _read_csv(path: Path) -> Iterator[NewDocument]:
    csv.field_size_limit(2**31 - 1)
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            line = rows.line_num
            _check_columns(path, header)
            places = [header.index(name) for name in _COLUMNS]
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


def new_document(where: str, document_id: object, text: object) -> NewDocument:
    """A document of one row; a number serves as an id, nothing as an empty text.

    Raises:
        UserError: if it has no id, or either is of another type; the message begins with ``where``.
    """
    if isinstance(document_id, bool) or not isinstance(document_id, str | int) or document_id == "":
        raise UserError(f"{where}: document_id must be text or a whole number, not {_kind(document_id)}.")
    if not isinstance(text, str | None):
        raise UserError(f"{where}: text must be text, not {_kind(text)}.")
    return NewDocument(without_half_pairs(str(document_id)), without_half_pairs(text or ""))


def _kind(value: object) -> str:
    return "empty" if value in (None, "") else type(value).__name__


def _read_jsonl_file(path: Path) -> Iterator[NewDocument]:
    with path.open(encoding="utf-8-sig") as lines:
        yield from _read_jsonl(lines, str(path))


def _read_jsonl(lines: Iterable[str], source: str) -> Iterator[NewDocument]:
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict) or not set(_COLUMNS) <= row.keys():
                    raise UserError(f"{source}, line {number}: expected an object with document_id and text.")
                yield new_document(f"{source}, line {number}", row["document_id"], row["text"])
    except json.JSONDecodeError as error:
        raise UserError(f"{source}, line {number}: not JSON ({error.msg} at column {error.colno}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{source}, after line {number}: not UTF-8; convert the file to UTF-8.") from None


def _read_parquet(path: Path) -> Iterator[NewDocument]:
    try:
        # Buffered, so that memory does not grow with the row group, which may be the whole file.
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            _check_columns(path, file.schema_arrow.names)
            batches = file.iter_batches(batch_size=512, columns=list(_COLUMNS))
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, row in enumerate(rows, start=1):
                yield new_document(f"{path}, row {number}", row["document_id"], row["text"])
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({type(error).__name__}).") from None


def _read_folder(path: Path) -> Iterator[NewDocument]:
    files = text_files(path)
    if not files:
        raise UserError(f"--input {path}: no .txt file in this folder.")
    for file in files:
        yield new_document(str(file), file.stem, read_text(file))


def _read_stdin() -> Iterator[NewDocument]:
    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
    try:
        head = []  # to the first line that is not blank
        for line in lines:
            head.append(line)
            if line.strip():
                break
        everything = itertools.chain(head, lines)
        if head and head[-1].lstrip().startswith("{"):
            yield from _read_jsonl(everything, "standard input")
        else:
            yield new_document("standard input", "stdin", "".join(everything))
    except UnicodeDecodeError:
        raise UserError("standard input: not UTF-8; convert it to UTF-8.") from None
    finally:
        lines.detach()


def _check_columns(path: Path, found: Sequence[str]) -> None:
    missing = [name for name in _COLUMNS if name not in found]
    if missing:
        # Without the names found: where the header was forgotten, they are a patient's text.
        raise UserError(
            f"{path}: column {' and '.join(missing)} missing among its {len(found)} columns; expected document_id and "
            "text (in a CSV file: named by the first line, separated by commas)."
        )
