"""`icd predict` as a user runs it, on input that is odd, broken, or for another model."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from pipeline.__main__ import main
from pipeline.coding.classifier import Classifier, ClassifierSettings
from pipeline.coding.ensemble import CodingModel
from pipeline.encoders.heads import build_head
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.experiment.config import PipelineConfig
from pipeline.icd.labels import LabelSpace
from pipeline.stages.predict import _warn_of_cut

SECRET = "Xqzvcanary"
SPACE = LabelSpace(("icd10cm:E11.9", "icd10cm:I10", "icd10cm:J18.9"), ("Diabetes", "Hypertension", None), (3, 2, 1))


@pytest.fixture
def model(tiny_encoder_dir: Path, tmp_path: Path) -> Path:
    torch.manual_seed(3)
    encoder = load_encoder(tiny_encoder_dir).eval()
    head = build_head("label_attention", encoder.dim, len(SPACE), dropout=0.0, pooling="mean").eval()
    settings = ClassifierSettings("label_attention", "mean", 16, 0, 64, True, "raw")
    folder = tmp_path / "model"
    classifier = Classifier(encoder, head, load_tokenizer(tiny_encoder_dir), SPACE, settings)
    CodingModel.of_classifier(classifier, threshold=0.3).save(folder)
    return folder


@pytest.fixture(scope="module")
def ensemble(
    run_small: Callable[..., PipelineConfig],
    small_notes: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Encoder, TF-IDF and titles, as a run leaves them."""
    stages, settings = "ingest split tokenize train_encoder train_classifier", {"model": "ensemble", "n_epochs": 1}
    config = run_small(tmp_path_factory.mktemp("ensemble"), small_notes, stages, train_classifier=settings)
    return config.experiment_dir / "classifier"


def predict(model: Path, source: Path, output: Path, *more: str) -> int:
    return main(["predict", "--model", str(model), "--input", str(source), "--output", str(output), *more])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ODD_TEXTS = {
    "French": "Le patient présente une pneumonie sévère, sans fièvre.",
    "Chinese": "患者有肺炎和发烧，没有糖尿病。" * 30,
    "Arabic": "المريض يعاني من الحمى",
    "empty": "",
    "blanks": " \n\t \r\n ",
    "placeholders": "___ ___\n[**Known lastname 123**] ___",
    "garbage": "\0\x01\x02\x1b[0m\x7f\u0085\ufffe\ufffd" * 40,
    "half a pair": "cut \ud83d off",
    "one word": "x" * 5000,
    "marks": "!?#$%&*()" * 100,
    "special tokens": "[CLS] [SEP] [PAD] [MASK] fever",
}


@pytest.mark.parametrize(
    ("kind", "suffix"), [("model", "csv"), ("model", "jsonl"), ("model", "parquet"), ("ensemble", "jsonl")]
)
def test_odd_documents_are_coded_all_with_evidence_inside_them(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, suffix: str
) -> None:
    model = request.getfixturevalue(kind)
    source, output = tmp_path / "notes.jsonl", tmp_path / f"codes.{suffix}"
    source.write_text("".join(json.dumps({"document_id": one, "text": text}) + "\n" for one, text in ODD_TEXTS.items()))
    with caplog.at_level(logging.WARNING):
        assert predict(model, source, output, "--evidence", "--top-k", "2") == 0
    assert f"2 of {len(ODD_TEXTS)} documents have no text, and so no codes (first: empty)" in caplog.text
    from pipeline.coding.code_files import text_digest
    from pipeline.coding.code_reading import read_codes

    found = list(read_codes(output))
    assert [one.document_id for one in found] == list(ODD_TEXTS)
    for document_id, codes, digest in found:
        assert digest == text_digest(ODD_TEXTS[document_id].replace("\ud83d", "\ufffd"))
        assert len(codes) == (0 if document_id in ("empty", "blanks") else 2)
        for code in codes:
            assert 0 < code.probability <= 1, "written with six digits"
            for span in code.evidence or ():
                assert 0 <= span.start < span.end <= len(ODD_TEXTS[document_id])
                assert span.sentence is not None
                assert span.sentence[0] <= span.start < span.end <= span.sentence[1]


