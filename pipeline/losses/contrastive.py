"""Contrastive losses over document vectors: one function, one module, a short class for each published loss."""

from __future__ import annotations

import math
from typing import TypedDict, Unpack, get_args

import torch
from torch import Tensor, nn

from pipeline.losses.batch import (
    build_queue,
    check_group_ids,
    gather_batch,
    mean_over_units,
    normalise_vectors,
    not_compiled,
)
from pipeline.losses.kernel import KernelSettings, fused_contrastive_sum
from pipeline.losses.label_sets import Labels, as_sparse_labels
from pipeline.losses.weights import WEIGHT_RULES, Normalise, WeightIn, WeightRule


def check_temperature(temperature: float) -> float:
    """Give the temperature back if it is a positive number.

    Args:
        temperature: divisor of the cosine similarities.

    Returns:
        The temperature.

    Raises:
        ValueError: if it is not a finite number above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"The 'temperature' of a contrastive loss must be greater than 0. Got {temperature!r} instead."
        )
    return temperature


def find_weight_rule(name: str, normalise: Normalise = "positives", weight_in: WeightIn = "loss") -> WeightRule:
    """Look a weight rule up and check that the settings make sense for it.

    Args:
        name: key of WEIGHT_RULES.
        normalise: "weights" only where the rule leaves the choice.
        weight_in: place of the weight.

    Returns:
        The rule with its normalisation.

    Raises:
        ValueError: on an unknown name or setting, or one that the rule does not have.
    """
    if name not in WEIGHT_RULES:
        raise ValueError(f"The weight rule must be one of {sorted(WEIGHT_RULES)}. Got {name!r} instead.")
    for setting, value, known in (("normalise", normalise, Normalise), ("weight_in", weight_in, WeightIn)):
        if value not in get_args(known):
            raise ValueError(f"The {setting!r} of a contrastive loss must be one of {get_args(known)}. Got {value!r}.")
    try:
        rule = WEIGHT_RULES[name].normalised_by(normalise)
    except ValueError as error:
        raise ValueError(f"Rule {name!r}: {error}") from None
    if weight_in == "log" and not (rule.is_adjustable and rule.normalise == "positives"):
        raise ValueError(
            f"weight_in='log' reproduces a reading of the Similarity-Dissimilarity paper: it needs an 'sd' rule and "
            f"normalise='positives'. Got the rule {name!r} and normalise={normalise!r} instead."
        )
    return rule


class OtherSamples(TypedDict, total=False):
    """What every contrastive loss over the kernel takes beside a batch; see :func:`contrastive_loss`."""

    group_ids: Tensor | None
    extra_projections: Tensor | None
    extra_labels: Labels | None
    extra_group_ids: Tensor | None


@not_compiled
def contrastive_loss(
    projections: Tensor,
    labels: Labels,
    *,
    rule: WeightRule,
    temperature: float,
    weight_in: WeightIn = "loss",
    group_ids: Tensor | None = None,
    extra_projections: Tensor | None = None,
    extra_labels: Labels | None = None,
    extra_group_ids: Tensor | None = None,
    prototypes: Tensor | None = None,
    document_share: float = 1.0,
    n_labels: int | None = None,
    n_rows: int | None = None,
) -> Tensor:
    """Compute any loss of the family; the modules below are this function with settings.

    Args:
        projections: one vector per document, any float dtype and length (L2-normalised in here), shape
            (n_documents, dim).
        labels: multi-hot (n_documents, n_labels), one list of label ids per document, or SparseLabels.
        rule: weights, normalisation and divisor.
        temperature: > 0.
        weight_in: "loss" or "log".
        group_ids: int64, shape (n_documents,). Documents of one group (one admission) are neither positives nor
            negatives of each other. On all processes or on none.
        extra_projections: queued samples, shape (n_queue, dim), the same on all processes; no gradient, no anchors.
        extra_labels: label sets of the queued samples.
        extra_group_ids: groups of the queued samples, int64, shape (n_queue,).
        prototypes: samples with one label each and with gradient, shape (n_labels, dim), L2-normalised in here.
        document_share: factor of documents (not of prototypes) in the denominator, > 0.
        n_labels: size of the label space, to check labels against.
        n_rows: anchors per block; results do not depend on it.

    Returns:
        Scalar, float32 (float64 for float64 input). See ContrastiveLoss for edge cases and many processes.

    Raises:
        TypeError: if projections are no float tensor.
        ValueError: if shapes, numbers of documents or label ids do not fit.
    """
    anchors = normalise_vectors(projections)
    device, n_documents = anchors.device, len(anchors)
    batch = gather_batch(
        anchors,
        as_sparse_labels(labels, n_documents=n_documents, n_labels=n_labels, device=device),
        group_ids=check_group_ids(group_ids, n_documents, device),
        prototypes=None if prototypes is None else normalise_vectors(prototypes).to(anchors.dtype),
        queue=build_queue(extra_projections, extra_labels, extra_group_ids, anchors=anchors, n_labels=n_labels),
    )
    log_weights = None
    if document_share != 1.0:
        log_weights = anchors.new_full((batch.pairs.n_samples,), math.log(document_share))
        log_weights[batch.pairs.prototypes] = 0
    settings = KernelSettings(
        rule=rule,
        temperature=temperature,
        weight_in=weight_in,
        sample_log_weights=log_weights,
        n_rows=n_rows,
        has_gradient=torch.is_grad_enabled(),
    )
    return mean_over_units(*fused_contrastive_sum(batch, settings))


class ContrastiveLoss(nn.Module):
    r"""Multi-label supervised contrastive loss with a weight rule by name.

    ``L = -1/N sum_i sum_p W_ip log(exp(s_ip) / sum_{a in A(i)} exp(s_ia))`` with s the cosine similarity over the
    temperature, A(i) all samples but the anchor (and its group), W and N from the rule (N is the number of anchors
    with a positive for most rules).

    - A document without labels is never an anchor; it stays a negative. An anchor without positives does not count
      in N. Where no anchor has a positive, the loss is a 0 that is still attached to the graph.
    - Everything is computed in float32 with autocast off (float64 input stays float64).
    - With ``torch.distributed`` initialised the samples are those of all processes, and loss and gradient averaged
      over processes are those of one process on the global batch. Every process must then call the loss, and
      backward, equally often.
    - First derivatives only.

    Args:
        rule: name in WEIGHT_RULES.
        temperature: > 0.
        normalise: divide an anchor's weights by the number of its positives or by their sum; only "sd" rules leave
            the choice.
        weight_in: "loss" multiplies the log-probability; "log" puts the weight into the logarithm, which has the
            gradient of "any" and is there to reproduce that reading of the paper.
        n_labels: size of the label space, to check labels against; None leaves it open.
        n_rows: anchors per block, None picks it; results do not depend on it.

    Raises:
        ValueError: on an unknown name, a temperature <= 0, or a setting that the rule does not have.

    Example:
        >>> loss = ContrastiveLoss("any", temperature=1.0)
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> round(loss(vectors, [[0], [0, 1], [2]]).item(), 4)  # -log(e / (e + 1))
        0.3133
    """

    def __init__(
        self,
        rule: str,
        *,
        temperature: float = 0.1,
        normalise: Normalise = "positives",
        weight_in: WeightIn = "loss",
        n_labels: int | None = None,
        n_rows: int | None = None,
    ) -> None:
        super().__init__()
        self.weight_rule = find_weight_rule(rule, normalise, weight_in)
        self.rule, self.temperature = rule, check_temperature(temperature)
        self.normalise, self.weight_in = normalise, weight_in
        self.n_labels, self.n_rows = n_labels, n_rows

    def extra_repr(self) -> str:
        """Show the settings in the module's representation."""
        return (
            f"{self.rule!r}, temperature={self.temperature}, normalise={self.normalise!r}, weight_in={self.weight_in!r}"
        )

    def forward(self, projections: Tensor, labels: Labels, **others: Unpack[OtherSamples]) -> Tensor:
        """Compute the loss of a batch; arguments as in :func:`contrastive_loss`."""
        return contrastive_loss(
            projections,
            labels,
            rule=self.weight_rule,
            temperature=self.temperature,
            weight_in=self.weight_in,
            n_labels=self.n_labels,
            n_rows=self.n_rows,
            **others,
        )
