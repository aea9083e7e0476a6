"""A training small enough for tests: 24 made-up documents, a tiny encoder, both objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch import nn

from pipeline.encoders.encoder import ProjectionHead
from pipeline.encoders.heads import build_head
from pipeline.encoders.micro_batches import ChunkSettings
from pipeline.encoders.pretrained import load_encoder
from pipeline.experiment.settings import Compute
from pipeline.experiment.training_settings import TrainClassifier, TrainEncoder, Training
from pipeline.losses import build_contrastive_loss, build_head_loss
from pipeline.training.loading import BatchLoader
from pipeline.training.loop import fit, start_accelerator
from pipeline.training.objectives import ClassificationObjective, ContrastiveObjective
from pipeline.training.sampling import BatchPlan

N_LABELS = 4


def made_up_tokens(n_documents: int = 24) -> datasets.Dataset:
    """Documents whose labels are written in their tokens: token 10 + l stands for label l."""
    chance = np.random.default_rng(0)
    rows = []
    for index in range(n_documents):
        labels = sorted(chance.choice(N_LABELS, size=1 + index % 2, replace=False).tolist())
        noise = chance.integers(20, 60, size=int(chance.integers(2, 30))).tolist()
        ids = [10 + label for label in labels] + noise
        rows.append({"input_ids": ids, "context_ids": [0] * len(ids), "label_ids": labels, "split": "train"})
    return datasets.Dataset.from_list(rows)


def build_objective(
    folder: Path, kind: str, *, dropout: float = 0.0, gradient_cache: bool = False, n_labels: int = N_LABELS
) -> Any:
    torch.manual_seed(0)
    encoder = load_encoder(folder)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    if kind == "contrastive":
        loss = build_contrastive_loss("sd")
        head = ProjectionHead(encoder.dim, 8)
        return ContrastiveObjective(
            encoder, head, loss, n_labels=n_labels, pooling="mean", gradient_cache=gradient_cache
        )
    return ClassificationObjective(
        encoder,
        build_head("label_attention", encoder.dim, n_labels, dropout=dropout, pooling="mean"),
        build_head_loss("bce", train_counts=[1] * n_labels, n_documents=24),
        n_labels=n_labels,
        contrastive=build_contrastive_loss("mulsupcon"),
        projection_head=ProjectionHead(encoder.dim, 8),
        contrastive_weight=0.1,
        gradient_cache=gradient_cache,
    )


def build_loader(n_documents: int = 24, global_batch_size: int = 8) -> BatchLoader:
    tokens = made_up_tokens(n_documents)
    chunks = ChunkSettings(chunk_tokens=16, chunk_overlap=0, cls_id=2, sep_id=3, pad_id=0)
    return BatchLoader(tokens, BatchPlan(range(n_documents), global_batch_size, seed=0), chunks, 64)


def settings_of(kind: str, **changed: Any) -> Training:
    values = {"n_epochs": 2, "global_batch_size": 8, "learning_rate": 1e-3} | changed
    return (TrainEncoder if kind == "contrastive" else TrainClassifier)(**values)


def train(folder: Path, checkpoint_dir: Path, kind: str, *, dropout: float = 0.0, **options: Any) -> dict[str, Any]:
    """Train and give the final weights."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model = build_objective(folder, kind, dropout=dropout)
    fit(model, build_loader(), settings_of(kind), accelerator, checkpoint_dir=checkpoint_dir, **options)
    return {name: value.clone() for name, value in model.state_dict().items()}