def test_a_note_of_200000_words_is_coded_by_its_beginning_and_that_is_said(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model reads 64 tokens; what stands behind them changes nothing, whatever its length."""
    beginning = "the patient has fever and cough " * 10 + "the patient has fever"  # 64 tokens
    texts = {"short": beginning, "long": beginning + " pneumonia in the mother ." * 40_000}
    source, output = tmp_path / "notes.jsonl", tmp_path / "codes.jsonl"
    source.write_text("".join(json.dumps({"document_id": one, "text": text}) + "\n" for one, text in texts.items()))
    assert predict(model, source, output, "--evidence", "--top-k", "3") == 0
    limit = "the encoder reads (64 tokens)"
    said = f"1 of 2 documents are longer than {limit}; what stands behind was not read by it (first: long)"
    assert said in caplog.messages
    short, long = rows_of(output)
    assert [code["code"] for code in long["codes"]] == [code["code"] for code in short["codes"]]
    for one, other in zip(long["codes"], short["codes"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert all(span["end"] <= len(beginning) for span in one["evidence"])


def test_the_stage_says_how_many_documents_of_a_run_were_cut(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = datasets.Dataset.from_dict({"document_id": ["a", "b", "c"], "n_tokens_cut": [0, 7, 1]})
    _warn_of_cut(None, tokens)
    assert not caplog.messages, "a lexical model reads all"
    _warn_of_cut(CodingModel.load(model).neural, tokens)
    assert "2 of 3 documents are longer than the encoder reads (64 tokens)" in caplog.text
    assert "(first: b)" in caplog.text


@pytest.mark.slow
def test_an_ensemble_reads_a_note_of_200000_words_to_its_end(ensemble: Path, tmp_path: Path) -> None:
    """TF-IDF and titles know no limit: what only the last sentence says is found and shown there."""
    text = "No cough was seen in the mother. " * 28_600 + "The patient has fever and pneumonia ."
    source, output = tmp_path / "notes.jsonl", tmp_path / "codes.jsonl"
    source.write_text(json.dumps({"document_id": "long", "text": text}) + "\n")
    assert predict(ensemble, source, output, "--evidence", "--top-k", "3") == 0
    codes = {code["code"]: code for code in rows_of(output)[0]["codes"]}
    pneumonia = [span for span in codes["J18.9"]["evidence"] if span["source"] == "title"]
    assert [text[span["start"] : span["end"]] for span in pneumonia] == ["pneumonia"]


def test_labels_in_the_input_are_not_looked_at_known_or_not(model: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("document_id,text\na,fever\n")
    (tmp_path / "coded.csv").write_text("labels,document_id,split,text\nicd10cm:Z99.9|nonsense,a,test,fever\n")
    for name in ("plain", "coded"):
        assert predict(model, tmp_path / f"{name}.csv", tmp_path / f"{name}.jsonl", "--top-k", "3") == 0
    assert rows_of(tmp_path / "coded.jsonl") == rows_of(tmp_path / "plain.jsonl")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\xff\xfe" + SECRET.encode()),
        ("a.csv", b"document_id,text\na,\xff\xfe" + SECRET.encode()),
        ("a.jsonl", b"\xff\xfe" + SECRET.encode("utf-16-le")),
        ("a.jsonl", b'{"document_id": "a", "text": "\0' + SECRET.encode() + b'"}'),
        ("a.parquet", b"PAR1" + SECRET.encode() * 9 + b"PAR1"),
    ],
)
def test_binary_garbage_for_a_file_is_one_line_that_quotes_nothing_and_leaves_no_output(
    model: Path, tmp_path: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert predict(model, tmp_path / name, tmp_path / "codes.csv") == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert name in said.err
    assert len(said.err.splitlines()) == 1
    assert SECRET not in said.err + said.out
    assert not (tmp_path / "codes.csv").exists()


def another_version(folder: Path) -> None:
    description = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps(description | {"format_version": 99}))


def tampered(folder: Path) -> None:
    content = (folder / "head.safetensors").read_bytes()
    (folder / "head.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (another_version, "format version 99, this program reads"),
        (tampered, "is not what training wrote (its digest differs)"),
        (lambda folder: (folder / "head.safetensors").unlink(), "head.safetensors is missing; copy the whole folder"),
        (lambda folder: (folder / "classifier.json").unlink(), "no classifier.json; expected the folder"),
    ],
)
def test_a_model_folder_that_is_not_what_training_wrote_is_one_line_and_leaves_an_earlier_output(
    model: Path, tmp_path: Path, damage: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(model)
    (tmp_path / "a.csv").write_text("document_id,text\na,fever\n")
    (tmp_path / "codes.csv").write_text("earlier")
    assert predict(model, tmp_path / "a.csv", tmp_path / "codes.csv") == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert (tmp_path / "codes.csv").read_text() == "earlier"


def test_a_bug_says_type_and_place_and_quotes_no_text(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Classifier, texts: list[str], **_: object) -> None:
        raise RuntimeError(f"cannot read {texts}")

    monkeypatch.setattr(Classifier, "code_texts", fail)
    monkeypatch.delenv("ICD_TRACEBACK", raising=False)
    (tmp_path / "a.csv").write_text(f"document_id,text\na,{SECRET}\n")
    assert predict(model, tmp_path / "a.csv", tmp_path / "codes.csv") == 1
    said = capsys.readouterr().err
    assert "RuntimeError at " in said
    assert "in fail" in said
    assert "ICD_TRACEBACK=1" in said
    assert SECRET not in said
    monkeypatch.setenv("ICD_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match=SECRET):
        predict(model, tmp_path / "a.csv", tmp_path / "codes.csv")


def test_evidence_in_csv_is_a_list_in_one_column(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("document_id,text\na,the patient has fever\n")
    assert predict(model, tmp_path / "a.csv", tmp_path / "codes.csv", "--evidence", "--top-k", "1") == 0
    with (tmp_path / "codes.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    for span in json.loads(row["evidence"]):
        assert set(span) == {"start", "end", "section", "score", "source", "sentence_start", "sentence_end"}
        assert span["sentence_start"] <= span["start"] < span["end"] <= span["sentence_end"]


def test_precision_reaches_the_encoder_and_fp16_asks_for_a_gpu(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.encoders.precision.has_bf16", lambda kind: True)  # emulated where this CPU has none
    (tmp_path / "a.csv").write_text("document_id,text\na,the patient has fever and cough\n")
    found = {}
    for precision in ("no", "bf16"):
        output = tmp_path / f"{precision}.jsonl"
        assert predict(model, tmp_path / "a.csv", output, "--top-k", "3", "--mixed-precision", precision) == 0
        found[precision] = {code["code"]: code["probability"] for code in rows_of(output)[0]["codes"]}
    assert found["no"] != found["bf16"]
    assert found["no"] == pytest.approx(found["bf16"], abs=0.05)
    if not torch.cuda.is_available():
        assert predict(model, tmp_path / "a.csv", tmp_path / "b.jsonl", "--mixed-precision", "fp16") == 2
        assert "'fp16' needs a GPU" in capsys.readouterr().err
