"""Every contrastive loss through the real objectives, accelerate and the DDP wrapper, on two and on three processes.

Three steps with a plain gradient step after each, so that weights, queue and momentum encoder of later steps depend
on earlier ones. One spawn of three processes serves all cases: first as a world of three, then as one of two.
"""

from __future__ import annotations

import copy
import functools
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small_training import build_objective
from spawned import gloo_group, run_processes
from torch import Tensor, nn

from pipeline import distributed
from pipeline.encoders.micro_batches import Batch, ChunkSettings
from pipeline.experiment.training_settings import Contrastive, ContrastiveLossName
from pipeline.training.loading import BatchLoader
from pipeline.training.loop import run_backward
from pipeline.training.memory_queue import memory_queues
from pipeline.training.objectives import contrastive_loss_of, memory_of
from pipeline.training.sampling import BatchPlan

TIMEOUT_S = 300
N_LABELS, DIM = 7, 8
LOSSES = [name for name in typing.get_args(ContrastiveLossName) if name != "none"]
LABEL_SETS = [
    [0, 1], [0], [0, 1, 2], [3], [1, 2], [], [0], [5, 6],
    [2, 3], [3], [2, 3], [0, 3], [2], [1, 4], [], [6],
]  # fmt: skip
# The third step meets documents of the first and of the second again, some of them on another process.
STEPS = [list(range(8)), list(range(8, 16)), [0, 9, 3, 10, 15, 2, 7, 14]]
# Documents of each process. The last process has one or two documents, few or none of them with a positive.
SIZES = {1: [8], 2: [6, 2], 3: [5, 2, 1]}
STEP_LENGTH = 0.05


@dataclass(frozen=True)
class Case:
    """A loss, in which objective, with which means for larger batches."""

    loss: str
    kind: str
    gradient_cache: bool
    queue_size: int
    momentum: float | None = None

    def build(self, folder: Path) -> Any:
        """The objective, the same on every process."""
        torch.manual_seed(1)  # for the prototypes of some losses
        model = copy.deepcopy(read_objective(folder, self.kind))
        model.gradient_cache = self.gradient_cache
        settings = Contrastive(
            loss=self.loss, temperature=0.2, projection_dim=DIM, queue_size=self.queue_size, momentum=self.momentum
        )
        if self.loss == "none":
            model.contrastive = model.projection_head = None
            return model.double()
        loss = contrastive_loss_of(settings, N_LABELS)
        setattr(model, "loss" if self.kind == "contrastive" else "contrastive", loss)
        model.memory = memory_of(settings, model.encoder, model.projection_head, n_labels=N_LABELS, pooling="mean")
        return model.double()

    @property
    def tolerance(self) -> float:
        """Everything is float64 but the logits of the classifier, which are float32 whatever the weights are."""
        return 1e-9 if self.kind == "contrastive" else 1e-6


@functools.cache
def read_objective(folder: Path, kind: str) -> Any:
    return build_objective(folder, kind, n_labels=N_LABELS)


def cases() -> Iterator[Case]:
    for name in LOSSES:
        yield Case(name, "contrastive", gradient_cache=False, queue_size=0)
        if name != "probmcl":
            yield Case(name, "contrastive", gradient_cache=True, queue_size=11, momentum=0.5)
    yield Case("mulsupcon", "classification", gradient_cache=True, queue_size=9)
    yield Case("sd_prototypes", "classification", gradient_cache=False, queue_size=9, momentum=0.5)
    yield Case("none", "classification", gradient_cache=False, queue_size=0)


def build_loader() -> BatchLoader:
    rows = [
        {"input_ids": [10 + row, *range(20, 22 + 3 * (row % 7))], "label_ids": ids}
        for row, ids in enumerate(LABEL_SETS)
    ]
    rows = [row | {"context_ids": [0] * len(row["input_ids"])} for row in rows]  # type: ignore[arg-type]
    features = datasets.Features({name: datasets.List(datasets.Value("int32")) for name in rows[0]})
    chunks = ChunkSettings(chunk_tokens=16, chunk_overlap=0, cls_id=2, sep_id=3, pad_id=0)
    return BatchLoader(datasets.Dataset.from_list(rows, features), BatchPlan(range(16), 8, 0), chunks, 64)


