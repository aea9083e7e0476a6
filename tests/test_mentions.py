"""Mentions of code titles in notes: which words count, how they are meant, without a training document."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.lexical.mentions import FEATURES, TitleIndex, lowered, title_bags
from pipeline.lexical.synonyms import load_synonyms, save_synonyms
from pipeline.notes.context import annotate

SYNONYMS = load_synonyms()


def features(title: str | None, text: str) -> dict[str, float]:
    (found,) = TitleIndex.build([title], SYNONYMS).features([text])
    return {name: round(float(value), 3) for name, value in zip(FEATURES, found[0], strict=True)}


@pytest.mark.parametrize(
    ("title", "bags"),
    [
        ("Asthma, unspecified type, unspecified", [{"asthma"}]),
        ("Cystic fibrosis without mention of meconium ileus", [{"cystic", "fibrosis"}]),
        ("Renal agenesis and dysgenesis", [{"kidney", "dysgenesis"}, {"kidney", "agenesis"}]),
        ("Personal history of urinary (tract) infection", [{"urinary", "infection"}]),
        ("Urinary tract infection, site not specified", [{"urinary", "infection"}]),
        ("Pulmonary collapse", [{"atelectasis"}]),
        ("Other specified", []),
        ("Acute and chronic respiratory failure", [{"acut", "chronic", "respiratory", "failur"}]),
        ("Hypo-osmolality and hyponatremia", [{"hypo", "osmolality"}, {"hyponatremia"}]),
        ("Personal history of brain injury, and stroke", [{"brain", "injury"}, {"cerebral", "infarction"}]),
        ("Laceration without foreign body of scalp", [{"laceration", "scalp"}]),
        ("Migraine, unspecified, not intractable", [{"migrain"}]),
        ("Family history of asthma", [{"asthma"}]),
        ("", []),
    ],
)
def test_content_words_of_a_title(title: str, bags: list[set[str]]) -> None:
    assert [set(bag) for bag in title_bags(title, SYNONYMS)] == bags


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("The patient has pneumonia.", "affirmed"),
        ("No pneumonia is seen.", "denied"),
        ("Her mother had pneumonia.", "denied"),
        ("Possible pneumonia.", "uncertain"),
        ("Past medical history:\npneumonia\n", "historical"),
    ],
)
def test_a_mention_counts_as_it_is_meant(text: str, state: str) -> None:
    found = features("Pneumonia, organism unspecified", text)
    stated = {name for name in ("affirmed", "historical", "uncertain", "denied") if found[name]}
    assert stated == {state}
    assert found["complete"] == (state == "affirmed")


@pytest.mark.parametrize("text", ["Cough and SOB.", "He is short of breath.", "Dyspnea on exertion."])
def test_abbreviations_and_synonyms_count_as_the_title(text: str) -> None:
    assert features("Shortness of breath", text)["complete"] == 1


def test_a_title_is_complete_in_one_sentence_only_and_covered_by_the_document_otherwise() -> None:
    """Two words in two sentences, both as rare among titles: each sentence covers half."""
    found = features("Pleural effusion", "The effusion is small. Pleural thickening.")
    assert found == {
        "affirmed": 0.5, "historical": 0, "uncertain": 0, "denied": 0, "document": 1.0, "complete": 0,
    }  # fmt: skip


def test_a_word_that_few_titles_have_weighs_more() -> None:
    """Of 3 bags "pain" is in 3, "chest" in 1: weights 1 + log(3/3) = 1 and 1 + log(3/1) = 2.0986; "chest" has
    2.0986 / 3.0986 of the first title."""
    index = TitleIndex.build(["Chest pain", "Abdominal pain", "Pain"], SYNONYMS)
    (found,) = index.features(["An injury of the chest."])
    assert found[0, 0] == pytest.approx(2.0986 / 3.0986, abs=1e-4)
    assert not found[1:].any()


def test_a_history_is_affirmed_by_what_is_past() -> None:
    text = "History of urinary tract infection."
    assert features("Personal history of urinary (tract) infection", text)["complete"] == 1
    assert features("Urinary tract infection", text)["complete"] == 0
    now = features("Personal history of urinary (tract) infection", "She has a urinary tract infection.")
    assert not any(now.values())


def test_a_family_history_is_affirmed_by_what_the_family_has() -> None:
    text = "Family history of asthma."
    assert features("Family history of asthma", text)["complete"] == 1
    assert features("Asthma", text)["denied"] == 1
    assert features("Family history of asthma", "No family history of asthma.")["denied"] == 1
    assert not features("Family history of asthma", "She has asthma.")["affirmed"]


@pytest.mark.parametrize(
    ("text", "is_found"),
    [("CT shows PE.", 1), ("PE: lungs are clear.", 0), ("pe today", 0), ("He has hearing aids.", 0), ("AIDS", 0)],
)
def test_abbreviations_in_capitals_count_only_so_and_not_as_a_header(text: str, is_found: int) -> None:
    assert features("Pulmonary embolism", text)["complete"] == is_found
    assert features("Acquired immunodeficiency syndrome", text)["complete"] == (text == "AIDS")


def test_lower_case_keeps_the_place_of_every_character_there_is() -> None:
    """A Sigma at the end of a word has another small letter, but one letter still."""
    everything = [chr(number) for number in range(sys.maxunicode + 1)]
    assert all(len(lowered(one)) == 1 for one in everything)
    assert len(lowered("ΑΣ " + "".join(everything))) == 3 + len(everything)


def test_a_capital_i_with_a_dot_hides_no_word_of_the_note() -> None:
    """Of one character in lower case: the words behind it are found, where they stand."""
    index = TitleIndex.build(["Pneumonia"], SYNONYMS)
    text = "From İzmir. PNEUMONİA, Pneumonia."
    assert next(index.features([text]))[0, FEATURES.index("complete")] == 1
    (form,) = annotate([text])
    assert {text[one.start : one.end] for one in index.said(text, form)} == {"PNEUMONİA", "Pneumonia"}


def test_labels_without_title_and_texts_without_words_have_no_mention() -> None:
    index = TitleIndex.build([None, "Cough", ""], SYNONYMS)
    found = list(index.features(["", "Cough.", " \n", "\u200b", "咳嗽"]))
    assert [one.shape for one in found] == [(3, 6)] * 5
    assert [one.any(axis=1).tolist() for one in found] == [[False] * 3, [False, True, False], *[[False] * 3] * 3]
    assert not next(TitleIndex.build([None], SYNONYMS).features(["Cough."])).any()


def test_the_features_of_many_texts_are_those_of_each() -> None:
    index = TitleIndex.build(["Cough", "Fever", "Chest pain"], SYNONYMS)
    texts = ["No cough. Fever.", "Chest pain and cough", "", "Fever? " * 90, "CP"] * 30
    together = np.stack(list(index.features(texts)))
    for text, found in list(zip(texts, together, strict=True))[:5]:
        np.testing.assert_array_equal(found, next(index.features([text])))
    np.testing.assert_array_equal(together[:5], together[-5:])


def test_the_list_of_synonyms_says_one_thing_of_every_phrase(tmp_path: Path) -> None:
    phrases = [other for line in SYNONYMS.lines for other in line.split("\t")[1].split("|")]
    assert len(set(phrases)) == len(phrases)
    save_synonyms(SYNONYMS, tmp_path / "synonyms.tsv")
    assert load_synonyms(tmp_path / "synonyms.tsv") == SYNONYMS


def test_a_synonym_of_a_synonym_leads_to_the_same_words() -> None:
    assert set(SYNONYMS.replaced_in(["ckd"])) == {"chronic", "kidney", "disorder"}


@pytest.mark.parametrize("content", ["no tab here", "\tcough"])
def test_a_list_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "synonyms.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="entry 1: expected a phrase, a tab"):
        load_synonyms(tmp_path / "synonyms.tsv")
    with pytest.raises(UserError, match="cannot be read"):
        load_synonyms(tmp_path / "none.tsv")
