"""A saved classifier: the same probabilities after loading, refused where anything is missing or changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch import nn

from pipeline.coding import classifier as module
from pipeline.coding.classifier import Classifier, ClassifierSettings, embed_texts, predict_rows
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.model_folder import digest_of
from pipeline.encoders.heads import LabelAttentionHead, build_head
from pipeline.encoders.micro_batches import build_micro_batches
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.encoders.tokens import Tokenize
from pipeline.errors import UserError
from pipeline.files import sha256_of
from pipeline.icd.labels import LabelSpace
from pipeline.notes.text import clean

SPACE = LabelSpace(("icd10cm:E11.9", "icd10cm:I10", "icd10cm:J18.9"), (None, "Hypertension", None), (3, 2, 1))
TEXTS = [
    "The patient has fever.", "", "No cough. " * 30, "mother had diabetes", "  \n", "pneumonia", "\u200b",
    "Family History:\nmother had diabetes\nHPI:\nfever",
]  # fmt: skip


def build(folder: Path, head: str = "label_attention", **changed: Any) -> Classifier:
    torch.manual_seed(3)
    encoder = load_encoder(folder).eval()
    values: dict[str, Any] = {
        "head": head, "pooling": "cls", "chunk_tokens": 16, "chunk_overlap": 2, "max_tokens": 40, "has_context": True,
        "cleaning": "caml",
    }  # fmt: skip
    module = build_head(head, encoder.dim, len(SPACE), dropout=0.5, pooling="cls").eval()
    if isinstance(module, LabelAttentionHead):
        nn.init.normal_(module.context.weight)  # so that contexts matter
    return Classifier(encoder, module, load_tokenizer(folder), SPACE, ClassifierSettings(**values | changed))


def coded(classifier: Classifier, texts: list[str], max_tokens: int = 64) -> np.ndarray:
    return np.stack([one.probabilities for one in classifier.code_texts(texts, max_tokens=max_tokens)])


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("head", ["linear", "label_attention", "laat"])
def test_a_loaded_classifier_gives_the_very_probabilities_of_the_saved_one(
    tiny_encoder_dir: Path, tmp_path: Path, head: str
) -> None:
    classifier = build(tiny_encoder_dir, head)
    CodingModel.of_classifier(classifier).save(tmp_path / "c")
    loaded = Classifier.load(tmp_path / "c")
    assert (loaded.settings, loaded.label_space) == (classifier.settings, SPACE)
    assert not loaded.encoder.training
    assert not loaded.head.training
    assert np.array_equal(coded(loaded, TEXTS), coded(classifier, TEXTS))
    suffixes = {path.suffix for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt"}, "nothing pickled"


@pytest.mark.parametrize("block", [3, 256])
def test_texts_and_rows_of_the_same_documents_get_the_same_probabilities(
    tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Through the tokens of the pipeline in another order, and as texts, cleaned here; blocks of 3 do not divide 8."""
    monkeypatch.setattr(module, "_BLOCK", block)
    classifier = build(tiny_encoder_dir)
    columns = Tokenize(classifier.tokenizer, 40, has_context=True)([clean(text, "caml") for text in TEXTS])
    tokens = datasets.Dataset.from_dict({name: columns[name] for name in ("input_ids", "context_ids")})
    rows = [5, 0, 7, 3, 1, 2, 6, 4]
    parts = list(predict_rows(classifier.encoder, classifier.head, tokens, rows, classifier.chunks, max_tokens=50))
    assert [len(one) for one in parts] == ([3, 3, 2] if block == 3 else [8])
    by_row = np.concatenate(parts)
    assert by_row.dtype == np.float32
    assert by_row.shape == (8, 3)
    by_text = coded(classifier, TEXTS)
    np.testing.assert_allclose(by_text[rows], by_row, atol=1e-6)
    for text, expected in zip(TEXTS, by_text, strict=True):
        np.testing.assert_allclose(coded(classifier, [text], max_tokens=1)[0], expected, atol=1e-6)
    assert len(np.unique(by_row[:, 0].round(4))) > 4, "documents differ, so an order mixed up would be seen"


def test_a_text_without_a_token_gets_finite_probabilities_and_none_at_all_gives_nothing(tiny_encoder_dir: Path) -> None:
    classifier = build(tiny_encoder_dir)
    empty = coded(classifier, ["", " \n"])
    assert np.isfinite(empty).all()
    assert ((empty > 0) & (empty < 1)).all()
    assert list(classifier.code_texts([], max_tokens=64)) == []
    assert list(predict_rows(classifier.encoder, classifier.head, [], [], classifier.chunks, max_tokens=64)) == []


def test_texts_stream_block_by_block(tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)
    n_read = 0

    def texts() -> Iterator[str]:
        nonlocal n_read
        for text in TEXTS:
            n_read += 1
            yield text

    next(build(tiny_encoder_dir).code_texts(texts(), max_tokens=64))
    assert n_read == 2


@pytest.mark.parametrize("is_training", [True, False])
def test_coding_is_without_dropout_and_leaves_the_mode_as_it_was(tiny_encoder_dir: Path, is_training: bool) -> None:
    classifier = build(tiny_encoder_dir)
    expected = coded(classifier, TEXTS)
    classifier.encoder.train(is_training)
    classifier.head.train(is_training)
    np.testing.assert_allclose(coded(classifier, TEXTS), expected, atol=1e-6)
    assert (classifier.encoder.training, classifier.head.training) == (is_training, is_training)