def local_batches(loader: BatchLoader) -> list[Batch]:
    return batches_of(loader, distributed.rank(), distributed.world_size())


def batches_of(loader: BatchLoader, rank: int, world: int) -> list[Batch]:
    first = sum(SIZES[world][:rank])
    return [loader.collate(rows[first : first + SIZES[world][rank]], len(rows)) for rows in STEPS]


def run_case(case: Case, folder: Path, batches: list[Batch], accelerator: Accelerator) -> list[dict[str, Tensor]]:
    """Loss of the global batch, gradients and queue of every step."""
    model = case.build(folder)
    wrapped: nn.Module = accelerator.prepare(model)
    wrapped.train()
    found = []
    for batch in batches:
        model.zero_grad()
        loss, statistics = run_backward(model, wrapped, batch, accelerator)
        gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
        shares = {name: torch.tensor(value) for name, value in statistics.items() if name != "contrastive_loss"}
        step = {"loss": distributed.sum_over_processes(loss) / distributed.world_size(), **gradients, **shares}
        for queue in memory_queues(model):
            step |= {f"queue {name}": value.clone() for name, value in queue.state_dict().items()}
        found.append(step)
        with torch.no_grad():
            for one in model.parameters():
                if one.grad is not None:
                    one.sub_(STEP_LENGTH * one.grad)
    return found


def check(case: Case, found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    for number, (step, true) in enumerate(zip(found, expected, strict=True)):
        assert step.keys() == true.keys(), case
        for name, value in true.items():
            title = f"{case}, {distributed.world_size()} processes, step {number + 1}, {name}"
            assert step[name].shape == value.shape, title
            difference = float((step[name] - value).abs().max()) if value.numel() else 0.0
            assert difference <= case.tolerance * max(1.0, float(value.abs().max())), f"{title}: {difference}"


def run_world(rank: int, world: int, folder: Path, encoder_dir: Path) -> None:
    with gloo_group(rank, world, timeout_s=TIMEOUT_S, folder=folder):
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=True)
        assert accelerator.num_processes == world
        references, batches = torch.load(folder / "references.pt"), local_batches(build_loader())
        for case, expected in zip(cases(), references, strict=True):
            check(case, run_case(case, encoder_dir, batches, accelerator), expected)


def worker(rank: int, folder: Path, encoder_dir: Path) -> None:
    """Run both worlds."""
    torch.set_num_threads(1)
    run_world(rank, 3, folder, encoder_dir)
    if rank < 2:
        run_world(rank, 2, folder, encoder_dir)


@pytest.mark.slow
def test_every_loss_trains_on_many_processes_as_on_one(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator, batches = Accelerator(cpu=True), local_batches(build_loader())
    references = [run_case(case, tiny_encoder_dir, batches, accelerator) for case in cases()]
    for case, steps in zip(cases(), references, strict=True):
        assert all(step["loss"] > 0 for step in steps), case
        moved = "head.weight" if case.loss == "none" else "projection_head.layers.0.weight"
        assert all(float(step[moved].abs().max()) > 1e-4 for step in steps), case
        if case.queue_size:  # 8, then 16 cut to the size, of which the step's own are left out
            assert [int(step["queued_documents"]) for step in steps[:2]] == [0, 8]
            assert 3 <= steps[2]["queued_documents"] < case.queue_size
    n_parts = [[len(batches_of(build_loader(), rank, 2)[step].micro_batches) for rank in (0, 1)] for step in range(3)]
    assert any(one > other for one, other in n_parts), (
        "processes share gradients once a step, however many parts each has"
    )
    torch.save(references, tmp_path / "references.pt")
    run_processes(worker, tmp_path, tiny_encoder_dir, n_processes=3, timeout_s=TIMEOUT_S, folder=tmp_path)
