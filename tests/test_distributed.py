"""Collectives and all losses on two and three gloo processes against one process on the same global batch.

One spawn of three processes serves all checks: first as a world of three, then two of them as a world of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from spawned import gloo_group, run_processes
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline import distributed
from pipeline.losses import (
    CONTRASTIVE_LOSSES,
    HEAD_LOSSES,
    Normalise,
    SparseLabels,
    build_contrastive_loss,
    build_head_loss,
)

TIMEOUT_S = 120
N_LABELS, DIM = 7, 5

# Documents per process. Labels make the numbers of anchors with positives unequal too: the first process has many,
# the last has one document, in the empty case none.
SIZES = {2: [[6, 2], [8, 0]], 3: [[5, 2, 1], [4, 0, 4]]}
LABEL_SETS = [[0, 1], [0], [0, 1, 2], [3], [1, 2], [], [0, 4], [5, 6]]


@dataclass(frozen=True)
class Case:
    """One loss, the form of its labels, and the inputs that belong to a row of the batch."""

    name: str
    build: Callable[[], nn.Module]
    width: tuple[int, ...]
    label_form: str
    dtype: torch.dtype
    options: Callable[[slice], dict[str, Any]]

    @property
    def key(self) -> str:
        return f"{self.name}, {self.label_form} labels, {self.dtype}"


def no_options(_: slice) -> dict[str, Any]:
    return {}


def groups_and_queue(rows: slice) -> dict[str, Any]:
    """Documents 0 and 5 are one admission on different processes; the queue is the same everywhere."""
    groups = torch.tensor([3, 1, 2, 8, 9, 3, 4, 7])
    queue = torch.randn(3, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return {
        "group_ids": groups[rows],
        "extra_projections": queue,
        "extra_labels": [[0, 5], [6], [3]],
        "extra_group_ids": torch.tensor([3, 20, 21]),
    }


def build(name: str, normalise: Normalise = "positives") -> nn.Module:
    torch.manual_seed(1)
    return build_contrastive_loss(name, temperature=0.2, normalise=normalise, n_labels=N_LABELS, dim=DIM)


def cases() -> Iterator[Case]:
    for name in CONTRASTIVE_LOSSES:
        width = {"icl": (N_LABELS, DIM), "jspcl": (N_LABELS,)}.get(name, (DIM,))
        for form, dtype in (("dense", torch.float32), ("sparse", torch.float64)):
            yield Case(name, partial(build, name), width, form, dtype, no_options)
    for name in ("sd", "mulsupcon", "slcl", "sd_idf", "sd_mulsupcon", "sd_per_label"):
        yield Case(
            f"{name} with groups and queue",
            partial(build, name, "weights" if name in ("sd", "sd_idf", "sd_mulsupcon") else "positives"),
            (DIM,),
            "lists",
            torch.float64,
            groups_and_queue,
        )


def labels_of(rows: slice, label_form: str) -> Any:
    sets = LABEL_SETS[rows]
    if label_form == "lists":
        return sets
    sparse = SparseLabels.from_lists(sets, N_LABELS)
    if label_form == "sparse":
        return sparse
    dense = torch.zeros(len(sets), N_LABELS, dtype=torch.bool)
    dense[sparse.rows, sparse.indices] = True
    return dense


def run_case(case: Case, rows: slice) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients with respect to this process's vectors, an encoder's weight and the loss's parameters."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(len(LABEL_SETS), *case.width, dtype=torch.float64, generator=generator)
    encoder = torch.randn(case.width[-1], case.width[-1], dtype=torch.float64, generator=generator)
    encoder = encoder.to(case.dtype).requires_grad_()
    loss = case.build().to(case.dtype)
    vectors = inputs[rows].to(case.dtype) @ encoder
    value = loss(vectors, labels_of(rows, case.label_form), **case.options(rows))
    gradients = torch.autograd.grad(value, [vectors, encoder, *loss.parameters()])
    return value.detach(), list(gradients)


def check_case(case: Case, sizes: list[int], expected: tuple[Tensor, list[Tensor]]) -> None:
    """Mean over processes of losses and of parameter gradients, as DDP takes it; rows carry world_size times it."""
    world, first = len(sizes), sum(sizes[: distributed.rank()])
    own = slice(first, first + sizes[distributed.rank()])
    value, (of_vectors, *of_parameters) = run_case(case, own)
    tolerance = 1e-9 if case.dtype == torch.float64 else 1e-6
    true_value, (true_of_vectors, *true_of_parameters) = expected
    actual = [distributed.sum_over_processes(part) / world for part in (value, *of_parameters)]
    for part, true in zip(
        [*actual, of_vectors / world], [true_value, *true_of_parameters, true_of_vectors[own]], strict=True
    ):
        scale = max(1.0, *true.abs().flatten().tolist()) if true.numel() else 1.0
        torch.testing.assert_close(
            part, true, rtol=0, atol=tolerance * scale, msg=lambda text: f"{case.key}, {sizes}: {text}"
        )


def check_losses(references: dict[tuple[str, int], tuple[Tensor, list[Tensor]]], world: int) -> None:
    for sizes in SIZES[world]:
        for case in cases():
            check_case(case, sizes, references[case.key, sum(sizes)])


def all_references() -> dict[tuple[str, int], tuple[Tensor, list[Tensor]]]:
    """Results of one process, found before the process group exists."""
    totals = {sum(sizes) for variants in SIZES.values() for sizes in variants}
    return {(case.key, total): run_case(case, slice(0, total)) for case in cases() for total in totals}


def check_no_positives_anywhere(world: int) -> None:
    """Every process has one label of its own: 0 everywhere, and backward does not hang."""
    for name in sorted(set(CONTRASTIVE_LOSSES) - {"icl", "jspcl", "msc", "sd_prototypes"}):
        vectors = torch.ones(1, DIM, requires_grad=True)
        loss = build_contrastive_loss(name, n_labels=N_LABELS, dim=DIM)(vectors, [[distributed.rank()]])
        loss.backward()
        assert loss.item() == 0, name
        assert not vectors.grad.any(), name  # type: ignore[union-attr]


def check_head_losses(world: int) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    targets = torch.rand(7, 4, generator=generator) < 0.4
    sizes = {2: [5, 2], 3: [4, 0, 3]}[world]
    first = sum(sizes[: distributed.rank()])
    own = slice(first, first + sizes[distributed.rank()])
    for name in HEAD_LOSSES:
        options: dict[str, Any] = {"train_counts": [5, 3, 2, 1], "n_documents": 9}
        z = logits[own].clone().requires_grad_()
        per_document = build_head_loss(name, reduction="none", **options)(z, targets[own])
        value = distributed.mean_over_processes(per_document)
        value.backward()
        whole = logits.clone().requires_grad_()
        expected = build_head_loss(name, **options)(whole, targets)  # type: ignore[arg-type]
        expected.backward()
        torch.testing.assert_close(distributed.sum_over_processes(value) / world, expected.detach())
        torch.testing.assert_close(z.grad / world, whole.grad[own])  # type: ignore[operator, index]


class EncoderAndLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(DIM, DIM).double()
        self.loss = build_contrastive_loss("msc", temperature=0.2, n_labels=N_LABELS, dim=DIM).double()

    def forward(self, inputs: Tensor, labels: list[list[int]]) -> Tensor:
        value: Tensor = self.loss(self.encoder(inputs), labels)
        return value


def gradients_of_model(model: nn.Module, rows: slice) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(len(LABEL_SETS), DIM, dtype=torch.float64, generator=generator)[rows]
    model(inputs, LABEL_SETS[rows]).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]  # type: ignore[union-attr]


def check_ddp(expected: list[Tensor], world: int) -> None:
    """The wrapper's own averaging, on encoder and prototypes."""
    sizes = {2: [6, 2], 3: [5, 2, 1]}[world]
    first = sum(sizes[: distributed.rank()])
    model = DistributedDataParallel(EncoderAndLoss())
    for actual, true in zip(
        gradients_of_model(model, slice(first, first + sizes[distributed.rank()])), expected, strict=True
    ):
        torch.testing.assert_close(actual, true, rtol=1e-9, atol=1e-11)


