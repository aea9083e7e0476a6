"""A short class for each published loss, with its paper and what it reduces to."""

from __future__ import annotations

from typing import Literal, TypeAlias, Unpack, get_args

import torch
from torch import Tensor

from pipeline.losses.contrastive import ContrastiveLoss, OtherSamples
from pipeline.losses.label_sets import Labels
from pipeline.losses.weights import Normalise, WeightIn

Factors: TypeAlias = Literal["both", "similarity", "dissimilarity", "symmetric"]
"""Which of SD's factors count: K^s K^d, K^s alone, K^d alone, or the mean of K over both directions."""

_RULE_OF_FACTORS = {
    "both": "sd",
    "similarity": "sd_similarity",
    "dissimilarity": "sd_dissimilarity",
    "symmetric": "sd_symmetric",
}


class SimilarityDissimilarityLoss(ContrastiveLoss):
    """Weigh each positive by how well its label set fits the anchor's.

    ``W_ip = K_ip / |P(i)|`` with ``K = K^s K^d``, ``K^s = |S_i and S_p| / |S_i|`` (the share of the anchor's labels
    that the sample has) and ``K^d = 1 / (1 + |S_p without S_i|)`` (a penalty for the sample's other labels).

    Relations: with one label per document it is SupCon's L_out; ``weight_in="log"`` has the gradient of AnyLoss.
    K is 1 for equal sets only. At ICD label statistics its mean over positives is about 0.01, so with
    ``normalise="positives"`` the loss is some 100 times smaller than AnyLoss: give it its own weight in a joint
    objective, or use ``normalise="weights"``.

    Args:
        temperature: > 0.
        normalise: "positives" (the paper) divides by |P(i)|, "weights" by the sum of K over P(i).
        weight_in: "loss" multiplies the log-probability; "log" reproduces the reading log(K e^s / sum e^s).
        factors: both, or one of the ablations.
        n_labels: size of the label space, or None.

    Raises:
        ValueError: on a temperature <= 0, unknown settings, or weight_in="log" with normalise="weights".

    Example:
        >>> loss = SimilarityDissimilarityLoss(temperature=1.0)
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(loss(vectors, [[0], [0, 1], [2]]).item(), 4)  # K is 1/2 from 0 to 1 and from 1 to 0
        0.1566

    Source:
        Huang, Long and Luo, "Similarity-Dissimilarity Loss for Multi-label Supervised Contrastive Learning",
        arXiv 2410.13439. ``normalise="weights"`` and the ablations are not in the paper.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        normalise: Normalise = "positives",
        weight_in: WeightIn = "loss",
        factors: Factors = "both",
        n_labels: int | None = None,
    ) -> None:
        if factors not in _RULE_OF_FACTORS:
            raise ValueError(f"The 'factors' of the loss must be one of {get_args(Factors)}. Got {factors!r} instead.")
        super().__init__(
            _RULE_OF_FACTORS[factors],
            temperature=temperature,
            normalise=normalise,
            weight_in=weight_in,
            n_labels=n_labels,
        )


class AnyLoss(ContrastiveLoss):
    """Every sample that shares a label is a positive, all alike: ``W_ip = 1[I_ip > 0] / |P(i)|``.

    Relations: SupCon's L_out with one label per document.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        The baseline "any" of Zhang and Wu, AAAI 2024.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("any", temperature=temperature, n_labels=n_labels)


