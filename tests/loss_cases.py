"""Made-up projections, and what tests of losses share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.losses import (
    WEIGHT_RULES,
)

WITHOUT_PARAMETERS = sorted({*WEIGHT_RULES} - {"scl"})
"""Losses of the one kernel that need no parameters."""


def vectors(n_documents: int, dim: int = 8, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_documents, dim, generator=generator).to(dtype).requires_grad_()


def gradient_of(loss: nn.Module, projections: Tensor, labels: Any, **options: Any) -> Tensor:
    (gradient,) = torch.autograd.grad(loss(projections, labels, **options), projections)
    return gradient
