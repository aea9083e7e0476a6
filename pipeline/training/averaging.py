"""A running average of weights over the steps of a training, which is scored and kept in place of the last weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

_WARM_UP_STEPS = 10


class WeightAverage:
    """Exponential moving average of the parameters that are trained.

    In step n the average keeps ``min(decay, n / (n + 9))`` of itself, so that the first steps do not outweigh all
    others in a short training. On several processes it is the same everywhere, as the weights are.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control 1992; the
    warm-up is that of TensorFlow's ExponentialMovingAverage.

    Args:
        parameters: of the model, on their device; those without gradient are left out.
        decay: share that the average keeps in a step, in [0, 1).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self._parameters = [one for one in parameters if one.requires_grad]
        self._averages = [one.detach().clone() for one in self._parameters]
        self._decay = decay
        self._n_steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._n_steps += 1
        decay = min(self._decay, self._n_steps / (self._n_steps + _WARM_UP_STEPS - 1))
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages; a second call takes it back."""
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the averages as its weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Any]:
        """For accelerate's checkpoints."""
        return {"averages": self._averages, "n_steps": self._n_steps}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From accelerate's checkpoints."""
        for average, saved in zip(self._averages, state["averages"], strict=True):
            average.copy_(saved)
        self._n_steps = state["n_steps"]
