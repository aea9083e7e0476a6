"""Checkpoints of a training: whole or not there, of one signature only, and how a training stands."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from pipeline.errors import UserError

logger = logging.getLogger(__name__)

EVERY_S = 600.0
"""Seconds between checkpoints within an epoch."""


@dataclass
class LoopState:
    """Where a training stands, and the precision it is in; saved with every checkpoint."""

    precision: str
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


class Checkpoints:
    """Checkpoints that are whole or not there, of one signature only."""

    def __init__(self, folder: Path, signature: str, accelerator: Accelerator) -> None:
        key = hashlib.sha256(f"{signature} processes={accelerator.num_processes}".encode()).hexdigest()[:16]
        self._folder, self._accelerator = folder / key, accelerator
        self._saved_at = time.monotonic()
        if accelerator.is_main_process:
            for other in folder.glob("*"):
                if other != self._folder:
                    logger.warning("checkpoints of other settings, data, code or number of processes are removed")
                    shutil.rmtree(other)
            self._folder.mkdir(parents=True, exist_ok=True)
        accelerator.wait_for_everyone()

    def resume(self, state: LoopState) -> None:
        """Go on from the newest whole checkpoint, if there is one.

        Raises:
            UserError: if it was trained in another precision than this machine gives.
        """
        whole = [path for path in self._folder.glob("epoch-*") if not path.name.endswith(".tmp")]
        if whole:
            # By what the name says: removing half of an older one, before a kill, changed that one last.
            newest = max(whole, key=lambda path: [int(part) for part in path.name.split("-") if part.isdigit()])
            self._accelerator.load_state(str(newest))
            if state.precision != self._accelerator.mixed_precision:
                raise UserError(
                    f"{self._folder}: this training began in precision {state.precision!r} and would go on in "
                    f"{self._accelerator.mixed_precision!r} here; go on on a machine like the first, or remove that "
                    "folder and start again."
                )
            logger.info("resumed from checkpoint %s", newest.name)

    def save_if_due(self, name: str) -> None:
        """Save when ten minutes have passed on any process; all save together."""
        due = torch.tensor(float(time.monotonic() - self._saved_at >= EVERY_S))
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
