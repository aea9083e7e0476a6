"""The one training loop, through accelerate, for both trainings.

Batches, and with them loss and gradient, are the same on one process and on many. A run that is killed goes on
from its last checkpoint as if it had not been.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.encoder import DocumentEncoder
from pipeline.errors import UserError
from pipeline.memory_queue import memory_queues
from pipeline.micro_batches import Batch, ChunkSettings, build_micro_batches, chunk_settings, iterate_micro_batches
from pipeline.sampling import BatchPlan, Partners
from pipeline.settings import Compute, Encoding, Training

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 2.0
_CHECKPOINT_EVERY_S = 600.0


def start_accelerator(compute: Compute, *, mixed_precision: str, seed: int) -> Accelerator:
    """Start accelerate and check that it runs as the launch file asks.

    Raises:
        UserError: if the number of processes is not that of the launch file, or the device cannot do the precision.
    """
    if compute.n_threads:
        torch.set_num_threads(compute.n_threads)
    if mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("mixed_precision 'fp16' needs a GPU; use 'bf16' or 'no' on this machine.")
    accelerator = Accelerator(mixed_precision=mixed_precision)
    expected = _expected_processes(compute.accelerate_config)
    if accelerator.num_processes != expected:
        raise UserError(
            f"{accelerator.num_processes} processes run, but {compute.accelerate_config or 'no launch file'} asks for "
            f"{expected}. Launch with 'accelerate launch --config_file ... -m', as `icd run` does."
        )
    set_seed(seed, device_specific=True)
    logger.info(
        "process %d of %d on %s, precision %s",
        accelerator.process_index + 1, accelerator.num_processes, accelerator.device, mixed_precision,
    )  # fmt: skip
    return accelerator


def _expected_processes(launch_path: Path | None) -> int:
    if launch_path is None:
        return 1
    try:
        return int(yaml.safe_load(launch_path.read_text(encoding="utf-8")).get("num_processes", 1))
    except (OSError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"compute.accelerate_config: {launch_path} cannot be read ({error}).") from None


@dataclass(frozen=True)
class BatchLoader:
    """Turns planned rows into batches of tokens.

    Attributes:
        tokens: the tokenized data set.
        plan: which rows make up a step.
        settings: how documents are cut into chunks.
        micro_batch_tokens: size of a micro-batch.
        n_workers: processes that prepare batches; 0 for none beside this one.
    """

    tokens: datasets.Dataset
    plan: BatchPlan
    settings: ChunkSettings
    micro_batch_tokens: int
    n_workers: int = 0

    def epoch(self, epoch: int, *, first_step: int, accelerator: Accelerator) -> Iterator[Batch]:
        """This process's batches of an epoch, from ``first_step`` on."""
        planned = self.plan.local_batches(epoch, rank=accelerator.process_index, n_processes=accelerator.num_processes)[
            first_step:
        ]
        # A generator of its own: drawing from the global one here would change dropout after a resume.
        loader = DataLoader(
            _Planned(self, planned), batch_size=None, num_workers=self.n_workers, generator=torch.Generator()
        )
        for batch in loader:
            yield batch.to(accelerator.device)

    def collate(self, rows: Sequence[int], n_global: int) -> Batch:
        """Read rows and cut them into micro-batches."""
        rows = [int(row) for row in rows]
        columns = self.tokens.select_columns(["input_ids", "context_ids", "label_ids"])[rows]
        micro_batches = build_micro_batches(
            rows,
            columns["input_ids"],
            columns["context_ids"],
            self.settings,
            max_tokens=self.micro_batch_tokens,
        )
        labels_of_row = dict(zip(rows, columns["label_ids"], strict=True))
        label_ids = [labels_of_row[row] for one in micro_batches for row in one.rows.tolist()]
        return Batch(micro_batches, label_ids, n_global)


class _Planned(torch.utils.data.Dataset[Batch]):
    """Batches by step, for a DataLoader."""

    def __init__(self, loader: BatchLoader, planned: list[tuple[Any, int]]) -> None:
        self._loader, self._planned = loader, planned

    def __len__(self) -> int:
        return len(self._planned)

    def __getitem__(self, index: int) -> Batch:
        return self._loader.collate(*self._planned[index])


