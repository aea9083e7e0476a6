"""Scores of TF-IDF, cut into those of the words: they add up, and the telling word stands out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_evidence import build
from test_tfidf import TEXTS, fitted

from pipeline.coding.ensemble import CodingModel
from pipeline.coding.evidence import Explainer
from pipeline.coding.proposals import code_documents
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.training_settings import Lexical
from pipeline.icd.labels import LabelSpace
from pipeline.lexical.channel import LexicalChannel
from pipeline.lexical.tfidf_spans import tfidf_spans, word_scores
from pipeline.notes.spans import Span
from pipeline.notes.text import Preparation

MODELS = {chars: fitted(Lexical(char_ngrams=chars)) for chars in (True, False)}
WORDS = st.lists(st.sampled_from([*" ".join(TEXTS).split(), "İstanbul", "ΣΑΣ", "a-b", "--", "12.5", "\u3000", "\x1c"]))


@pytest.mark.parametrize("chars", [True, False])
@settings(max_examples=60)
@given(WORDS.map(" ".join) | st.text())
@example("")
@example(" \r\n ")
def test_scores_of_words_and_the_intercept_add_up_to_the_score(chars: bool, text: str) -> None:
    model = MODELS[chars]
    labels = list(range(len(model.linear.intercepts)))
    places, scores = word_scores(model, text, labels)
    assert scores.shape == (len(labels), len(places))
    assert [text[start:end] for start, end in places] == text.split()
    expected = model.scores([text])[0]
    np.testing.assert_allclose(scores.sum(axis=1) + model.linear.intercepts, expected, atol=2e-5)


def telling_word() -> tuple[str, int]:
    """A word of the training texts that raises the score of a label most when a filler text has it."""
    model = MODELS[True]
    words = sorted({word for text in TEXTS for word in text.split() if word.isalpha()})
    scores = np.stack([model.scores([f"zzz qqq {word} xxx"])[0] for word in words])
    word, label = np.unravel_index(int(scores.argmax()), scores.shape)
    return words[word], int(label)


def test_the_word_that_raises_the_score_is_the_first_span_without_its_punctuation() -> None:
    word, label = telling_word()
    text = f"HPI: zzz qqq ({word.upper()}), xxx --"
    ((spans,),) = tfidf_spans(MODELS[True], [text], [[label]])
    assert text[spans[0].start : spans[0].end] == word.upper()
    assert spans[0].source == "tfidf"
    assert spans[0].section == "history of present illness"
    assert 0 < spans[0].score <= 1


def test_a_text_without_labels_asked_or_words_known_has_no_span() -> None:
    word, label = telling_word()
    found = list(tfidf_spans(MODELS[True], [word, "", "::", "q" * 60], [[], [label], [label], [label]]))
    assert found == [[], [[]], [[]], [[]]]


def test_words_lead_back_through_cleaning_and_those_that_touch_other_spans_are_left_out() -> None:
    word, label = telling_word()
    text = f"12 zzz,\r\n{word.upper()}; 12.5 qqq"
    space = LabelSpace(tuple(f"none:{n}" for n in range(len(MODELS[True].linear.intercepts))), (None,) * 4, (1,) * 4)
    explainer = Explainer(space, Preparation("caml", None, None), lexical=MODELS[True])
    ((spans,),) = explainer.explain_texts([text], [[label]])
    assert text[spans[0].start : spans[0].end] == word.upper()

    class Everywhere:
        def explain_columns(self, columns: Any, label_ids: Any) -> Any:
            return [(0, [[Span(0, 1000, 1.0, "other")]])]

        classifier = None

    covered = Explainer(space, Preparation("raw", None, None), Everywhere(), lexical=MODELS[True])  # type: ignore[arg-type]
    assert covered._explain({}, [[label]], [text]) == [[[Span(0, 1000, 1.0, "other")]]]


@pytest.mark.parametrize("kind", ["tfidf", "lexical"])
def test_models_without_an_encoder_have_evidence_from_the_command_and_the_stage(
    tmp_path: Path,
    run_small: Callable[..., PipelineConfig],
    small_notes: list[dict[str, Any]],
    kind: str,
) -> None:
    stages = "ingest split tokenize train_encoder train_classifier predict"
    sections = {"train_encoder": {"loss": "none"}, "train_classifier": {"model": kind}, "predict": {"evidence": True}}
    config = run_small(tmp_path, small_notes, stages, **sections)
    source = tmp_path / "new.jsonl"
    source.write_text("".join(json.dumps(note) + "\n" for note in small_notes[:8]), encoding="utf-8")
    code_documents(config.experiment_dir / "classifier", str(source), tmp_path / "o.jsonl", top_k=1, has_evidence=True)
    texts = {note["document_id"]: note["text"] for note in small_notes}
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    spans = [(row["document_id"], span) for row in rows for code in row["codes"] for span in code["evidence"]]
    predictions = pq.read_table(config.experiment_dir / "predictions.parquet").to_pylist()
    of_stage = [(row["document_id"], span) for row in predictions for one in row["evidence"] for span in one]
    assert len(spans) >= len(rows) / 2
    assert of_stage
    for document_id, span in [*spans, *of_stage]:
        text = texts[document_id]
        assert text[span["start"] : span["end"]].strip() == text[span["start"] : span["end"]] != ""
        assert not text[span["start"] - 1 : span["start"]].isalnum(), "a whole word"
    sources = {span["source"] for _, span in spans}
    assert "tfidf" in sources
    assert sources <= ({"tfidf"} if kind == "tfidf" else {"tfidf", "title"})


def test_an_encoder_of_which_cls_alone_is_read_leaves_evidence_to_the_lexical_part(tiny_encoder_dir: Path) -> None:
    classifier = build(tiny_encoder_dir, "linear", pooling="cls")
    model = CodingModel.of_classifier(classifier)
    channel = LexicalChannel(MODELS[True], None, None)  # type: ignore[arg-type]
    explainer = Explainer.of_model(replace(model, kind="ensemble", lexical=channel), max_tokens=64)
    assert explainer.neural is None
    assert explainer.lexical is MODELS[True]
    with pytest.raises(UserError, match=r"evidence needs a head of label attention or encoding\.pooling 'mean'"):
        Explainer.of_model(model, max_tokens=64).explain_texts(["fever"], [[0]])
