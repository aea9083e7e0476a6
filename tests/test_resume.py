"""A training that was stopped goes on, and ends with the very weights of one that was not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small_training import build_loader, build_objective, settings_of, train
from torch import nn

from pipeline.errors import UserError
from pipeline.experiment.settings import Compute
from pipeline.training import checkpoints, meter
from pipeline.training.loop import fit, start_accelerator


@pytest.mark.parametrize("kind", ["contrastive", "classification"])
@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_resumed_training_ends_with_the_very_weights_of_one_that_was_not_interrupted(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stop_at: int
) -> None:
    """Two epochs of three steps; stopped after step 1 or 4 (inside an epoch) or 3 (at its end)."""
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(meter, "LOG_EVERY_S", 0.0)
    expected = train(tiny_encoder_dir, tmp_path / "a", kind, dropout=0.2, signature="s")

    def stop(_: dict[str, float], step: int) -> None:
        if step == stop_at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_encoder_dir, tmp_path / "b", kind, dropout=0.2, signature="s", log=stop)
    steps: list[int] = []
    resumed = train(
        tiny_encoder_dir, tmp_path / "b", kind, dropout=0.2, signature="s", log=lambda _, step: steps.append(step)
    )
    assert steps[0] == stop_at + 1
    for name, value in expected.items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_training_that_ended_is_not_done_again_until_its_checkpoints_are_removed(
    tiny_encoder_dir: Path, tmp_path: Path, ema_decay: float | None
) -> None:
    """What comes behind it in the stage can fail, or be killed."""
    first = train_averaged(tiny_encoder_dir, tmp_path / "c", ema_decay, [])
    steps: list[int] = []
    again = train_averaged(tiny_encoder_dir, tmp_path / "c", ema_decay, steps)
    assert steps == []
    for name, value in first.items():
        assert torch.equal(again[name], value), name
    shutil.rmtree(tmp_path / "c")
    train_averaged(tiny_encoder_dir, tmp_path / "c", ema_decay, steps)
    assert steps


def train_averaged(folder: Path, checkpoint_dir: Path, ema_decay: float | None, steps: list[int]) -> dict[str, Any]:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model = build_objective(folder, "contrastive", dropout=0.2)
    fit(
        model, build_loader(), settings_of("contrastive", ema_decay=ema_decay), accelerator,
        checkpoint_dir=checkpoint_dir, signature="s", log=lambda _, step: steps.append(step),
    )  # fmt: skip
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_checkpoint_of_other_settings_is_not_used(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(meter, "LOG_EVERY_S", 0.0)

    def stop(_: dict[str, float], step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_encoder_dir, tmp_path / "c", "contrastive", signature="one", log=stop)
    steps: list[int] = []
    train(tiny_encoder_dir, tmp_path / "c", "contrastive", signature="two", log=lambda _, step: steps.append(step))
    assert steps[0] == 1
    assert "checkpoints of other settings, data, code or number of processes are removed" in caplog.text


def test_a_training_does_not_go_on_in_another_precision(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node with bf16 began, one without is not to end; nothing of it is lost."""
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    first = train(tiny_encoder_dir, tmp_path / "c", "contrastive", signature="s")
    with monkeypatch.context() as other_node:
        other_node.setattr(Accelerator, "mixed_precision", property(lambda _: "bf16"))
        with pytest.raises(UserError, match="began in precision 'no' and would go on in 'bf16' here"):
            train(tiny_encoder_dir, tmp_path / "c", "contrastive", signature="s")
    again = train(tiny_encoder_dir, tmp_path / "c", "contrastive", signature="s")
    for name, value in first.items():
        assert torch.equal(again[name], value), name


def train_validated(
    folder: Path, checkpoint_dir: Path, *, stop_in_epoch: int | None = None
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Three epochs whose scores are 0.1, 0.9 and 0.5, so the second is kept; killed in the validation of one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model = build_objective(folder, "classification", dropout=0.2)

    def validate(_: nn.Module) -> dict[str, float]:
        epoch = round(float(accelerator._custom_objects[0].epoch))
        if epoch == stop_in_epoch:
            raise KeyboardInterrupt
        return {"map": (0.0, 0.1, 0.9, 0.5)[epoch]}

    history = fit(
        model, build_loader(), settings_of("classification", n_epochs=3), accelerator,
        checkpoint_dir=checkpoint_dir, signature="s", validate=validate, select_by="map", patience=9,
    )  # fmt: skip
    return {name: value.clone() for name, value in model.state_dict().items()}, history


@pytest.mark.parametrize("saves_every_step", [True, False])
@pytest.mark.parametrize("stop_in_epoch", [1, 2, 3])
def test_a_training_killed_while_it_validates_still_keeps_the_best_epoch(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_in_epoch: int, saves_every_step: bool
) -> None:
    """With a checkpoint of the epoch's last step the validation alone is done again, else the whole epoch is."""
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0 if saves_every_step else 1e9)
    monkeypatch.setattr(meter, "LOG_EVERY_S", 0.0)
    expected, whole_history = train_validated(tiny_encoder_dir, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        train_validated(tiny_encoder_dir, tmp_path / "b", stop_in_epoch=stop_in_epoch)
    resumed, history = train_validated(tiny_encoder_dir, tmp_path / "b")
    for name, value in expected.items():
        assert torch.equal(resumed[name], value), name

    def without_speed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
        return [
            {name: value for name, value in row.items() if name not in ("documents_per_second", "loading_share")}
            for row in rows
        ]

    assert without_speed(history) == without_speed(whole_history)


def test_a_training_killed_while_it_removes_an_old_checkpoint_goes_on_from_the_new_one(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half removed, the old folder is the one that changed last."""
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.0)
    monkeypatch.setattr(meter, "LOG_EVERY_S", 0.0)
    expected = train(tiny_encoder_dir, tmp_path / "a", "classification", dropout=0.2, signature="s")
    remove_tree = shutil.rmtree

    def remove_half(path: Path, **_: Any) -> None:
        (path / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", remove_half)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_encoder_dir, tmp_path / "b", "classification", dropout=0.2, signature="s")
    monkeypatch.setattr(shutil, "rmtree", remove_tree)
    steps: list[int] = []
    resumed = train(
        tiny_encoder_dir, tmp_path / "b", "classification", dropout=0.2, signature="s",
        log=lambda _, step: steps.append(step),
    )  # fmt: skip
    assert steps[0] == 3
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
