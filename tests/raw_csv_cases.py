"""Raw CSV files that tests of their reader share."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from data_recipes._raw.csv_columns import OnBadRow, read_raw_csv
from pipeline.notes.ingest_report import IngestReport

HEADER = "id,code,text"
ROWS = [
    ["10", "0389", 'Name: ___\n\nsaid "fine", then left\n'],
    ["11", "250.00", "a,b,c\nd"],
    ["12", "0066", "plain"],
    ["13", "V053", '"'],
    ["14", "E8889", ""],
]


def as_csv(rows: Sequence[Sequence[str]], *, header: str = HEADER, line_end: str = "\n") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    return f"{header}{line_end}{text.getvalue()}".encode()


def read(
    path: Path, columns: Sequence[str] = ("id", "code", "text"), *, on_bad_row: OnBadRow = "error"
) -> tuple[list[list[str]], IngestReport]:
    report = IngestReport()
    batches = list(read_raw_csv(path, columns, report=report, on_bad_row=on_bad_row))
    return [list(row.values()) for batch in batches for row in batch.to_pylist()], report
