"""Cut a stream of CSV bytes into blocks of whole rows, and find the rows that are broken.

A quote may stand in three places only: where a field begins, where it ends, and doubled inside a quoted
field. :func:`whole_rows` checks that for a whole block at the speed of memory; only a block that fails is
walked row by row (:func:`walk_rows`), so exact row numbers cost nothing as long as a file is sound. Where few rows
are wanted, :func:`rows_holding` picks them before anything is parsed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_recipes._raw.csv_patterns import FIELD, any_row_pattern, row_pattern, skip_blank_lines, unfinished_pattern

Places = NDArray[np.intp]
"""Positions in a block of bytes, ascending."""

_MAY_STAND_BEFORE = np.isin(np.arange(256), list(b',\n"'))
_MAY_STAND_AFTER = np.isin(np.arange(256), list(b',\r\n"'))


class BrokenRow(NamedTuple):
    """A row that cannot be used.

    Attributes:
        place: its place among the rows of its block, 0 for the first.
        problem: what is wrong with it; never its content.
    """

    place: int
    problem: str


class Walk(NamedTuple):
    """What :func:`walk_rows` found in a block.

    Attributes:
        sound: the sound rows, joined.
        n_bytes: how much of the block was used up; what follows is an unfinished row.
        broken: the rows left out.
    """

    sound: bytes
    n_bytes: int
    broken: list[BrokenRow]


class Held(NamedTuple):
    """What :func:`rows_holding` found.

    Attributes:
        rows: those that hold the text, joined.
        n_rows: how many rows there are in all, blank lines not counted.
    """

    rows: bytes
    n_rows: int


class _Row(NamedTuple):
    start: int
    end: int
    problem: str | None


def quote_places(block: bytes) -> Places:
    """Where the double quotes of a block stand."""
    return np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord('"'))


def whole_rows(block: bytes, quotes: Places, row_start: re.Pattern[bytes], *, at_end: bool) -> int | None:
    r"""How many bytes of a block are whole rows.

    A row is taken for whole only when another one begins behind it: a quote too many may end it too early.

    Args:
        block: begins where a row begins; may end anywhere.
        quotes: of the block, see :func:`quote_places`.
        row_start: see :func:`data_recipes._raw.csv_patterns.row_start_pattern`.
        at_end: whether the file ends with this block.

    Returns:
        The end of the last whole row, 0 if there is none; None if a quote stands where it must not, or the file
        ends within a row.

    Example:
        >>> block = b'1,"a ""b"",\nc"\n2,"not yet\n'
        >>> whole_rows(block, quote_places(block), re.compile(rb"\d,"), at_end=False)
        15
        >>> block = b'1,"a "b" c"\n'
        >>> whole_rows(block, quote_places(block), re.compile(rb"\d,"), at_end=False) is None
        True
    """
    values = np.frombuffer(block, dtype=np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    before = values[opening[opening > 0] - 1]
    after = values[closing[closing + 1 < len(values)] + 1]
    if not (_MAY_STAND_BEFORE[before].all() and _MAY_STAND_AFTER[after].all()):
        return None
    end = _last_row_end(block, quotes, len(block))
    if at_end:
        return end if end == len(block) else None
    if row_start.match(block, end):
        return end
    while end and block[end - 1] in b"\r\n":
        end -= 1
    return _last_row_end(block, quotes, end)


def rows_holding(rows: bytes, quotes: Places, text: bytes, n_fields: int) -> Held | None:
    r"""Pick the rows that hold a text anywhere, at a fraction of the cost of parsing all.

    Only the bytes outside of quotes are looked at, a few in a hundred where fields are long texts.

    Args:
        rows: whole rows, as :func:`whole_rows` found them.
        quotes: theirs, an even number.
        text: to be looked for.
        n_fields: number of columns in the header.

    Returns:
        The rows; None if any row, with the text or without, has a wrong number of fields.

    Example:
        >>> rows = b'1,"a,\n"\n2,"b"\n3,"c"\n'
        >>> rows_holding(rows, quote_places(rows), b"b", n_fields=2)
        Held(rows=b'2,"b"\n', n_rows=3)
    """
    values = np.frombuffer(rows, dtype=np.uint8)
    places = _outside(quotes, len(rows))
    outside = values[places]
    is_end = outside == ord("\n")
    ends = places[is_end] + 1
    starts = np.concatenate([[0], ends[:-1]])
    n_commas = np.diff(np.cumsum(outside == ord(","))[is_end], prepend=0)
    n_bytes = ends - starts - (values[ends - 2] == ord("\r"))  # of "\n" alone, byte -1 is looked at: no matter
    is_row = n_bytes > 1
    if (n_commas[is_row] != n_fields - 1).any():
        return None
    held = []
    position = rows.find(text)
    while position >= 0:
        row = int(np.searchsorted(ends, position, side="right"))
        held.append(rows[starts[row] : ends[row]])
        position = rows.find(text, int(ends[row]))
    return Held(b"".join(held), int(is_row.sum()))


def walk_rows(block: bytes, n_fields: int, row_start: re.Pattern[bytes], *, at_end: bool) -> Walk:
    r"""Look at the rows of a block one by one and leave out those that are broken.

    After a broken row, rows begin again at the first line that is a whole row and begins as rows do. A broken
    line that does not begin so is no row of its own, if the row before ends with a quote: that broke off there.

    Args:
        block: begins where a row begins.
        n_fields: number of columns in the header.
        row_start: see :func:`data_recipes._raw.csv_patterns.row_start_pattern`.
        at_end: whether the file ends with this block, so that an unfinished row is a broken one.

    Example:
        >>> walk_rows(b'1,"a"b"\n2,"c"\n3,"d', 2, re.compile(rb"\d,"), at_end=False)
        Walk(sound=b'2,"c"\n', n_bytes=14, broken=[BrokenRow(place=0, problem='a broken quote')])
    """
    rows: list[_Row] = []
    position = 0
    while (start := skip_blank_lines(block, position)) < len(block):
        row = _row_at(block, start, n_fields, row_start, at_end=at_end)
        if row is None:
            break
        if row.problem and rows and _may_be_cut(block, rows[-1]) and not row_start.match(block, start):
            row = row._replace(start=rows.pop().start)
        rows.append(row)
        position = row.end
    if rows and not at_end and rows[-1].problem is None and not row_start.match(block, position):
        position = rows.pop().start  # it may have ended too early, see whole_rows
    return Walk(
        sound=b"".join(block[row.start : row.end] for row in rows if row.problem is None),
        n_bytes=position,
        broken=[BrokenRow(index, row.problem) for index, row in enumerate(rows) if row.problem],
    )


def is_utf8(rows: bytes) -> bool:
    """Whether bytes are UTF-8 text."""
    if rows.isascii():  # nearly always, and far quicker
        return True
    try:
        rows.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _outside(quotes: Places, n_bytes: int) -> Places:
    """The places of all bytes that are not between two quotes, in order."""
    starts = np.concatenate([[0], quotes[1::2] + 1])
    lengths = np.concatenate([quotes[0::2], [n_bytes]]) - starts
    starts, lengths = starts[lengths > 0], lengths[lengths > 0]
    first = np.cumsum(lengths) - lengths  # of each stretch, among the places returned
    places: Places = np.arange(lengths.sum()) + np.repeat(starts - first, lengths)
    return places


def _last_row_end(block: bytes, quotes: Places, limit: int) -> int:
    """Behind the last line end before ``limit`` that is not inside quotes; 0 if there is none."""
    n_before = int(np.searchsorted(quotes, limit))
    if n_before % 2:
        n_before -= 1
        limit = int(quotes[n_before])
    while (newline := block.rfind(b"\n", 0, max(limit, 0))) >= 0:
        if not n_before or newline > quotes[n_before - 1]:
            break
        n_before -= 2  # it is inside the field between these two quotes
        limit = int(quotes[n_before])
    return newline + 1


def _row_at(block: bytes, start: int, n_fields: int, row_start: re.Pattern[bytes], *, at_end: bool) -> _Row | None:
    """The row that begins at ``start``, sound or broken; None if the block may hold only its beginning."""
    pattern = row_pattern(n_fields)
    if match := pattern.match(block, start):
        problem = None if is_utf8(match.group()) else "bytes that are not UTF-8 (convert the file)"
        return _Row(start, match.end(), problem)
    is_unfinished = unfinished_pattern(n_fields).match(block, start) is not None
    if is_unfinished and not at_end:
        return None
    end = _next_row(block, start, pattern, row_start)
    if end is None and not at_end:
        return None
    return _Row(start, len(block) if end is None else end, _problem(block, start, n_fields, is_unfinished))


def _next_row(block: bytes, start: int, pattern: re.Pattern[bytes], row_start: re.Pattern[bytes]) -> int | None:
    """Where rows begin again after a broken one, or None."""
    position = block.find(b"\n", start) + 1
    while position:
        if row_start.match(block, position) and pattern.match(block, position):
            return position
        position = block.find(b"\n", position) + 1
    return None


def _problem(block: bytes, start: int, n_fields: int, is_unfinished: bool) -> str:
    if match := any_row_pattern().match(block, start):
        n_found = len(re.findall(FIELD + rb"(?:,|\r?\n)", match.group()))
        return f"{n_found} fields where the header has {n_fields}"
    return "a quote that is not closed before the end of the file" if is_unfinished else "a broken quote"


def _may_be_cut(block: bytes, row: _Row) -> bool:
    """Whether a row may have ended too early, at a quote too many before a line end of its text."""
    return row.problem is not None or block[row.start : row.end].rstrip(b"\r\n").endswith(b'"')