def check_collectives(world: int) -> None:
    rank = distributed.rank()
    assert distributed.world_size() == world
    assert distributed.gather_sizes(rank * 2) == [2 * r for r in range(world)]

    rows = torch.full((rank * 2, 3), float(rank))
    expected = torch.cat([torch.full((2 * r, 3), float(r)) for r in range(world)])
    assert torch.equal(distributed.gather(rows), expected)
    assert torch.equal(distributed.gather(rows.long()), expected.long())

    # Each process multiplies gathered row j by (j + 1) and its own rank + 1; a row gets the sum over processes.
    own = torch.ones(rank + 1, 2, requires_grad=True)
    gathered = distributed.gather_with_gradient(own)
    factors = torch.arange(1.0, len(gathered) + 1)[:, None] * (rank + 1)
    (gathered * factors).sum().backward()
    first = sum(range(1, rank + 1))
    sum_of_ranks = sum(range(1, world + 1))
    true = torch.arange(first + 1.0, first + rank + 2)[:, None].expand(-1, 2) * sum_of_ranks
    assert torch.equal(own.grad, true)  # type: ignore[arg-type]

    sets = SparseLabels.from_lists([[rank], [], [rank, 6]][: rank + 1], N_LABELS).gathered()
    lists = [[0], [1], [], [2], [], [2, 6]][: {2: 3, 3: 6}[world]]
    assert torch.equal(sets.indices, SparseLabels.from_lists(lists).indices)
    assert torch.equal(sets.offsets, SparseLabels.from_lists(lists).offsets)

    mean = distributed.mean_over_processes(torch.arange(rank + 1.0))
    values = [float(v) for r in range(world) for v in range(r + 1)]
    assert distributed.sum_over_processes(mean).item() / world == pytest.approx(sum(values) / len(values))

    with pytest.raises(ValueError, match="sizes is"):
        distributed.gather(rows, [1] * (world + 1))


