"""Both trainings on a tiny encoder: exact, resumable, the same on one process and on two."""

from __future__ import annotations

import os
import time
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small_training import N_LABELS, build_loader, build_objective, settings_of, train
from torch import nn

from pipeline.errors import UserError
from pipeline.experiment.settings import Compute
from pipeline.experiment.training_settings import HeadLossName
from pipeline.losses import build_head_loss
from pipeline.training import loop
from pipeline.training.loading import BatchLoader
from pipeline.training.loop import fit, run_backward, start_accelerator
from pipeline.training.validation import Validator

TWO_PROCESSES = Path(__file__).parents[1] / "configs" / "accelerate" / "two_processes.yaml"


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


def classifier_alone(folder: Path, loss: str) -> Any:
    """A classifier without a contrastive loss, with dropout."""
    model = build_objective(folder, "classification", dropout=0.3).train()
    model.contrastive = model.projection_head = None
    model.loss = build_head_loss(loss, train_counts=[1, 2, 3, 4], n_documents=24)
    return model


@pytest.mark.parametrize("loss", typing.get_args(HeadLossName))
def test_a_classifier_goes_backward_after_each_micro_batch_and_has_the_gradient_of_the_whole_batch(
    tiny_encoder_dir: Path, loss: str
) -> None:
    """Of 12 of 16 documents, as on one process of two."""
    AcceleratorState._reset_state(reset_partial_state=True)
    batch, events, accelerator = build_loader().collate(range(12), 16), [], Accelerator(cpu=True)
    whole, parts = (classifier_alone(tiny_encoder_dir, loss) for _ in range(2))
    torch.manual_seed(5)
    expected, _ = whole(batch)
    expected.backward()
    parts.head.register_forward_hook(lambda *_: events.append("forward"))
    parts.head.weight.register_post_accumulate_grad_hook(lambda _: events.append("backward"))
    torch.manual_seed(5)
    value, statistics = run_backward(parts, parts, batch, accelerator)
    assert len(batch.micro_batches) > 2
    assert events == ["forward", "backward"] * len(batch.micro_batches)
    assert not value.requires_grad
    assert statistics == {}
    torch.testing.assert_close(value, expected.detach())
    gradients = dict(parts.named_parameters())
    for name, one in whole.named_parameters():
        torch.testing.assert_close(gradients[name].grad, one.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["contrastive", "classification"])
def test_a_contrastive_loss_compares_all_documents_of_a_step(tiny_encoder_dir: Path, kind: str) -> None:
    batch = build_loader().collate(range(12), 12)
    assert build_objective(tiny_encoder_dir, kind).parts(batch) == [batch]


