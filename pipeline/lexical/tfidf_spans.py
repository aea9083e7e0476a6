"""Which words of a text TF-IDF holds for a code: its score, cut into those of the words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.lexical.tfidf import LexicalModel, Vectorizer, hasher
from pipeline.notes.sentences import Offsets
from pipeline.notes.spans import MAX_WORD_CHARS, NO_WORD, Span, grow_spans
from pipeline.notes.text import find_sections

_WORD = re.compile(r"\S+")


def tfidf_spans(
    model: LexicalModel, texts: Sequence[str], label_ids: Sequence[Sequence[int]]
) -> Iterator[list[list[Span]]]:
    """For each text and each label asked of it, the words that carry most of what TF-IDF has for the label.

    Args:
        model: TF-IDF and linear functions.
        texts: as the model reads them.
        label_ids: labels asked of each text.

    Returns:
        Spans of source "tfidf", see :func:`pipeline.notes.spans.grow_spans`; none where nothing speaks for the label.
    """
    for text, labels in zip(texts, label_ids, strict=True):
        if not len(labels):
            yield []
            continue
        places, scores = word_scores(model, text, labels)
        cores = [_core(text, place) for place in places]
        starts, ends = (np.array([core[side] for core in cores], dtype=np.int64) for side in (0, 1))
        is_word = (ends - starts > 1) & (ends - starts <= MAX_WORD_CHARS)  # letters alone, such as "a", say nothing
        words = np.where(is_word, np.cumsum(is_word) - 1, NO_WORD)
        sections = [{"start": one.start, "name": one.name} for one in find_sections(text)]
        found = (grow_spans(of_label, words, starts, ends, sections) for of_label in scores)
        yield [[span._replace(source="tfidf") for span in spans] for spans in found]


def word_scores(model: LexicalModel, text: str, label_ids: Sequence[int]) -> tuple[list[Offsets], NDArray[np.float64]]:
    """Cut scores of a text into those of its words.

    Every n-gram adds its TF-IDF value times its weight; its occurrences share that alike, and a pair of words halves it
    between the two. So the scores of all words and the intercept add up to what the model gives.

    Args:
        model: TF-IDF and linear functions.
        text: as the model reads it.
        label_ids: which labels.

    Returns:
        Offsets of the stretches between blanks, and scores, (len(label_ids), n_words).
    """
    places = [match.span() for match in _WORD.finditer(text)]
    rows = _rows_by_word(model.vectorizer, [text[start:end] for start, end in places])
    return places, (rows @ model.linear.weights[:, list(label_ids)]).toarray().T.astype(np.float64)


def _rows_by_word(vectorizer: Vectorizer, words: Sequence[str]) -> sparse.csr_array:
    """(n_words, n_features); the sum of the rows is the row of the text."""
    if not words:
        return sparse.csr_array(np.zeros((0, vectorizer.n_features)))
    blocks = []
    for name, columns in vectorizer.columns.items():
        counts = (_pairs_and_words(words) if name == "words" else hasher(name).transform(words))[:, columns]
        total = np.asarray(counts.sum(axis=0)).ravel()
        is_there = total > 0
        values = np.where(is_there, (1 + np.log(np.where(is_there, total, 1))) * vectorizer.idf[name], 0)
        length = np.sqrt((values**2).sum()) or 1.0
        each = np.divide(values, total * length, out=np.zeros_like(values), where=is_there)
        blocks.append(sparse.csr_array(counts.multiply(each)))
    return sparse.csr_array(sparse.hstack(blocks, format="csr"))


def _pairs_and_words(words: Sequence[str]) -> sparse.csr_array:
    """Hashed counts of the tokens of each word, and half a count of each pair for both of its words."""
    split = hasher("words").build_tokenizer()
    tokens = [(place, token) for place, word in enumerate(words) for token in split(word.lower())]
    counts = sparse.csr_array(hasher("words", (1, 1)).transform(words))
    pairs = list(itertools.pairwise(tokens))
    if not pairs:
        return counts
    hashed = hasher("words", (2, 2)).transform([f"{one} {other}" for (_, one), (_, other) in pairs])
    sides = np.array([(first, second) for (first, _), (second, _) in pairs]).T.ravel()
    shares = np.full(len(sides), 0.5)
    halves = sparse.csr_array((shares, (sides, np.tile(np.arange(len(pairs)), 2))), shape=(len(words), len(pairs)))
    return sparse.csr_array(counts + halves @ hashed)


def _core(text: str, place: Offsets) -> Offsets:
    """Without what is neither letter nor digit at both ends; empty where nothing else is there."""
    start, end = place
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return start, end
