from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_cases import SETTINGS, batches_of, build_tiny
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.heads import build_head, start_from_prevalence
from pipeline.encoders.micro_batches import ChunkSettings, build_micro_batches
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.encoders.tokens import Tokenize
from pipeline.errors import UserError
from pipeline.notes.triggers import KINDS


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
        assert not (one.text_mask & ~one.attention_mask).any()
        assert one.text_mask.sum() == sum(len(ids[row]) for row in one.rows.tolist())


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
    assert head.bias.tolist() == pytest.approx([-0.0202, -5.293], abs=1e-3)  # type: ignore[operator]


def test_tokens_carry_offsets_context_and_what_was_cut(tiny_encoder_dir: Path) -> None:
    text = "Denies fever but has cough."
    columns = Tokenize(load_tokenizer(tiny_encoder_dir), 100, True)([text, "\u200b", "cough " * 200])
    words = [text[start:end] for start, end in zip(columns["token_starts"][0], columns["token_ends"][0], strict=True)]
    assert words[:2] == ["Denies", "fever"]
    negated = [word for word, context in zip(words, columns["context_ids"][0], strict=True) if context]
    assert negated == ["fever"]
    assert len(columns["input_ids"][1]) == 1
    assert columns["n_tokens_cut"] == [0, 0, 100]


@pytest.mark.parametrize("name", ["Bert", "Roberta", "XLMRoberta", "MPNet"])
def test_layers_of_bert_like_encoders_can_be_cached(name: str) -> None:
    batches = batches_of([[5, 6, 7], list(range(5, 45)), [9] * 20])
    encoder = DocumentEncoder(build_tiny(name), n_frozen_layers=2).eval()
    with torch.no_grad():
        expected = [encoder(batch).states for batch in batches]
        encoder.fill_cache(batches, 3, torch.device("cpu"), torch.float32)
        for batch, states in zip(batches, expected, strict=True):
            torch.testing.assert_close(encoder(batch).states, states, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["DebertaV2", "ConvBert"])
def test_layers_that_cannot_run_one_by_one_are_refused_and_not_silently_wrong(name: str) -> None:
    encoder = DocumentEncoder(build_tiny(name), n_frozen_layers=2)
    with pytest.raises(UserError, match=rf"layers of {name}Model do not run one by one. Set it to false"):
        encoder.fill_cache(batches_of([[5, 6, 7]]), 1, torch.device("cpu"), torch.float32)


def test_a_table_of_positions_that_frozen_layers_read_stays_as_it_is() -> None:
    encoder = DocumentEncoder(build_tiny("MPNet"), n_frozen_layers=1)
    encoder.train()(batches_of([[5, 6, 7]])[0]).states.sum().backward()
    trained = {name for name, one in encoder.named_parameters() if one.grad is not None}
    assert trained
    assert not [name for name in trained if "relative_attention_bias" in name]


def test_freezing_layers_of_an_encoder_built_otherwise_is_refused() -> None:
    with pytest.raises(UserError, match=r"DistilBertModel is built otherwise\. Set it to 0"):
        DocumentEncoder(build_tiny("DistilBert"), n_frozen_layers=1)


def test_a_cache_works_in_training_and_upper_layers_still_learn(tiny_encoder_dir: Path) -> None:
    batches = batches_of([[5, 6, 7], [9] * 20])
    encoder = load_encoder(tiny_encoder_dir, n_frozen_layers=1)
    encoder.fill_cache(batches, 2, torch.device("cpu"), torch.float32)
    encoder.train()
    sum(encoder(batch).states.square().sum() for batch in batches).backward()
    assert all(one.grad is not None for one in encoder.parameters() if one.requires_grad)
    assert any(one.requires_grad for one in encoder.parameters())


def test_a_bf16_cache_takes_half_the_memory_and_stays_close(tiny_encoder_dir: Path) -> None:
    batches = batches_of([[5, 6, 7], list(range(5, 45))])
    encoder = load_encoder(tiny_encoder_dir, n_frozen_layers=1).eval()
    with torch.no_grad():
        expected = [encoder(batch).states for batch in batches]
    n_bytes = []
    for dtype in (torch.float32, torch.bfloat16):
        encoder.fill_cache(batches, 2, torch.device("cpu"), dtype)
        assert encoder._cache is not None
        n_bytes.append(encoder._cache.n_bytes)
        with torch.no_grad():
            for batch, states in zip(batches, expected, strict=True):
                torch.testing.assert_close(encoder(batch).states, states, atol=0.1, rtol=0)
    n_tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
    assert n_bytes == [n_tokens * encoder.dim * 4, n_tokens * encoder.dim * 2]


