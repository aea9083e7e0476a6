"""Weight rules: what makes one contrastive loss differ from another.

Every loss of the family is ``sum over i, p of -W_ip * log-probability_ip`` over one kernel. A rule gives the
weights W of a block of anchors; the table WEIGHT_RULES names them. Symbols: S_i the labels of anchor i, n_i their
number, I = |S_i and S_p|, U = |S_i or S_p|, n_l the carriers of label l in A(i) (all samples but the anchor, its
group excluded), P(i) the samples with positive weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from pipeline.losses.pairs import PairBlock

Normalise: TypeAlias = Literal["positives", "weights"]
"""Divide an anchor's weights by the number of its positives, or by their sum."""

WeightIn: TypeAlias = Literal["loss", "log"]
"""Multiply the log-probability by the weight, or (to reproduce a reading of the paper) put it in the logarithm."""


@dataclass(frozen=True)
class WeightRule:
    """One row of the table.

    Attributes:
        weigh: gives the weights of a block before normalisation, shape (n_rows, n_samples), >= 0; 0 for pairs
            that are no positives.
        normalise: how an anchor's weights are divided; "none" leaves them.
        average: what the sum over anchors is divided by: anchors with positives, label rows (pairs of an anchor
            and one of its labels that another sample carries too), or the sum of all weights.
        is_adjustable: whether the caller chooses how to normalise; the other rules are defined with theirs.
    """

    weigh: Callable[[PairBlock], Tensor]
    normalise: Literal["positives", "weights", "none"] = "weights"
    average: Literal["anchors", "label_rows", "weights"] = "anchors"
    is_adjustable: bool = False

    def normalised_by(self, normalise: Normalise) -> WeightRule:
        """Give the rule with the caller's normalisation; "positives" leaves a rule without that choice as it is.

        Raises:
            ValueError: on "weights" for a rule whose definition leaves no choice.
        """
        if not self.is_adjustable:
            if normalise != "positives":
                raise ValueError(f"normalise={normalise!r} is for 'sd' rules; this rule is defined with its own.")
            return self
        if self.normalise == "none":  # label rows: the two choices differ in what the sum is divided by
            return WeightRule(self.weigh, "none", "label_rows" if normalise == "positives" else "weights", True)
        return WeightRule(self.weigh, normalise, self.average, True)


def inverse(values: Tensor) -> Tensor:
    """Give 1 / value, and 0 where the value is 0."""
    return (values > 0).to(values.dtype) / values.masked_fill(values <= 0, 1)


def _all(block: PairBlock) -> Tensor:
    shared = block.shared()
    n_different = (block.n_sample_labels - 2 * shared).add_(block.n_anchor_labels)
    # Two empty sets are equal too; sign(shared) keeps them out.
    return n_different.eq_(0).mul_(shared.sign_())


def _any(block: PairBlock) -> Tensor:
    return block.shared().sign_()


def _overlap(block: PairBlock) -> Tensor:
    return block.shared()


def _union(block: PairBlock, shared: Tensor) -> Tensor:
    return (block.n_sample_labels - shared).add_(block.n_anchor_labels).clamp_(min=1)


def _jaccard(block: PairBlock) -> Tensor:
    shared = block.shared()
    return shared.div_(_union(block, shared))


def _dissimilarity_divisor(block: PairBlock, shared: Tensor) -> Tensor:
    """Give 1 / K^d = 1 + labels of the sample that the anchor lacks."""
    return (block.n_sample_labels + 1) - shared


def _sd(block: PairBlock) -> Tensor:
    shared = block.shared()
    divisor = _dissimilarity_divisor(block, shared).mul_(block.n_anchor_labels.clamp(min=1))
    return shared.div_(divisor)


def _sd_similarity(block: PairBlock) -> Tensor:
    return block.shared().div_(block.n_anchor_labels.clamp(min=1))


def _sd_dissimilarity(block: PairBlock) -> Tensor:
    shared = block.shared()
    divisor = _dissimilarity_divisor(block, shared)
    return shared.sign_().div_(divisor)


def _sd_symmetric(block: PairBlock) -> Tensor:
    shared = block.shared()
    towards_sample = _dissimilarity_divisor(block, shared).mul_(block.n_anchor_labels.clamp(min=1))
    towards_anchor = (block.n_anchor_labels + 1 - shared).mul_(block.n_sample_labels.clamp(min=1))
    return (shared / towards_sample).add_(shared.div_(towards_anchor)).mul_(0.5)