def test_weights_that_the_last_step_spoiled_are_neither_judged_nor_kept(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a step is that of the weights before it, so the last one of an epoch says nothing of those it leaves.

    A checkpoint with them would make every further run fail alike.
    """
    close = loop._Loop.close_epoch

    def spoil(self: loop._Loop) -> None:
        close(self)
        next(model.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(loop._Loop, "close_epoch", spoil)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model = build_objective(tiny_encoder_dir, "contrastive")
    with pytest.raises(UserError, match="the weights are no longer finite: training diverged"):
        fit(
            model, build_loader(), settings_of("contrastive"), accelerator,
            checkpoint_dir=tmp_path, signature="s", validate=pytest.fail, select_by="map",
        )  # fmt: skip
    assert not list(tmp_path.glob("*/epoch-*"))


def test_the_share_of_time_that_the_loader_was_waited_for_is_logged(
    tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, epoch = build_loader(), BatchLoader.epoch

    def slow(*arguments: Any, **options: Any) -> Any:
        for batch in epoch(*arguments, **options):
            time.sleep(0.5)
            yield batch

    monkeypatch.setattr(BatchLoader, "epoch", slow)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model, settings = build_objective(tiny_encoder_dir, "contrastive"), settings_of("contrastive", n_epochs=1)
    rows = fit(model, loader, settings, accelerator, checkpoint_dir=tmp_path, signature="s")
    shares = [row["loading_share"] for row in rows if "loading_share" in row]
    assert shares
    assert all(0.3 < share <= 1 for share in shares)


def test_a_training_keeps_few_kernels_unless_its_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's own 1,024 take gigabytes where micro-batches have many shapes."""
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    for before, expected in ((None, "128"), ("7", "7")):
        monkeypatch.delenv(name, raising=False) if before is None else monkeypatch.setenv(name, before)
        AcceleratorState._reset_state(reset_partial_state=True)
        start_accelerator(Compute(), mixed_precision="no", seed=0)
        assert os.environ[name] == expected


def test_without_warm_up_and_in_a_single_step_the_rate_is_full_at_once(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    for warmup, global_batch_size in ((0.0, 12), (0.1, 10_000)):
        settings = settings_of("contrastive", n_epochs=1, warmup=warmup, global_batch_size=global_batch_size)
        model = build_objective(tiny_encoder_dir, "contrastive")
        optimizer = loop._build_optimizer(model, settings, None)
        scheduler = loop._build_scheduler(optimizer, settings, n_steps=10 if warmup == 0.0 else 1)
        assert scheduler.get_last_lr()[0] == settings.learning_rate


@pytest.mark.parametrize("kind", ["contrastive", "classification"])
def test_two_runs_of_one_seed_end_with_the_same_weights_bit_by_bit(
    tiny_encoder_dir: Path, tmp_path: Path, kind: str
) -> None:
    first, second = (train(tiny_encoder_dir, tmp_path / name, kind, dropout=0.2, signature="s") for name in ("a", "b"))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    start = build_objective(tiny_encoder_dir, kind).state_dict()
    changed = {name for name, value in start.items() if not torch.equal(first[name], value)}
    assert any("backbone.encoder" in name for name in changed)
    assert any("head" in name for name in changed)
    assert not any("word_embeddings" in name for name in changed), "frozen by default"


def test_without_a_document_to_validate_on_a_user_is_told_so(tiny_encoder_dir: Path) -> None:
    loader = build_loader(4, 4)
    with pytest.raises(UserError, match=r"split val has no document.*raise split\.val"):
        Validator(
            build_objective(tiny_encoder_dir, "classification"), loader.tokens, [], n_labels=N_LABELS, loader=loader,
            accelerator=Accelerator(),
        )  # fmt: skip


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


def train_on_scores(folder: Path, checkpoint_dir: Path, scores: list[float]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Train with made-up validation scores and patience 2: the head's final weight, and that of each epoch."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
    model = build_objective(folder, "classification")
    remaining, weights = iter(scores), []

    def validate(_: nn.Module) -> dict[str, float]:
        weights.append(model.head.weight.detach().clone())
        return {"map": next(remaining)}

    fit(
        model, build_loader(), settings_of("classification", n_epochs=9), accelerator,
        checkpoint_dir=checkpoint_dir, signature="s", validate=validate, select_by="map", patience=2,
    )  # fmt: skip
    return model.head.weight, weights


def test_the_weights_of_the_best_epoch_are_kept_and_training_stops_when_nothing_improves(
    tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    kept, weights = train_on_scores(tiny_encoder_dir, tmp_path / "c", [0.1, 0.5, 0.4, 0.3, 0.9])
    assert len(weights) == 4
    assert torch.equal(kept, weights[1])


def test_a_score_that_is_equal_or_undefined_is_no_gain(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """The first of equal epochs is kept, the fewest steps from the start."""
    kept, weights = train_on_scores(tiny_encoder_dir, tmp_path / "c", [0.5, 0.5, float("nan"), 0.9])
    assert len(weights) == 3
    assert torch.equal(kept, weights[0])


@pytest.mark.parametrize("kind", ["classification", "contrastive"])
@pytest.mark.parametrize("head_rate", [0.01, None])
def test_every_trained_parameter_has_its_rate_and_decay_once(
    tiny_encoder_dir: Path, kind: Any, head_rate: float | None
) -> None:
    """Matrices decay, biases and norms do not; heads may learn at a rate of their own; frozen ones are left out."""
    model = build_objective(tiny_encoder_dir, kind)
    settings = settings_of(kind, learning_rate=1e-4, weight_decay=0.1)
    optimizer = loop._build_optimizer(model, settings, head_rate)
    found = {
        id(one): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for one in group["params"]
    }
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trained) == len(found)
    for name, one in trained.items():
        is_head = name.startswith(("head.", "projection_head."))
        is_matrix = not name.endswith("bias") and "norm" not in name.lower()
        assert found[id(one)] == (head_rate if is_head and head_rate else 1e-4, 0.1 if is_matrix else 0.0), name


def test_gradients_are_clipped_to_the_norm_asked_for(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """Adam divides a gradient by its own size, but not one far below its epsilon of 1e-8: weights then stand still."""
    moved = {}
    for max_grad_norm in (1.0, 1e-12):
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = start_accelerator(Compute(), mixed_precision="no", seed=0)
        model = build_objective(tiny_encoder_dir, "classification")
        before = model.head.weight.detach().clone()
        settings = settings_of("classification", max_grad_norm=max_grad_norm, weight_decay=0.0)
        fit(model, build_loader(), settings, accelerator, checkpoint_dir=tmp_path / f"{max_grad_norm}", signature="s")
        moved[max_grad_norm] = float((model.head.weight.detach() - before).abs().max())
    assert moved[1.0] > 1e-3
    assert moved[1e-12] < 1e-5


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


def test_gradient_accumulation_of_a_launch_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would divide the loss and accumulate nothing."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(UserError, match="gradient_accumulation_steps is 4; it must be 1"):
        start_accelerator(Compute(), mixed_precision="no", seed=0)


def test_one_process_where_the_launch_file_asks_for_two_is_refused(tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    launch = tmp_path / "launch.yaml"
    launch.write_text("num_processes: 2\n", encoding="utf-8")
    with pytest.raises(UserError, match="1 processes run"):
        start_accelerator(Compute(accelerate_config=launch), mixed_precision="no", seed=0)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(UserError, match="needs a GPU"):
        start_accelerator(Compute(), mixed_precision="fp16", seed=0)
