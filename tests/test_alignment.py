"""The way back from a cleaned text: every word of it leads to where it came from."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.notes.alignment import align
from pipeline.notes.text import PRESETS, Preset, clean, prepare

TEXT = st.text(alphabet=st.sampled_from("aB1ß_ \n\0.,İΣé\U0001f600٣"), max_size=30)


@given(TEXT, st.sampled_from(PRESETS))
@example("xİB1 İİ\0a İ", "edin")
@example("a\0b c\0\0d", "caml")
@example("\0\0ab\0c", "raw")
def test_a_word_of_the_cleaned_text_leads_to_a_stretch_that_cleans_to_it(text: str, preset: Preset) -> None:
    """Also where NUL characters went and where a letter (the dotted capital I) grew in lower case."""
    alignment = align(text, preset)
    assert alignment.text == clean(text, preset)
    behind = 0
    for word in re.finditer(r"\S+", alignment.text):
        start, end = alignment.source(*word.span())
        assert behind <= start < end <= len(text), "in order, without overlap"
        if not (preset == "edin" and "İ" in text[start:end]):  # half of a grown letter may be no letter
            assert clean(text[start:end], preset) == word[0]
        behind = end


def test_a_part_of_a_word_leads_to_that_part() -> None:
    r"""By hand: "fever" without NUL is found at 7 of the cleaned text, the NUL before it shifts by one."""
    alignment = align("No\0 real fever", "raw")
    assert alignment.text == "No real fever"
    assert alignment.source(8, 11) == (9, 12)
    assert align("HIGH  Fever", "edin").source(7, 10) == (8, 11)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_empty_text_has_no_pieces(preset: Preset) -> None:
    assert align("", preset).source(0, 1) == (0, 0)


@given(
    st.lists(
        st.sampled_from(["Dr. ", "[**Last Name 12**]", "___", " 120 mg", "\0", "İ", "fever, ", "____ "]), max_size=8
    ),
    st.sampled_from(PRESETS),
    st.sampled_from(["", "DEID", None]),
    st.sampled_from([None, 1, 3]),
)
def test_the_text_of_an_alignment_is_what_the_model_reads(
    parts: list[str], preset: Preset, placeholder: str | None, max_words: int | None
) -> None:
    text = "".join(parts)
    aligned = align(text, preset, placeholder=placeholder, max_words=max_words)
    assert aligned.text == prepare(text, preset, placeholder=placeholder, max_words=max_words)


@pytest.mark.parametrize("preset", ["raw", "edin"])
def test_a_word_behind_marks_leads_to_itself_and_a_replaced_mark_to_the_whole_mark(preset: Preset) -> None:
    text = "seen\0 by ___ and [**Name 5**] for fever today"
    aligned = align(text, preset, placeholder="deid")
    place = aligned.text.index("fever")
    start, end = aligned.source(place, place + len("fever"))
    assert text[start:end] == "fever"
    second = aligned.text.rindex("deid")
    start, end = aligned.source(second, second + len("deid"))
    assert text[start:end] == "[**Name 5**]"
