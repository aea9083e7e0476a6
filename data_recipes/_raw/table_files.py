"""Rows of the tables that people have: CSV, JSON lines, Parquet, one file or several in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_recipes._raw.csv_columns import OnBadRow, read_raw_csv
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.row_files import describe_columns, find_column, json_rows, parquet_rows, parquet_schema

KINDS = ".csv, .csv.gz, .jsonl or .parquet file, or a folder of them or of .txt files"
_CSV, _JSONL, _PARQUET = (".csv", ".csv.gz"), (".jsonl",), (".parquet",)

Row = Mapping[str, Any]


NAME_COLUMNS = "name the columns in data.options"


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name, in upper or lower case."""
    return path.name.lower().endswith((*_CSV, *_JSONL, *_PARQUET))


def is_csv(path: Path) -> bool:
    """Whether a file is a CSV by its name, packed or not."""
    return path.name.lower().endswith(_CSV)


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
    batches = read_raw_csv(path, columns, report=report, on_bad_row=on_bad_row, if_missing=NAME_COLUMNS)
    for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), start=1):
        if all(value.strip().lstrip("\ufeff").lower() == name.lower() for name, value in row.items()):
            report.drop("repeated_header", f"{path.name} row {number}")  # several files in one
        else:
            yield row


def _jsonl_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, row in json_rows(lines, str(path)):
            need_columns(row if isinstance(row, dict) else {}, columns, f"{path}, line {number}")
            yield row


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    schema = parquet_schema(path)
    need_columns(schema.names, columns, str(path))
    for name in columns:
        find_column(schema.names, name, str(path))  # refuses one that is there twice
        if schema.field(name).type in (pa.float16(), pa.float32()):
            raise UserError(
                f"{path}: column {name!r} holds numbers of type {schema.field(name).type}, in which several large ids "
                "are one (16777216 and 16777217); write it as text from its source."
            )
    yield from parquet_rows(path, columns)


def need_columns(found: Iterable[str], columns: Sequence[str], where: str) -> None:
    """Check that columns are there.

    Raises:
        UserError: naming those that are missing; the message begins with ``where``.
    """
    names = list(found)
    missing = [name for name in columns if name not in names]
    if missing:
        raise UserError(
            f"{where}: column {' and '.join(missing)} missing ({describe_columns(names, columns)}); {NAME_COLUMNS}."
        )