def test_states_carry_their_context_mask_and_the_first_cls(tiny_encoder_dir: Path) -> None:
    encoder = load_encoder(tiny_encoder_dir).eval()
    ids, context = [list(range(5, 35)), [7, 8]], [[index % 3 for index in range(30)], [2, 1]]
    (batch,) = build_micro_batches([0, 1], ids, context, SETTINGS, max_tokens=1000)
    with torch.no_grad():
        tokens = encoder(batch)
        hidden = encoder.backbone(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long())[0]
    long = batch.rows.tolist().index(0)
    assert tokens.context_ids[long].tolist() == context[0]
    assert tokens.mask[1 - long].tolist() == [True, True] + [False] * (tokens.mask.shape[1] - 2)
    assert (tokens.states[~tokens.mask] == 0).all()
    first_chunk = ((batch.document_of_chunk == long) & (batch.chunk_of_document == 0)).nonzero().item()
    assert torch.equal(tokens.cls_states[long], hidden[first_chunk, 0])
    torch.testing.assert_close(tokens.pooled("mean")[1 - long], tokens.states[1 - long, :2].mean(dim=0))
    assert torch.equal(tokens.pooled("cls"), tokens.cls_states)


def test_the_packaged_encoder_gives_the_same_states_alone_and_in_a_batch(minilm_dir: Path) -> None:
    """The real weights, with padding and chunks: 1e-5, as for the random ones."""
    encoder, tokenizer = load_encoder(minilm_dir, chunk_tokens=512).eval(), load_tokenizer(minilm_dir)
    ids = tokenizer(["Chest pain.", "Patient with pneumonia and fever. " * 5], add_special_tokens=False)["input_ids"]
    settings = ChunkSettings(24, 0, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    context = [[0] * len(one) for one in ids]
    with torch.no_grad():
        together = encoder(build_micro_batches([0, 1], ids, context, settings, max_tokens=10_000)[0])
        for row in (0, 1):
            alone = encoder(build_micro_batches([0], [ids[row]], [context[row]], settings, max_tokens=10_000)[0])
            torch.testing.assert_close(together.states[row][together.mask[row]], alone.states[0], atol=1e-5, rtol=0)


def test_dropout_is_on_in_training_and_off_in_a_frozen_encoder(tiny_encoder_dir: Path) -> None:
    (batch,) = batches_of([[5, 6, 7]])
    encoder = load_encoder(tiny_encoder_dir).train()
    assert not torch.equal(encoder(batch).states, encoder(batch).states)
    encoder.freeze()
    encoder.train()
    assert torch.equal(encoder(batch).states, encoder(batch).states)
    assert not [name for name, one in encoder.named_parameters() if one.requires_grad]
    encoder.eval()
    assert not encoder.training


@pytest.mark.parametrize("freeze_embeddings", [True, False])
def test_word_embeddings_are_frozen_only_where_asked_for(tiny_encoder_dir: Path, freeze_embeddings: bool) -> None:
    encoder = load_encoder(tiny_encoder_dir, freeze_embeddings=freeze_embeddings).train()
    encoder(batches_of([[5, 6, 7]])[0]).states.square().sum().backward()
    words = encoder.backbone.get_input_embeddings().weight  # type: ignore[operator]
    assert (words.grad is None) == freeze_embeddings
    others = [one for name, one in encoder.named_parameters() if "word_embeddings" not in name]
    assert all(one.grad is not None for one in others), "a parameter without a gradient stalls distributed training"


def test_an_encoder_survives_saving(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    from pipeline.coding.classifier import save_encoder

    encoder = load_encoder(tiny_encoder_dir, n_frozen_layers=1).eval()
    save_encoder(encoder, load_tokenizer(tiny_encoder_dir), tmp_path / "saved")
    (batch,) = batches_of([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "saved").eval()(batch).states, encoder(batch).states)
    assert (
        load_tokenizer(tmp_path / "saved")("fever")["input_ids"]
        == load_tokenizer(tiny_encoder_dir)("fever")["input_ids"]
    )


def test_projections_have_length_one_even_under_bf16() -> None:
    from pipeline.encoders.encoder import ProjectionHead

    head = ProjectionHead(16, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projections = head(torch.randn(5, 16))
    assert projections.dtype == torch.float32
    torch.testing.assert_close(projections.norm(dim=-1), torch.ones(5))


@pytest.mark.parametrize(
    ("name", "changed", "longest"),
    [
        ("Bert", {}, 40),
        ("Roberta", {}, 38),
        ("RobertaPreLayerNorm", {}, 38),
        ("Data2VecText", {}, 38),
        ("IBert", {}, 38),
        ("MPNet", {}, 38),
        ("Luke", {"entity_vocab_size": 10, "entity_emb_size": 8}, 38),
        ("Roberta", {"pad_token_id": 0}, 39),
    ],
)
def test_a_window_ends_where_positions_end_which_may_start_behind_a_padding_index(
    tmp_path: Path, name: str, changed: dict[str, Any], longest: int
) -> None:
    """Of 40 positions behind the padding index 1, 38 are left; one token more than the window is an error inside."""
    model = build_tiny(name, **changed).eval()
    ids = torch.full((1, longest + 1), 5)
    model(ids[:, 1:])
    with pytest.raises((IndexError, RuntimeError)):
        model(ids)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    load_encoder(tmp_path, chunk_tokens=longest)
    with pytest.raises(UserError, match=rf"chunk_tokens is {longest + 1}, but this encoder reads at most {longest} "):
        load_encoder(tmp_path, chunk_tokens=longest + 1)
