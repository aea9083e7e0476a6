"""From a score for each token to the spans of text that a label rests on; needs no text, offsets are enough."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pipeline.notes.text import KNOWN_SECTIONS, PREAMBLE

OTHER_SECTION = "other"
NO_WORD = -1
"""Of a token or stretch that has neither letter nor digit, or is too long."""
_COVERAGE = 0.6  # words are taken, best first, until they carry this share of what speaks for a label
_MAX_WORDS = 12
_MIN_OF_BEST = 0.2  # a word is taken only if it carries this share of what the best one carries
_MAX_SPANS = 5
_MAX_GAP_WORDS = 1  # words between two taken ones that the span takes along
MAX_GAP_CHARS = 25
"""Characters between two words that one span may hold."""
MAX_WORD_CHARS = 40
"""More without a blank is no word: a script without blanks, or garbage."""


class Span(NamedTuple):
    """A stretch of a document that speaks for a label.

    Attributes:
        start, end: offsets, in characters.
        score: in (0, 1]; of a title the share of it that stands there, of another span its share of all that speaks
            for the label.
        section: a name of :data:`pipeline.notes.text.KNOWN_SECTIONS`, "preamble", or "other": a header as it stood in
            the text could name a patient.
        source: who says so, "encoder", "title" or "tfidf".
        sentence: start and end of the sentence around it, in characters; None where it was not looked for.
    """

    start: int
    end: int
    score: float
    section: str
    source: str = "encoder"
    sentence: tuple[int, int] | None = None


LabelSpans: TypeAlias = list[list[Span]]
"""For each asked label of a document its spans: those of its title, of the encoder, of TF-IDF; of each of the latter
two the highest score first."""


def section_name(sections: Sequence[tuple[int, str]], start: int) -> str:
    """Name, for :class:`Span`, of the section that a place is in.

    Args:
        sections: start and name of each section, in order.
        start: of the place.
    """
    place = bisect.bisect_right(sections, start, key=operator.itemgetter(0)) - 1
    name = sections[place][1] if place >= 0 else PREAMBLE
    return name if name in KNOWN_SECTIONS or name == PREAMBLE else OTHER_SECTION


def word_of_token(token_starts: np.ndarray, token_ends: np.ndarray, is_word: np.ndarray) -> np.ndarray:
    """Which word each token belongs to: tokens of letters or digits without a gap between them are one word.

    Args:
        token_starts: where tokens begin, in characters, (n_tokens,).
        token_ends: where they end.
        is_word: whether a token has a letter or a digit, (n_tokens,) bool.

    Returns:
        (n_tokens,) int64, ascending from 0; -1 for a token of no word.

    Example:
        >>> starts, ends = np.array([0, 6, 9, 11]), np.array([6, 9, 10, 15])  # pneumo ##nia . none
        >>> word_of_token(starts, ends, np.array([True, True, False, True])).tolist()
        [0, 0, -1, 1]
    """
    begins = is_word.copy()
    begins[1:] &= ~(is_word[:-1] & (token_starts[1:] <= token_ends[:-1]))
    words = np.cumsum(begins) - 1
    first = token_starts[begins]
    last = np.maximum.reduceat(token_ends, np.flatnonzero(begins)) if begins.any() else first
    is_long = (last - first) > MAX_WORD_CHARS
    if is_long.any():  # every token of it for itself
        begins |= is_word & is_long[np.maximum(words, 0)]
        words = np.cumsum(begins) - 1
    return np.where(is_word, words, NO_WORD)


def grow_spans(
    token_scores: np.ndarray,
    words: np.ndarray,
    token_starts: np.ndarray,
    token_ends: np.ndarray,
    sections: Sequence[Mapping[str, Any]],
) -> list[Span]:
    """The spans that carry most of what speaks for a label, highest score first.

    Scores are summed over a word; what speaks against the label is left out. Words are taken, best first, until they
    carry 60 % of the rest (12 words at most, none below a fifth of the best); taken words with at most one other
    between them and in one section become a span; five spans at most.

    Args:
        token_scores: how much a token speaks for the label, (n_tokens,).
        words: of :func:`word_of_token`.
        token_starts: where tokens begin, in characters, (n_tokens,).
        token_ends: where they end.
        sections: name, start and end of each section, covering the text in order.

    Returns:
        Spans without overlap; none where nothing speaks for the label.
    """
    is_word = words != NO_WORD
    n_words = int(words.max()) + 1 if len(words) else 0
    score = np.maximum(np.bincount(words[is_word], token_scores[is_word], minlength=n_words), 0.0)
    if not score.sum() > 0:
        return []
    share = score / score.sum()
    starts = np.full(n_words, np.iinfo(np.int64).max)
    ends = np.zeros(n_words, dtype=np.int64)
    np.minimum.at(starts, words[is_word], token_starts[is_word])
    np.maximum.at(ends, words[is_word], token_ends[is_word])
    names = [(int(one["start"]), str(one["name"])) for one in sections]
    section_of_word = np.searchsorted([start for start, _ in names], starts, side="right") - 1
    order = np.argsort(-share, kind="stable")[:_MAX_WORDS]
    order = order[share[order] >= _MIN_OF_BEST * share[order[0]]]
    n_taken = int(np.searchsorted(np.cumsum(share[order]), _COVERAGE)) + 1
    spans = []
    for group in _neighbours(sorted(order[:n_taken].tolist()), starts, ends, section_of_word):
        covered = slice(group[0], group[-1] + 1)
        start = int(starts[covered][0])
        name = section_name(names, start)
        spans.append(Span(start, int(ends[covered].max()), float(share[covered].sum()), name))
    return sorted(spans, key=lambda span: (-span.score, span.start))[:_MAX_SPANS]


def _neighbours(
    taken: Sequence[int], starts: np.ndarray, ends: np.ndarray, section_of_word: np.ndarray
) -> list[list[int]]:
    groups: list[list[int]] = []
    for word in taken:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and word - last <= _MAX_GAP_WORDS + 1
            and starts[word] - ends[last] <= MAX_GAP_CHARS
            and section_of_word[word] == section_of_word[last]
        ):
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def random_runs(inside: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Runs of the same lengths elsewhere in the document, without overlap among them, each placing equally likely.

    Args:
        inside: (n_tokens,) bool.
        generator: of random numbers.

    Returns:
        (n_tokens,) bool with as many True, in runs of the same lengths (in random order; runs may touch).
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
    lengths = generator.permutation(edges[1::2] - edges[::2])
    free = len(inside) - int(lengths.sum())
    gaps = np.sort(generator.choice(free + len(lengths), size=len(lengths), replace=False)) - np.arange(len(lengths))
    starts = gaps + np.cumsum(lengths) - lengths
    result = np.zeros(len(inside), dtype=bool)
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        result[start : start + length] = True
    return result
