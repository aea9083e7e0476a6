"""Both trainings on a tiny encoder: exact, resumable, the same on one process and on two."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from pipeline import training
from pipeline.config import Compute, TrainClassifier, TrainEncoder, Training
from pipeline.encoder import ProjectionHead, load_encoder
from pipeline.errors import UserError
from pipeline.heads import build_head
from pipeline.losses import build_contrastive_loss, build_head_loss
from pipeline.objectives import ClassificationObjective, ContrastiveObjective
from pipeline.sampling import BatchPlan
from pipeline.tokens import ChunkSettings
from pipeline.training import BatchLoader, fit, start_accelerator
from pipeline.validation import Validator

N_LABELS = 4
TWO_PROCESSES = Path(__file__).parents[1] / "configs" / "accelerate" / "two_processes.yaml"


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


def build_objective(folder: Path, kind: str, *, dropout: float = 0.0, gradient_cache: bool = False) -> Any:
    torch.manual_seed(0)
    encoder = load_encoder(folder)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    if kind == "contrastive":
        loss = build_contrastive_loss("sd")
        head = ProjectionHead(encoder.dim, 8)
        return ContrastiveObjective(
            encoder, head, loss, n_labels=N_LABELS, pooling="mean", gradient_cache=gradient_cache
        )
    return ClassificationObjective(
        encoder,
        build_head("label_attention", encoder.dim, N_LABELS, dropout=dropout, pooling="mean"),
        build_head_loss("bce", train_counts=[1] * N_LABELS, n_documents=24),
        n_labels=N_LABELS,
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


@pytest.mark.parametrize("kind", ["contrastive", "classification"])
def test_gradient_caching_gives_the_gradient_of_the_whole_batch_with_the_same_dropout(
    tiny_encoder_dir: Path, kind: str
) -> None:
    batch = build_loader().collate(range(12), 12)
    gradients = []
    for gradient_cache in (False, True):
        model = build_objective(tiny_encoder_dir, kind, dropout=0.3, gradient_cache=gradient_cache).train()
        torch.manual_seed(5)
        loss, _ = model(batch)
        loss.backward()
        gradients.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
    assert len(batch.micro_batches) > 2
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["contrastive", "classification"])
@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_resumed_training_ends_with_the_very_weights_of_one_that_was_not_interrupted(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stop_at: int
) -> None:
    """Two epochs of three steps; stopped after step 1 or 4 (inside an epoch) or 3 (at its end)."""
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(training, "_LOG_EVERY_S", 0.0)
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
    assert not (tmp_path / "b").exists()


def test_a_checkpoint_of_other_settings_is_not_used(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(training, "_LOG_EVERY_S", 0.0)

    def stop(_: dict[str, float], step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_encoder_dir, tmp_path / "c", "contrastive", signature="one", log=stop)
    steps: list[int] = []
    train(tiny_encoder_dir, tmp_path / "c", "contrastive", signature="two", log=lambda _, step: steps.append(step))
    assert steps[0] == 1


def test_eight_documents_are_learned_by_heart(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model, loader = build_objective(tiny_encoder_dir, "classification"), build_loader(8, 8)
    validator = Validator(model, loader.tokens, range(8), n_labels=N_LABELS, loader=loader, accelerator=accelerator)
    settings = settings_of("classification", n_epochs=100, learning_rate=5e-3)
    history = fit(
        model, loader, settings, accelerator,
        checkpoint_dir=tmp_path / "c", signature="s", validate=validator.scores, select_by="micro_f1", patience=100,
    )  # fmt: skip
    assert max(row.get("val_micro_f1", 0.0) for row in history) == 1.0
    assert validator.scores(model)["micro_f1"] == 1.0


def test_the_weights_of_the_best_epoch_are_kept_and_training_stops_when_nothing_improves(
    tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model = build_objective(tiny_encoder_dir, "classification")
    scores, weights = iter([0.1, 0.5, 0.4, 0.3, 0.9]), []

    def validate(_: nn.Module) -> dict[str, float]:
        weights.append(model.head.weight.detach().clone())
        return {"map": next(scores)}

    fit(
        model, build_loader(), settings_of("classification", n_epochs=9), accelerator,
        checkpoint_dir=tmp_path / "c", signature="s", validate=validate, select_by="map", patience=2,
    )  # fmt: skip
    assert len(weights) == 4
    assert torch.equal(model.head.weight, weights[1])


def test_a_loss_that_is_not_finite_stops_with_advice(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model = build_objective(tiny_encoder_dir, "classification")
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(UserError, match=r"training diverged\. Lower the learning rate"):
        fit(
            model, build_loader(), settings_of("classification"), accelerator,
            checkpoint_dir=tmp_path / "c", signature="s",
        )  # fmt: skip


def test_one_process_where_the_launch_file_asks_for_two_is_refused(tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    launch = tmp_path / "launch.yaml"
    launch.write_text("num_processes: 2\n", encoding="utf-8")
    with pytest.raises(UserError, match="1 processes run"):
        start_accelerator(Compute(accelerate_config=launch), mixed_precision="no", seed=0)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(UserError, match="needs a GPU"):
        start_accelerator(Compute(), mixed_precision="fp16", seed=0)


def _train_in_a_process(folder: Path, out_dir: Path) -> None:
    """What each of two processes does: both trainings, then validation."""
    accelerator = Accelerator()
    results: dict[str, Any] = {}
    for kind in ("contrastive", "classification"):
        model, loader = build_objective(folder, kind), build_loader()
        fit(
            model, loader, settings_of(kind), accelerator,
            checkpoint_dir=out_dir / f"checkpoints-{kind}", signature="s",
        )  # fmt: skip
        results[kind] = {name: value.clone() for name, value in model.state_dict().items()}
    validator = Validator(model, loader.tokens, range(23), n_labels=N_LABELS, loader=loader, accelerator=accelerator)
    results["probabilities"] = torch.from_numpy(validator.probabilities())
    results["n_processes"] = accelerator.num_processes
    torch.save(results, out_dir / f"{accelerator.num_processes}-{accelerator.process_index}.pt")


@pytest.mark.slow
def test_two_processes_train_and_validate_as_one_does(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """The real loop with accelerate, DDP and gloo; without dropout the weights after six steps are the same."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launch, __file__, str(tiny_encoder_dir), str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    AcceleratorState._reset_state(reset_partial_state=True)
    _train_in_a_process(tiny_encoder_dir, tmp_path)
    one, *two = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert [result["n_processes"] for result in two] == [2, 2]
    for result, kind in itertools.product(two, ("contrastive", "classification")):
        for name, value in one[kind].items():
            torch.testing.assert_close(result[kind][name], value, atol=2e-5, rtol=1e-4)
    for result in two:
        torch.testing.assert_close(result["probabilities"], one["probabilities"], atol=1e-5, rtol=1e-4)


if __name__ == "__main__":  # as the two processes of the test above
    _train_in_a_process(Path(sys.argv[1]), Path(sys.argv[2]))
