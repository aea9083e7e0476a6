"""The one training loop, through accelerate, for both trainings.

Batches, and with them loss and gradient, are the same on one process and on many. A run that is killed goes on
from its last checkpoint as if it had not been.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.encoders.kernels import keep_few_kernels
from pipeline.encoders.micro_batches import Batch
from pipeline.encoders.precision import check_gpus, default_device, usable_precision
from pipeline.errors import UserError
from pipeline.experiment.launch import processes_of
from pipeline.experiment.settings import Compute
from pipeline.experiment.training_settings import Training
from pipeline.training.averaging import WeightAverage
from pipeline.training.checkpoints import Checkpoints, LoopState
from pipeline.training.loading import BatchLoader
from pipeline.training.memory_queue import memory_queues
from pipeline.training.meter import Meter
from pipeline.training.objectives import Objective

logger = logging.getLogger(__name__)

_DIVERGED = (
    "{}: training diverged. Lower the learning rate, raise the temperature, or train in mixed_precision 'bf16' or 'no' "
    "instead of 'fp16'."
)


def start_accelerator(compute: Compute, *, mixed_precision: str, seed: int) -> Accelerator:
    """Start accelerate and check that it runs as the launch file asks.

    Raises:
        UserError: if the number of processes is not that of the launch file, the device cannot do the precision,
            gradients would be accumulated over steps, or a scheduler gave GPUs that torch does not see.
    """
    check_gpus(compute.n_gpus)
    keep_few_kernels()
    if compute.n_threads:
        torch.set_num_threads(compute.n_threads)
    precision = usable_precision(mixed_precision, default_device())
    accelerator = Accelerator(mixed_precision=precision)
    expected = processes_of(compute.accelerate_config)
    if accelerator.num_processes != expected:
        raise UserError(
            f"{accelerator.num_processes} processes run, but {compute.accelerate_config or 'no launch file'} asks for "
            f"{expected}. Launch with 'accelerate launch --config_file ... -m', as `icd run` does."
        )
    if accelerator.gradient_accumulation_steps != 1:  # of the environment or the launch file
        raise UserError(
            f"gradient_accumulation_steps is {accelerator.gradient_accumulation_steps}; it must be 1: a step is "
            "global_batch_size documents here, micro_batch_tokens at a time."
        )
    set_seed(seed, device_specific=True)
    logger.info(
        "process %d of %d on %s, precision %s",
        accelerator.process_index + 1, accelerator.num_processes, accelerator.device, precision,
    )  # fmt: skip
    return accelerator


def fit(
    model: Objective,
    loader: BatchLoader,
    settings: Training,
    accelerator: Accelerator,
    *,
    checkpoint_dir: Path,
    signature: str,
    head_learning_rate: float | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    select_by: str = "",
    patience: int = 1,
    log: Callable[[dict[str, float], int], None] = lambda metrics, step: None,
) -> list[dict[str, float]]:
    """Train ``model`` in place.

    Args:
        model: what to minimise.
        loader: gives the batches.
        settings: epochs, rates, clipping, and whether a running average of the weights is scored and kept.
        accelerator: prepared by :func:`start_accelerator`.
        checkpoint_dir: checkpoints lie here, that of the last epoch, too; they are to be removed when what the training
            gave has been kept.
        signature: identifies settings and data; a checkpoint of another one is not used.
        head_learning_rate: of all parameters outside the encoder; None gives them that of the encoder.
        validate: scores on validation after every epoch; the weights of the best epoch are kept.
        select_by: the score that decides.
        patience: epochs without a better score before training stops.
        log: receives metrics and the step.

    Returns:
        One row per logged step and per epoch: step, epoch, loss, learning rates, documents/s, statistics of batches,
        scores. ``loading_share`` is the share of the time since the last row in which the loop waited for a batch.
        ``partner_share`` of a row is the mean over the steps since the last one, ``epoch_partner_share`` that
        over the epoch.

    Raises:
        UserError: if the loss or a weight is no longer finite.
    """
    optimizer = _build_optimizer(model, settings, head_learning_rate)
    scheduler = _build_scheduler(optimizer, settings, loader.plan.n_steps * settings.n_epochs)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    state = LoopState(accelerator.mixed_precision)
    average = None if settings.ema_decay is None else WeightAverage(wrapped.parameters(), settings.ema_decay)
    averages = [average] if average else []
    accelerator.register_for_checkpointing(state, scheduler, *memory_queues(model), *averages)
    checkpoints = Checkpoints(checkpoint_dir, signature, accelerator)
    checkpoints.resume(state)
    loop = _Loop(model, wrapped, loader, optimizer, scheduler, state, settings, accelerator, checkpoints, log, average)
    while state.epoch < settings.n_epochs and state.n_epochs_without_gain < patience:
        loop.run_epoch()
        loop.close_epoch()
        _check_weights(model)  # before they are judged and saved; of an epoch's last step no loss tells it
        if validate:
            with average.in_place() if average else contextlib.nullcontext():
                loop.judge_epoch(validate(model), select_by, model)
        checkpoints.save(f"epoch-{state.epoch}")
    if validate:
        checkpoints.load_best(model)
    elif average:
        average.swap()
    accelerator.wait_for_everyone()  # from here on the checkpoints may go
    return state.history


@dataclass
class _Loop:
    """What a step needs."""

    objective: Objective
    wrapped: nn.Module
    loader: BatchLoader
    optimizer: Any
    scheduler: Any
    state: LoopState
    settings: Training
    accelerator: Accelerator
    checkpoints: Checkpoints
    log: Callable[[dict[str, float], int], None]
    average: WeightAverage | None

    def run_epoch(self) -> None:
        """Take the steps that are left of the current epoch."""
        state, n_steps = self.state, self.loader.plan.n_steps
        self.wrapped.train()
        meter = Meter()
        batches = self.loader.epoch(state.epoch, first_step=state.step, accelerator=self.accelerator)
        title = f"epoch {state.epoch + 1}/{self.settings.n_epochs}"
        hidden = None if self.accelerator.is_main_process else True
        timed = meter.waiting_for(batches)
        with tqdm(timed, total=n_steps, initial=state.step, desc=title, unit="step", disable=hidden) as bar:
            for batch in bar:
                rate = self.scheduler.get_last_lr()[0]
                loss, statistics = self._step(batch)
                state.step += 1
                meter.add(loss, batch.n_global, statistics)
                if "partner_share" in statistics:
                    state.partner_shares.append(statistics["partner_share"])
                if meter.is_due or state.step == n_steps:
                    row = self._log_row(meter.row() | {"learning_rate": rate})
                    bar.set_postfix(loss=f"{row['loss']:.4f}", docs_per_s=f"{row['documents_per_second']:.0f}")
                self.checkpoints.save_if_due(f"epoch-{state.epoch}-step-{state.step}")

    def _step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        loss, statistics = run_backward(self.objective, self.wrapped, batch, self.accelerator)
        self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        if self.average:
            self.average.update()
        self.optimizer.zero_grad()
        self.scheduler.step()
        return _mean_over_processes(loss, self.accelerator), statistics

    def _log_row(self, metrics: dict[str, float]) -> dict[str, float]:
        n_steps = self.loader.plan.n_steps
        step = self.state.epoch * n_steps + self.state.step
        self.log(metrics, step)
        row = metrics | {"step": step, "epoch": step / n_steps}
        self.state.history.append(row)
        return row

    def close_epoch(self) -> None:
        """Count an epoch as done, and log its mean share of label occurrences with a partner."""
        self.state.epoch, self.state.step = self.state.epoch + 1, 0
        if self.state.partner_shares:
            share = sum(self.state.partner_shares) / len(self.state.partner_shares)
            self._log_row({"epoch_partner_share": share})
            logger.info("epoch %d: %.1f %% of labels have a partner in their batch", self.state.epoch, 100 * share)
            self.state.partner_shares = []

    def judge_epoch(self, scores: dict[str, float], select_by: str, model: nn.Module) -> None:
        """Log validation scores of the epoch just closed and keep its weights if it is the best."""
        state = self.state
        state.n_epochs_without_gain += 1
        if scores[select_by] > state.best_score:
            state.best_score, state.n_epochs_without_gain = scores[select_by], 0
            self.checkpoints.save_best(model)
        self._log_row({f"val_{name}": value for name, value in scores.items()})
        text = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        logger.info("epoch %d: validation %s%s", state.epoch, text, "" if state.n_epochs_without_gain else " (best)")


def run_backward(
    objective: Objective, wrapped: nn.Module, batch: Batch, accelerator: Accelerator
) -> tuple[Tensor, dict[str, float]]:
    """Add the gradient of a batch, part by part, so that activations of one part alone are held.

    Args:
        objective: gives the parts; their number may differ between processes.
        wrapped: the objective as accelerate wrapped it; processes share gradients with the last part alone.
        batch: of this process.
        accelerator: of precision and processes.

    Returns:
        Loss of the batch and statistics.
    """
    *earlier, last = objective.parts(batch)
    total: Tensor | float = 0.0
    for part in earlier:
        with accelerator.no_sync(wrapped):
            total = total + _run_part(wrapped, part, accelerator)[0]
    loss, statistics = _run_part(wrapped, last, accelerator)
    return total + loss, statistics


def _run_part(wrapped: nn.Module, part: Batch, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
    with accelerator.autocast():
        loss, statistics = wrapped(part)
    accelerator.backward(loss)
    return loss.detach(), statistics


def _check_weights(model: nn.Module) -> None:
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise UserError(_DIVERGED.format("the weights are no longer finite"))


def _mean_over_processes(loss: Tensor, accelerator: Accelerator) -> float:
    """Loss of the global batch.

    Raises:
        UserError: if it is not finite.
    """
    value = float(accelerator.reduce(loss.detach().float(), reduction="mean"))
    if not math.isfinite(value):
        raise UserError(_DIVERGED.format(f"the loss is {value}"))
    return value


def _build_optimizer(model: nn.Module, settings: Training, head_learning_rate: float | None) -> torch.optim.AdamW:
    """AdamW; no decay on biases and norms, a rate of its own for what is not the encoder."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_encoder = name.startswith("encoder.")
            rate = settings.learning_rate if is_encoder else (head_learning_rate or settings.learning_rate)
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]
    )


def _build_scheduler(optimizer: torch.optim.Optimizer, settings: Training, n_steps: int) -> Any:
    from transformers import get_linear_schedule_with_warmup

    # With warm-up the first step has rate 0, as everywhere in the field; so a few steps do without.
    return get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
        optimizer, round(settings.warmup * n_steps), max(n_steps, 1)
    )
