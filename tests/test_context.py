from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.notes import triggers
from pipeline.notes.context import ContextIndex, ContextSpan, annotate, contexts_of, find_context
from pipeline.notes.sentences import find_sentences
from pipeline.notes.text import find_sections
from pipeline.notes.trigger_patterns import PATTERNS
from pipeline.notes.triggers import KINDS

# A made-up sentence and what it says of the mentions in it: N negated, F family, H historical, U uncertain,
# "" affirmed.
SENTENCES: list[tuple[str, dict[str, str]]] = [
    # negated
    ("No fever, chills, or cough.", {"fever": "N", "chills": "N", "cough": "N"}),
    ("He denies chest pain or palpitations but has dyspnea.", {"chest pain": "N", "dyspnea": ""}),
    ("There is no evidence of pneumonia.", {"pneumonia": "N"}),
    ("No evidence\nof pulmonary  embolism was seen.", {"embolism": "N"}),
    ("Abdomen is soft without rebound tenderness.", {"soft": "", "rebound": "N"}),
    ("Myocardial infarction was ruled out by enzymes.", {"Myocardial infarction": "N", "enzymes": ""}),
    ("Admitted with pneumonia and PE was ruled out.", {"pneumonia": "", "PE": "N"}),
    ("Fever and chills were denied.", {"Fever": "N", "chills": "N"}),
    ("A pleural effusion is not seen.", {"pleural effusion": "N"}),
    ("The urine culture was negative.", {"urine culture": "N"}),
    ("CT was negative for bleed but positive for sinusitis.", {"bleed": "N", "sinusitis": ""}),
    ("She ruled out for MI and was treated for CHF.", {"MI": "N", "CHF": ""}),
    ("No known drug allergies.", {"drug allergies": "N"}),
    ("Denies fever, reports cough.", {"fever": "N", "cough": ""}),
    ("No murmur, and the patient has bradycardia.", {"murmur": "N", "bradycardia": ""}),
    ("No fever, she has a rash.", {"fever": "N", "rash": ""}),
    ("Weakness due to stroke, no seizure due to hyponatremia.", {"stroke": "", "seizure": "N"}),
    ("Patient has pain (no fracture) and swelling.", {"pain": "", "fracture": "N", "swelling": ""}),
    ("The lungs are free of infiltrates.", {"lungs": "", "infiltrates": "N"}),
    ("She didn't have jaundice.", {"jaundice": "N"}),
    ("Neither edema nor cyanosis.", {"edema": "N", "cyanosis": "N"}),
    ("Negative for hydronephrosis except for mild caliectasis.", {"hydronephrosis": "N", "caliectasis": ""}),
    ("He never developed chest pain.", {"chest pain": "N"}),
    # looks negated, is not
    ("No change in the left pleural effusion.", {"pleural effusion": ""}),
    ("No increase in the size of the aneurysm.", {"aneurysm": ""}),
    ("Not only pneumonia but also empyema.", {"pneumonia": "", "empyema": ""}),
    ("Blood cultures grew gram negative rods.", {"rods": ""}),
    ("No improvement in her cellulitis.", {"cellulitis": ""}),
    ("Diabetes, not well controlled, with neuropathy.", {"Diabetes": "", "neuropathy": ""}),
    ("Tolerated dialysis without difficulty.", {"dialysis": ""}),
    # family
    ("Her mother had breast cancer.", {"breast cancer": "F"}),
    ("Father died of colon cancer; patient has polyps.", {"colon cancer": "F", "polyps": ""}),
    ("Family history of diabetes and stroke.", {"diabetes": "F", "stroke": "F"}),
    ("No family history of sudden death.", {"sudden death": "NF"}),
    ("CAD in his father.", {"CAD": "F"}),
    ("Notable for lupus (sister) and asthma.", {"lupus": "F", "asthma": ""}),
    ("Hypertension runs in the family.", {"Hypertension": "F"}),
    ("Two brothers with hemophilia.", {"hemophilia": "F"}),
    # relatives that only tell
    ("His mother reports that he had a fever.", {"fever": ""}),
    ("Mother had noticed wheezing at night.", {"wheezing": ""}),
    ("Lives with her daughter and has dementia.", {"dementia": ""}),
    # historical
    ("Woman with a history of CHF who presents with dyspnea.", {"CHF": "H", "dyspnea": ""}),
    ("58M with h/o CAD s/p CABG presenting with syncope.", {"CAD": "H", "CABG": "H", "syncope": ""}),
    ("Prior stroke with residual weakness.", {"stroke": "H"}),
    ("She had pneumonia two years ago.", {"pneumonia": "H"}),
    ("Myocardial infarction in 1998, now with angina.", {"infarction": "H", "angina": ""}),
    ("He was previously diagnosed with gout.", {"gout": "H"}),
    ("Status post cholecystectomy.", {"cholecystectomy": "H"}),
    ("Asthma as a child.", {"Asthma": "H"}),
    ("History of asthma, no wheezing today.", {"asthma": "H", "wheezing": "N"}),
    ("No history of seizures.", {"seizures": "N"}),
    # looks historical, is not
    ("Three day history of cough.", {"cough": ""}),
    ("Child with 2-week history of limping.", {"limping": ""}),
    ("Compared to the prior study, the nodule has grown.", {"nodule": ""}),
    ("Took aspirin prior to admission for arthritis.", {"arthritis": ""}),
    # uncertain
    ("Possible pneumonia in the right lower lobe.", {"pneumonia": "U"}),
    ("Findings are concerning for cholangitis.", {"cholangitis": "U"}),
    ("Opacity may represent atelectasis, but pneumonia cannot be excluded.", {"Opacity": "", "pneumonia": "U"}),
    ("Cannot exclude a small pneumothorax.", {"pneumothorax": "U"}),
    ("Atelectasis versus pneumonia.", {"Atelectasis": "U", "pneumonia": "U"}),
    ("Admitted for rule out MI.", {"MI": "U"}),
    ("?UTI", {"UTI": "U"}),
    ("Anemia, likely due to chronic disease.", {"Anemia": "", "chronic disease": "U"}),
    ("A hernia is suspected.", {"hernia": "U"}),
    ("Pulmonary embolism was felt to be unlikely.", {"embolism": "U"}),
    ("Call your doctor if you develop fever.", {"fever": "U"}),
    ("Heparin for DVT prophylaxis.", {"DVT": "U"}),
    ("Probable viral illness, no meningitis.", {"viral illness": "U", "meningitis": "N"}),
    ("Pain? Yes.", {"Pain": "", "Yes": ""}),
    # looks uncertain, is not
    ("Follow up as soon as possible for hypertension.", {"hypertension": ""}),
    # affirmed
    ("Acute on chronic diastolic heart failure.", {"heart failure": ""}),
    # findings marked by signs, results, instructions, events of today, births
    ("Denies CP, +SOB", {"CP": "N", "SOB": ""}),
    ("No fever, +cough, +wheezing, diabetes", {"fever": "N", "cough": "", "wheezing": "", "diabetes": ""}),
    ("No aspirin despite septic shock", {"septic shock": ""}),
    ("HIV negative.", {"HIV": "N"}),
    ("Stool C. difficile toxin: negative", {"C. difficile": "N"}),
    ("Triple negative breast cancer.", {"breast cancer": ""}),
    ("Patient has pneumonia, cultures negative.", {"pneumonia": "", "cultures": "N"}),
    ("Return to the emergency room for fever, chest pain.", {"fever": "U", "chest pain": "U"}),
    ("s/p fall with hip fracture.", {"hip fracture": ""}),
    ("Status post cardiac arrest with anoxic brain injury.", {"anoxic": ""}),
    ("Seizure witnessed by wife with postictal confusion.", {"Seizure": "", "postictal": ""}),
    ("Mother with chorioamnionitis, infant with sepsis.", {"chorioamnionitis": "F", "sepsis": ""}),
    ("The infant had respiratory distress at birth.", {"respiratory distress": ""}),
    ("She was treated for sepsis from a urinary tract infection.", {"sepsis": "", "infection": ""}),
]
INITIALS = {"negated": "N", "family": "F", "historical": "H", "uncertain": "U"}


