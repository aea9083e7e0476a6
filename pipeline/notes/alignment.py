"""The way back from a cleaned text to the text as given, so that evidence points into what a coder reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.notes.text import Preset, clean, find_placeholders, limit_words, replace_placeholders

_WORD = re.compile(r"\w+")
_ASCII_WORD = re.compile(r"[0-9a-z]+")
_GROWS = "\u0130"  # the one letter that takes two characters in lower case


class Alignment(NamedTuple):
    """Pieces of a cleaned text and where each of them came from.

    Attributes:
        text: the text as :func:`pipeline.notes.text.clean` gives it.
        starts, ends: offsets in ``text`` of the pieces, ascending, (n_pieces,) each.
        source_starts, source_ends: of the same pieces in the text as given, or in the text of ``before``.
        before: the way back from there, where cleaning took two steps.
    """

    text: str
    starts: np.ndarray
    ends: np.ndarray
    source_starts: np.ndarray
    source_ends: np.ndarray
    before: Alignment | None = None

    def source(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the text as given of a stretch of ``text`` (at least one character).

        Where a piece has another length in the source (a letter that grew in lower case), the whole piece is meant.
        """
        if not len(self.starts):
            return 0, 0
        first = max(int(np.searchsorted(self.starts, start, side="right")) - 1, 0)
        last = max(int(np.searchsorted(self.starts, end - 1, side="right")) - 1, first)
        source_start, source_end = int(self.source_starts[first]), int(self.source_ends[last])
        if self._is_even(first):
            source_start += min(start, int(self.ends[first])) - int(self.starts[first])
        if self._is_even(last):
            source_end -= max(int(self.ends[last]) - end, 0)
        source_end = max(source_start, source_end)
        return self.before.source(source_start, source_end) if self.before else (source_start, source_end)

    def _is_even(self, piece: int) -> bool:
        width = self.ends[piece] - self.starts[piece]
        return bool(width == self.source_ends[piece] - self.source_starts[piece])


def align(text: str, preset: Preset, *, placeholder: str | None = None, max_words: int | None = None) -> Alignment:
    r"""Prepare a text and keep the way back.

    Args:
        text: as given.
        preset: a cleaning preset; the pieces of 'raw' lie between NUL characters, those of the others are words.
        placeholder: stands for marks of de-identification, or None.
        max_words: words to keep, or None for all.

    Returns:
        The alignment; its text is what :func:`pipeline.notes.text.prepare` gives. A word that stands for a mark of
        de-identification leads back to the whole mark.

    Example:
        >>> alignment = align("BP 120/80,\n\n Temp. 37C", "caml")
        >>> alignment.text, alignment.source(3, 7)
        ('bp temp 37c', (13, 17))
    """
    before = None
    if placeholder is not None:
        bare = align(text, "raw")
        before = _aligned(
            replace_placeholders(bare.text, placeholder), _around_placeholders(bare.text, placeholder or " ")
        )._replace(before=bare)
        text = before.text
    pieces = _between_nuls(text) if preset == "raw" else _words(text, preset)
    return _aligned(limit_words(clean(text, preset), max_words), pieces)._replace(before=before)


def _aligned(text: str, pieces: Iterator[tuple[int, int, int, int]]) -> Alignment:
    return Alignment(text, *np.array(list(pieces), dtype=np.int64).reshape(-1, 4).T)


def _around_placeholders(text: str, replacement: str) -> Iterator[tuple[int, int, int, int]]:
    """The marks, each as its replacement, and the stretches between them as they are."""
    place = source = 0
    for match in find_placeholders(text):
        width = match.start() - source
        if width:
            yield place, place + width, source, match.start()
        yield place + width, place + width + len(replacement), match.start(), match.end()
        place, source = place + width + len(replacement), match.end()
    if source < len(text):
        yield place, place + len(text) - source, source, len(text)


def _between_nuls(text: str) -> Iterator[tuple[int, int, int, int]]:
    place = 0
    for match in re.finditer("[^\0]+", text):
        width = match.end() - match.start()
        yield place, place + width, match.start(), match.end()
        place += width


def _words(text: str, preset: Preset) -> Iterator[tuple[int, int, int, int]]:
    """Words as the preset keeps them, one blank between."""
    kept = text.replace("\0", "")
    nuls = np.array([match.start() for match in re.finditer("\0", text)], dtype=np.int64)
    if preset == "edin":
        lowered = kept.lower()
        grown = np.array([match.start() for match in re.finditer(_GROWS, kept)], dtype=np.int64)
        found = [
            (match[0], _without_growth(match.start(), grown), _without_growth(match.end() - 1, grown) + 1)
            for match in _ASCII_WORD.finditer(lowered)
            if not match[0].isdigit()
        ]
    else:
        found = [
            (match[0].lower(), match.start(), match.end()) for match in _WORD.finditer(kept) if not match[0].isnumeric()
        ]
    place = 0
    for word, start, end in found:
        yield place, place + len(word), _with_nuls(start, nuls), _with_nuls(end - 1, nuls) + 1
        place += len(word) + 1


def _with_nuls(offset: int, nuls: Sequence[int] | np.ndarray) -> int:
    """Offset before NUL characters were taken out; ``nuls`` are their offsets in that text."""
    return offset + int(np.searchsorted(nuls - np.arange(len(nuls)), offset, side="right"))


def _without_growth(offset: int, grown: np.ndarray) -> int:
    """Offset before letters grew in lower case; ``grown`` are their offsets in that text."""
    second_halves = grown + np.arange(len(grown)) + 1
    return offset - int(np.searchsorted(second_halves, offset, side="right"))