def _mulsupcon(block: PairBlock) -> Tensor:
    return block.shared(inverse(block.n_partners))


def _slcl(block: PairBlock) -> Tensor:
    return block.shared(inverse(block.n_partners * block.n_anchors_of_label))


def _sd_idf(block: PairBlock) -> Tensor:
    rarity = inverse(block.n_partners)
    share = block.shared(rarity).mul_(inverse(block.sums_per_anchor(rarity)))
    return share.div_(_dissimilarity_divisor(block, block.shared()))


def _sd_mulsupcon(block: PairBlock) -> Tensor:
    return _mulsupcon(block).div_(_dissimilarity_divisor(block, block.shared()))


def spread_over_label_rows(block: PairBlock, weights: Tensor) -> Tensor:
    """Give every label of an anchor one unit of weight, spread over its carriers in proportion to ``weights``.

    Args:
        block: the block of anchors.
        weights: >= 0 and 0 on excluded pairs, shape (n_rows, n_samples).

    Returns:
        ``W_ip * sum over shared l of 1 / (sum over carriers q of l of W_iq)``, shape (n_rows, n_samples). It comes
        from two label products; a tensor of (anchors, samples, labels) is never made.
    """
    return block.shared(inverse(block.sums_over_carriers(weights))).mul_(weights)


def _sd_per_label(block: PairBlock) -> Tensor:
    return spread_over_label_rows(block, _sd(block))


def multi_label_prototype_weights(block: PairBlock, *, alpha: float) -> Tensor:
    """Weights of MSC: each label row spreads over its prototype (1) and its carriers (alpha / U).

    Args:
        block: pairs whose samples contain one prototype per label.
        alpha: weight of documents beside prototypes, > 0.

    Returns:
        ``w / n_i``; the row of an anchor with labels sums to 1. Shape (n_rows, n_samples).
    """
    attraction = _union(block, block.shared()).reciprocal_().mul_(alpha)
    attraction[:, block.pairs.prototypes] = 1
    block.fill_excluded(attraction, 0.0)
    return spread_over_label_rows(block, attraction).div_(block.n_anchor_labels.clamp(min=1))


def overlap_coefficient_positives(block: PairBlock, *, threshold: float) -> Tensor:
    """Positives of ProbMCL: samples with ``I / min(n_i, n_p) >= threshold``, at least one shared label.

    Args:
        block: the block of anchors.
        threshold: in [0, 1].

    Returns:
        1 on positives, 0 elsewhere, shape (n_rows, n_samples).
    """
    shared = block.shared()
    smaller = block.n_sample_labels.minimum(block.n_anchor_labels)
    # Half a count of 1e-6 keeps 2 of 3 >= 2/3 true in floating point.
    return shared.ge(threshold * smaller - 1e-6).to(shared.dtype).mul_(shared.sign())


WEIGHT_RULES: dict[str, WeightRule] = {
    "all": WeightRule(_all),
    "scl": WeightRule(_all),
    "any": WeightRule(_any),
    "mulsupcon": WeightRule(_mulsupcon, "none", "weights"),
    "sd": WeightRule(_sd, "positives", is_adjustable=True),
    "sd_similarity": WeightRule(_sd_similarity, "positives", is_adjustable=True),
    "sd_dissimilarity": WeightRule(_sd_dissimilarity, "positives", is_adjustable=True),
    "sd_symmetric": WeightRule(_sd_symmetric, "positives", is_adjustable=True),
    "jaccard": WeightRule(_jaccard),
    "overlap": WeightRule(_overlap),
    "slcl": WeightRule(_slcl, "none", "weights"),
    "jscl": WeightRule(_jaccard, "positives"),
    "sd_idf": WeightRule(_sd_idf, "positives", is_adjustable=True),
    "sd_mulsupcon": WeightRule(_sd_mulsupcon, "none", "label_rows", is_adjustable=True),
    "sd_per_label": WeightRule(_sd_per_label, "none", "weights"),
}
"""Rules by name. MSC, ICL, JSPCL and ProbMCL are no rows: they need prototypes, label embeddings, label probabilities,
another similarity."""