def kinds_of(text: str, mention: str) -> str:
    start = text.index(mention)
    return "".join(INITIALS[kind] for kind in ContextIndex(find_context(text)).kinds_at(start, start + len(mention)))


@pytest.mark.parametrize(("sentence", "expected"), SENTENCES, ids=[text for text, _ in SENTENCES])
def test_what_a_sentence_says_of_its_mentions(sentence: str, expected: dict[str, str]) -> None:
    assert {mention: kinds_of(sentence, mention) for mention in expected} == expected


def spans_of(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in find_context(text)]


def test_a_scope_leaves_out_its_trigger_and_loose_ends() -> None:
    assert spans_of("Denies any fever, or\nchills.") == [("negated", "any fever, or\nchills")]


def test_scopes_do_not_leave_their_sentence() -> None:
    text = "No fever.\nCough. Denies pain\n- asthma"
    assert spans_of(text) == [("negated", "fever"), ("negated", "pain")]


def test_a_list_number_is_no_part_of_a_scope() -> None:
    assert spans_of("IMPRESSION: 1. Edema vs fibrosis") == [("uncertain", "Edema"), ("uncertain", "fibrosis")]


def test_a_double_scope_of_one_kind_is_one_span() -> None:
    assert spans_of("No fever, no cough") == [("negated", "fever, no cough")]


