"""The one kernel under all contrastive losses: forward finds the gradient, block by block of anchors.

    L = (1 / N) sum over anchors i, samples p of -W_ip * (s_ip - log sum over a in A(i) of b_a exp(s_ia))

with s = z_i . z_p / temperature, W from a weight rule, b = 1 but for MSC, N what the rule averages over. With
m_i = sum over p of W_ip and q_i the softmax over A(i) the gradient with respect to s is ``m_i q_ia - W_ia``, so one
pass over a block gives loss and gradient, and memory stays at O(block x samples).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.losses.batch import GatheredBatch
from pipeline.losses.pairs import PairBlock
from pipeline.losses.weights import WeightIn, WeightRule, inverse

PAIRS_PER_BLOCK_CPU = 2**21
"""Pairs in one block on a CPU: 4 MB per float32 matrix stays in the cache between the passes."""

PAIRS_PER_BLOCK_GPU = 2**24
"""Pairs in one block elsewhere: 64 MB per matrix, large enough to hide the launch of each operation."""


@dataclass(frozen=True)
class KernelSettings:
    """What the kernel needs beside vectors and labels.

    Attributes:
        rule: weight rule with its normalisation.
        temperature: > 0.
        weight_in: see WeightIn; "log" needs a rule normalised by positives.
        sample_log_weights: log b_a of every sample in the denominator, shape (n_samples,), or None for b = 1.
        n_rows: anchors per block, or None to fit the cache.
        has_gradient: whether gradients are wanted at all.
    """

    rule: WeightRule
    temperature: float
    weight_in: WeightIn = "loss"
    sample_log_weights: Tensor | None = None
    n_rows: int | None = None
    has_gradient: bool = True

    def rows_per_block(self, n_samples: int, device: torch.device) -> int:
        """Anchors per block for this many samples."""
        if self.n_rows is not None:
            return self.n_rows
        n_pairs = PAIRS_PER_BLOCK_CPU if device.type == "cpu" else PAIRS_PER_BLOCK_GPU
        return max(16, n_pairs // max(n_samples, 1))


@dataclass(frozen=True)
class BlockWeights:
    """Weights of a block: ``scale * weights``, shapes (n_rows, 1) and (n_rows, n_samples).

    ``constant`` is added to each anchor's loss, ``units`` is what each anchor adds to N, both shape (n_rows,).
    """

    weights: Tensor
    scale: Tensor
    total: Tensor
    constant: Tensor
    units: Tensor


def block_weights(block: PairBlock, settings: KernelSettings) -> BlockWeights:
    """Apply a weight rule and its normalisation to a block of anchors.

    Args:
        block: pairs of the anchors with all samples.
        settings: rule, normalisation and place of the weight.

    Returns:
        The weights; ``total`` is m_i = sum over p of W_ip, shape (n_rows, 1).
    """
    rule = settings.rule
    weights = rule.weigh(block)
    constant = weights.new_zeros(block.n_rows)
    if settings.weight_in == "log":
        # log(K e^s / sum) = log K + log-probability: K is a constant of the gradient, which is that of `any`.
        log_weights = weights.masked_fill(weights == 0, 1).log_()
        weights = weights.sign_()
        constant = -log_weights.sum(dim=1) * inverse(weights.sum(dim=1))
    sums = weights.sum(dim=1, keepdim=True)
    if rule.normalise == "positives":
        scale = inverse(torch.sign(weights).sum(dim=1, keepdim=True))
    elif rule.normalise == "weights":
        scale = inverse(sums)
    else:
        scale = torch.ones_like(sums)
    total = sums * scale
    if rule.average == "anchors":
        units = torch.sign(sums).squeeze(1)
    elif rule.average == "label_rows":
        units = block.pairs.n_label_rows[block.start : block.stop]
    else:
        units = total.squeeze(1)
    return BlockWeights(weights=weights, scale=scale, total=total, constant=constant, units=units)


def _similarities(anchors: Tensor, samples: Tensor, queue: Tensor) -> Tensor:
    """Multiply a block of anchors with samples and queue, without copying either."""
    if not len(queue):
        return anchors @ samples.T
    matrix = anchors.new_empty((len(anchors), len(samples) + len(queue)))
    torch.mm(anchors, samples.T, out=matrix[:, : len(samples)])
    torch.mm(anchors, queue.T, out=matrix[:, len(samples) :])
    return matrix


class _FusedContrastive(torch.autograd.Function):
    """Sum of anchor losses and of units; the gradient is found forward and scaled backward.

    ``samples`` is None where the anchors are the samples (one process, no prototypes): their gradient is then found
    in one product of the symmetrised block if a single block holds the batch.
    """

    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, samples: Tensor | None, batch: GatheredBatch, settings: KernelSettings
    ) -> tuple[Tensor, Tensor]:
        pairs, queue = batch.pairs, batch.queue
        others = anchors if samples is None else samples
        losses, units = anchors.new_zeros(len(anchors)), anchors.new_zeros(len(anchors))
        d_anchors = torch.zeros_like(anchors)
        d_others = d_anchors if samples is None else torch.zeros_like(samples)
        for block in pairs.blocks(settings.rows_per_block(pairs.n_samples, anchors.device)):
            rows = slice(block.start, block.stop)
            own = anchors[rows] / settings.temperature
            similarities = _similarities(own, others, queue)  # (n_rows, n_samples)
            losses[rows], units[rows], gradient, scratch = _block_loss(block, similarities, settings)
            if not settings.has_gradient:
                continue
            to_others, to_queue = gradient[:, : len(others)], gradient[:, len(others) :]
            if samples is None and block.n_rows == pairs.n_samples:
                # Copied, then added: PyTorch copies a transpose in tiles but adds one element by element.
                d_anchors.addmm_(scratch.copy_(gradient.T).add_(gradient), own)
            else:
                d_anchors[rows] += to_others @ others / settings.temperature
                d_others.addmm_(to_others.T, own)
            if len(queue):
                d_anchors[rows] += to_queue @ queue / settings.temperature
        ctx.save_for_backward(*([d_anchors] if samples is None else [d_anchors, d_others]))
        total_units = units.sum()
        ctx.mark_non_differentiable(total_units)
        return losses.sum(), total_units

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True: the saved gradient would pass for a constant
            raise RuntimeError("Contrastive losses have first derivatives only; call backward without create_graph.")
        d_anchors, *d_samples = ctx.saved_tensors
        return d_loss * d_anchors, d_loss * d_samples[0] if d_samples else None, None, None


def _block_loss(
    block: PairBlock, similarities: Tensor, settings: KernelSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give losses and units of a block's anchors, the gradient of the losses' sum by similarity, and scratch space.

    The gradient overwrites ``similarities``, shape (n_rows, n_samples); scratch space has the same shape.
    """
    weighted = block_weights(block, settings)
    attraction = torch.linalg.vecdot(weighted.weights, similarities)[:, None] * weighted.scale
    if settings.sample_log_weights is not None:
        similarities += settings.sample_log_weights
    # A finite stand-in for -inf, so that no infinity ever meets a zero.
    block.fill_excluded(similarities, torch.finfo(similarities.dtype).min / 2)
    highest = similarities.amax(dim=1, keepdim=True)
    softmax = torch.softmax(similarities, dim=1, out=similarities)
    # The largest probability is at least 1 / n_samples, so this logarithm is safe.
    log_sum = highest - softmax.amax(dim=1, keepdim=True).log()
    losses = (weighted.total * log_sum - attraction).squeeze(1) + weighted.constant
    gradient = softmax.mul_(weighted.total).addcmul_(weighted.weights, weighted.scale, value=-1)
    return losses, weighted.units, gradient, weighted.weights


def fused_contrastive_sum(batch: GatheredBatch, settings: KernelSettings) -> tuple[Tensor, Tensor]:
    """Sum the losses of this process's anchors, not yet divided by N.

    Args:
        batch: L2-normalised vectors and the pairs of their labels.
        settings: rule, temperature and the like.

    Returns:
        The sum, attached to the graph even where no anchor has a positive (it is 0 then), and this process's part
        of N, both scalars.
    """
    with torch.autocast(batch.anchors.device.type, enabled=False):
        loss, units = _FusedContrastive.apply(  # type: ignore[no-untyped-call]
            batch.anchors, batch.samples, batch, settings
        )
    return loss, units
