"""Evidence: spans where the model looks, in offsets of the text as given, and how far its probability hangs on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.coding.classifier import Classifier, ClassifierSettings
from pipeline.coding.code_files import text_digest
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.evidence import Explainer
from pipeline.coding.faithfulness import Explained, FaithfulnessSample, measure_faithfulness
from pipeline.coding.proposals import code_documents
from pipeline.encoders.heads import LabelAttentionHead, build_head
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.errors import UserError
from pipeline.evaluation.label_counts import FITTING_BAND_STARTS
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.manifests import read_manifest
from pipeline.icd.labels import LabelSpace
from pipeline.lexical.combination import BandedLogistic
from pipeline.lexical.mentions import TitleIndex
from pipeline.lexical.synonyms import load_synonyms
from pipeline.notes.spans import Span

SPACE = LabelSpace(("icd10cm:E11.9", "icd10cm:I10"), ("Diabetes", "Hypertension"), (3, 2))


def build(folder: Path, head: str = "label_attention", **changed: Any) -> Classifier:
    """A classifier with random weights whose two labels look for the words "fever" and "pneumonia"."""
    torch.manual_seed(5)
    encoder = load_encoder(folder).eval()
    tokenizer = load_tokenizer(folder)
    values: dict[str, Any] = {
        "head": head, "pooling": "mean", "chunk_tokens": 16, "chunk_overlap": 0, "max_tokens": 200,
        "has_context": False, "cleaning": "raw",
    }  # fmt: skip
    values |= changed
    module = build_head(head, encoder.dim, len(SPACE), dropout=0.0, pooling=values["pooling"]).eval()
    classifier = Classifier(encoder, module, tokenizer, SPACE, ClassifierSettings(**values))
    if isinstance(module, LabelAttentionHead):
        look_for(classifier, module, ["fever", "pneumonia"])
    return classifier


@torch.no_grad()
def look_for(classifier: Classifier, head: LabelAttentionHead, words: list[str]) -> None:
    """Point queries and label vectors at the states of words; without its layers the encoder gives word vectors."""
    backbone: Any = classifier.encoder.backbone
    backbone.encoder.layer, backbone.config.num_hidden_layers = torch.nn.ModuleList(), 0
    backbone.embeddings.position_embeddings.weight.zero_()
    torch.nn.init.normal_(backbone.embeddings.word_embeddings.weight)
    head.keys.weight.copy_(torch.eye(head.keys.weight.shape[0]))
    for row, word in enumerate(words):
        ids = torch.tensor([classifier.tokenizer(word, add_special_tokens=False)["input_ids"]])
        state = head.norm(backbone(input_ids=ids).last_hidden_state[0, 0])
        head.queries[row] = 2 * state
        head.weight[row] = 0.5 * state
    head.bias.fill_(-4.0)


def explain(classifier: Classifier, texts: list[str], labels: list[list[int]], max_tokens: int = 64) -> list[list[Any]]:
    explainer = Explainer.of_model(CodingModel.of_classifier(classifier), max_tokens=max_tokens)
    return [
        [[text[span.start : span.end] for span in one] for one in each]
        for text, each in zip(texts, explainer.explain_texts(texts, labels), strict=True)
    ]


def test_each_label_points_at_its_own_word_in_each_document(tiny_encoder_dir: Path) -> None:
    texts = ["The patient has FEVER and pneumonia.", "no cough", "pneumonia " + "the " * 60 + "fever"]
    found = explain(build(tiny_encoder_dir), texts, [[0, 1], [], [1, 0]])
    assert found == [[["FEVER"], ["pneumonia"]], [], [["pneumonia"], ["fever"]]]


@pytest.mark.parametrize("cleaning", ["raw", "caml", "edin"])
def test_offsets_are_those_of_the_text_as_given_whatever_cleaning_does(tiny_encoder_dir: Path, cleaning: str) -> None:
    text = "\0HPI:\r\n 12.5 \U0001f600 İ mother,\0 had --- Fever\0."
    assert explain(build(tiny_encoder_dir, cleaning=cleaning), [text], [[0]]) == [[["Fever"]]]


def test_overlapping_chunks_and_small_micro_batches_give_the_same_spans(tiny_encoder_dir: Path) -> None:
    texts = ["the " * 30 + "fever " + "cough " * 20, "fever"]
    labels = [[0], [0]]
    expected = [[["fever"]], [["fever"]]]
    assert explain(build(tiny_encoder_dir), texts, labels, max_tokens=1) == expected
    assert explain(build(tiny_encoder_dir, chunk_overlap=6), texts, labels) == expected


def test_a_document_cut_at_max_tokens_has_evidence_only_in_what_was_read(tiny_encoder_dir: Path) -> None:
    found = explain(build(tiny_encoder_dir, max_tokens=10), ["fever " + "the " * 30 + "fever"], [[0]])
    assert found == [[["fever"]]]
    model = CodingModel.of_classifier(build(tiny_encoder_dir, max_tokens=10))
    (spans,) = Explainer.of_model(model, max_tokens=64).explain_texts(["the " * 12 + "fever"], [[0]])[0]
    assert all(span.end <= 40 for span in spans), "ten tokens of four characters"


def test_the_linear_head_points_at_tokens_along_its_weight(tiny_encoder_dir: Path) -> None:
    classifier = build(tiny_encoder_dir, "linear")
    backbone: Any = classifier.encoder.backbone
    backbone.encoder.layer = torch.nn.ModuleList()
    ids = torch.tensor([classifier.tokenizer("fever", add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        torch.nn.init.normal_(backbone.embeddings.word_embeddings.weight)
        classifier.head.output.weight[0] = backbone(input_ids=ids).last_hidden_state[0, 0]  # type: ignore[operator, union-attr]
    assert explain(classifier, ["cough in the patient , no fever"], [[0]])[0][0][0] == "fever"


def test_pooling_cls_has_no_evidence_and_says_what_has(tiny_encoder_dir: Path) -> None:
    with pytest.raises(UserError, match=r"evidence needs a head of label attention or encoding\.pooling 'mean'"):
        explain(build(tiny_encoder_dir, "linear", pooling="cls"), ["fever"], [[0]])


def explained(classifier: Classifier, text: str, label: int) -> Explained:
    explainer = Explainer.of_model(CodingModel.of_classifier(classifier), max_tokens=64)
    ((spans,),) = explainer.explain_texts([text], [[label]])
    return Explained(text, label, spans)


def faithfulness_of(classifier: Classifier, explained: list[Explained]) -> dict[str, float]:
    return measure_faithfulness(CodingModel.of_classifier(classifier), explained, max_tokens=64)


def test_faithfulness_is_the_drop_without_and_with_only_the_evidence(tiny_encoder_dir: Path) -> None:
    """Against the probabilities of the three texts, written out by hand; random spans as long hit a filler word."""
    classifier = build(tiny_encoder_dir)
    whole, without, only = (
        float(next(classifier.code_texts([text], max_tokens=64)).probabilities[0])
        for text in ("the patient has fever", "the patient has", "fever")
    )
    one = explained(classifier, "the patient has fever", 0)
    scores = faithfulness_of(classifier, [one])
    assert scores["evidence_comprehensiveness"] == pytest.approx(whole - without, abs=1e-6)
    assert scores["evidence_sufficiency"] == pytest.approx(whole - only, abs=1e-6)
    assert (scores["evidence_share"], scores["n_evidence_codes"]) == (0.25, 1)
    assert not [name for name in scores if "encoder" in name], "one source, one set of numbers"
    many = faithfulness_of(classifier, [one] * 20)
    assert many["evidence_comprehensiveness_random"] < 0.5 * many["evidence_comprehensiveness"]
    assert many["evidence_sufficiency_random"] > many["evidence_sufficiency"]
    assert many == faithfulness_of(classifier, [one] * 20), "the same numbers again"


def test_each_source_of_evidence_is_measured_by_itself_too(tiny_encoder_dir: Path) -> None:
    """Of three codes one rests on both sources, one on each alone; 'cough' is no evidence, whatever its source says."""
    classifier = build(tiny_encoder_dir)
    text = "the patient has fever and cough"
    fever, cough = Span(16, 21, 1.0, "preamble"), Span(26, 31, 1.0, "preamble", "title")
    three = [Explained(text, 0, spans) for spans in ([cough, fever], [fever], [cough])]
    scores = faithfulness_of(classifier, three)
    assert (scores["n_evidence_codes"], scores["n_evidence_title_codes"], scores["n_evidence_encoder_codes"]) == (
        3,
        2,
        2,
    )
    of_fever, of_cough = (faithfulness_of(classifier, [Explained(text, 0, [one])]) for one in (fever, cough))
    name = "comprehensiveness"
    assert scores[f"evidence_encoder_{name}"] == pytest.approx(of_fever[f"evidence_{name}"])
    assert scores[f"evidence_title_{name}"] == pytest.approx(of_cough[f"evidence_{name}"])
    assert scores[f"evidence_encoder_{name}"] > scores[f"evidence_title_{name}"]


def test_evidence_that_is_the_whole_document_is_removed_whole(tiny_encoder_dir: Path) -> None:
    classifier = build(tiny_encoder_dir)
    scores = faithfulness_of(classifier, [explained(classifier, "fever", 0)])
    assert scores["evidence_sufficiency"] == pytest.approx(0)
    assert scores["evidence_comprehensiveness"] == scores["evidence_comprehensiveness_random"] > 0
    assert faithfulness_of(classifier, []) == {"n_evidence_codes": 0}


@pytest.mark.parametrize("top_k", [None, 2])
def test_coding_with_evidence_gives_the_same_codes_and_their_spans(
    tiny_encoder_dir: Path, tmp_path: Path, top_k: int | None
) -> None:
    CodingModel.of_classifier(build(tiny_encoder_dir), threshold=0.3).save(tmp_path / "model")
    notes = [("a", "the patient has fever"), ("b", ""), ("c", "pneumonia and cough")]
    source = tmp_path / "notes.jsonl"
    source.write_text("".join(json.dumps({"document_id": one, "text": text}) + "\n" for one, text in notes))
    rows = {}
    for name in ("plain", "evidence"):
        output = tmp_path / f"{name}.jsonl"
        code_documents(tmp_path / "model", str(source), output, top_k=top_k, has_evidence=name == "evidence")
        rows[name] = [json.loads(line) for line in output.read_text().splitlines()]
    spans = {
        (row["document_id"], code["code"]): code.pop("evidence") for row in rows["evidence"] for code in row["codes"]
    }
    digests = {row["document_id"]: row["text_digest"] for row in rows["evidence"]}
    assert digests == {document_id: text_digest(text) for document_id, text in notes}
    assert rows["evidence"] == rows["plain"]
    assert {key[0] for key in spans} == {"a", "c"}, "none for the empty document"
    (first,) = spans["a", "E11.9"]
    assert (first["start"], first["end"], first["section"]) == (16, 21, "preamble")
    assert 0.6 <= first["score"] <= 1


@pytest.mark.slow
def test_the_stage_writes_offsets_for_each_predicted_code_and_measures_them(
    tmp_path: Path, run_small: Callable[..., PipelineConfig], small_notes: list[dict[str, Any]]
) -> None:
    stages = "ingest split tokenize train_encoder train_classifier predict"
    config = run_small(tmp_path, small_notes, stages, predict={"evidence": True})
    predictions = pq.read_table(config.experiment_dir / "predictions.parquet")
    texts = {note["document_id"]: note["text"] for note in small_notes}
    n_spans = 0
    for row in predictions.to_pylist():
        assert len(row["evidence"]) == len(row["predicted"])
        assert row["text_digest"] == text_digest(texts[row["document_id"]])
        for span in (span for one in row["evidence"] for span in one):
            assert set(span) == {"start", "end", "score", "source"}
            words = texts[row["document_id"]][span["start"] : span["end"]]
            assert words == words.strip() != ""
            n_spans += 1
    assert n_spans > 0
    facts = read_manifest(config.experiment_dir, "predict")["facts"]  # type: ignore[index]
    assert -1 <= facts["evidence_comprehensiveness"] <= 1
    assert facts["n_evidence_codes"] == sum(any(one) for one in predictions["evidence"].to_pylist())
    run_small(tmp_path, small_notes, "predict", predict={"evidence": False})
    plain = pq.read_table(config.experiment_dir / "predictions.parquet")
    of_evidence = ["evidence", "text_digest"]
    assert [plain[name].null_count for name in of_evidence] == [len(plain)] * 2
    assert plain.drop_columns(of_evidence).equals(predictions.drop_columns(of_evidence))


def test_a_label_without_anything_for_it_has_no_span(tiny_encoder_dir: Path) -> None:
    classifier = build(tiny_encoder_dir)
    with torch.no_grad():
        classifier.head.weight.mul_(-1)  # type: ignore[operator, union-attr]
    assert explain(classifier, ["fever"], [[0]]) == [[[]]]
    assert np.isfinite(next(classifier.code_texts(["fever"], max_tokens=64)).probabilities).all()


def test_a_label_in_which_the_encoder_has_no_weight_has_no_evidence_of_its(tiny_encoder_dir: Path) -> None:
    """Label 1 has two training documents; in bands below three the encoder counts nothing."""
    classifier = build(tiny_encoder_dir)
    of_band = [[1.0, 0.0 if first < 3 else 0.5, 0.0] for first in FITTING_BAND_STARTS]
    model = replace(CodingModel.of_classifier(classifier), kind="ensemble", mixture=BandedLogistic(np.asarray(of_band)))
    assert model.labels_without_encoder() == {1}
    explainer = Explainer.of_model(model, max_tokens=64)
    assert explainer.without_encoder == {1}
    texts = ["fever and pneumonia", "pneumonia"]
    both, only = explainer.explain_texts(texts, [[1, 0], [1]])
    assert [[texts[0][one.start : one.end] for one in spans] for spans in both] == [[], ["fever"]]
    assert only == [[]]
    assert CodingModel.of_classifier(classifier).labels_without_encoder() == frozenset()


@pytest.mark.parametrize("block", [1, 4, 10])
def test_the_sample_is_even_over_the_rows_however_they_come(block: int) -> None:
    """4 of 10 documents: every third one. Of its codes one with a span is drawn; document 6 has none."""
    spans: list[Any] = [[], [Span(0, 1, 1.0, "other", "title")]]
    sample = FaithfulnessSample(10, n_documents=4)
    for first in range(0, 10, block):
        places = range(first, min(first + block, 10))
        found = [[[], []] if place == 6 else spans for place in places]
        sample.add(first, [[7, 8] for _ in places], found, [f"text {place}" for place in places])
    assert sample._drawn == [Explained(f"text {place}", 8, spans[1]) for place in (0, 3, 9)]


@pytest.mark.parametrize("cleaning", ["raw", "caml"])
def test_the_title_of_a_code_comes_first_in_offsets_of_the_text_as_given(tiny_encoder_dir: Path, cleaning: str) -> None:
    """The lexical part reads the whole text, the encoder here only its first tokens."""
    titles = TitleIndex.build(["Diabetes mellitus", None], load_synonyms())
    classifier = build(tiny_encoder_dir, cleaning=cleaning, max_tokens=12)
    text = "12 FEVER, pneumonia; " + "the " * 40 + "\r\nDiabetes: 12.5 mellitus --"
    explainer = replace(Explainer.of_model(CodingModel.of_classifier(classifier), max_tokens=64), titles=titles)
    ((first, second),) = explainer.explain_texts([text], [[0, 1]])
    assert [(text[one.start : one.end], one.source) for one in first] == [
        ("Diabetes: 12.5 mellitus", "title"),
        ("FEVER", "encoder"),
    ]
    assert [one.source for one in second] == ["encoder"]
