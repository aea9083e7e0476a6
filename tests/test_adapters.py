"""LoRA: what is trained, and that a saved encoder is a plain one again."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from pipeline.coding.classifier import save_encoder
from pipeline.coding.ensemble import CodingModel
from pipeline.encoders.adapters import add_adapters, merge_adapters
from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.micro_batches import ChunkSettings, MicroBatch, build_micro_batches
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.files import sha256_of


@pytest.fixture
def batch() -> MicroBatch:
    (one,) = build_micro_batches([0], [[5, 6, 7, 8]], [[0] * 4], ChunkSettings(16, 2, 2, 3, 0), max_tokens=64)
    return one


def states(encoder: DocumentEncoder, batch: MicroBatch) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = encoder.eval()(batch).states
    return result


def train_a_little(encoder: DocumentEncoder, batch: MicroBatch) -> None:
    optimizer = torch.optim.SGD([one for one in encoder.parameters() if one.requires_grad], lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        encoder.eval()(batch).states[..., 0].square().sum().backward()
        optimizer.step()


def test_adapters_change_nothing_until_they_are_trained(tiny_encoder_dir: Path, batch: MicroBatch) -> None:
    encoder = load_encoder(tiny_encoder_dir)
    before = states(encoder, batch)
    add_adapters(encoder, 2)
    assert torch.equal(states(encoder, batch), before)


def test_only_adapters_of_layers_that_are_not_frozen_are_trained(tiny_encoder_dir: Path, batch: MicroBatch) -> None:
    encoder = load_encoder(tiny_encoder_dir, n_frozen_layers=1)
    add_adapters(encoder, 2)
    trained = {name for name, one in encoder.named_parameters() if one.requires_grad}
    assert trained
    assert all("lora_" in name and "encoder.layer.1" in name for name in trained)
    before = copy.deepcopy({name: one for name, one in encoder.named_parameters() if name not in trained})
    train_a_little(encoder, batch)
    after = dict(encoder.named_parameters())
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_a_trained_encoder_is_saved_as_a_plain_one_with_what_it_learned(
    tiny_encoder_dir: Path, tmp_path: Path, batch: MicroBatch
) -> None:
    encoder = load_encoder(tiny_encoder_dir)
    before = states(encoder, batch)
    add_adapters(encoder, 2)
    train_a_little(encoder, batch)
    learned = states(encoder, batch)
    assert not torch.allclose(learned, before, atol=1e-3)
    save_encoder(encoder, load_tokenizer(tiny_encoder_dir), tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == load_file(
        tiny_encoder_dir / "model.safetensors"
    ).keys() - {name for name in load_file(tiny_encoder_dir / "model.safetensors") if "pooler" in name}
    torch.testing.assert_close(states(load_encoder(tmp_path / "saved"), batch), learned, atol=1e-5, rtol=0)
    torch.testing.assert_close(states(encoder, batch), learned, atol=1e-5, rtol=0)


def test_merging_leaves_an_encoder_without_adapters_as_it_is(tiny_encoder_dir: Path, batch: MicroBatch) -> None:
    encoder = load_encoder(tiny_encoder_dir)
    before = states(encoder, batch)
    merge_adapters(encoder)
    assert torch.equal(states(encoder, batch), before)


def test_a_wholly_frozen_encoder_cannot_have_adapters(tiny_encoder_dir: Path) -> None:
    encoder = load_encoder(tiny_encoder_dir, n_frozen_layers=2)
    with pytest.raises(UserError, match="n_frozen_layers"):
        add_adapters(encoder, 2)


def test_without_peft_the_extra_is_named(tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"icd-contrast\[lora\]"):
        add_adapters(load_encoder(tiny_encoder_dir), 2)


def test_two_trainings_of_adapters_are_alike(
    tmp_path: Path, run_small: Callable[..., PipelineConfig], small_notes: list[dict[str, Any]]
) -> None:
    """They start at random, so behind the seed: the second run finds another state of the generators."""
    digests = []
    for name in ("first", "second"):
        config = run_small(
            tmp_path / name,
            small_notes,
            "ingest split tokenize train_encoder",
            encoding={"chunk_tokens": 32, "lora_rank": 2},
            train_encoder={"loss": "sd", "n_epochs": 1, "global_batch_size": 8, "learning_rate": 1e-2},
        )
        digests.append(sha256_of(config.experiment_dir / "encoder" / "model.safetensors"))
        torch.rand(7)
    assert digests[0] == digests[1]


def test_split_val_is_judged_by_the_arithmetic_of_the_saved_model(
    tmp_path: Path,
    run_small: Callable[..., PipelineConfig],
    small_notes: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In bf16, adapters beside their layers and frozen layers from a cache round otherwise than merged ones."""
    monkeypatch.setattr("pipeline.encoders.precision.has_bf16", lambda kind: True)  # emulated where this CPU has none
    config = run_small(
        tmp_path,
        small_notes,
        "ingest split tokenize train_encoder train_classifier",
        encoding={"chunk_tokens": 32, "lora_rank": 2, "n_frozen_layers": 1, "cache_frozen_layers": True},
        train_encoder={"loss": "none"},
        train_classifier={
            "model": "neural",
            "n_epochs": 2,
            "global_batch_size": 8,
            "learning_rate": 1e-2,
            "mixed_precision": "bf16",
        },
    )
    val = pq.read_table(config.experiment_dir / "held_out.parquet").to_pylist()
    documents = pq.read_table(config.experiment_dir / "documents.parquet").to_pylist()
    texts = {one["document_id"]: one["text"] for one in documents}
    model = CodingModel.load(config.experiment_dir / "classifier").to("cpu", "bf16")
    coded = model.code_texts([texts[row["document_id"]] for row in val], max_tokens=2048)
    found = [one.probabilities for one in coded]
    np.testing.assert_allclose(np.array(found), np.array([row["probabilities"] for row in val]), atol=1e-6)
