"""Trainings with a memory queue: resumed with the very queue, and learning from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from small_training import N_LABELS, build_loader, build_objective, settings_of

from pipeline.experiment.settings import Compute
from pipeline.experiment.training_settings import TrainEncoder
from pipeline.training import checkpoints, meter
from pipeline.training.loading import BatchLoader
from pipeline.training.loop import fit, start_accelerator
from pipeline.training.memory_queue import memory_queues
from pipeline.training.objectives import ClassificationObjective, memory_of
from pipeline.training.sampling import BatchPlan, Partners


def remembering(folder: Path, kind: str, momentum: float | None, dropout: float = 0.2) -> Any:
    """The objective of test_training, with a queue of 16 documents."""
    model = build_objective(folder, kind, dropout=dropout)
    settings = TrainEncoder(queue_size=64, momentum=momentum)
    model.memory = memory_of(settings, model.encoder, model.projection_head, n_labels=N_LABELS, pooling="mean")
    model.memory.queue.size = 16
    return model


def train(folder: Path, checkpoint_dir: Path, kind: str, momentum: float | None, **options: Any) -> dict[str, Any]:
    """Train with queue and partners, give the final weights and what the queue holds."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model, loader = remembering(folder, kind, momentum), build_loader()
    partners = Partners(0.5, [list(ids) for ids in loader.tokens["label_ids"]])
    loader = BatchLoader(loader.tokens, BatchPlan(range(24), 8, 0, partners), loader.settings, 64)
    history = fit(
        model, loader, settings_of(kind), accelerator, checkpoint_dir=checkpoint_dir, signature="s", **options
    )
    shares = [row["epoch_partner_share"] for row in history if "epoch_partner_share" in row]
    return dict(model.state_dict()) | model.memory.queue.state_dict() | {"shares": torch.tensor(shares)}


@pytest.mark.parametrize("case", [("contrastive", None, 3), ("contrastive", 0.9, 4), ("classification", 0.9, 1)])
def test_a_killed_training_goes_on_with_the_very_queue_it_had(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, float | None, int]
) -> None:
    """Two epochs of three steps; killed after step 1 or 4 (inside an epoch) or 3 (at its end)."""
    kind, momentum, stop_at = case
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(meter, "LOG_EVERY_S", 0.0)
    expected = train(tiny_encoder_dir, tmp_path / "a", kind, momentum)

    def stop(metrics: dict[str, float], step: int) -> None:
        if step == stop_at + 1 and "loss" in metrics:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_encoder_dir, tmp_path / "b", kind, momentum, log=stop)
    resumed = train(tiny_encoder_dir, tmp_path / "b", kind, momentum)
    assert expected.keys() == resumed.keys()
    for name, value in expected.items():
        assert torch.equal(resumed[name], value), name
    assert len(expected["rows"]) == 16
    assert len(expected["shares"]) == 2


@pytest.mark.slow
def test_a_training_that_the_system_kills_goes_on_with_the_very_queue_it_had(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL after step 4 of 6, in a process of its own."""
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(meter, "LOG_EVERY_S", 0.0)
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, __file__, str(tiny_encoder_dir), str(tmp_path / "b")]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    steps: list[int] = []
    resumed = train(
        tiny_encoder_dir, tmp_path / "b", "contrastive", 0.9, log=lambda _, step: steps.append(step)
    )  # fmt: skip
    assert steps[0] == 4
    expected = train(tiny_encoder_dir, tmp_path / "a", "contrastive", 0.9)
    for name, value in expected.items():
        assert torch.equal(resumed[name], value), name


def test_the_share_of_an_epoch_is_the_mean_of_its_steps(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "LOG_EVERY_S", 0.0)
    logged: list[dict[str, float]] = []
    train(tiny_encoder_dir, tmp_path / "c", "contrastive", None, log=lambda metrics, _: logged.append(metrics))
    steps = [row["partner_share"] for row in logged if "partner_share" in row]
    epochs = [row["epoch_partner_share"] for row in logged if "epoch_partner_share" in row]
    assert len(steps) == 6
    assert epochs == pytest.approx([sum(steps[:3]) / 3, sum(steps[3:]) / 3])
    assert epochs[0] != epochs[1]


def test_a_queue_changes_what_is_learned_and_a_momentum_encoder_what_is_queued(
    tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    plain, slow = (
        train(tiny_encoder_dir, tmp_path / f"{momentum}", "contrastive", momentum) for momentum in (None, 0.9)
    )
    assert torch.equal(plain["rows"], slow["rows"])
    assert not torch.equal(plain["vectors"], slow["vectors"])
    head = "projection_head.layers.0.weight"
    assert not torch.equal(plain[head], slow[head])


def test_validation_leaves_the_queue_alone_and_fit_finds_it(tiny_encoder_dir: Path) -> None:
    model = remembering(tiny_encoder_dir, "contrastive", None)
    batch = build_loader().collate(range(6), 6)
    model.eval()(batch)
    assert len(model.memory.queue) == 0
    model.train()(batch)
    assert len(model.memory.queue) == 6
    assert memory_queues(model) == [model.memory.queue]
    assert isinstance(remembering(tiny_encoder_dir, "classification", 0.9), ClassificationObjective)


def _kill_oneself(_: dict[str, float], step: int) -> None:
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":  # as the process that is killed
    checkpoints.EVERY_S = meter.LOG_EVERY_S = 0.0
    train(Path(sys.argv[1]), Path(sys.argv[2]), "contrastive", 0.9, log=_kill_oneself)
