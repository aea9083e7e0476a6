"""Prototypes of a loss start where the encoder sees the titles of the codes."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.encoder import ProjectionHead
from pipeline.losses import build_contrastive_loss
from pipeline.micro_batches import ChunkSettings
from pipeline.objectives import start_prototypes_from_titles
from pipeline.pretrained import load_encoder, load_tokenizer
from pipeline.serving import embed_texts

CHUNKS = ChunkSettings(chunk_tokens=16, chunk_overlap=0, cls_id=2, sep_id=3, pad_id=0)


def test_prototypes_start_from_titles_where_there_are_any(tiny_encoder_dir: Path) -> None:
    torch.manual_seed(0)
    encoder, tokenizer = load_encoder(tiny_encoder_dir), load_tokenizer(tiny_encoder_dir)
    projection_head = ProjectionHead(encoder.dim, 8)
    loss = build_contrastive_loss("sd_prototypes", n_labels=3, dim=8)
    before = loss.prototypes.detach().clone()  # type: ignore[operator, union-attr]
    titles = ["fever", None, "cough and pneumonia"]
    start_prototypes_from_titles(loss, projection_head, encoder, titles, tokenizer=tokenizer, chunks=CHUNKS)
    embeddings = embed_texts(encoder, tokenizer, ["fever", "cough and pneumonia"], CHUNKS)
    with torch.no_grad():
        expected = projection_head(embeddings)
    after = loss.prototypes.detach()  # type: ignore[operator, union-attr]
    torch.testing.assert_close(after[[0, 2]], expected)
    torch.testing.assert_close(after[1], before[1])
    assert loss.prototypes.requires_grad


def test_losses_without_prototypes_and_label_spaces_without_titles_stay(tiny_encoder_dir: Path) -> None:
    encoder, tokenizer = load_encoder(tiny_encoder_dir), load_tokenizer(tiny_encoder_dir)
    projection_head = ProjectionHead(encoder.dim, 8)
    loss = build_contrastive_loss("msc", n_labels=2, dim=8)
    before = loss.prototypes.detach().clone()  # type: ignore[operator, union-attr]
    for one, titles in ((build_contrastive_loss("sd"), ["fever", "cough"]), (None, ["fever"]), (loss, [None, None])):
        start_prototypes_from_titles(one, projection_head, encoder, titles, tokenizer=tokenizer, chunks=CHUNKS)
    torch.testing.assert_close(loss.prototypes.detach(), before)  # type: ignore[operator, union-attr]
