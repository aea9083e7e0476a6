"""What rows of CSV look like, and how those of a file begin, as patterns of bytes."""

from __future__ import annotations

import functools
import re

FIELD = rb'(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)'
_ID = rb'(?:"(?=[^",\s]*[0-9])[^",\s]+"|(?=[^",\s]*[0-9])[^",\s]+)'  # a digit and no blanks: text rarely has it
_SHORT = (
    rb'(?:"[^"\s]*+"|[^",\s]*+),'  # a field without blanks, and its comma: not a text, which could be the broken one
)
_N_SAMPLED = 1000
_ANYTHING = re.compile(rb"")
_BLANK_LINES = re.compile(rb"[\r\n]*")


def row_start_pattern(rows: bytes, n_fields: int) -> re.Pattern[bytes]:
    r"""How rows begin, to be told from lines of text: with fields without blanks up to an id, if all rows looked at do.

    One row, or one column, says little: where the ward of the first row is W1, that of the next may be ICU.

    Args:
        rows: the beginning of a file's rows.
        n_fields: number of columns in the header.

    Example:
        >>> start = row_start_pattern(b"W1,d1,fever\nICU,d2,cough\n", 3)
        >>> start.match(b'ER,d3,"seen') is not None, start.match(b"seen in W1, later") is not None
        (True, False)
    """
    sample = _longest_run(rows, n_fields)
    for n_before in range(n_fields):
        pattern = _start_pattern(n_before)
        if sample and all(pattern.match(row) for row in sample):
            return pattern
    # Of a file whose first row is not whole, or broken, there is only its beginning.
    return _start_pattern(0) if not sample and _start_pattern(0).match(rows) else _ANYTHING


def _longest_run(rows: bytes, n_fields: int) -> list[bytes]:
    """The most sound rows that follow each other near the beginning: lines of text rarely pass for many."""
    pattern, runs, position = row_pattern(n_fields), [[]], 0  # type: ignore[var-annotated]
    for _ in range(_N_SAMPLED):
        position = skip_blank_lines(rows, position)
        if match := pattern.match(rows, position):
            runs[-1].append(match.group())
            position = match.end()
        else:
            runs.append([])
            position = rows.find(b"\n", position) + 1
            if not position:
                break
    return max(runs, key=len)


def skip_blank_lines(block: bytes, position: int) -> int:
    """Where the next line that is not blank begins."""
    match = _BLANK_LINES.match(block, position)
    return match.end() if match else position


@functools.cache
def _start_pattern(n_before: int) -> re.Pattern[bytes]:
    return re.compile(_SHORT * n_before + _ID + rb"(?:,|\r?\n)")


@functools.cache
def row_pattern(n_fields: int) -> re.Pattern[bytes]:
    """A sound row."""
    return re.compile(rb"%b(?:,%b){%d}\r?\n" % (FIELD, FIELD, n_fields - 1))


@functools.cache
def any_row_pattern() -> re.Pattern[bytes]:
    """A row of any number of fields."""
    return re.compile(rb"%b(?:,%b)*+\r?\n" % (FIELD, FIELD))


@functools.cache
def unfinished_pattern(n_fields: int) -> re.Pattern[bytes]:
    """The beginning of a sound row, up to the end of the block."""
    return re.compile(rb'(?:%b,){0,%d}+(?:"(?:[^"]++|"")*+"?|[^",\r\n]*+)\r?\Z' % (FIELD, n_fields - 1))
