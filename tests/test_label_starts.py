"""Labels start where the encoder sees their titles, or those of their relatives in the code tree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.coding.classifier import embed_texts
from pipeline.encoders.encoder import ProjectionHead
from pipeline.encoders.micro_batches import ChunkSettings
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.icd.labels import LabelSpace
from pipeline.losses import build_contrastive_loss
from pipeline.training.label_starts import LabelStarts, label_starts, title_sources
from pipeline.training.objectives import has_prototypes, start_prototypes

CHUNKS = ChunkSettings(chunk_tokens=16, chunk_overlap=0, cls_id=2, sep_id=3, pad_id=0)


def test_a_label_without_a_title_starts_from_its_nearest_relatives() -> None:
    """E11.65 has the sister E11.64 below E11.6; E10.9 only the chapter; I10 nobody; procedures are another tree."""
    labels = ["icd10cm:E11.64", "icd10cm:E11.9", "icd10cm:E11.65", "icd10cm:E10.9", "icd10cm:I10", "icd10pcs:0DTJ4ZZ"]
    titles = ["Diabetes with hypoglycemia", "Diabetes", None, None, None, None]
    assert title_sources(labels, titles) == [[0], [1], [0], [0, 1], [], []]
    assert title_sources(["none:a", "none:b"], ["A", None]) == [[0], []]
    above = ["icd9cm:250", "icd9cm:250.1", "icd9cm:244.9"]
    assert title_sources(above, ["Diabetes", None, "Hypothyroidism"]) == [[0], [0], [2]], "its own parent is nearest"


def space(*titles: str | None) -> LabelSpace:
    labels = ("icd10cm:E11.9", "icd10cm:E11.65", "icd10cm:E10.9", "icd10cm:I10")
    return LabelSpace(labels, titles, (1,) * 4)


def test_vectors_are_means_of_encoded_titles(tiny_encoder_dir: Path) -> None:
    encoder, tokenizer = load_encoder(tiny_encoder_dir), load_tokenizer(tiny_encoder_dir)
    starts = label_starts(encoder, tokenizer, space("fever", "cough and pneumonia", None, None), CHUNKS)
    with torch.no_grad():
        fever, cough = embed_texts(encoder, tokenizer, ["fever", "cough and pneumonia"], CHUNKS)
    torch.testing.assert_close(
        starts.embeddings, torch.stack([fever, cough, (fever + cough) / 2, torch.zeros_like(fever)])
    )
    assert starts.is_known == [True, True, True, False]
    nothing = label_starts(encoder, tokenizer, space(None, None, None, None), CHUNKS)
    assert not any(nothing.is_known)
    assert not nothing.embeddings.any()


@pytest.mark.parametrize("name", ["msc", "sd_prototypes"])
def test_prototypes_start_from_known_vectors_and_others_stay(name: str) -> None:
    torch.manual_seed(0)
    projection_head = ProjectionHead(6, 8)
    loss = build_contrastive_loss(name, n_labels=3, dim=8)
    before = loss.prototypes.detach().clone()  # type: ignore[operator, union-attr]
    starts = LabelStarts(torch.randn(3, 6), [True, False, True])
    start_prototypes(loss, projection_head, starts)
    after = loss.prototypes.detach()  # type: ignore[operator, union-attr]
    with torch.no_grad():
        torch.testing.assert_close(after[[0, 2]], projection_head(starts.embeddings)[[0, 2]])
    torch.testing.assert_close(after[1], before[1])
    assert loss.prototypes.requires_grad
    assert has_prototypes(loss)


def test_losses_without_prototypes_have_nothing_to_start() -> None:
    for loss in (None, build_contrastive_loss("sd")):
        assert not has_prototypes(loss)
        start_prototypes(loss, ProjectionHead(6, 8), LabelStarts(torch.ones(1, 6), [True]))
