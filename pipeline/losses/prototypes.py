"""Losses with a trainable vector for each label: every anchor has positives then, rare labels too."""

from __future__ import annotations

import math
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from pipeline.losses.contrastive import OtherSamples, check_temperature, contrastive_loss, find_weight_rule
from pipeline.losses.label_sets import Labels
from pipeline.losses.weights import Normalise, WeightRule, multi_label_prototype_weights


class PrototypeLoss(nn.Module):
    """Contrast documents with each other and with one prototype per label.

    A prototype is a sample with one label and with gradient; weights come from a rule as for documents. It is no
    anchor. The loss owns parameters: give them to the optimiser, and keep the loss inside the module that
    DistributedDataParallel wraps, so that their gradient is averaged.

    Args:
        rule: weights, normalisation and divisor.
        n_labels: size of the label space, >= 1.
        dim: width of the projections, >= 1.
        temperature: > 0.
        document_share: factor of documents (not of prototypes) in the denominator, > 0.

    Raises:
        ValueError: if a size, the temperature or the share is not positive.
    """

    def __init__(
        self, rule: WeightRule, *, n_labels: int, dim: int, temperature: float, document_share: float = 1.0
    ) -> None:
        super().__init__()
        if n_labels < 1 or dim < 1:
            raise ValueError(
                f"A prototype loss needs n_labels and dim of at least 1. Got {n_labels} and {dim} instead."
            )
        self.weight_rule = rule
        self.temperature = check_temperature(temperature)
        self.document_share = check_positive(document_share, "document_share")
        self.prototypes = nn.Parameter(torch.empty(n_labels, dim))
        nn.init.normal_(self.prototypes, std=1 / math.sqrt(dim))

    def load_prototypes(self, vectors: Tensor) -> None:
        """Start from given vectors, for example projections of the code titles.

        Args:
            vectors: one per label, in the label space's order, shape (n_labels, dim).

        Raises:
            ValueError: if the shape differs.
        """
        if vectors.shape != self.prototypes.shape:
            raise ValueError(
                f"Prototypes must have shape {tuple(self.prototypes.shape)}. Got {tuple(vectors.shape)} instead."
            )
        with torch.no_grad():
            self.prototypes.copy_(vectors)

    def forward(self, projections: Tensor, labels: Labels, **others: Unpack[OtherSamples]) -> Tensor:
        """Compute the loss of a batch; arguments as in :func:`contrastive_loss`."""
        return contrastive_loss(
            projections,
            labels,
            rule=self.weight_rule,
            temperature=self.temperature,
            prototypes=self.prototypes,
            document_share=self.document_share,
            n_labels=len(self.prototypes),
            **others,
        )


class MultiLabelPrototypeLoss(PrototypeLoss):
    """MSC: each label of an anchor has one unit of weight, shared by its prototype and its carriers.

    With U the size of the union of two label sets, ``N_il = 1 + sum over p of alpha Y_pl / U_ip``, documents weigh
    ``sum over shared l of alpha / (U_ip N_il)`` and the prototype of l weighs ``1 / N_il``; an anchor's loss is
    divided by its number of labels. The denominator is ``document_share * sum over documents of exp(s) + sum over
    prototypes of exp(s)``.

    Relations: with one label per document, alpha 1 and document_share 1, MulSupCon over documents and prototypes.

    Args:
        n_labels: size of the label space.
        dim: width of the projections.
        temperature: > 0.
        alpha: weight of documents beside prototypes, > 0.
        document_share: the paper's beta, > 0.

    Raises:
        ValueError: if a number is not positive.

    Source:
        Audibert, Gauffre and Amini, "Exploring Contrastive Learning for Long-Tailed Multi-Label Text
        Classification", ECML PKDD 2024 (arXiv 2404.08720). An anchor without labels counts in their mean, not here.
    """

    def __init__(
        self,
        n_labels: int,
        dim: int,
        *,
        temperature: float = 0.07,
        alpha: float = 1.0,
        document_share: float = 1.0,
    ) -> None:
        weigh = partial(multi_label_prototype_weights, alpha=check_positive(alpha, "alpha"))
        super().__init__(
            WeightRule(weigh, "none"),
            n_labels=n_labels,
            dim=dim,
            temperature=temperature,
            document_share=document_share,
        )
        self.alpha = alpha


class SDPrototypeLoss(PrototypeLoss):
    """SD over documents and label prototypes together. Ours; above SD in macro-F1 on CMC 2007.

    A prototype is a document with a single label, so for an anchor with n labels it is in relation R4 (or R2) and
    weighs K = 1 / n. Every document with labels is then an anchor with positives, whatever the batch holds.

    Args:
        n_labels: size of the label space.
        dim: width of the projections.
        temperature: > 0.
        normalise: as in SimilarityDissimilarityLoss.

    Raises:
        ValueError: if a number is not positive.
    """

    def __init__(
        self, n_labels: int, dim: int, *, temperature: float = 0.1, normalise: Normalise = "positives"
    ) -> None:
        super().__init__(find_weight_rule("sd", normalise), n_labels=n_labels, dim=dim, temperature=temperature)


def check_positive(value: float, name: str) -> float:
    """Give a setting back if it is a positive number.

    Args:
        value: the setting.
        name: its name, for the message.

    Returns:
        The value.

    Raises:
        ValueError: if it is not a finite number above 0.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"The {name!r} of a prototype loss must be greater than 0. Got {value!r} instead.")
    return value
