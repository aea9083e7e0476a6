"""Documents of earlier steps as further samples: each once, none of the step's own, exact after a resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_training import N_LABELS, build_loader
from torch import Tensor, nn

from pipeline.encoders.encoder import ProjectionHead
from pipeline.encoders.pretrained import load_encoder
from pipeline.losses import CONTRASTIVE_LOSSES, SparseLabels, build_contrastive_loss
from pipeline.training.memory_queue import Memory, MemoryQueue, MomentumEncoder
from pipeline.training.objectives import ContrastiveObjective

DIM = 3


def vectors_of(rows: list[int], step: int = 0) -> Tensor:
    """A projection that says which document it is of and when it was made."""
    return torch.tensor([[float(row), float(step), 1.0] for row in rows]).reshape(-1, DIM)


def labels_of(rows: list[int]) -> list[list[int]]:
    return [[row % 5, 5 + row % 2][: 1 + row % 3] for row in rows]


def push(queue: MemoryQueue, rows: list[int], step: int = 0) -> None:
    queue.push(vectors_of(rows, step), SparseLabels.from_lists(labels_of(rows), 7), torch.tensor(rows))


def held(queue: MemoryQueue, *without: int) -> list[tuple[int, int, list[int]]]:
    """Row, step and labels of each sample."""
    vectors, labels = queue.samples_without(torch.tensor(without, dtype=torch.int64))
    sets = [one.tolist() for one in labels.indices.split(labels.offsets.diff().tolist())]
    return [(int(row), int(step), one) for (row, step, _), one in zip(vectors.tolist(), sets, strict=True)]


def test_an_empty_queue_gives_no_samples() -> None:
    assert held(MemoryQueue(4, 7)) == []
    assert len(MemoryQueue(4, 7)) == 0


@given(st.lists(st.lists(st.integers(0, 11), max_size=5, unique=True), max_size=7), st.integers(1, 9), st.data())
def test_the_latest_projection_of_the_latest_documents_is_held(
    steps: list[list[int]], size: int, data: st.DataObject
) -> None:
    """By the definition: a list, a document moves to its end when it comes again, the first leave."""
    queue, expected = MemoryQueue(size, 7), []
    for step, rows in enumerate(steps):
        push(queue, rows, step)
        expected = [one for one in expected if one[0] not in rows]
        expected += [(row, step, labels_of([row])[0]) for row in sorted(rows)]
        expected = expected[-size:]
    assert held(queue) == expected
    assert len(queue) == len(expected)
    own = data.draw(st.lists(st.integers(0, 11)))
    assert held(queue, *own) == [one for one in expected if one[0] not in own]


def test_the_order_in_which_processes_bring_documents_does_not_matter() -> None:
    """Three of four are held; which ones must not depend on the number of processes."""
    one, other = MemoryQueue(3, 7), MemoryQueue(3, 7)
    push(one, [4, 1, 9, 2])
    push(other, [9, 2, 4, 1])
    assert held(one) == held(other)


def test_a_loaded_queue_holds_what_the_saved_one_held(tmp_path: Path) -> None:
    queue = MemoryQueue(5, 7)
    push(queue, [1, 2, 3])
    push(queue, [2, 8, 6])
    torch.save(queue.state_dict(), tmp_path / "queue.bin")
    loaded = MemoryQueue(5, 7)
    loaded.load_state_dict(torch.load(tmp_path / "queue.bin", weights_only=True))
    assert held(loaded) == held(queue)
    push(queue, [0, 1])
    push(loaded, [0, 1])
    assert held(loaded) == held(queue)


class Given(nn.Module):
    """Stands for encoder and projection head: projections are looked up by row."""

    def __init__(self, projections: Tensor) -> None:
        super().__init__()
        self.projections = nn.Parameter(projections)

    def forward(self, batch: Any) -> Given:
        self.rows = batch.rows
        return self

    def pooled(self, _: str) -> Tensor:
        return self.projections[self.rows]


def objective_over(projections: Tensor, size: int) -> ContrastiveObjective:
    """Documents 0 to 23 of made_up_tokens, projected to given vectors; temperature 1, positives share a label."""
    return ContrastiveObjective(
        Given(projections), nn.Identity(), build_contrastive_loss("any", temperature=1.0), n_labels=N_LABELS,
        pooling="mean", gradient_cache=False, memory=Memory(MemoryQueue(size, N_LABELS)),
    ).train()  # fmt: skip


def test_queued_documents_are_samples_without_gradient_and_no_anchors() -> None:
    """By hand, t = 1. All vectors are (1, 0), so every log-probability is -log of the number of others.

    Step 1, documents a, b, c with label 0: an empty queue, each has 2 others: log 2. Step 2, document d with label 0
    alone: its samples are the three queued ones: log 3; without a queue it would be 0. Step 3, a and d: b and c are
    left in the queue, so each has 3 others (b, c and one another): log 3 as well, not log 5.
    """
    loader = build_loader()
    with_zero = [row for row, ids in enumerate(loader.tokens["label_ids"]) if 0 in ids]
    a, b, c, d = with_zero[:4]
    projections = torch.tensor([[1.0, 0.0]]).repeat(24, 1)
    model = objective_over(projections, size=8)
    losses = []
    for rows in ([a, b, c], [d], [a, d]):
        model.zero_grad()
        batch = loader.collate(rows, len(rows))
        batch = type(batch)(batch.micro_batches, [[0]] * len(rows), len(rows))
        value, statistics = model(batch)
        value.backward()
        losses.append(value.item())
        touched = model.encoder.projections.grad.abs().sum(dim=1).nonzero().squeeze(1).tolist()
        assert set(touched) <= set(rows)
    assert losses == pytest.approx([math.log(2), math.log(3), math.log(3)])
    assert statistics["queued_documents"] == 2
    assert statistics["partner_share"] == statistics["partner_share_with_queue"] == 1.0
    assert len(model.memory.queue) == 4


@pytest.mark.parametrize("name", sorted(set(CONTRASTIVE_LOSSES) - {"icl", "probmcl", "jspcl"}))
def test_a_step_with_a_queue_is_the_loss_with_extra_samples(name: str) -> None:
    """Against the loss called by hand: what was projected at step 1, without the documents of step 2."""
    torch.manual_seed(0)
    projections = torch.randn(24, 5)
    loader = build_loader()
    model = objective_over(projections, size=24)
    model.loss = build_contrastive_loss(name, temperature=0.5, n_labels=N_LABELS, dim=5)
    first, second = loader.collate(range(8), 8), loader.collate([3, 5, 9, 10, 11, 12], 6)
    model(first)
    model.zero_grad()
    value, statistics = model(second)
    value.backward()
    kept = [row for row in range(8) if row not in (3, 5)]
    own = projections.clone().requires_grad_()
    label_ids = [[int(one) for one in ids] for ids in loader.tokens["label_ids"]]
    expected = model.loss(
        own[second.rows], SparseLabels.from_lists(second.label_ids, N_LABELS),
        extra_projections=projections[kept],
        extra_labels=SparseLabels.from_lists([label_ids[row] for row in kept], N_LABELS),
    )  # fmt: skip
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(model.encoder.projections.grad, own.grad)
    assert statistics["queued_documents"] == 6


def test_the_momentum_encoder_follows_by_its_share_without_dropout_and_without_gradient(
    tiny_encoder_dir: Path,
) -> None:
    """After one move of the leader by 1 at momentum 0.75 the copy has moved by 0.25, after another call by 0.4375."""
    encoder, head = load_encoder(tiny_encoder_dir), ProjectionHead(16, 8)
    slow = MomentumEncoder(encoder, head, momentum=0.75, pooling="mean").train()
    assert not any(module.training for module in slow.modules())
    assert not any(one.requires_grad for one in slow.parameters())
    start = slow.projection_head.layers[0].weight.clone()
    frozen = slow.encoder.backbone.get_input_embeddings().weight.clone()
    with torch.no_grad():
        for one in (*encoder.parameters(), *head.parameters()):
            one.add_(1.0)
    for expected in (0.25, 0.4375):
        slow.follow(encoder, head)
        moved = slow.projection_head.layers[0].weight - start
        torch.testing.assert_close(moved, torch.full_like(moved, expected))
    assert torch.equal(slow.encoder.backbone.get_input_embeddings().weight, frozen), "frozen layers never move"
    batch = build_loader().collate(range(4), 4)
    torch.testing.assert_close(slow(batch.micro_batches), slow(batch.micro_batches))


def test_a_momentum_encoder_starts_from_cached_frozen_layers(tiny_encoder_dir: Path) -> None:
    encoder = load_encoder(tiny_encoder_dir, n_frozen_layers=1)
    head = ProjectionHead(16, 8)
    slow = MomentumEncoder(encoder, head, momentum=0.5, pooling="mean")
    batch = build_loader().collate(range(6), 6)
    expected = slow(batch.micro_batches)
    encoder.fill_cache(batch.micro_batches, 6, torch.device("cpu"), torch.float32)
    slow.follow(encoder, head)
    assert slow.encoder._cache is encoder._cache
    torch.testing.assert_close(slow(batch.micro_batches), expected, atol=1e-5, rtol=1e-4)
