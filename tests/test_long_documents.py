"""Documents longer than an encoder's window, in chunks; and encoders whose window holds them whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoder_cases import LONG_WINDOWS, SETTINGS, batches_of, build_tiny

from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.heads import build_head
from pipeline.encoders.micro_batches import ChunkSettings, build_micro_batches
from pipeline.encoders.pretrained import load_encoder
from pipeline.errors import UserError


def test_a_long_document_is_its_chunks_one_after_another_every_token_once(tiny_encoder_dir: Path) -> None:
    """40 tokens in windows of 12 that share 2: 0-11, 9-21, 19-30, 28-40 own 0-10, 10-20, 20-29, 29-40."""
    encoder = load_encoder(tiny_encoder_dir).eval()
    ids = list(range(5, 45))
    with torch.no_grad():
        whole = encoder(batches_of([ids])[0]).states[0]
        pooled = encoder(batches_of([ids])[0]).pooled("mean")[0]
        parts = [encoder(batches_of([ids[start:end]])[0]).states[0] for start, end in SETTINGS.chunks(len(ids))]
    owned = torch.cat([parts[0][:10], parts[1][1:11], parts[2][1:10], parts[3][1:]])
    assert len(owned) == 40
    torch.testing.assert_close(whole, owned, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, owned.mean(dim=0), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0, 64])
def test_8192_tokens_are_read_to_the_last_by_a_real_encoder_alone_or_in_a_batch(minilm_dir: Path, overlap: int) -> None:
    """17 chunks without overlap and 19 with: every token has its state once, and no chunk sees another's."""
    encoder = load_encoder(minilm_dir, chunk_tokens=512).eval()
    head = build_head("label_attention", encoder.dim, 3, dropout=0.0, pooling="mean").eval()
    settings = ChunkSettings(chunk_tokens=512, chunk_overlap=overlap, cls_id=101, sep_id=102, pad_id=0)
    long = torch.randint(1000, 20_000, (8192,), generator=torch.Generator().manual_seed(0)).tolist()
    short = [2045, 2003, 2019]

    def read(*documents: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        context = [[0] * len(one) for one in documents]
        found = {}
        for batch in build_micro_batches(range(len(documents)), documents, context, settings, max_tokens=16_384):
            tokens = encoder(batch)
            logits = head(tokens)
            for place, row in enumerate(batch.rows.tolist()):
                found[row] = tokens.states[place][tokens.mask[place]], logits[place]
        return [found[row] for row in range(len(documents))]

    assert len(settings.chunks(8192)) == (17 if overlap == 0 else 19)
    with torch.no_grad():
        (states, logits), _ = read(long, short)
        assert states.shape == (8192, encoder.dim)
        assert logits.isfinite().all()
        ((alone, alone_logits),) = read(long)
        torch.testing.assert_close(states, alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(logits, alone_logits, atol=1e-4, rtol=0)
        ((changed, changed_logits),) = read([*long[:-1], 2000])
    moved = (changed - alone).abs().amax(dim=1) > 1e-3
    last_chunk = settings.chunks(8192)[-1][0]
    assert moved[-1]
    assert not moved[:last_chunk].any()
    assert not torch.equal(changed_logits, alone_logits), "the last token counts"


@pytest.mark.parametrize("name", LONG_WINDOWS)
def test_encoders_with_long_windows_read_a_document_in_one_chunk_and_all_their_weights_learn(name: str) -> None:
    """Texts of 500 and 480 tokens; attention is local, so a change at one end reaches the other by way of CLS alone."""
    backbone = build_tiny(name, max_position_embeddings=602, pad_token_id=0, **LONG_WINDOWS[name])
    if hasattr(backbone, "pooler"):
        backbone.pooler = None  # as load_encoder does
    settings = ChunkSettings(chunk_tokens=600, chunk_overlap=0, cls_id=2, sep_id=3, pad_id=0)
    ids = [[5 + 7 * index % 90 for index in range(500)], [5 + index % 90 for index in range(480)]]
    context = [[0] * len(one) for one in ids]
    encoder = DocumentEncoder(backbone).eval()
    (batch,) = build_micro_batches([0, 1], ids, context, settings, max_tokens=5000)
    assert batch.input_ids.shape == (2, 504)
    with torch.no_grad():
        together = encoder(batch)
        for place, row in enumerate(batch.rows.tolist()):
            alone = encoder(build_micro_batches([row], [ids[row]], [context[row]], settings, max_tokens=5000)[0])
            n = len(ids[row])
            torch.testing.assert_close(together.states[place, :n], alone.states[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(together.cls_states[place], alone.cls_states[0], atol=1e-5, rtol=0)
        other = [[*ids[0][:-1], 99], ids[1]]
        changed = encoder(build_micro_batches([0, 1], other, context, settings, max_tokens=5000)[0])
    place = batch.rows.tolist().index(0)
    assert not torch.allclose(changed.cls_states[place], together.cls_states[place], atol=1e-7), "CLS sees the end"
    encoder.train()
    encoder(batch).states.square().sum().backward()
    assert not [name for name, one in encoder.named_parameters() if one.requires_grad and one.grad is None]


def test_layers_of_modern_bert_can_be_frozen_but_not_cached() -> None:
    encoder = DocumentEncoder(build_tiny("ModernBert", pad_token_id=0, **LONG_WINDOWS["ModernBert"]), n_frozen_layers=2)
    trained = {name.split(".")[2] for name, one in encoder.named_parameters() if one.requires_grad and "layers" in name}
    assert trained == {"2"}
    with pytest.raises(UserError, match="layers of ModernBertModel do not run one by one"):
        encoder.fill_cache(batches_of([[5, 6, 7]]), 1, torch.device("cpu"), torch.float32)


def test_a_document_reads_the_same_before_and_after_a_short_one_in_big_bird(tmp_path: Path) -> None:
    """Its sparse attention would change to full attention for good with the first short input."""
    sparse = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    build_tiny("BigBird", max_position_embeddings=202, pad_token_id=0, **sparse).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path).eval()
    settings = ChunkSettings(chunk_tokens=200, chunk_overlap=0, cls_id=2, sep_id=3, pad_id=0)
    long, short = [5 + 7 * index % 90 for index in range(150)], [5, 6, 7]

    def read(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return encoder(build_micro_batches([0], [ids], [[0] * len(ids)], settings, max_tokens=500)[0]).states[0]

    before = read(long)
    read(short)
    assert torch.equal(read(long), before)
