"""Losses of the classification head: logits against multi-hot targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Reduction: TypeAlias = Literal["mean", "none"]
"""Mean over this process's documents, or one value per document (for pipeline.distributed.mean_over_processes)."""

HEAD_LOSSES: tuple[str, ...] = ("bce", "asl", "distribution_balanced", "zlpr")
"""All names that build_head_loss knows."""


class BinaryCrossEntropyLoss(nn.Module):
    """Binary cross-entropy, mean over labels and documents.

    Args:
        reduction: mean over documents or one value each.

    Raises:
        ValueError: on an unknown reduction.

    Example:
        >>> BinaryCrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor(0.6931)
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = _check_reduction(reduction)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: before the sigmoid, any float dtype, shape (n_documents, n_labels).
            targets: 0 or 1, any dtype, same shape.

        Returns:
            Scalar, or shape (n_documents,) for reduction "none"; float32, float64 for float64 logits.
        """
        logits, targets = _check_inputs(logits, targets)
        per_label = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return _reduce(per_label.mean(dim=1), self.reduction)


class AsymmetricLoss(nn.Module):
    """ASL: focus on hard labels, more strongly among the many negatives.

    ``-y (1 - p)^gamma_pos log p - (1 - y) p_m^gamma_neg log(1 - p_m)`` with ``p_m = max(p - margin, 0)``: negatives
    below the margin do not count. Mean over labels and documents (the authors' code takes the sum, which asks for
    a learning rate or a weight that fits).

    Relations: BinaryCrossEntropyLoss for gamma_pos = gamma_neg = margin = 0; focal loss for equal gammas, margin 0.

    Args:
        gamma_pos: focus of positives, >= 0.
        gamma_neg: focus of negatives, >= 0.
        margin: shift of negative probabilities, in [0, 1).
        reduction: mean over documents or one value each.

    Raises:
        ValueError: if a setting is out of range.

    Source:
        Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, eqs. 4-7. Defaults are the
        paper's (gamma_pos 0, gamma_neg 4, margin 0.05).
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        margin: float = 0.05,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if gamma_pos < 0 or gamma_neg < 0 or not 0 <= margin < 1:
            raise ValueError(
                f"AsymmetricLoss needs gammas >= 0 and a margin in [0, 1). Got gamma_pos={gamma_pos}, "
                f"gamma_neg={gamma_neg}, margin={margin} instead."
            )
        self.gamma_pos, self.gamma_neg, self.margin = gamma_pos, gamma_neg, margin
        self.reduction = _check_reduction(reduction)

    def extra_repr(self) -> str:
        """Show the settings in the module's representation."""
        return f"gamma_pos={self.gamma_pos}, gamma_neg={self.gamma_neg}, margin={self.margin}"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss; arguments as in BinaryCrossEntropyLoss."""
        logits, targets = _check_inputs(logits, targets)
        attraction = _focus(torch.sigmoid(-logits), self.gamma_pos) * F.logsigmoid(logits)
        shifted = (torch.sigmoid(logits) - self.margin).clamp(min=0)
        repulsion = _focus(shifted, self.gamma_neg) * self._log_of_shifted_negative(logits)
        per_label = -torch.lerp(repulsion, attraction, targets)
        return _reduce(per_label.mean(dim=1), self.reduction)

    def _log_of_shifted_negative(self, logits: Tensor) -> Tensor:
        if self.margin == 0:
            return F.logsigmoid(-logits)
        # 1 - p_m lies in [margin, 1], so a plain logarithm is exact enough.
        return (torch.sigmoid(-logits) + self.margin).clamp(max=1).log()


class DistributionBalancedLoss(nn.Module):
    """DB: rebalanced weights, negative-tolerant logits and focus, for long-tailed labels that occur together.

    With n_k the training documents with label k of N, label set S and logit z:

    - weight ``r_k = (1 / n_k) / sum over l in S of 1 / n_l`` (1 for a document without labels), smoothed to
      ``w_k = alpha + sigmoid(beta (r_k - mu))``;
    - bias ``v_k = kappa log(N / n_k - 1)``: rare labels start low;
    - ``q = sigmoid(z - v)`` for positives, ``sigmoid(negative_scale (z - v))`` for negatives, and the loss
      ``-w (1 - q)^gamma log q`` or ``-(w / negative_scale) q^gamma log(1 - q)``; mean over labels and documents.

    Relations: binary cross-entropy with weights ``w`` for negative_scale 1, kappa 0, gamma 0.

    Args:
        train_counts: training documents with each label, shape (n_labels,). Counts of 0 and N, where the formulas
            end, are taken as half a document away.
        n_documents: training documents, N >= 1.
        alpha: least weight, >= 0.
        beta: steepness of the smoothing, > 0.
        mu: centre of the smoothing.
        kappa: strength of the bias, >= 0.
        negative_scale: tolerance to negatives, > 0.
        gamma: focus, >= 0.
        reduction: mean over documents or one value each.

    Raises:
        ValueError: if counts do not fit the number of documents or a setting is out of range.

    Source:
        Wu et al., ECCV 2020; for text Huang et al., "Balancing Methods for Multi-label Text Classification with
        Long-Tailed Class Distribution", EMNLP 2021. Defaults are those for Reuters; for the 18,211 labels of PubMed
        the paper has mu 0.05.
    """

    def __init__(
        self,
        train_counts: Sequence[int] | Tensor,
        n_documents: int,
        *,
        alpha: float = 0.1,
        beta: float = 10.0,
        mu: float = 0.9,
        kappa: float = 0.05,
        negative_scale: float = 2.0,
        gamma: float = 2.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        counts = torch.as_tensor(train_counts, dtype=torch.float64)
        if counts.ndim != 1 or n_documents < 1 or bool(((counts < 0) | (counts > n_documents)).any()):
            raise ValueError(
                f"train_counts must be one count per label, from 0 to n_documents ({n_documents}, at least 1). "
                f"Got shape {tuple(counts.shape)} with counts up to {counts.max().item() if len(counts) else 0:g}."
            )
        if min(alpha, kappa, gamma) < 0 or min(beta, negative_scale) <= 0:
            raise ValueError(
                f"DistributionBalancedLoss needs alpha, kappa, gamma >= 0 and beta, negative_scale > 0. Got "
                f"alpha={alpha}, kappa={kappa}, gamma={gamma}, beta={beta}, negative_scale={negative_scale} instead."
            )
        counts = counts.clamp(0.5, n_documents - 0.5)
        self.alpha, self.beta, self.mu, self.gamma = alpha, beta, mu, gamma
        self.negative_scale, self.reduction = negative_scale, _check_reduction(reduction)
        self.rarity: Tensor
        self.bias: Tensor
        # Not in the state dict: they come from the label space, which is stored on its own.
        self.register_buffer("rarity", (1 / counts).float(), persistent=False)
        self.register_buffer("bias", (kappa * (n_documents / counts - 1).log()).float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss; arguments as in BinaryCrossEntropyLoss."""
        logits, targets = _check_inputs(logits, targets)
        if logits.shape[1] != len(self.rarity):
            raise ValueError(f"logits have {logits.shape[1]} labels, but train_counts had {len(self.rarity)}.")
        rarity_of_document = (targets * self.rarity).sum(dim=1, keepdim=True)
        share = torch.where(rarity_of_document > 0, self.rarity / rarity_of_document, 1.0)
        weights = self.alpha + torch.sigmoid(self.beta * (share - self.mu))
        shifted = logits - self.bias
        scaled = self.negative_scale * shifted
        attraction = _focus(torch.sigmoid(-shifted), self.gamma) * F.logsigmoid(shifted)
        repulsion = _focus(torch.sigmoid(scaled), self.gamma) * F.logsigmoid(-scaled) / self.negative_scale
        per_label = -weights * torch.lerp(repulsion, attraction, targets)
        return _reduce(per_label.mean(dim=1), self.reduction)


