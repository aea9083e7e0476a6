"""Contrastive terms beside the classifier that see no projections: JSPCL the logits, ICL what labels read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import N_LABELS, build_loader, build_objective
from torch import Tensor

from pipeline.losses import build_contrastive_loss
from pipeline.training.objectives import multi_hot

WEIGHT = 0.1  # of build_objective


def objective_with(folder: Path, name: str, **options: Any) -> Any:
    objective = build_objective(folder, "classifier", **options)
    objective.contrastive = build_contrastive_loss(name, temperature=0.3, n_labels=N_LABELS)
    objective.projection_head = None
    return objective


def what_it_sees(objective: Any, batch: Any, name: str) -> tuple[Tensor, Tensor]:
    """Logits, and what the loss sees, one document after the other."""
    tokens = [objective.encoder(one) for one in batch.micro_batches]
    logits = torch.cat([objective.head(one) for one in tokens])
    if name == "jspcl":
        return logits, logits
    head = objective.head
    read = []
    for one in tokens:
        states = head.norm(one.states + head.context(one.context_ids))
        scores = head.queries @ head.keys(states).transpose(1, 2) / states.shape[-1] ** 0.5
        read.append(scores.masked_fill(~one.mask.unsqueeze(1), float("-inf")).softmax(dim=-1) @ states)
    return logits, torch.cat(read)


@pytest.mark.parametrize("name", ["icl", "jspcl"])
def test_the_term_is_that_loss_of_what_the_head_gives(tiny_encoder_dir: Path, name: str) -> None:
    objective = objective_with(tiny_encoder_dir, name)
    batch = build_loader().collate(range(8), 8)
    loss, statistics = objective(batch)
    logits, seen = what_it_sees(objective, batch, name)
    expected = build_contrastive_loss(name, temperature=0.3, n_labels=N_LABELS)(seen, batch.label_ids)
    bce = objective.loss(logits, multi_hot(batch.label_ids, N_LABELS, logits.device))
    assert expected > 0.01
    torch.testing.assert_close(loss, bce + WEIGHT * expected, rtol=1e-5, atol=1e-6)
    assert statistics["contrastive_loss"] == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["icl", "jspcl"])
def test_a_gradient_cache_gives_the_same_gradient(tiny_encoder_dir: Path, name: str) -> None:
    gradients = []
    for gradient_cache in (False, True):
        objective = objective_with(tiny_encoder_dir, name, gradient_cache=gradient_cache)
        loss, _ = objective(build_loader().collate(range(8), 8))
        loss.backward()
        gradients.append({key: value.grad for key, value in objective.named_parameters() if value.grad is not None})
    kept, recomputed = gradients
    assert kept["head.queries"].abs().max() > 0
    assert kept.keys() == recomputed.keys()
    for key, value in kept.items():
        torch.testing.assert_close(recomputed[key], value, rtol=1e-4, atol=1e-6)
