"""From token scores to spans: words, growth, sections; random runs of the same lengths."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.notes.spans import Span, grow_spans, random_runs, word_of_token

SECTIONS: list[dict[str, Any]] = [
    {"name": "impression", "start": 0, "end": 30},
    {"name": "mr miller", "start": 30, "end": 90},
]


def spans_of(scores: list[float], sections: list[dict[str, Any]] = SECTIONS, step: int = 10) -> list[Span]:
    """Spans of words of five characters, one token each, ten characters apart."""
    starts = np.arange(len(scores)) * step
    return grow_spans(np.array(scores), np.arange(len(scores)), starts, starts + 5, sections)


def test_tokens_without_a_gap_are_one_word_and_marks_part_words() -> None:
    """x - ray, behind a blank: pneumo ##nia. Then a token of blanks alone (start = end), then a word."""
    starts = np.array([0, 1, 2, 6, 12, 15, 16, 17])
    ends = np.array([1, 2, 5, 12, 15, 16, 16, 20])
    is_word = np.array([True, False, True, True, True, False, False, True])
    assert word_of_token(starts, ends, is_word).tolist() == [0, -1, 1, 2, 2, -1, -1, 3]


def test_no_token_and_no_word_are_fine() -> None:
    nothing = np.array([], dtype=np.int64)
    assert word_of_token(nothing, nothing, nothing.astype(bool)).tolist() == []
    assert grow_spans(nothing.astype(float), nothing, nothing, nothing, []) == []
    assert word_of_token(np.array([0]), np.array([1]), np.array([False])).tolist() == [-1]
    assert grow_spans(np.array([1.0]), np.array([-1]), np.array([0]), np.array([1]), SECTIONS) == []


def test_a_run_too_long_for_a_word_falls_into_its_tokens() -> None:
    """Chinese has no blanks: 50 characters in a row are 50 words, a word of 40 is one."""
    starts = np.arange(50)
    assert word_of_token(starts, starts + 1, np.ones(50, dtype=bool)).tolist() == list(range(50))
    assert set(word_of_token(starts[:40], starts[:40] + 1, np.ones(40, dtype=bool)).tolist()) == {0}


def test_the_best_words_are_taken_until_they_carry_six_tenths() -> None:
    """Of 10 in all, 4 + 3 = 7 reach 6; the words at 0 and 40 are four apart, and in two sections."""
    spans = spans_of([4, 0, 1, 0, 3, 2, -5, 0])
    assert spans == [Span(0, 5, 0.4, "impression"), Span(40, 45, 0.3, "other")]


def test_taken_words_with_one_between_them_become_one_span_and_its_score_is_their_sum() -> None:
    """Words at 0 and 20 (4 and 3 of 10), with 1 between: 0 to 25, 0.8."""
    assert spans_of([4, 1, 3, 0, 0, 1, 1]) == [Span(0, 25, 0.8, "impression")]


def test_a_span_does_not_cross_a_section_or_a_wide_gap() -> None:
    assert [one[:2] for one in spans_of([0, 0, 5, 5])] == [(20, 25), (30, 35)]
    assert [one[:2] for one in spans_of([5, 5], step=40)] == [(0, 5), (40, 45)]


def test_a_header_of_the_text_itself_is_named_other() -> None:
    assert [one.section for one in spans_of([0, 0, 0, 1])] == ["other"]
    assert [one.section for one in spans_of([1], [])] == ["preamble"]


@pytest.mark.parametrize("scores", [[0.0, 0.0], [-1.0, -2.0], [float("nan"), float("nan")]])
def test_where_nothing_speaks_for_a_label_there_is_no_span(scores: list[float]) -> None:
    assert spans_of(scores) == []


def test_tokens_of_one_word_are_summed_before_the_sign_is_looked_at() -> None:
    """pneumo +3, ##nia -1: 2 for the word; the other word has 1: shares 2/3 and 1/3."""
    found = grow_spans(
        np.array([3.0, -1.0, 1.0]), np.array([0, 0, 1]), np.array([0, 6, 50]), np.array([6, 9, 55]), SECTIONS
    )
    assert found == [Span(0, 9, pytest.approx(2 / 3), "impression")]


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 99))
def test_random_runs_keep_the_number_of_tokens_and_split_into_the_same_lengths(inside: list[bool], seed: int) -> None:
    """Runs may touch, so a run found is a sum of the lengths given; their total stays."""
    found = random_runs(np.array(inside), np.random.default_rng(seed))
    lengths = [len(list(run)) for value, run in groupby(inside) if value]
    runs = [len(list(run)) for value, run in groupby(found.tolist()) if value]
    assert found.sum() == sum(inside)
    assert len(runs) <= len(lengths)


def test_every_placing_of_two_runs_comes_as_often() -> None:
    """A run of 2 and one of 1 among 5 tokens: 12 ordered placings; every token is taken in some."""
    generator = np.random.default_rng(0)
    inside = np.array([True, True, False, True, False])
    counts = np.mean([random_runs(inside, generator) for _ in range(4000)], axis=0)
    expected = np.mean(list(_placings([2, 1], 5)) + list(_placings([1, 2], 5)), axis=0)
    np.testing.assert_allclose(counts, expected, atol=0.03)


def _placings(lengths: list[int], n_tokens: int) -> list[np.ndarray]:
    """All placings of runs in this order, written out."""
    found = []
    for first in range(n_tokens):
        for second in range(first + lengths[0], n_tokens - lengths[1] + 1):
            taken = np.zeros(n_tokens)
            taken[first : first + lengths[0]] = taken[second : second + lengths[1]] = 1
            found.append(taken)
    return found
