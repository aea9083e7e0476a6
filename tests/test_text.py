from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.notes.text import (
    KNOWN_SECTIONS,
    PRESETS,
    Preparation,
    Preset,
    clean,
    find_sections,
    limit_words,
    replace_placeholders,
    section_name,
)

NOTE = "Pt's BP 120/80 on [**2101-1-2**];\nseen by ___, T 38.5C, 2-vessel CAD x3.\n"


def test_raw_leaves_a_text_as_it_is_but_for_nul_characters() -> None:
    assert clean(NOTE, "raw") == NOTE
    assert clean("fe\0ver\r\n", "raw") == "fever\r\n"


def test_caml_keeps_words_in_lower_case_without_numbers() -> None:
    r"""``\w+`` gives Pt s BP 120 80 on 2101 1 2 seen by ___ T 38 5C 2 vessel CAD x3."""
    assert clean(NOTE, "caml") == "pt s bp on seen by ___ t 5c vessel cad x3"


def test_edin_keeps_letters_and_digits_in_lower_case_without_numbers() -> None:
    assert clean(NOTE, "edin") == "pt s bp on seen by t 5c vessel cad x3"
    assert clean("Na\u00efve 10mg \u00bd", "edin") == "na ve 10mg"


@given(st.text(st.sampled_from("ab1_Z²é .-\n"), max_size=60))
def test_presets_agree_with_their_definition_word_by_word(text: str) -> None:
    words = [word for word in re.findall(r"\w+", text.lower()) if not all(c.isnumeric() for c in word)]
    assert clean(text, "caml").split() == words
    letters = "".join(c if c in string.ascii_lowercase + string.digits else " " for c in text.lower())
    assert clean(text, "edin") == " ".join(w for w in letters.split() if not set(w) <= set(string.digits))


@given(st.text(max_size=80), st.sampled_from(PRESETS))
def test_cleaning_twice_changes_nothing_more(text: str, preset: Preset) -> None:
    once = clean(text, preset)
    assert clean(once, preset) == once
    assert "\0" not in once


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UserError, match="unknown cleaning preset 'laat'; expected one of raw, caml, edin"):
        clean("x", "laat")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on [**2101-1-2**] at [**Hospital 12**]", "on @ at @"),
        ("by [**Name\n(un) 3**], [** **]", "by @, @"),
        ("___ yo, Dr. ___, ___'s", "@ yo, Dr. @, @'s"),
        ("name: ______ (a line)", "name: ______ (a line)"),
        ("[**open and [**2101**]", "[**open and @"),
        ("[x] ** __ *", "[x] ** __ *"),
    ],
)
def test_placeholders_of_both_mimics_are_found(text: str, expected: str) -> None:
    assert replace_placeholders(text, "@") == expected


def test_a_placeholder_becomes_one_blank_or_a_word_before_a_preset_works() -> None:
    assert clean("Mr.[**Name**]came", "raw", placeholder="") == "Mr. came"
    assert clean("Dr. ___ [**2101**]", "caml", placeholder="DEID") == "dr deid deid"
    assert replace_placeholders(r"a ___", r"\1") == r"a \1"


def test_a_word_limit_keeps_the_beginning_as_it_stands() -> None:
    text = " one  two\nthree "
    assert limit_words(text, 2) == " one  two"
    assert limit_words(text, 3) == " one  two\nthree"
    assert limit_words(text, 4) == limit_words(text, None) == text
    with pytest.raises(ValueError, match="at least 1"):
        limit_words(text, 0)


def names(text: str) -> list[str]:
    return [section.name for section in find_sections(text)]


def test_headers_of_both_mimics_have_the_same_names() -> None:
    mimic3 = "HISTORY OF PRESENT ILLNESS:  The patient\nPAST MEDICAL HISTORY:\n1. CHF\nDISCHARGE DIAGNOSES:\n"
    mimic4 = "History of Present Illness:\nMs. ___\nPast Medical History:\n- CHF\nDischarge Diagnosis:\n"
    assert (
        names(mimic3) == names(mimic4) == ["history of present illness", "past medical history", "discharge diagnosis"]
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("PMH", "past medical history"),
        ("pmh", "past medical history"),
        ("Past  medical\thistory", "past medical history"),
        ("Physical ___", "physical exam"),
        ("Major Surgical or Invasive Procedure", "procedures"),
        ("CLINICAL HISTORY", "clinical history"),
        ("Reason for this examination", "indication"),
        ("Medications on Admission", "medications on admission"),
        ("Followup Instructions", "follow-up"),
        ("ICU Course", "icu course"),
        ("RECOMMENDATIONS/PLAN", "recommendations/plan"),
        ("Heme/Onc", "heme/onc"),
        ("HEENT", "heent"),
        ("Patient was told", None),
        ("the plan is", None),
        ("T", None),
        ("HR", None),
        ("A Very Long Line Of Many Words That Is None", None),
    ],
)
def test_what_is_a_header_and_its_name(header: str, expected: str | None) -> None:
    assert section_name(header) == expected


@pytest.mark.parametrize(
    "text", ["no PMH: here", "1. CAD: stent", "- PMH: x", "at 12:30", "PMH", "PMH\n: x", "ratio Na:K", "BP 120: x"]
)
def test_a_colon_elsewhere_makes_no_header(text: str) -> None:
    assert names(text) == ["preamble"]


def test_a_header_may_be_indented_and_follow_any_line_end() -> None:
    text = "x\r\n  PMH : a\rFamily History:\nb"
    assert [(s.name, text[s.start : s.end]) for s in find_sections(text)] == [
        ("preamble", "x\r\n"),
        ("past medical history", "  PMH : a\r"),
        ("family history", "Family History:\nb"),
    ]


def test_an_empty_text_has_no_section_and_one_of_blanks_a_preamble() -> None:
    assert find_sections("") == []
    assert find_sections(" \n") == [("preamble", 0, 2)]


@pytest.mark.parametrize(("max_words", "is_cut"), [(None, False), (3, False), (2, True)])
def test_a_text_is_cut_where_more_words_than_are_kept_are_left_once_it_is_clean(
    max_words: int | None, is_cut: bool
) -> None:
    """By hand: "120", slash and full stop go, and "___" becomes a word: "seen on deid" is left."""
    assert Preparation("edin", "deid", max_words).cuts("Seen 120 / on ___ . \n") == is_cut


def test_canonical_names_are_names_of_themselves() -> None:
    assert all(section_name(name) == name for name in KNOWN_SECTIONS)


def test_a_long_line_of_marks_is_read_at_once() -> None:
    """Nested repetition in the patterns would need longer than the age of the world for these."""
    assert names("A" * 100_000 + "\n" + "AB_" * 30 + "!\n" + "Aa Aa " * 9 + "!\n" + "A-" * 28 + "!:") == ["preamble"]


LINES = st.sampled_from(
    ["PMH:", "FAMILY HISTORY: none", "cough", "", "Labs:", "ED Course: x", "\r", " HPI:", "a: b", "__:"]
)


@given(st.lists(LINES).map("\n".join) | st.text(st.sampled_from("AbC: \n\r/_"), max_size=60) | st.text())
def test_sections_cover_the_text_without_gap_or_overlap(text: str) -> None:
    sections = find_sections(text)
    assert "".join(text[start:end] for _, start, end in sections) == text
    assert [start for _, start, _ in sections] == ([0] + [end for _, _, end in sections])[: len(sections)]
    assert all(start < end and name == name.lower() for name, start, end in sections)
