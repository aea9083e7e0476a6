"""Where a span stands in its document: the sentence around it."""

from __future__ import annotations

import bisect
from collections.abc import Callable

from pipeline.notes.sentences import Offsets, find_sentences

_ROOM = 2000  # characters behind the last span that are read for the end of its sentence


def sentence_finder(text: str, last_end: int) -> Callable[[int, int], Offsets]:
    """Read the sentences of a text once, to look many spans up.

    Args:
        text: the document.
        last_end: where the last span ends, in characters; the text is read only so far and to the end of a sentence.

    Returns:
        From start and end of a span to start and end of the sentence around it (of the sentences, where it crosses
        their ends; of the span itself in a text without sentences).

    Example:
        >>> find = sentence_finder("No fever. Cough since Monday.", 29)
        >>> find(10, 15)
        (10, 29)
    """
    sentences = find_sentences(text[: last_end + _ROOM])
    starts = [start for start, _ in sentences]

    def find(start: int, end: int) -> Offsets:
        if not sentences:
            return start, end
        first = max(bisect.bisect_right(starts, start) - 1, 0)
        last = max(bisect.bisect_left(starts, end) - 1, first)
        return min(sentences[first][0], start), max(sentences[last][1], end)

    return find
