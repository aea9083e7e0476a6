"""Contrastive losses: worked numbers, what they reduce to, order of weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import gradient_of, vectors
from pytorch_metric_learning.losses import SupConLoss

from pipeline.losses import (
    WEIGHT_RULES,
    AnyLoss,
    ContrastiveLoss,
    IntraLabelLoss,
    MulSupConLoss,
    MultiLabelPrototypeLoss,
    SDMulSupConLoss,
    SDPerLabelLoss,
    SimilarityDissimilarityLoss,
    SparseLabels,
    StepwiseLabelLoss,
)
from pipeline.losses.pairs import build_label_pairs

SINGLE_LABEL = [
    "all",
    "any",
    "mulsupcon",
    "sd",
    "sd_similarity",
    "sd_dissimilarity",
    "sd_symmetric",
    "jaccard",
    "overlap",
    "jscl",
    "sd_idf",
    "sd_mulsupcon",
    "sd_per_label",
]


def weight(rule: str, anchor: set[int], sample: set[int]) -> float:
    """Weight before normalisation of one pair, in a batch of these two documents."""
    pairs = build_label_pairs(
        SparseLabels.from_lists([list(anchor), list(sample)]), n_anchors=2, n_batch=2, dtype=torch.float64
    )
    return float(WEIGHT_RULES[rule].weigh(next(pairs.blocks(2)))[0, 1])


# Worked by hand


def test_loss_of_two_equal_documents_and_one_stranger() -> None:
    """With t = 1, z0 = z1 = (1, 0), z2 = (0, 1), label sets {0}, {0}, {1}:

    anchors 0 and 1 have one positive of weight 1, at similarity 1 beside 0: -log(e / (e + 1)); anchor 2 has none.
    """
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = SimilarityDissimilarityLoss(temperature=1.0)(z, [[0], [0], [1]])
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 1)), rel=1e-6)


@pytest.mark.parametrize(("normalise", "mean_weight_sum"), [("positives", 17 / 36), ("weights", 1.0)])
def test_sd_of_three_documents_by_hand(normalise: Any, mean_weight_sum: float) -> None:
    """Sets A = {0, 1}, B = {0}, C = {0, 1, 2}, all vectors equal: every log-probability is -log 2.

    K(A, B) = 1/2 (R4), K(A, C) = 1/2 (R5), K(B, A) = 1/2 (R5), K(B, C) = 1/3 (R5), K(C, A) = 2/3 (R4),
    K(C, B) = 1/3 (R4). By |P| the weight sums are 1/2, 5/12 and 1/2, mean 17/36; by the sum of K they are 1.
    """
    z = torch.ones(3, 2, requires_grad=True)
    loss = SimilarityDissimilarityLoss(temperature=0.5, normalise=normalise)(z, [[0, 1], [0], [0, 1, 2]])
    assert loss.item() == pytest.approx(math.log(2) * mean_weight_sum, rel=1e-6)


def test_mulsupcon_averages_over_label_rows() -> None:
    """Sets {0, 1}, {0}, {1}, {9}; t = 1, orthogonal vectors but z1 = z0: s01 = 1, all other similarities 0.

    Rows (A, 0): {B}, (A, 1): {C}, (B, 0): {A}, (C, 1): {A}; label 9 has no row. Log-sums: A and B log(e + 2),
    C log 3. Loss = ((log(e + 2) - 1) + log(e + 2) + (log(e + 2) - 1) + log 3) / 4.
    """
    z = torch.eye(4)[[0, 0, 1, 2]].requires_grad_()
    loss = MulSupConLoss(temperature=1.0)(z, [[0, 1], [0], [1], [9]])
    log_sum = math.log(math.e + 2)
    assert loss.item() == pytest.approx((3 * log_sum - 2 + math.log(3)) / 4, rel=1e-6)


def test_msc_with_one_document_is_cross_entropy_over_prototypes() -> None:
    """One document with labels 0 and 1 of 3, t = 1: N = 1, so the loss is the mean of -log softmax at 0 and 1."""
    loss = MultiLabelPrototypeLoss(3, 2, temperature=1.0)
    loss.load_prototypes(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    actual = loss(torch.tensor([[2.0, 0.0]]), [[0, 1]])
    log_sum = math.log(math.e + 1 + 1 / math.e)
    assert actual.item() == pytest.approx(((log_sum - 1) + log_sum) / 2, rel=1e-6)


def test_icl_of_one_document_by_hand() -> None:
    """Labels 0 and 1 of 3, t = 1, embeddings equal for both and orthogonal for label 2: -log(e / (e + 1)) each."""
    embeddings = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    actual = IntraLabelLoss(temperature=1.0)(embeddings, [[0, 1]])
    assert actual.item() == pytest.approx(-math.log(math.e / (math.e + 1)), rel=1e-6)


def test_jaccard_weights_of_a_triple_by_hand() -> None:
    """Anchor {0, 1} beside {0} (J = 1/2) and {0, 1, 2, 3} (J = 1/2) and {1, 4} (J = 1/3)."""
    anchor = {0, 1}
    assert weight("jaccard", anchor, {0}) == pytest.approx(1 / 2)
    assert weight("jaccard", anchor, {0, 1, 2, 3}) == pytest.approx(1 / 2)
    assert weight("jaccard", anchor, {1, 4}) == pytest.approx(1 / 3)


# What they reduce to


@pytest.mark.parametrize("name", SINGLE_LABEL)
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_with_one_label_per_document_losses_are_supcon(name: str, temperature: float) -> None:
    """Eleven anchors in classes of sizes 4, 3, 2, 1, 1; MulSupCon's family has one row per anchor then."""
    classes = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4])
    z = vectors(len(classes), dtype=torch.float64)
    own = ContrastiveLoss(name, temperature=temperature)(z, [[int(label)] for label in classes])
    other = SupConLoss(temperature=temperature)(z, classes)
    assert own.item() == pytest.approx(other.item(), rel=1e-9)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (own, other)), rtol=1e-8, atol=1e-10)


