"""Rows of JSON lines and Parquet files, and which of several columns of a table is the one that is wanted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError

_BUFFER_BYTES = 1 << 20
_NAME = re.compile(r"[^\W\d](?:[ .-]?\w){0,40}")
_MAX_NAMES = 12


def json_rows(lines: Iterable[str], where: str) -> Iterator[tuple[int, Any]]:
    """The values of JSON lines with their numbers, from 1, without blank lines; NaN, which pandas writes, is None.

    Args:
        lines: of a file that is being read.
        where: names it in messages.

    Raises:
        UserError: if a line is not JSON or not UTF-8.
    """
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                value = _parsed(line, f"{where}, line {number}")
                yield number, value
    except UnicodeDecodeError:
        raise UserError(f"{where}, after line {number}: not UTF-8; convert the file to UTF-8.") from None


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise UserError(f"{where}: it cannot be read ({type(error).__name__}).") from None


def parquet_schema(path: Path) -> pa.Schema:
    """Names and types of the columns of a Parquet file.

    Raises:
        UserError: if it is none.
    """
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        raise _not_parquet(path) from None


def parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Some columns of the rows of a Parquet file.

    Raises:
        UserError: if it cannot be read, or holds what Python cannot hold.
    """
    try:
        # Buffered, so that memory does not grow with the row group, which may be the whole file.
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=512, columns=list(columns)):
                yield from _as_rows(batch, path)
    except (pa.ArrowInvalid, OSError):
        raise _not_parquet(path) from None


def _as_rows(batch: pa.RecordBatch, path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (OverflowError, ValueError):  # a year beyond 9999, or text that is not UTF-8
        raise UserError(
            f"{path}: a value cannot be read, such as a date beyond the year 9999 or text that is not UTF-8; mend the "
            "table."
        ) from None
    return rows


def _not_parquet(path: Path) -> UserError:
    return UserError(f"{path}: not a readable Parquet file; export it again.")


def find_column(found: Sequence[str], column: str, where: str) -> int | None:
    """Where a column stands: by its name as it is spelled, or else in upper or lower case; None: it is not there.

    Raises:
        UserError: if two columns could be meant; the message begins with ``where``.

    Example:
        >>> find_column(["ID", "id"], "id", "a.csv"), find_column(["ID", "text"], "id", "a.csv")
        (1, 0)
    """
    for names, name in ((found, column), ([one.lower() for one in found], column.lower())):
        if (n := names.count(name)) > 1:
            raise UserError(f"{where}: {n} columns are called {name!r}; rename those that are not meant.")
        if n:
            return names.index(name)
    return None


def describe_columns(found: Sequence[str], wanted: Sequence[str]) -> str:
    """The columns of a table for a message: by name only where one that is wanted tells that they are names.

    Where the header is lost, what stands in its place is the first row of data: ids, names of patients, a whole text.
    Of the names, only those are shown that look like one.

    Example:
        >>> describe_columns(["id", "Note ID", "3 h of fever"], ["id", "text"])
        'found id, Note ID and 1 more'
        >>> describe_columns(["A1", "Mueller", "fever"], ["id", "text"])
        'none of its columns (3) is one of id, text; perhaps the header is missing, or no comma stands between fields'
    """
    known = {one.lower() for one in wanted}
    if known.isdisjoint(one.lower() for one in found):
        return (
            f"none of its columns ({len(found)}) is one of {', '.join(wanted)}; perhaps the header is missing, or no "
            "comma stands between fields"
        )
    shown = [one for one in found if one.lower() in known or _NAME.fullmatch(one)][:_MAX_NAMES]
    n_more = len(found) - len(shown)
    return f"found {', '.join(shown)}" + (f" and {n_more} more" if n_more else "")