def build_loader(
    tokens: datasets.Dataset,
    rows: Sequence[int],
    tokenizer: Any,
    settings: Training,
    encoding: Encoding,
    *,
    seed: int,
    compute: Compute,
    partner_probability: float = 0.0,
) -> BatchLoader:
    """Batches of ``rows`` as settings ask for them."""
    partners = None
    if partner_probability:
        partners = Partners(partner_probability, tokens.select_columns(["label_ids"])[rows]["label_ids"])
    return BatchLoader(
        tokens,
        BatchPlan(rows, settings.global_batch_size, seed, partners),
        chunk_settings(tokenizer, chunk_tokens=encoding.chunk_tokens, chunk_overlap=encoding.chunk_overlap),
        settings.micro_batch_tokens,
        # On a machine without a GPU the cores are better spent on the encoder.
        compute.n_workers if torch.cuda.is_available() else 0,
    )


def cache_frozen_layers(
    encoder: DocumentEncoder, loader: BatchLoader, rows: Sequence[int], accelerator: Accelerator
) -> None:
    """Compute frozen layers once for all rows (every process for all of them: which it meets changes by epoch)."""
    batches = iterate_micro_batches(loader.tokens, rows, loader.settings, max_tokens=loader.micro_batch_tokens)
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    encoder.fill_cache(batches, len(rows), accelerator.device, dtype)


@dataclass
class LoopState:
    """Where a training stands; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    best_score: float = -math.inf
    n_epochs_without_gain: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    partner_shares: list[float] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """For accelerate's checkpoints."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From accelerate's checkpoints."""
        vars(self).update(state)


def fit(
    model: nn.Module,
    loader: BatchLoader,
    settings: Training,
    accelerator: Accelerator,
    *,
    checkpoint_dir: Path,
    signature: str,
    head_parameters: Callable[[str], bool] = lambda name: False,
    head_learning_rate: float | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    select_by: str = "",
    patience: int = 1,
    log: Callable[[dict[str, float], int], None] = lambda metrics, step: None,
) -> list[dict[str, float]]:
    """Train ``model`` in place.

    Args:
        model: ``model(batch) -> (loss, statistics)``; the loss of a process, such that the mean over processes is
            the loss of the global batch.
        loader: gives the batches.
        settings: epochs, rates, clipping.
        accelerator: prepared by :func:`start_accelerator`.
        checkpoint_dir: checkpoints lie here until training has ended.
        signature: identifies settings and data; a checkpoint of another one is not used.
        head_parameters: tells by name which parameters get ``head_learning_rate``.
        head_learning_rate: their learning rate.
        validate: scores on validation after every epoch; the weights of the best epoch are kept.
        select_by: the score that decides.
        patience: epochs without a better score before training stops.
        log: receives metrics and the step.

    Returns:
        One row per logged step and per epoch: step, epoch, loss, learning rates, documents/s, statistics of batches,
        scores. ``partner_share`` of a row is the mean over the steps since the last one, ``epoch_partner_share`` that
        over the epoch.

    Raises:
        UserError: if the loss is no longer finite.
    """
    optimizer = _build_optimizer(model, settings, head_parameters, head_learning_rate)
    scheduler = _build_scheduler(optimizer, settings, loader.plan.n_steps * settings.n_epochs)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    state = LoopState()
    accelerator.register_for_checkpointing(state, scheduler, *memory_queues(model))
    checkpoints = _Checkpoints(checkpoint_dir, signature, accelerator)
    checkpoints.resume()
    loop = _Loop(wrapped, loader, optimizer, scheduler, state, settings, accelerator, checkpoints, log)
    while state.epoch < settings.n_epochs and state.n_epochs_without_gain < patience:
        loop.run_epoch()
        loop.close_epoch()
        if validate:
            loop.judge_epoch(validate(model), select_by, model)
        checkpoints.save(f"epoch-{state.epoch}")
    if validate:
        checkpoints.load_best(model)
    checkpoints.remove()
    return state.history


@dataclass
class _Loop:
    """What a step needs."""

    model: nn.Module
    loader: BatchLoader
    optimizer: Any
    scheduler: Any
    state: LoopState
    settings: Training
    accelerator: Accelerator
    checkpoints: _Checkpoints
    log: Callable[[dict[str, float], int], None]

    def run_epoch(self) -> None:
        """Take the steps that are left of the current epoch."""
        state, n_steps = self.state, self.loader.plan.n_steps
        self.model.train()
        meter = _Meter()
        batches = self.loader.epoch(state.epoch, first_step=state.step, accelerator=self.accelerator)
        title = f"epoch {state.epoch + 1}/{self.settings.n_epochs}"
        hidden = None if self.accelerator.is_main_process else True
        with tqdm(batches, total=n_steps, initial=state.step, desc=title, unit="step", disable=hidden) as bar:
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
        with self.accelerator.autocast():
            loss, statistics = self.model(batch)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
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


def _mean_over_processes(loss: Tensor, accelerator: Accelerator) -> float:
    """Loss of the global batch.

    Raises:
        UserError: if it is not finite.
    """
    value = float(accelerator.reduce(loss.detach().float(), reduction="mean"))
    if not math.isfinite(value):
        raise UserError(
            f"the loss is {value}: training diverged. Lower the learning rate, raise the temperature, or train in "
            "mixed_precision 'bf16' or 'no' instead of 'fp16'."
        )
    return value


class _Meter:
    """Means since the last logged row."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._started = time.perf_counter()
        self._n_documents, self._n_steps = 0, 0
        self._sums: dict[str, float] = {}

    def add(self, loss: float, n_documents: int, statistics: dict[str, float]) -> None:
        self._n_documents += n_documents
        self._n_steps += 1
        for name, value in {"loss": loss, **statistics}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    @property
    def is_due(self) -> bool:
        return time.perf_counter() - self._started >= _LOG_EVERY_S

    def row(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self._started, 1e-9)
        means = {name: total / self._n_steps for name, total in self._sums.items()}
        row = means | {"documents_per_second": self._n_documents / seconds}
        self._reset()
        return row


