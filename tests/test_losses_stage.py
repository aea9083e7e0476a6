"""Every contrastive loss through the real stages on two and three processes, against one process: those of projections
in train_encoder, the two that see logits or what labels read beside the classifier.

What test_distributed_training shows of losses and gradients to nine digits holds for what a user runs: the stage reads
its config and tokens, accelerate wraps, the optimizer steps, one process writes.
"""

from __future__ import annotations

import json
import os
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from encoder_cases import without_dropout
from safetensors.torch import load_file
from spawned import gloo_group, run_processes

from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import load_config
from pipeline.experiment.training_settings import ContrastiveLossName, JointLossName
from pipeline.files import read_json, write_json
from pipeline.stages import run_stage, train_classifier, train_encoder
from pipeline.training import meter

LOSSES = [name for name in typing.get_args(ContrastiveLossName) if name != "none"]
JOINT = sorted(set(typing.get_args(JointLossName)) - set(typing.get_args(ContrastiveLossName)))
LAUNCH = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_processes: {}\n"
TIMEOUT_S = 400


def train_every_loss(folder: Path, n_processes: int) -> None:
    """The stages with one loss after the other, in this process."""
    meter.LOG_EVERY_S = 1e9  # rows of the history must not depend on how fast this machine is
    for name in [*LOSSES, *JOINT]:
        AcceleratorState._reset_state(reset_partial_state=True)
        config = load_config(folder / str(n_processes) / f"{name}.json", [])
        assert run_stage(config, "train_encoder", train_encoder.run) == 0, name
        if name in JOINT:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # until the first one has copied the encoder
            AcceleratorState._reset_state(reset_partial_state=True)
            assert run_stage(config, "train_classifier", train_classifier.run) == 0, name


def worker(rank: int, folder: Path) -> None:
    """One process of three, then of two."""
    torch.set_num_threads(1)
    os.environ |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for n_processes in (3, 2):
        if rank < n_processes:
            with gloo_group(rank, n_processes, timeout_s=TIMEOUT_S, folder=folder):
                train_every_loss(folder, n_processes)


@pytest.fixture
def prepared(
    tmp_path: Path,
    tiny_encoder_dir: Path,
    run_small: Callable[..., PipelineConfig],
    small_notes: list[dict[str, Any]],
) -> Path:
    """For each number of processes and each loss a config, and a folder with all there is before the training.

    The 24 documents come in batches of 5, 5, 5, 5 and 4, so that processes have unequal shares.
    """
    notes = [note | {"text": note["text"] + " and cough" * (index % 3)} for index, note in enumerate(small_notes)]
    training: dict[str, Any] = {
        "n_epochs": 1, "global_batch_size": 5, "micro_batch_tokens": 64, "learning_rate": 1e-3,
    }  # fmt: skip
    classifier = {"model": "neural", "baseline": False, "head_dropout": 0.0, "ema_decay": None, "patience": 9}
    encoder = without_dropout(tiny_encoder_dir, tmp_path / "encoder")
    tokenized = run_small(
        tmp_path,
        notes,
        "ingest split tokenize",
        encoder={"model": str(encoder)},
        train_encoder=training | {"projection_dim": 8},
    )
    for n_processes in (1, 2, 3):
        folder = tmp_path / str(n_processes)
        folder.mkdir()
        (folder / "launch.yaml").write_text(LAUNCH.format(n_processes))
        for name in [*LOSSES, *JOINT]:
            raw = json.loads(tokenized.model_dump_json()) | {"experiment": name, "work_dir": str(folder)}
            raw["train_encoder"] |= {"loss": "none" if name in JOINT else name}
            if name in JOINT:
                joint = {"joint": {"loss": name, "temperature": 0.3, "weight": 1.0}}
                raw["train_classifier"] |= classifier | training | joint
            raw["compute"] |= {"accelerate_config": str(folder / "launch.yaml")}
            write_json(folder / f"{name}.json", raw)
            shutil.copytree(tokenized.experiment_dir, folder / name)
    return tmp_path


def losses_of(folder: Path, name: str) -> list[float]:
    """Losses of the training that has the contrastive term."""
    history = folder / ("classifier" if name in JOINT else "encoder") / "training_history.json"
    return [row["loss"] for row in read_json(history) if "loss" in row]


@pytest.mark.slow
def test_the_stage_trains_on_many_processes_as_on_one_with_every_loss(prepared: Path) -> None:
    """Weights are compared as a whole: Adam makes whole steps of a gradient that is nothing but rounding.

    By that rounding (float32 here) probmcl moves a thousandth apart, all others less than a ten-thousandth; in float64
    test_distributed_training has all alike.
    """
    train_every_loss(prepared, 1)
    run_processes(worker, prepared, n_processes=3, timeout_s=TIMEOUT_S, folder=prepared)
    start = load_file(prepared / "encoder" / "model.safetensors")
    for name in [*LOSSES, *JOINT]:
        trained = "classifier/encoder" if name in JOINT else "encoder"
        expected = load_file(prepared / "1" / name / trained / "model.safetensors")
        assert any((start[key] - value).abs().max() > 1e-3 for key, value in expected.items()), name
        for n_processes in (2, 3):
            folder = prepared / str(n_processes) / name
            losses, true_losses = (losses_of(one, name) for one in (folder, prepared / "1" / name))
            assert losses == pytest.approx(true_losses, rel=1e-5), (name, n_processes)
            found = load_file(folder / trained / "model.safetensors")
            apart, moved = (
                sum(float((one[key] - other[key]).square().sum()) for key in expected) ** 0.5
                for one, other in ((found, expected), (expected, start))
            )
            assert apart <= (2e-3 if name == "probmcl" else 1e-4) * moved, (name, n_processes, apart / moved)