class AllLoss(ContrastiveLoss):
    """Only samples with the very same labels are positives: ``W_ip = 1[S_p = S_i] / |P(i)|``.

    Relations: SupCon's L_out over whole label sets, which is what Lin et al. call SCL. With thousands of labels
    there are hardly any positives.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        Khosla et al., NeurIPS 2020 (L_out); the baseline "all" of Zhang and Wu, AAAI 2024; SCL of Lin et al.,
        Findings of ACL 2023.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("all", temperature=temperature, n_labels=n_labels)


class MulSupConLoss(ContrastiveLoss):
    """One SupCon row for each label of each anchor: ``W_ip = sum over shared l of 1 / n_l``, averaged over rows.

    A rare label has few carriers, so each of its pairs weighs much: this is the published loss that reaches rare
    codes. Rows whose label nobody else carries are left out (the authors' code divides by zero there).

    Relations: with one label per document SupCon's L_out.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        Zhang and Wu, "Multi-Label Supervised Contrastive Learning", AAAI 2024, rows weighted alike.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("mulsupcon", temperature=temperature, n_labels=n_labels)


class JaccardLoss(ContrastiveLoss):
    """Weigh positives by the Jaccard index of the label sets: ``W_ip = J_ip / sum over q of J_iq``.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        The base loss of Audibert, Gauffre and Amini, arXiv 2404.08720 and 2412.00101.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("jaccard", temperature=temperature, n_labels=n_labels)


class OverlapLoss(ContrastiveLoss):
    """Weigh positives by the number of shared labels: ``W_ip = I_ip / sum over q of I_iq``.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        Su, Wang and Dai, ACL 2022 (short), where it goes with inference by nearest neighbours.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("overlap", temperature=temperature, n_labels=n_labels)


class StepwiseLabelLoss(ContrastiveLoss):
    """SLCL: SupCon for each label on its own, then the mean over labels.

    ``W_ip = sum over shared l of 1 / (n_l v_l)``, v_l the anchors with label l that have a partner; the sum is
    divided by the number of such labels. Rare and frequent labels count alike.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        Lin et al., Findings of ACL 2023. Their code also pulls together documents that lack a label; this does not.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("slcl", temperature=temperature, n_labels=n_labels)


class JaccardSimilarityLoss(ContrastiveLoss):
    """JSCL: the Jaccard index as weight, divided by the number of positives: ``W_ip = J_ip / |P(i)|``.

    Relations: JaccardLoss with another normalisation.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        Lin et al., Findings of ACL 2023, the intent that the text states. Their published code puts J into the
        denominator only, which pulls *dissimilar* documents together; that is not reproduced.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("jscl", temperature=temperature, n_labels=n_labels)


class JaccardProbabilityLoss(ContrastiveLoss):
    """JSPCL: as JaccardSimilarityLoss, between vectors of label probabilities instead of embeddings.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Source:
        Lin et al., Findings of ACL 2023, the intent that the text states (see JaccardSimilarityLoss).
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("jscl", temperature=temperature, n_labels=n_labels)

    def forward(self, projections: Tensor, labels: Labels, **others: Unpack[OtherSamples]) -> Tensor:
        """Compute the loss of a batch.

        Args:
            projections: the classifier's **logits**, shape (n_documents, n_labels).
            labels: as in :func:`contrastive_loss`.
            **others: as in :func:`contrastive_loss`; ``extra_projections`` are logits of queued samples.

        Returns:
            Scalar, float32 (float64 for float64 input).
        """
        queued = others.get("extra_projections")
        if queued is not None:
            others["extra_projections"] = torch.sigmoid(_at_least_float32(queued))
        return super().forward(torch.sigmoid(_at_least_float32(projections)), labels, **others)


class SDInverseFrequencyLoss(ContrastiveLoss):
    """SD whose similarity factor counts each shared label 1 / n_l.

    Ours; measured above SD by positives, but not above SD by weights (benchmarks/RESULTS.md).

    ``K^s = sum over shared l of 1/n_l, divided by the same sum over all labels of the anchor that have a partner``;
    K^d as in SD. A sample that shares one rare code can weigh more than one that shares three frequent ones.

    Relations: SD where all labels of the anchor have equally many carriers; K stays 1 for equal sets.

    Args:
        temperature: > 0.
        normalise: as in SimilarityDissimilarityLoss.
        n_labels: size of the label space, or None.
    """

    def __init__(
        self, *, temperature: float = 0.1, normalise: Normalise = "positives", n_labels: int | None = None
    ) -> None:
        super().__init__("sd_idf", temperature=temperature, normalise=normalise, n_labels=n_labels)


class SDMulSupConLoss(ContrastiveLoss):
    """MulSupCon with SD's dissimilarity factor: ``W_ip = K^d_ip * sum over shared l of 1 / n_l``.

    Ours; above SD in macro-F1 and MAP on Hallmarks of Cancer, see benchmarks/RESULTS.md.

    ``normalise="positives"`` divides by the number of label rows, as MulSupCon does; "weights" by the sum of W.

    Relations: MulSupCon where no sample has labels that the anchor lacks.

    Args:
        temperature: > 0.
        normalise: what the sum over anchors is divided by.
        n_labels: size of the label space, or None.
    """

    def __init__(
        self, *, temperature: float = 0.1, normalise: Normalise = "positives", n_labels: int | None = None
    ) -> None:
        super().__init__("sd_mulsupcon", temperature=temperature, normalise=normalise, n_labels=n_labels)


class SDPerLabelLoss(ContrastiveLoss):
    """MulSupCon's rows, each spread over its carriers in proportion to SD's K.

    Ours; above SD on Hallmarks of Cancer in two stages, not told from MulSupCon.

    Every label of an anchor gets one unit of weight, rare or frequent; within a row the carriers whose whole label
    set fits the anchor best get most of it: ``W_ip = K_ip * sum over shared l of 1 / (sum over carriers q of l of
    K_iq)``, divided by the number of rows.

    Relations: MulSupCon where K is the same for all positives of an anchor; SupCon's L_out with one label each.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__("sd_per_label", temperature=temperature, n_labels=n_labels)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