class _Checkpoints:
    """Checkpoints that are whole or not there, of one signature only."""

    def __init__(self, folder: Path, signature: str, accelerator: Accelerator) -> None:
        key = hashlib.sha256(f"{signature} processes={accelerator.num_processes}".encode()).hexdigest()[:16]
        self._root, self._folder, self._accelerator = folder, folder / key, accelerator
        self._saved_at = time.monotonic()
        if accelerator.is_main_process:
            for other in folder.glob("*"):
                if other != self._folder:
                    shutil.rmtree(other)
            self._folder.mkdir(parents=True, exist_ok=True)
        accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        whole = [path for path in self._folder.glob("epoch-*") if not path.name.endswith(".tmp")]
        if whole:
            # By what the name says: removing half of an older one, before a kill, changed that one last.
            newest = max(whole, key=lambda path: [int(part) for part in path.name.split("-") if part.isdigit()])
            self._accelerator.load_state(str(newest))
            logger.info("resumed from checkpoint %s", newest.name)

    def save_if_due(self, name: str) -> None:
        """Save when ten minutes have passed on any process; all save together."""
        due = torch.tensor(float(time.monotonic() - self._saved_at >= _CHECKPOINT_EVERY_S))
        if self._accelerator.num_processes > 1:
            due = self._accelerator.reduce(due.to(self._accelerator.device), reduction="sum")
        if due:
            self.save(name)

    def save(self, name: str) -> None:
        """Save everything under a temporary name, rename, then remove older ones."""
        temporary = self._folder / f"{name}.tmp"
        self._accelerator.save_state(str(temporary))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            older = [path for path in self._folder.glob("epoch-*") if path != temporary]
            temporary.rename(self._folder / name)
            for path in older:
                shutil.rmtree(path)
        self._accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()

    def save_best(self, model: nn.Module) -> None:
        """Keep the weights of the best epoch so far."""
        from safetensors.torch import save_model

        if self._accelerator.is_main_process:
            temporary = self._folder / "best.tmp"
            save_model(model, str(temporary))
            temporary.rename(self._folder / "best.safetensors")

    def load_best(self, model: nn.Module) -> None:
        """Put the weights of the best epoch back."""
        from safetensors.torch import load_model

        self._accelerator.wait_for_everyone()
        best = self._folder / "best.safetensors"
        if best.exists():
            load_model(model, str(best))

    def remove(self) -> None:
        """Remove all checkpoints: training has ended."""
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            shutil.rmtree(self._root, ignore_errors=True)


def _build_optimizer(
    model: nn.Module, settings: Training, is_head: Callable[[str], bool], head_learning_rate: float | None
) -> torch.optim.AdamW:
    """AdamW; no decay on biases and norms, a rate of its own for the head."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = head_learning_rate if head_learning_rate and is_head(name) else settings.learning_rate
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]
    )


def _build_scheduler(optimizer: torch.optim.Optimizer, settings: Training, n_steps: int) -> Any:
    from transformers import get_linear_schedule_with_warmup

    n_steps = max(n_steps, 1)
    return get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
        optimizer, max(1, round(settings.warmup * n_steps)), n_steps
    )