def test_everything_under_the_headers_of_past_and_family_history_counts() -> None:
    text = (
        "Past Medical History:\n- gout\nCardiac: CAD\n\nFamily History:\nFather: stroke\n"
        "Social History: smoker\nHospital Course:\nsepsis\n"
    )
    assert spans_of(text) == [
        ("historical", "- gout"),
        ("historical", "Cardiac: CAD"),
        ("family", "Father: stroke"),
    ]


def test_an_unknown_main_header_ends_the_past_history() -> None:
    text = "PMH: asthma\nED COURSE: wheezing\nPMH: gout\nOvernight Events:\nfever\n"
    assert spans_of(text) == [("historical", "asthma"), ("historical", "gout")]


def test_any_header_behind_a_blank_line_ends_the_family_history() -> None:
    text = "Family History:\nMother: DM\nFather: CAD\n \r\nHosp Course: sepsis\nNeuro: seizure.\n"
    assert spans_of(text) == [("family", "Mother: DM"), ("family", "Father: CAD")]


def test_a_condition_goes_on_over_the_items_of_its_list() -> None:
    text = "Return if you have any of the following:\n* new chest pain\n* cough. Or rash.\n\n* You had sepsis.\n"
    assert kinds_of(text, "chest pain") == kinds_of(text, "cough") == kinds_of(text, "rash") == "U"
    assert kinds_of(text, "sepsis") == ""


def test_a_negation_under_family_history_is_both() -> None:
    text = "FAMILY HISTORY: No diabetes."
    start = text.index("diabetes")
    assert ContextIndex(find_context(text)).kinds_at(start, len(text)) == ["negated", "family"]


def test_a_mention_counts_where_its_first_character_is() -> None:
    contexts = ContextIndex([ContextSpan("negated", 10, 20), ContextSpan("historical", 15, 30)])
    assert contexts.kinds_at(9, 12) == []
    assert contexts.kinds_at(10, 12) == ["negated"]
    assert contexts.kinds_at(15, 40) == ["negated", "historical"]
    assert contexts.kinds_at(20, 21) == ["historical"]
    assert contexts.kinds_at(12, 12) == []


@given(
    places=st.lists(st.integers(0, 60), max_size=12, unique=True).map(sorted),
    mention=st.tuples(st.integers(0, 60), st.integers(0, 8)),
)
def test_kinds_are_those_of_a_scan_over_all_contexts(places: list[int], mention: tuple[int, int]) -> None:
    pairs = zip(places[::2], places[1::2], strict=False)
    contexts = [
        ContextSpan(kind, start, end) for number, (start, end) in enumerate(pairs) for kind in KINDS[number % 2 :: 2]
    ]
    start, end = mention[0], sum(mention)
    expected = {kind for kind, first, last in contexts if first <= start < last and start < end}
    assert ContextIndex(contexts).kinds_at(start, end) == [kind for kind in KINDS if kind in expected]


def test_many_texts_give_what_each_gives_alone_at_any_batch_border() -> None:
    """130 texts are three batches of 64, 64 and 2."""
    texts = [f"No fever {n}. But possible flu." if n % 3 else "" for n in range(130)]
    together = list(annotate(texts))
    assert [annotation.contexts for annotation in together] == [find_context(text) for text in texts]
    assert [annotation.sentences for annotation in together] == [find_sentences(text) for text in texts]
    assert [annotation.sections for annotation in together] == [find_sections(text) for text in texts]
    assert list(contexts_of(iter(texts))) == [annotation.contexts for annotation in together]


def test_every_rule_has_phrases_and_no_phrase_stands_under_two_rules() -> None:
    assert set(triggers.PHRASES) | set(PATTERNS) == set(triggers.RULES)
    phrases = [phrase for some in triggers.PHRASES.values() for phrase in set(some)]
    assert sorted(phrases) == sorted(set(phrases))
    assert all(phrase == phrase.lower().strip() and phrase for phrase in phrases)


def parts(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split("|"))


WORDS = parts(
    "no|possible|mother had|history of|but|was ruled out|vs|(|)|,|.|:|\n|\n\n|fever|Family History:|PMH:|1.|?|"
    "\r\n|  |é|in his father|___|- |CAD|and"
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=60))
def test_spans_lie_in_the_text_in_order_and_apart_for_each_kind(text: str) -> None:
    contexts = find_context(text)
    assert contexts == sorted(contexts, key=lambda span: (span.start, span.end, span.kind))
    ends = dict.fromkeys(triggers.KINDS, -1)
    for kind, start, end in contexts:
        assert 0 <= start < end <= len(text)
        assert start > ends[kind]
        assert text[start:end] == text[start:end].strip() != ""
        ends[kind] = end