class ZLPRLoss(nn.Module):
    """ZLPR: rank every positive above 0 and every negative below it, jointly.

    ``log(1 + sum over positives of exp(-z)) + log(1 + sum over negatives of exp(z))``, mean over documents. The
    natural threshold is probability 0.5 (logit 0). Labels are not independent: one document's loss is dominated by
    its worst labels.

    Relations: binary cross-entropy (summed over labels) for documents with one label of two.

    Args:
        reduction: mean over documents or one value each.

    Raises:
        ValueError: on an unknown reduction.

    Source:
        Su et al., "ZLPR: A Novel Loss for Multi-label Classification", arXiv 2208.02955, eq. 6.
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = _check_reduction(reduction)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss; arguments as in BinaryCrossEntropyLoss."""
        logits, targets = _check_inputs(logits, targets)
        is_positive = targets > 0.5
        lowest = torch.finfo(logits.dtype).min
        zero = logits.new_zeros((len(logits), 1))
        of_positives = torch.cat([zero, (-logits).masked_fill(~is_positive, lowest)], dim=1)
        of_negatives = torch.cat([zero, logits.masked_fill(is_positive, lowest)], dim=1)
        return _reduce(of_positives.logsumexp(dim=1) + of_negatives.logsumexp(dim=1), self.reduction)


def build_head_loss(
    name: str,
    *,
    train_counts: Sequence[int] | Tensor,
    n_documents: int,
    reduction: Reduction = "mean",
    settings: Mapping[str, float] = MappingProxyType({}),
) -> nn.Module:
    """Build a head loss by name, with the defaults of its paper.

    Args:
        name: one of HEAD_LOSSES.
        train_counts: training documents with each label, shape (n_labels,); only "distribution_balanced" reads it.
        n_documents: training documents.
        reduction: mean over documents or one value each.
        settings: further arguments of the classes of "asl" and "distribution_balanced"; others have none.

    Returns:
        A module to call with logits and targets.

    Raises:
        ValueError: on an unknown name, or a setting that the loss does not have.
    """
    if settings and name in ("bce", "zlpr"):
        raise ValueError(f"The loss {name!r} has no settings of its own. Got {', '.join(settings)}.")
    if name == "bce":
        return BinaryCrossEntropyLoss(reduction)
    if name == "asl":
        return AsymmetricLoss(reduction=reduction, **settings)
    if name == "distribution_balanced":
        return DistributionBalancedLoss(train_counts, n_documents, reduction=reduction, **settings)
    if name == "zlpr":
        return ZLPRLoss(reduction)
    raise ValueError(f"The head loss must be one of {HEAD_LOSSES}. Got {name!r} instead.")


def _check_reduction(reduction: Reduction) -> Reduction:
    if reduction not in get_args(Reduction):
        raise ValueError(
            f"The 'reduction' of a head loss must be one of {get_args(Reduction)}. Got {reduction!r} instead."
        )
    return reduction


def _check_inputs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Give both in float32, or float64 if the logits are."""
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise ValueError(
            f"logits and targets must both have shape (n_documents, n_labels). "
            f"Got {tuple(logits.shape)} and {tuple(targets.shape)} instead."
        )
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.to(dtype), targets.to(dtype)


def _focus(probability: Tensor, gamma: float) -> Tensor:
    """Raise to gamma; kept off 0, where the derivative of a root is infinite."""
    return (
        probability.clamp(min=torch.finfo(probability.dtype).tiny) ** gamma if gamma else torch.ones_like(probability)
    )


def _reduce(per_document: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return per_document
    return per_document.sum() / max(len(per_document), 1)
