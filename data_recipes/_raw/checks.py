"""What can be said of a raw file without making documents of it, for ``icd doctor``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from data_recipes import RawTable
from data_recipes._raw.csv_columns import read_raw_csv
from data_recipes._raw.table_files import need_columns
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport


class RowCount(NamedTuple):
    """Rows of a raw file.

    Attributes:
        n_rows: whole rows; None for a file that is no table.
        n_broken: rows that cannot be used.
        first_broken: place of the first of them, never its content.
    """

    n_rows: int | None
    n_broken: int = 0
    first_broken: str = ""


def count_rows(table: RawTable) -> RowCount:
    """Read a raw file to its end: its columns are there, its gzip is whole, its rows can be told apart.

    Memory does not grow with the file; a progress bar shows how far it is. Of a Parquet file only the footer is read.

    Raises:
        UserError: if it is missing, cannot be read, is damaged or cut off, or lacks a column.
    """
    path = table.path
    table.check_is_there()
    if not table.columns:
        _read_a_byte(path)
        return RowCount(None)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return RowCount(_count_parquet(path, table.columns))
    if suffix == ".jsonl":
        return RowCount(_count_lines(path, table.columns))
    if suffix in (".xlsx", ".xls", ".ods"):
        raise UserError(f"{path}: spreadsheets are not read; export it as CSV, UTF-8, with commas between fields.")
    return _count_csv(table)


def _read_a_byte(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    if is_empty:
        raise UserError(f"{path}: the file is empty.")


def _count_csv(table: RawTable) -> RowCount:
    report = IngestReport()
    batches = read_raw_csv(table.path, table.columns, report=report, on_bad_row="skip", if_missing=table.if_missing)
    n_rows = sum(batch.num_rows for batch in batches)
    places = report.as_dict()["examples"].get("broken_row", [""])
    return RowCount(n_rows, report.dropped("broken_row"), places[0])


def _count_parquet(path: Path, columns: Sequence[str]) -> int:
    _read_a_byte(path)
    try:
        with pq.ParquetFile(path) as file:
            need_columns(file.schema_arrow.names, columns, str(path))
            return int(file.metadata.num_rows)
    except (pa.ArrowInvalid, OSError):
        raise UserError(f"{path}: not a readable Parquet file; export it again.") from None


def _count_lines(path: Path, columns: Sequence[str]) -> int:
    """Lines that are not blank; only the first is parsed."""
    _read_a_byte(path)
    n_lines = 0
    size = path.stat().st_size
    with path.open("rb") as file, tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=None) as bar:
        for line in file:
            bar.update(len(line))
            if line.strip():
                n_lines += 1
                if n_lines == 1:
                    need_columns(_keys(path, line), columns, str(path))
    return n_lines


def _keys(path: Path, line: bytes) -> list[str]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except ValueError:
        raise UserError(f"{path}: its first line is not JSON in UTF-8; expected one object a line.") from None
    return list(row) if isinstance(row, dict) else []
