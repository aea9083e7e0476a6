from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.notes import sentences
from pipeline.notes.sentences import find_sentences, sentences_of


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in find_sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Seen by Dr. Smith. Stable.", ["Seen by Dr. Smith.", "Stable."]),
        ("Lasix 40 mg q.d. and aspirin.", ["Lasix 40 mg q.d. and aspirin."]),
        ("Lasix 40 mg p.o. b.i.d. She improved.", ["Lasix 40 mg p.o. b.i.d.", "She improved."]),
        ("Creatinine was 1.4. Sodium 138.", ["Creatinine was 1.4.", "Sodium 138."]),
        ("Temp. 38.5, approx. 3 days vs. 4 days.", ["Temp. 38.5, approx. 3 days vs. 4 days."]),
        ("Left at 5 p.m. The end.", ["Left at 5 p.m.", "The end."]),
        ("Hepatitis C. She had E. coli.", ["Hepatitis C.", "She had E. coli."]),
        ("Any pain? No. No. 5 tube.", ["Any pain?", "No.", "No. 5 tube."]),
        ("?pneumonia or ? effusion", ["?pneumonia or ? effusion"]),
        ("1. No pneumonia. 2. Mild edema.", ["1. No pneumonia.", "2. Mild edema."]),
        ("IMPRESSION: 1. No pneumonia.", ["IMPRESSION: 1. No pneumonia."]),
        ("He is (mostly well.) Home.", ["He is (mostly well.)", "Home."]),
        ("Clear lungs.The heart is normal.", ["Clear lungs.", "The heart is normal."]),
        ("Seen on [**2101-1-2**]. Born ___. Fine.", ["Seen on [**2101-1-2**].", "Born ___.", "Fine."]),
        ("stable. went home!", ["stable.", "went home!"]),
    ],
)
def test_full_stops_that_end_a_sentence_and_those_that_do_not(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fever.\n\nCough", ["Fever.", "Cough"]),
        ("no stop\n\nhere", ["no stop", "here"]),
        ("Problems\n- gout\n* CAD\n1. CHF\n2) AFib", ["Problems", "- gout", "* CAD", "1. CHF", "2) AFib"]),
        ("stable\nAllergies: none\nmeds: aspirin", ["stable", "Allergies: none", "meds: aspirin"]),
        ("Chief Complaint:\nfever", ["Chief Complaint:", "fever"]),
        ("Aspirin 81 mg\nMetoprolol 25 mg", ["Aspirin 81 mg", "Metoprolol 25 mg"]),
        ("History of\nCAD", ["History of\nCAD"]),
        ("Seen by Dr.\nSmith", ["Seen by Dr.\nSmith"]),
        ("pain in the\nleft arm", ["pain in the\nleft arm"]),
        (
            "She was brought to the emergency department from\nAustin with fever",
            ["She was brought to the emergency department from\nAustin with fever"],
        ),
        (
            "A line that goes on for more than fifty characters then\nWraps at a capital.",
            ["A line that goes on for more than fifty characters then\nWraps at a capital."],
        ),
        ("___ 05:30AM BLOOD WBC-7\n___ 06:30AM BLOOD", ["___ 05:30AM BLOOD WBC-7", "___ 06:30AM BLOOD"]),
        ("one\r\ntwo\r\n\r\nThree\rFour", ["one\r\ntwo", "Three", "Four"]),
    ],
)
def test_line_breaks_that_end_a_sentence_and_those_that_do_not(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_offsets_are_those_of_the_text_as_given() -> None:
    r"""'  No   fever.' begins at 2 and ends at 13 (2 + 2 + 3 + 6); 'Cough' is at 16, behind ' \n '."""
    assert find_sentences("  No   fever. \n Cough ") == [(2, 13), (16, 21)]


@pytest.mark.parametrize("text", ["", " ", "\n\r\n\t"])
def test_a_text_of_blanks_has_no_sentences(text: str) -> None:
    assert find_sentences(text) == []


def test_many_texts_give_what_each_gives_alone() -> None:
    texts = ["A cough. No fever.", "", "x", "Dr. Who\n\nis in."] * 40
    assert list(sentences_of(iter(texts))) == [find_sentences(text) for text in texts]
    assert list(sentences_of([])) == []


def test_a_text_longer_than_the_pipeline_takes_is_read_in_stretches() -> None:
    """1,200,000 characters, more than spaCy's limit: 100,000 lines "No fever..\n" of 12 characters."""
    line = "No fever x.\n"
    text = line * 100_000
    assert len(text) > sentences.language().max_length
    found = find_sentences(text)
    assert found == [(12 * n, 12 * n + 11) for n in range(100_000)]


@pytest.mark.parametrize("text", ["x" * 120_000, "x " * 60_000, "\r" * 70_000 + "x" * 70_000])
def test_a_long_text_without_line_breaks_loses_nothing(text: str) -> None:
    found = find_sentences(text)
    assert "".join(text[start:end] for start, end in found).replace(" ", "") == text.replace(" ", "").strip()


@pytest.mark.slow
def test_ten_megabytes_are_read() -> None:
    text = "The lungs are clear and there is no effusion.\n" * 217_392
    assert len(text) > 10_000_000
    assert len(find_sentences(text)) == 217_392


def test_the_pipeline_is_built_anew_when_it_has_seen_too_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sentences.language()
    monkeypatch.setattr(sentences, "_MAX_STRINGS", 10)
    assert cut("Zyxwv. Abc.") == ["Zyxwv.", "Abc."]
    assert sentences.language() is not before


def parts(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split("|"))


FRAGMENTS = parts(
    'fever|No|Dr.|q.d.|1.|1.4|.|?|!|...|)|"|- |PMH:|\n|\n\n|\r\n|\r|  |\t|\u00a0|\u2028|é|___|[**x**]|\U0001f600|'
    "p.m.|C.|The"
)


@settings(max_examples=200, deadline=None)
@given(st.lists(FRAGMENTS, max_size=30).map(" ".join) | st.text(max_size=80))
@example("\x1c.\x85 A")
@example("a\u200b. b")
def test_sentences_are_in_order_and_leave_out_nothing_but_blanks(text: str) -> None:
    end = 0
    for first, last in find_sentences(text):
        assert end <= first < last <= len(text)
        assert text[end:first].strip() == ""
        assert text[first:last] == text[first:last].strip()
        end = last
    assert text[end:].strip() == ""


@given(st.text(st.sampled_from("ab \n\t\r.:A-"), max_size=60))
def test_a_layout_leads_back_to_every_character(text: str) -> None:
    layout = sentences.read_layout(text)
    assert layout.text == " ".join(text.split())
    assert all(
        character == " " or text[layout.source_offset(i)] == character for i, character in enumerate(layout.text)
    )
    assert all(0 < offset < len(layout.text) and layout.text[offset - 1] == " " for offset in layout.new_lines)