def test_bf16_is_close_to_float32_and_finite(tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.encoders.precision.has_bf16", lambda kind: True)  # emulated where this CPU has none
    classifier = build(tiny_encoder_dir)
    half = coded(classifier.to("cpu", "bf16"), TEXTS)
    assert half.dtype == np.float32
    whole = coded(classifier, TEXTS)
    assert (half != whole).any()
    np.testing.assert_allclose(half, whole, atol=0.03)


@pytest.mark.parametrize(
    "case",  # trained in, whether the machine has bf16, computes in
    [("no", True, "no"), ("bf16", True, "bf16"), ("bf16", False, "no"), ("fp16", True, "no")],
)
def test_a_model_computes_in_what_it_was_trained_in_where_the_machine_has_it(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, bool, str]
) -> None:
    trained, has_bf16, expected = case
    monkeypatch.setattr("pipeline.encoders.precision.has_bf16", lambda kind: has_bf16)
    CodingModel.of_classifier(build(tiny_encoder_dir, precision=trained)).save(tmp_path / "c")
    model = CodingModel.load(tmp_path / "c")
    neural, asked = model.to("cpu").neural, model.to("cpu", "no").neural
    assert neural is not None
    assert neural.precision == expected
    assert asked is not None
    assert asked.precision == "no"
    with pytest.raises(UserError, match="'fp16' needs a GPU"):
        model.to("cpu", "fp16")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 2),
        ("has_context", False),
        ("cleaning", "raw"),
        ("chunk_tokens", 8),
        ("placeholder", "mother"),
        ("max_words", 3),
    ],
)
def test_every_setting_of_reading_reaches_the_probabilities(tiny_encoder_dir: Path, name: str, value: Any) -> None:
    text = ["No fever 12 Cough, and the patient ___ has pneumonia"]
    whole, changed = build(tiny_encoder_dir), build(tiny_encoder_dir, "label_attention", **{name: value})
    assert not np.allclose(coded(whole, text), coded(changed, text), atol=1e-6)


def damaged(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def described(**changed: Any) -> Callable[[Path], None]:
    """Rewrite entries of classifier.json, as if training had; None takes one out."""

    def change(folder: Path) -> None:
        description = json.loads((folder / "classifier.json").read_text()) | changed | {"sha256_of_this": None}
        kept = {name: value for name, value in description.items() if value is not None}
        (folder / "classifier.json").write_text(json.dumps(kept | {"sha256_of_this": digest_of(kept)}))

    return change


def swap_label_space(folder: Path) -> None:
    """Another label space with a digest that is right: only the head's size tells."""
    LabelSpace(SPACE.labels[:2], SPACE.titles[:2], (1, 1)).save(folder / "label_space.json")
    digests = json.loads((folder / "classifier.json").read_text())["sha256"]
    described(sha256=digests | {"label_space.json": sha256_of(folder / "label_space.json")})(folder)


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def flip_last(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (unlink("classifier.json"), r"no classifier\.json; expected the folder that 'train_classifier'"),
        (unlink("head.safetensors"), r"head\.safetensors is missing; copy the whole folder"),
        (unlink("label_space.json"), r"label_space\.json is missing"),
        (unlink("encoder/tokenizer.json"), "encoder is not what training wrote"),
        (damaged("head.safetensors", flip_last), r"head\.safetensors is not what training wrote"),
        (damaged("encoder/model.safetensors", flip_last), "encoder is not what training wrote"),
        (damaged("encoder/config.json", lambda content: content + b" "), "encoder is not what training wrote"),
        (damaged("label_space.json", lambda content: content.replace(b"I10", b"I11")), "is not what training wrote"),
        (lambda folder: (folder / "encoder" / "more.json").touch(), "encoder is not what training wrote"),
        (damaged("classifier.json", lambda content: content[:40]), r"classifier\.json is damaged"),
        (described(format_version=1), "format version 1, this program reads 6"),
        (described(sha256={}), r"classifier\.json is damaged"),
        (described(sha256=None), r"classifier\.json is damaged"),
        (described(sha256={"label_space.json": "", "../x": ""}), "names files outside the folder"),
        (described(sha256={"label_space.json": "", "..": ""}), "names files outside the folder"),
        (described(settings=None), r"classifier\.json is damaged"),
        (described(settings={"head": "linear"}), r"classifier\.json is damaged"),
        (damaged("classifier.json", lambda text: text.replace(b"caml", b"edin")), "is not what training wrote"),
        (damaged("classifier.json", lambda text: text.replace(b"neural", b"ensemble")), "is not what training wrote"),
        (damaged("classifier.json", lambda _: b"[]"), "format version None"),
        (swap_label_space, "the head does not fit the label space"),
    ],
)
def test_a_folder_that_is_incomplete_or_changed_is_refused(
    tiny_encoder_dir: Path, tmp_path: Path, damage: Callable[[Path], object], expected: str
) -> None:
    CodingModel.of_classifier(build(tiny_encoder_dir)).save(tmp_path / "c")
    damage(tmp_path / "c")
    with pytest.raises(UserError, match=expected):
        Classifier.load(tmp_path / "c")


def test_a_short_text_is_embedded_as_the_mean_of_its_tokens_in_the_order_given(tiny_encoder_dir: Path) -> None:
    classifier = build(tiny_encoder_dir)
    texts = ["diabetes and fever in the mother", "", "cough"]
    embeddings = embed_texts(classifier.encoder, classifier.tokenizer, texts, classifier.chunks)
    assert embeddings.shape == (3, classifier.encoder.dim)
    assert embeddings.isfinite().all()
    for row in (0, 2):
        ids = classifier.tokenizer(texts[row], add_special_tokens=False)["input_ids"]
        (batch,) = build_micro_batches([0], [ids], [[0] * len(ids)], classifier.chunks, max_tokens=64)
        with torch.no_grad():
            states = classifier.encoder.backbone(batch.input_ids, batch.attention_mask.long())[0]
            hidden = states[0, 1 : len(ids) + 1]
        torch.testing.assert_close(embeddings[row], hidden.mean(dim=0))
