"""Stream columns of a raw CSV file, plain or gzipped, as record batches with every value as text.

Codes are text from the first byte on, so no value ever goes through a number. Memory does not grow with the
file. What the files of real distributions need is allowed for: quoted text of many lines with doubled quotes,
upper- or lower-case headers, a byte order mark, CR/LF line ends, columns in any order; a file in the folder
itself or in the distribution's own sub-folders.

What is broken is said with file and row: rows are counted from 1, without the header.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import itertools
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
from isal import igzip
from isal.igzip_lib import IsalError
from tqdm import tqdm

from data_recipes import OTHER_DATA
from data_recipes._raw.csv_patterns import row_start_pattern
from data_recipes._raw.csv_rows import (
    BrokenRow,
    is_utf8,
    quote_places,
    rows_holding,
    walk_rows,
    whole_rows,
)
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.row_files import describe_columns, find_column

OnBadRow = Literal["error", "skip"]
T = TypeVar("T")

_CHUNK_BYTES = 8 << 20  # large, so that threads seldom wait for each other
_PEEK_BYTES = 1 << 10
_MAX_ROW_BYTES = 64 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_MEND = "mend the file or download it again (rows are counted from 1, without the header)."


def read_raw_csv(
    path: Path,
    columns: Sequence[str],
    *,
    report: IngestReport,
    on_bad_row: OnBadRow = "error",
    holding: str | None = None,
    count_as: str | None = None,
    if_missing: str = OTHER_DATA,
) -> Iterator[pa.RecordBatch]:
    """Stream some columns of a raw CSV file.

    Args:
        path: a .csv.gz or .csv file; whether it is gzipped is seen from its first bytes.
        columns: names; the header is matched without regard to case.
        report: rows that are skipped are counted here as dropped, reason ``broken_row``, with file and row.
        on_bad_row: what to do with a row that has a broken quote, a wrong number of fields or bytes that are
            not UTF-8.
        holding: only rows that hold this text in some field are wanted; the others are checked and counted, and
            most are not yielded, which takes a fraction of the time.
        count_as: sound rows, wanted or not, are counted in the report under this name.
        if_missing: what to do where a column is missing, for the message.

    Yields:
        Batches with exactly these columns, in this order, in the order of the file; all of type string and
        never null: an empty field is the empty string.

    Raises:
        UserError: if the file cannot be read, is empty, damaged or cut off, lacks a column, or, unless those
            are skipped, has a broken row.
    """
    rows = _read_batches(path, _Wanted(columns, on_bad_row, holding, count_as, if_missing), report)
    with contextlib.closing(rows), contextlib.closing(_ahead(rows)) as batches:
        yield from batches


def _read_batches(path: Path, wanted: _Wanted, report: IngestReport) -> Generator[pa.RecordBatch, None, None]:
    n_rows = 0
    with contextlib.closing(_read_chunks(path)) as packed, contextlib.closing(_ahead(packed)) as chunks:
        layout, rest = _read_header(path, chunks, wanted)
        for chunk in itertools.chain(chunks, [b""]):
            block, at_end = rest + chunk, not chunk
            if at_end and block and not block.endswith(b"\n"):
                block += b"\n"
            taken = _take_rows(block, layout, wanted.holding, at_end=at_end)
            _count_broken(path, n_rows, taken.broken, report, wanted.on_bad_row)
            n_rows += taken.n_sound + len(taken.broken)
            if wanted.count_as is not None:
                report.count(wanted.count_as, taken.n_sound)
            rest = block[taken.n_bytes :]
            if len(rest) > _MAX_ROW_BYTES:
                raise UserError(f"{path}, row {n_rows + 1}: a quote that is not closed within 64 MB; {_MEND}")
            if taken.batch.num_rows:
                yield taken.batch


class _Wanted(NamedTuple):
    """What is to be read of a file, see :func:`read_raw_csv`."""

    columns: Sequence[str]
    on_bad_row: OnBadRow
    holding: str | None
    count_as: str | None
    if_missing: str


class _Layout(NamedTuple):
    """Where the wanted columns stand, and how rows begin."""

    n_fields: int
    positions: dict[str, int]
    row_start: re.Pattern[bytes]


class _Taken(NamedTuple):
    """The rows that a block holds whole: those wanted, how many bytes and sound rows there are, the broken ones."""

    batch: pa.RecordBatch
    n_bytes: int
    n_sound: int
    broken: list[BrokenRow]


def _read_chunks(path: Path) -> Generator[bytes, None, None]:
    """The unpacked bytes of a file, with a progress bar over the packed ones; at least one chunk."""
    try:
        n_bytes = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    with file, tqdm(total=n_bytes, desc=path.name, unit="B", unit_scale=True, disable=None) as bar:
        if not n_bytes:
            raise UserError(f"{path}: the file is empty; expected a CSV with a header; download it again.")
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        if path.suffix == ".gz" and not is_gzip:
            raise UserError(f"{path}: not a gzip file, whatever its name says; download it again.")
        n_unpacked = 0
        try:
            with igzip.open(file) if is_gzip else file as stream:  # type: ignore[no-untyped-call]
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
                    n_unpacked += len(chunk)
                    bar.update(file.tell() - bar.n)
        except (OSError, EOFError, IsalError) as error:  # type: ignore[misc]  # its stub calls the class an instance
            raise UserError(
                f"{path}: damaged or cut off after the first {n_unpacked:,} unpacked bytes ({error}); "
                "check it with 'gzip -t' and download it again."
            ) from None


def _ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, each one made in a thread while the one before is in use."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def _read_header(path: Path, chunks: Iterator[bytes], wanted: _Wanted) -> tuple[_Layout, bytes]:
    """The layout that the header names, and what follows the header in the chunks taken for it."""
    block = b""
    for chunk in chunks:
        block += chunk
        if block.count(b"\n") > 1:  # the first line of the first row is there, too
            break
    line, _, rest = block.partition(b"\n")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: the header is not UTF-8 text; convert the file to UTF-8 (spreadsheets call it CSV UTF-8). "
            f"Expected {', '.join(wanted.columns)}."
        ) from None
    try:
        names = [name.strip() for name in next(csv.reader([text]), [])]
    except csv.Error:  # its message could quote what it read
        raise UserError(
            f"{path}: no header that ends with a line; lines must end with LF or CR LF, not with CR alone. Save it as "
            "CSV UTF-8 again."
        ) from None
    if text.startswith("sep="):
        raise UserError(f"{path}: its first line, 'sep=', is for Excel alone; delete it, so that the header is first.")
    found = describe_columns(names, wanted.columns)
    advice = f"{found}; {wanted.if_missing}"
    positions = {column: _position(path, column, names, advice) for column in wanted.columns}
    if len(set(positions.values())) < len(positions):
        raise UserError(f"{path}: {', '.join(wanted.columns)} are not columns of their own; {found}.")
    return _Layout(len(names), positions, row_start_pattern(rest, len(names))), rest


def _position(path: Path, column: str, names: Sequence[str], advice: str) -> int:
    place = find_column(names, column, str(path))
    if place is None:
        raise UserError(f"{path}: column {column!r} is missing; {advice}.")
    return place


def _take_rows(block: bytes, layout: _Layout, holding: str | None, *, at_end: bool) -> _Taken:
    quotes = quote_places(block)
    n_bytes = whole_rows(block, quotes, layout.row_start, at_end=at_end)
    # Copies of blocks cost as much time as their parsing, so none is made of a sound one.
    if n_bytes is not None and (block.isascii() or is_utf8(block[:n_bytes])):
        if holding is None:
            batch = _parse(memoryview(block)[:n_bytes], layout)
            if batch is not None:
                return _Taken(batch, n_bytes, batch.num_rows, [])
        else:
            inside = quotes[: np.searchsorted(quotes, n_bytes)]
            held = rows_holding(block[:n_bytes], inside, holding.encode(), layout.n_fields)
            if held is not None and (batch := _parse(memoryview(held.rows), layout)) is not None:
                return _Taken(batch, n_bytes, held.n_rows, [])
    walk = walk_rows(block, layout.n_fields, layout.row_start, at_end=at_end)
    batch = _parse(memoryview(walk.sound), layout)
    if batch is None:
        raise RuntimeError("rows that were found sound have different numbers of fields")
    return _Taken(batch, walk.n_bytes, batch.num_rows, walk.broken)


def _parse(rows: memoryview, layout: _Layout) -> pa.RecordBatch | None:
    """Whole rows as a batch; None if any has a wrong number of fields."""
    schema = pa.schema([(column, pa.string()) for column in layout.positions])
    if not bytes(rows[:_PEEK_BYTES]).strip() and not bytes(rows).strip():
        return pa.RecordBatch.from_pylist([], schema=schema)
    is_uneven = False

    def note(_: pa.csv.InvalidRow) -> str:
        nonlocal is_uneven
        is_uneven = True
        return "skip"

    wanted = [str(position) for position in layout.positions.values()]
    table = pa.csv.read_csv(
        pa.py_buffer(rows),
        read_options=pa.csv.ReadOptions(
            column_names=[str(position) for position in range(layout.n_fields)],
            block_size=len(rows) + 1,
            use_threads=False,
        ),
        # One block holds all rows, so there is no boundary that a line end within a quote could be taken for;
        # "newlines_in_values" would look for one, at the cost of parsing everything twice.
        parse_options=pa.csv.ParseOptions(newlines_in_values=False, invalid_row_handler=note),
        convert_options=pa.csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            null_values=[],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    if is_uneven:
        return None
    return table.rename_columns(list(layout.positions)).cast(schema).combine_chunks().to_batches()[0]


def _count_broken(
    path: Path, n_rows_before: int, broken: Sequence[BrokenRow], report: IngestReport, on_bad_row: OnBadRow
) -> None:
    for row in broken:
        number = n_rows_before + row.place + 1
        if on_bad_row == "error":
            raise UserError(
                f"{path}, row {number}: {row.problem}; {_MEND} "
                "To leave such rows out with a count, set data.options.on_bad_row=skip."
            )
        report.drop("broken_row", f"{path.name} row {number}")