def test_slcl_with_one_label_per_document_is_the_mean_of_supcon_by_class() -> None:
    classes = torch.tensor([0, 0, 0, 1, 1, 2])
    z = vectors(len(classes), dtype=torch.float64)
    any_loss = AnyLoss(temperature=0.3)
    # Classes 0 and 1 as anchors in turn; the others lose their labels and stay as negatives.
    by_class = [any_loss(z, [[0] if label == one else [] for label in classes.tolist()]) for one in (0, 1)]
    own = StepwiseLabelLoss(temperature=0.3)(z, [[int(label)] for label in classes])
    assert own.item() == pytest.approx(torch.stack(by_class).mean().item(), rel=1e-9)


def test_weight_in_log_has_exactly_the_gradient_of_any() -> None:
    labels = torch.rand(24, 9, generator=torch.Generator().manual_seed(1)) < 0.3
    z = vectors(24)
    of_log = gradient_of(SimilarityDissimilarityLoss(temperature=0.1, weight_in="log"), z, labels)
    of_any = gradient_of(AnyLoss(temperature=0.1), z, labels)
    assert torch.equal(of_log, of_any)


def test_weight_in_log_adds_the_mean_log_weight_to_any() -> None:
    """Sets {0, 1}, {0}: K = 1/2 both ways, so the loss is that of `any` plus log 2."""
    z, sets = vectors(3), [[0, 1], [0], [5]]
    in_log = SimilarityDissimilarityLoss(temperature=0.2, weight_in="log")(z, sets)
    assert in_log.item() == pytest.approx(AnyLoss(temperature=0.2)(z, sets).item() + math.log(2), rel=1e-6)


def test_mulsupcon_equals_one_supcon_row_per_anchor_and_label() -> None:
    """The authors' formulation: repeat each anchor once per label, positives are the carriers of that label."""
    labels = torch.rand(16, 6, generator=torch.Generator().manual_seed(3)) < 0.4
    z = vectors(16, dtype=torch.float64)
    unit = z / z.norm(dim=1, keepdim=True)
    anchor, label = labels.nonzero(as_tuple=True)
    scores = (unit @ unit.T / 0.1).masked_fill(torch.eye(16, dtype=torch.bool), float("-inf"))[anchor]
    is_positive = labels.T[label] & (torch.arange(16) != anchor[:, None])
    log_p = scores.log_softmax(dim=1).masked_fill(~is_positive, 0)
    rows = -log_p.sum(dim=1) / is_positive.sum(dim=1)
    assert MulSupConLoss(temperature=0.1)(z, labels).item() == pytest.approx(rows.mean().item(), rel=1e-9)


