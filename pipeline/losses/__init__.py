"""Losses for multi-label learning, usable on their own with any vectors and plain PyTorch.

One fused contrastive kernel (kernel.py) and a table of weight rules (weights.py) give the contrastive losses;
heads.py has the classification losses. docs/losses.md explains each family.

    from pipeline.losses import SimilarityDissimilarityLoss

    loss = SimilarityDissimilarityLoss(temperature=0.1)
    loss(projections, labels).backward()
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from pipeline.losses.contrastive import ContrastiveLoss, contrastive_loss, find_weight_rule
from pipeline.losses.heads import (
    HEAD_LOSSES,
    AsymmetricLoss,
    BinaryCrossEntropyLoss,
    DistributionBalancedLoss,
    ZLPRLoss,
    build_head_loss,
)
from pipeline.losses.label_sets import Labels, SparseLabels
from pipeline.losses.mixture import ProbMCLLoss
from pipeline.losses.named import (
    AllLoss,
    AnyLoss,
    JaccardLoss,
    JaccardProbabilityLoss,
    JaccardSimilarityLoss,
    MulSupConLoss,
    OverlapLoss,
    SDInverseFrequencyLoss,
    SDMulSupConLoss,
    SDPerLabelLoss,
    SimilarityDissimilarityLoss,
    StepwiseLabelLoss,
)
from pipeline.losses.prototypes import MultiLabelPrototypeLoss, PrototypeLoss, SDPrototypeLoss
from pipeline.losses.statistics import partner_share, relation_statistics
from pipeline.losses.weights import WEIGHT_RULES, Normalise, WeightIn, WeightRule
from pipeline.losses.within_document import IntraLabelLoss

CONTRASTIVE_LOSSES: tuple[str, ...] = (*WEIGHT_RULES, "jspcl", "icl", "msc", "probmcl", "sd_prototypes")
"""All names that build_contrastive_loss knows."""

__all__ = [
    "CONTRASTIVE_LOSSES",
    "HEAD_LOSSES",
    "WEIGHT_RULES",
    "AllLoss",
    "AnyLoss",
    "AsymmetricLoss",
    "BinaryCrossEntropyLoss",
    "ContrastiveLoss",
    "DistributionBalancedLoss",
    "IntraLabelLoss",
    "JaccardLoss",
    "JaccardProbabilityLoss",
    "JaccardSimilarityLoss",
    "Labels",
    "MulSupConLoss",
    "MultiLabelPrototypeLoss",
    "Normalise",
    "OverlapLoss",
    "ProbMCLLoss",
    "PrototypeLoss",
    "SDInverseFrequencyLoss",
    "SDMulSupConLoss",
    "SDPerLabelLoss",
    "SDPrototypeLoss",
    "SimilarityDissimilarityLoss",
    "SparseLabels",
    "StepwiseLabelLoss",
    "WeightIn",
    "WeightRule",
    "ZLPRLoss",
    "build_contrastive_loss",
    "build_head_loss",
    "contrastive_loss",
    "find_weight_rule",
    "partner_share",
    "relation_statistics",
]


def build_contrastive_loss(
    name: str,
    *,
    temperature: float = 0.1,
    normalise: Normalise = "positives",
    weight_in: WeightIn = "loss",
    n_labels: int | None = None,
    dim: int | None = None,
    settings: Mapping[str, float] = MappingProxyType({}),
) -> nn.Module:
    """Build a contrastive loss by name.

    All but two are called ``loss(projections, labels)``: "icl" takes label embeddings (n_documents, n_labels, dim)
    in place of projections, "jspcl" takes logits (n_documents, n_labels). "msc", "sd_prototypes" and "probmcl" own
    parameters.

    Args:
        name: one of CONTRASTIVE_LOSSES.
        temperature: > 0.
        normalise: "positives" or "weights", the latter for names that start with "sd" and leave the choice.
        weight_in: "loss", or "log" for sd rules normalised by positives.
        n_labels: size of the label space; "msc" and "sd_prototypes" need it.
        dim: width of the projections; "msc", "sd_prototypes" and "probmcl" need it.
        settings: further arguments of the classes of "msc" and "probmcl"; others have none.

    Returns:
        The loss.

    Raises:
        ValueError: on an unknown name, a setting that the loss does not have, or a missing n_labels or dim.
    """
    if name not in CONTRASTIVE_LOSSES:
        raise ValueError(f"The contrastive loss must be one of {CONTRASTIVE_LOSSES}. Got {name!r} instead.")
    if settings and name not in ("msc", "probmcl"):
        raise ValueError(f"The loss {name!r} has no settings of its own. Got {', '.join(settings)}.")
    if name in WEIGHT_RULES:
        return ContrastiveLoss(
            name, temperature=temperature, normalise=normalise, weight_in=weight_in, n_labels=n_labels
        )
    if weight_in != "loss":
        raise ValueError(
            f"The loss {name!r} has no reading with the weight in the logarithm (weight_in={weight_in!r})."
        )
    if normalise != "positives" and name != "sd_prototypes":
        raise ValueError(f"The loss {name!r} leaves no choice of normalise. Got {normalise!r}.")
    if name == "jspcl":
        return JaccardProbabilityLoss(temperature=temperature, n_labels=n_labels)
    if name == "icl":
        return IntraLabelLoss(temperature=temperature, n_labels=n_labels)
    if dim is None or (n_labels is None and name != "probmcl"):
        raise ValueError(
            f"The loss {name!r} owns parameters and needs n_labels and dim. Got {n_labels} and {dim} instead."
        )
    if name == "probmcl" or n_labels is None:
        return ProbMCLLoss(dim, temperature=temperature, **settings)  # type: ignore[arg-type]
    if name == "msc":
        return MultiLabelPrototypeLoss(n_labels, dim, temperature=temperature, **settings)
    return SDPrototypeLoss(n_labels, dim, temperature=temperature, normalise=normalise)