def run_world(rank: int, world: int, folder: Path, references: Any, ddp_gradients: list[Tensor]) -> None:
    with gloo_group(rank, world, timeout_s=TIMEOUT_S, folder=folder):
        check_collectives(world)
        check_losses(references, world)
        check_no_positives_anywhere(world)
        check_head_losses(world)
        check_ddp(ddp_gradients, world)


def worker(rank: int, folder: Path) -> None:
    """Run both worlds."""
    torch.set_num_threads(1)
    references = all_references()
    ddp_gradients = gradients_of_model(EncoderAndLoss(), slice(0, len(LABEL_SETS)))
    run_world(rank, 3, folder, references, ddp_gradients)
    if rank < 2:
        run_world(rank, 2, folder, references, ddp_gradients)


@pytest.mark.slow
def test_many_processes_give_loss_and_gradient_of_one(tmp_path: Path) -> None:
    run_processes(worker, tmp_path, n_processes=3, timeout_s=TIMEOUT_S, folder=tmp_path)


def test_on_one_process_collectives_are_identities() -> None:
    tensor = torch.ones(3, 2, requires_grad=True)
    assert distributed.world_size() == 1
    assert distributed.rank() == 0
    assert distributed.gather_sizes(3) == [3]
    assert distributed.gather_with_gradient(tensor) is tensor
    assert torch.equal(distributed.gather(tensor), tensor)
    assert not distributed.gather(tensor).requires_grad
    assert torch.equal(distributed.sum_over_processes(tensor), tensor)


def test_mean_over_processes_without_documents_is_zero_and_attached() -> None:
    mean = distributed.mean_over_processes(torch.zeros(0, requires_grad=True))
    assert mean.item() == 0
    assert mean.requires_grad
