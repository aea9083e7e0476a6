"""The raw tables of a synthetic corpus while they are written, and what all shapes have in common.

Rows are written one by one, so memory does not grow with the corpus, and files come out the same, byte by byte,
for the same settings: the gzip header holds no time and no name.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pipeline.icd.codes import undot

P_UNTITLED = 0.04  # codes missing from the title tables
_P_PADDED = 0.02  # codes padded with blanks
_CODE_WIDTH = 7
_GZIP_LEVEL = 1  # packing takes most of the time at full size


class Tables:
    """The open files.

    Args:
        folder: gets a .csv.gz for each table.
        columns: of each table, by its name, which may name a sub-folder.
        quoting: "minimal" quotes what must be; "text" quotes all text (also the header), but neither numbers, dates
            nor what is missing (None), as an export of PostgreSQL does.
    """

    def __init__(
        self, folder: Path, columns: Mapping[str, Sequence[str]], *, quoting: Literal["minimal", "text"] = "minimal"
    ) -> None:
        self._folder = folder
        self._columns = columns
        self._quoting = quoting
        self._stack = contextlib.ExitStack()
        self._writers: dict[str, Callable[[Sequence[object]], object]] = {}

    def __enter__(self) -> Tables:
        for name, columns in self._columns.items():
            path = self._folder / f"{name}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            packed = self._stack.enter_context(path.open("wb"))
            unpacked = self._stack.enter_context(
                gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=packed, mtime=0)
            )
            text = self._stack.enter_context(io.TextIOWrapper(unpacked, encoding="utf-8", newline=""))
            self._writers[name] = self._row_writer(text)
            self.add(name, *columns)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def add(self, name: str, *values: object) -> None:
        """Write a row."""
        self._writers[name](values)

    def _row_writer(self, file: io.TextIOWrapper) -> Callable[[Sequence[object]], object]:
        if self._quoting == "minimal":
            return csv.writer(file, lineterminator="\n").writerow
        return lambda values: file.write(",".join(map(_quoted, values)) + "\n")


def stored(code: str, rng: random.Random) -> str:
    """A code as tables store it: without dot, now and then padded with blanks."""
    code = undot(code)
    return code.ljust(_CODE_WIDTH) if rng.random() < _P_PADDED else code


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value)
