"""The notes of the synthetic corpus: what they are like, and how hard they are to code."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

from data_recipes import synthetic
from data_recipes._synthetic import phrases
from data_recipes._synthetic.notes import NoteWriter
from data_recipes._synthetic.patients import draw_stays
from data_recipes._synthetic.vocabulary import build_vocabulary
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.splits import assign_splits


def test_notes_have_the_sections_and_blanks_of_discharge_summaries(corpus: list[Document]) -> None:
    for document in corpus[:50]:
        assert [line[:-1] for line in document.text.splitlines() if line[:-1] in phrases.SECTIONS] == list(
            phrases.SECTIONS
        )
        assert document.text.count("___") >= 6


def test_notes_are_about_as_long_as_asked_for(corpus: list[Document]) -> None:
    assert 140 <= np.mean([len(document.text.split()) for document in corpus]) <= 185
    vocabulary, rng = build_vocabulary(60), random.Random(0)
    writer = NoteWriter(vocabulary, 1500)
    notes = [writer.write(rng, stay, "F") for _ in range(60) for stay in draw_stays(vocabulary, rng, "F")]
    assert 1350 < np.mean([len(note.split()) for note in notes]) < 1650


def test_the_names_of_a_code_stand_in_notes_of_others_as_often_negated_of_the_family_or_over(
    corpus: list[Document],
) -> None:
    """A fifth and more of the notes that name one of these conditions are not coded with it."""
    names = {"J18.9": "pneumonia", "F32.A": "depression", "E03.9": "hypothyroid", "M81.0": "osteoporosis"}
    for code, name in names.items():
        coded = [f"icd10cm:{code}" in document.labels for document in corpus if name in document.text.lower()]
        assert 0.2 < 1 - np.mean(coded) < 0.7
    text = "\n".join(document.text for document in corpus)
    for frames in (phrases.NEGATED, phrases.OF_FAMILY, phrases.OF_OLD, phrases.POSSIBLE, phrases.NOT_DONE):
        for _, sentence in frames:
            start = sentence.split("{")[0].strip()
            assert not start or start in text


def test_some_conditions_are_implied_only_or_not_mentioned_at_all(corpus: list[Document]) -> None:
    """Of Z79.4 by hand: its names all hold 'insulin dep', 'long term insulin', 'insulin-requiring' or the title."""
    named = re.compile("insulin dependent|long term insulin|insulin-requiring|use of insulin", re.IGNORECASE)
    coded = [document.text for document in corpus if "icd10cm:Z79.4" in document.labels]
    unnamed = [text for text in coded if not named.search(text)]
    assert 0.05 < len(unnamed) / len(coded) < 0.4
    assert any("glargine" in text or "Humalog" in text for text in unnamed)


def test_titles_come_with_the_corpus(corpus: list[Document], scratch: Path) -> None:
    titles = synthetic.read_titles(None, synthetic.Options(), IngestReport(), scratch)
    labels = {label for document in corpus for label in document.labels}
    assert titles["icd10cm:I10"] == "Essential (primary) hypertension"
    assert len(labels - set(titles)) < 0.1 * len(labels)
    assert synthetic.raw_files(None, synthetic.Options()) == []


# How hard it is.


def linear_micro_f1(corpus: list[Document], texts: list[str], *, seed: int) -> float:
    """Test micro-F1 of a TF-IDF linear model: one SVM a label, one threshold, fitted on split val."""
    splits = np.array(assign_splits([one.patient_id for one in corpus], val=0.10, test=0.15, seed=seed))
    is_train, is_val, is_test = (splits == name for name in ("train", "val", "test"))
    counts = Counter(label for one, keep in zip(corpus, is_train, strict=True) if keep for label in one.labels)
    space = sorted(label for label, n in counts.items() if n >= 5)
    labels = MultiLabelBinarizer(classes=space).fit_transform(
        [[label for label in one.labels if counts[label] >= 5] for one in corpus]
    )
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2)
    vectorizer.fit([text for text, keep in zip(texts, is_train, strict=True) if keep])
    features = vectorizer.transform(texts)
    model = OneVsRestClassifier(LinearSVC(C=1.0)).fit(features[is_train], labels[is_train])
    scores = model.decision_function(features)
    candidates = np.quantile(scores[is_val], np.linspace(0.5, 0.995, 60))
    best = max(candidates, key=lambda one: f1_score(labels[is_val], scores[is_val] > one, average="micro"))
    return float(f1_score(labels[is_test], scores[is_test] > best, average="micro"))


_DISTRACTOR = re.compile(
    r"\b(no history|no evidence|no signs|- no|not|never|denies|declined|negative|ruled out|resolved|recovered|"
    r"recurrence|years ago|signs of|may screen|at risk|initially|deferred|son|partner)\b",
    re.IGNORECASE,
)


def without_distractors(text: str) -> str:
    """What a reader would leave out: the family's section, and sentences that deny, doubt or look back."""
    text = re.sub(r"Family History:\n.*?\n \n", "", text, flags=re.DOTALL)
    lines = (re.split(r"(?<=\.) ", line) for line in text.splitlines())
    return "\n".join(" ".join(one for one in line if not _DISTRACTOR.search(one)) for line in lines)


def test_a_linear_model_over_words_is_neither_helpless_nor_done(corpus: list[Document]) -> None:
    """The issue asks for 0.6 to 0.9. Leaving distractors out by rules, over the same splits, must be worth 0.04."""
    words = [linear_micro_f1(corpus, [one.text for one in corpus], seed=seed) for seed in range(2)]
    kept = [without_distractors(one.text) for one in corpus]
    context = [linear_micro_f1(corpus, kept, seed=seed) for seed in range(2)]
    assert 0.65 < min(words) <= max(words) < 0.85
    assert np.mean(context) > np.mean(words) + 0.04
