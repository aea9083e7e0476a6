"""Which attention an encoder computes with, and that it is the same attention."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, FNetConfig, FNetModel, ModernBertConfig

from pipeline.encoders.cpu_attention import dropout_setting
from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.micro_batches import ChunkSettings, MicroBatch, build_micro_batches
from pipeline.encoders.pretrained import load_encoder
from pipeline.errors import UserError

SETTINGS = ChunkSettings(chunk_tokens=24, chunk_overlap=2, cls_id=2, sep_id=3, pad_id=0)


def a_batch() -> MicroBatch:
    """Documents of several lengths, one of them in chunks, so that there is padding to be masked."""
    ids = [[5 + (7 * place + n) % 50 for place in range(n)] for n in (3, 12, 17, 21, 40)]
    context = [[0] * len(one) for one in ids]
    (batch,) = build_micro_batches(range(len(ids)), ids, context, SETTINGS, max_tokens=100_000)
    return batch


def gradients(encoder: DocumentEncoder, *, precision: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """States and all gradients of a training pass without dropout of hidden states."""
    encoder.zero_grad()
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        states = encoder(a_batch()).states
    states.float().square().sum().backward()
    found = [one.grad.flatten() for one in encoder.parameters() if one.grad is not None]
    return states.detach().float(), torch.cat(found)


def attention_of(encoder: DocumentEncoder) -> str:
    return str(encoder.backbone.config._attn_implementation)  # type: ignore[union-attr]


@pytest.fixture
def encoders(tiny_encoder_dir: Path) -> tuple[DocumentEncoder, DocumentEncoder]:
    """One with the attention of trainings without dropout, one with the plain formula; the same weights."""
    fused = load_encoder(tiny_encoder_dir, attention_dropout=0.0)
    for module in fused.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    plain = copy.deepcopy(fused)
    fused.train()
    plain.train()
    plain.backbone.set_attn_implementation("eager")  # type: ignore[operator]
    return fused, plain


def test_without_dropout_a_training_on_a_cpu_computes_the_very_attention_of_the_plain_formula(
    encoders: tuple[DocumentEncoder, DocumentEncoder],
) -> None:
    fused, plain = encoders
    assert (attention_of(fused), attention_of(plain)) == ("sdpa_float32", "eager")
    for one, other in zip(gradients(fused), gradients(plain), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_in_bf16_it_is_as_near_to_float32_as_the_plain_formula(
    encoders: tuple[DocumentEncoder, DocumentEncoder],
) -> None:
    fused, plain = encoders
    states, exact = gradients(plain)
    errors = []
    for encoder in (fused, plain):
        half, found = gradients(encoder, precision=torch.bfloat16)
        torch.testing.assert_close(half, states, atol=0.1, rtol=0.05)
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[0] < 1.2 * errors[1] + 1e-3


@pytest.mark.parametrize(("asked", "expected"), [(None, "eager"), (0.3, "eager"), (0.0, "sdpa_float32")])
def test_the_dropout_asked_for_decides_and_use_is_fused_in_any_case(
    tiny_encoder_dir: Path, asked: float | None, expected: str
) -> None:
    encoder = load_encoder(tiny_encoder_dir, attention_dropout=asked)
    assert encoder.backbone.config.attention_probs_dropout_prob == (0.1 if asked is None else asked)  # type: ignore[union-attr]
    assert attention_of(encoder.train()) == expected
    assert attention_of(encoder.eval()) == "sdpa"


def test_a_dropout_that_an_encoder_has_no_setting_for_is_refused_and_not_ignored(tmp_path: Path) -> None:
    FNetModel(FNetConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, intermediate_size=8)).save_pretrained(
        tmp_path
    )
    with pytest.raises(UserError, match=r"attention_dropout is 0.0, but encoders of type 'fnet' have no such setting"):
        load_encoder(tmp_path, attention_dropout=0.0)
    with pytest.raises(UserError, match=r"an encoder of type 'fnet' cannot be run here \(ValueError: FNetModel"):
        load_encoder(tmp_path)


def test_the_setting_is_found_under_the_names_that_encoders_give_it() -> None:
    assert dropout_setting(BertConfig()) == "attention_probs_dropout_prob"
    assert dropout_setting(ModernBertConfig()) == "attention_dropout"
    assert dropout_setting(FNetConfig()) is None