def test_msc_with_one_label_per_document_is_mulsupcon_over_documents_and_prototypes() -> None:
    """alpha = beta = 1; to MulSupCon the prototypes are queued samples with one label each."""
    z, sets = vectors(5, 4), [[0], [0], [1], [2], [1]]
    torch.manual_seed(0)
    loss = MultiLabelPrototypeLoss(3, 4, temperature=0.2)
    expected = MulSupConLoss(temperature=0.2)(z, sets, extra_projections=loss.prototypes, extra_labels=[[0], [1], [2]])
    assert loss(z, sets).item() == pytest.approx(expected.item(), rel=1e-6)


def test_sd_rows_with_equal_sets_only_are_mulsupcon() -> None:
    """Where all carriers of a label have the anchor's very set, K is 1: three rules fall together."""
    z, sets = vectors(6), [[0, 1], [0, 1], [0, 1], [2], [2], [3, 4]]
    expected = MulSupConLoss(temperature=0.2)(z, sets).item()
    for loss in (SDMulSupConLoss(temperature=0.2), SDPerLabelLoss(temperature=0.2)):
        assert loss(z, sets).item() == pytest.approx(expected, rel=1e-6)


# Order of weights (losses whose statements hold; "R4 and R5 >= R3" does not, see the last test)


@pytest.mark.parametrize(
    ("anchor", "sample", "expected"),
    [
        ({0, 1}, {2}, 0.0),  # R1 disjoint
        ({0, 1}, {0, 1}, 1.0),  # R2 equal
        ({0, 1}, {1, 2}, 1 / 2 * 1 / 2),  # R3 overlap: half shared, one extra
        ({0, 1}, {0}, 1 / 2),  # R4 sample inside anchor: no extra label
        ({0}, {0, 1, 2}, 1 * 1 / 3),  # R5 anchor inside sample: two extra labels
    ],
)
def test_weight_of_each_label_set_relation(anchor: set[int], sample: set[int], expected: float) -> None:
    assert weight("sd", anchor, sample) == pytest.approx(expected)


overlapping_sets = st.tuples(
    st.sets(st.integers(0, 3), min_size=1), st.sets(st.integers(10, 13)), st.sets(st.integers(20, 23))
)


@given(overlapping_sets)
@settings(deadline=None, max_examples=40)
def test_equal_sets_weigh_more_than_any_other_pair(parts: tuple[set[int], set[int], set[int]]) -> None:
    shared, only_anchor, only_sample = parts
    k = weight("sd", shared | only_anchor, shared | only_sample)
    assert k == pytest.approx(1) if not only_anchor and not only_sample else 0 < k < 1


@given(overlapping_sets)
@settings(deadline=None, max_examples=40)
def test_extra_labels_and_missed_labels_both_lower_the_weight(
    parts: tuple[set[int], set[int], set[int]],
) -> None:
    """At equal intersection R4 > R3 (no extras), at equal extras R5 > R3 (nothing missed)."""
    shared, only_anchor, only_sample = parts
    k = weight("sd", shared | only_anchor, shared | only_sample)
    if only_sample:
        assert weight("sd", shared | only_anchor, shared) > k
    if only_anchor:
        assert weight("sd", shared, shared | only_sample) > k
    if only_anchor and only_sample:
        assert k < 1 / 2


def test_partial_overlap_can_outweigh_a_subset() -> None:
    """R3 with 9 of 10 labels shared and 1 extra is 0.45; R5 with 5 extras alone is 1/6: no general order."""
    ten = set(range(10))
    assert weight("sd", ten, set(range(9)) | {10}) == pytest.approx(0.45)
    assert weight("sd", {0}, {0, 1, 2, 3, 4, 5}) == pytest.approx(1 / 6)


@pytest.mark.parametrize("rule", ["sd_idf", "sd_mulsupcon", "mulsupcon"])
def test_rules_with_inverse_frequency_prefer_the_rare_label(rule: str) -> None:
    """Anchor {0, 1}; label 0 has three other carriers, label 1 has one. SD itself sees no difference."""
    sets = [[0, 1], [0], [0], [0], [1]]
    pairs = build_label_pairs(SparseLabels.from_lists(sets), n_anchors=5, n_batch=5)
    row = WEIGHT_RULES[rule].weigh(next(pairs.blocks(5)))[0]
    assert row[4].item() == pytest.approx(3 * row[1].item())
    sd = WEIGHT_RULES["sd"].weigh(next(pairs.blocks(5)))[0]
    assert sd[4] == sd[1]
