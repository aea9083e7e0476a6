"""Rows of the tables that people have: CSV, JSON lines, Parquet, one file or several in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes._csv import OnBadRow, read_raw_csv
from pipeline.errors import UserError
from pipeline.ingest_report import IngestReport

KINDS = ".csv, .csv.gz, .jsonl or .parquet file, or a folder of them or of .txt files"
_CSV, _JSONL, _PARQUET = (".csv", ".csv.gz"), (".jsonl",), (".parquet",)
_BUFFER_BYTES = 1 << 20

Row = Mapping[str, Any]


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name, in upper or lower case."""
    return path.name.lower().endswith((*_CSV, *_JSONL, *_PARQUET))


def table_rows(path: Path, columns: list[str], *, report: IngestReport, on_bad_row: OnBadRow) -> Iterator[Row]:
    """Rows of a table, some columns of it; a value of a CSV is text.

    Raises:
        UserError: if it cannot be read or a column is missing; rows are counted from 1.
    """
    name = path.name.lower()
    if name.endswith(_CSV):
        return _csv_rows(path, columns, report, on_bad_row)
    if name.endswith(_JSONL):
        return _jsonl_rows(path, columns)
    if name.endswith(_PARQUET):
        return _parquet_rows(path, columns)
    raise UserError(f"{path}: unknown kind of file {path.suffix!r}; expected a {KINDS}.")


def _csv_rows(path: Path, columns: list[str], report: IngestReport, on_bad_row: OnBadRow) -> Iterator[Row]:
    lower = [name.lower() for name in columns]  # headers are matched without regard to case
    for batch in read_raw_csv(path, lower, report=report, on_bad_row=on_bad_row):
        yield from batch.rename_columns(columns).to_pylist()


def _jsonl_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = json.loads(line, parse_constant=_no_number)
                    _check_columns(row if isinstance(row, dict) else {}, columns, f"{path}, line {number}")
                    yield row
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}, after line {number}: not UTF-8; convert the file to UTF-8.") from None


def _no_number(_: str) -> None:
    """NaN, which pandas writes where there is nothing."""


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    try:
        # Buffered, so that memory does not grow with the row group, which may be the whole file.
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            _check_columns(file.schema_arrow.names, columns, str(path))
            for batch in file.iter_batches(batch_size=512, columns=columns):
                yield from _as_rows(batch, path)
    except (pa.ArrowInvalid, OSError):
        raise UserError(f"{path}: not a readable Parquet file; export it again.") from None


def _as_rows(batch: pa.RecordBatch, path: Path) -> list[Row]:
    try:
        rows: list[Row] = batch.to_pylist()
    except (OverflowError, ValueError):  # a year beyond 9999, or text that is none
        raise UserError(
            f"{path}: a value cannot be read, such as a date beyond the year 9999; mend the table."
        ) from None
    return rows


def _check_columns(found: Iterable[str], columns: list[str], where: str) -> None:
    names = list(found)
    missing = [name for name in columns if name not in names]
    if missing:
        raise UserError(
            f"{where}: column {' and '.join(missing)} missing (found: {', '.join(names[:12])}); "
            "name the columns in data.options."
        )
