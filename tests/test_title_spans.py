"""Where titles stand in notes: only what is said of the patient, in the one sentence that says most."""

from __future__ import annotations

import pytest

from pipeline.lexical.mentions import TitleIndex
from pipeline.lexical.synonyms import load_synonyms
from pipeline.lexical.title_spans import title_spans

SYNONYMS = load_synonyms()


def found_in(title: str | None, text: str) -> list[tuple[str, float, str]]:
    index = TitleIndex.build(["Glaucoma", title], SYNONYMS)
    ((spans,),) = title_spans(index, [text], [[1]])
    assert {span.source for span in spans} <= {"title"}
    return [(text[span.start : span.end], round(span.score, 3), span.section) for span in spans]


@pytest.mark.parametrize(
    ("title", "text", "words"),
    [
        ("Pneumonia, organism unspecified", "Cough. Pneumonia is seen.", ["Pneumonia"]),
        ("Urinary tract infection, site not specified", "An infection of the urinary tract.", ["infection", "urinary"]),
        ("Shortness of breath", "She has SOB today.", ["SOB"]),
        ("Personal history of urinary (tract) infection", "Past medical history:\nUTI\n", ["UTI"]),
    ],
)
def test_the_words_that_say_a_title_are_its_evidence(title: str, text: str, words: list[str]) -> None:
    found = found_in(title, text)
    assert {score for _, score, _ in found} == {1.0}
    said = " ".join(words for words, _, _ in found)
    assert all(word in said for word in words)


@pytest.mark.parametrize(
    "text",
    ["No pneumonia.", "Her mother had pneumonia.", "Possible pneumonia.", "Past medical history:\npneumonia\n", ""],
)
def test_what_is_not_said_of_the_patient_now_is_no_evidence(text: str) -> None:
    assert found_in("Pneumonia, organism unspecified", text) == []


def test_the_sentence_that_says_most_is_taken_and_the_first_of_equals() -> None:
    text = "Chronic cough. Heart failure.\nIMPRESSION:\nchronic heart failure. Again Chronic Heart Failure."
    assert found_in("Chronic heart failure", text) == [("chronic heart failure", 1.0, "impression")]


def test_half_a_title_is_evidence_with_its_share_and_less_is_none() -> None:
    text = "Heart failure."
    ((half,),) = title_spans(TitleIndex.build(["Heart failure with rash"], SYNONYMS), [text], [[0]])
    assert [(text[span.start : span.end], round(span.score, 2)) for span in half] == [("Heart failure", 0.67)]
    assert found_in("Itching nausea rash glaucoma", "Rash.") == []


def test_words_far_apart_are_two_spans_in_the_order_of_the_text() -> None:
    text = "Failure of whatever was tried in the long course of this heart."
    assert [words for words, _, _ in found_in("Heart failure", text)] == ["Failure", "heart"]


def test_a_label_without_title_and_labels_not_asked_for_have_none() -> None:
    assert found_in(None, "Glaucoma.") == []
    index = TitleIndex.build(["Glaucoma", "Rash"], SYNONYMS)
    texts = ["Glaucoma.", "Rash and glaucoma.", "Rash."]
    found = list(title_spans(index, texts, [[0], [1, 0], []]))
    assert [[len(one) for one in each] for each in found] == [[1], [1, 1], []]
