"""Contrastive losses: worked numbers, what they reduce to, order of weights, extremes, misuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

from pipeline.losses import (
    CONTRASTIVE_LOSSES,
    WEIGHT_RULES,
    AllLoss,
    AnyLoss,
    ContrastiveLoss,
    IntraLabelLoss,
    MulSupConLoss,
    MultiLabelPrototypeLoss,
    SDMulSupConLoss,
    SDPerLabelLoss,
    SDPrototypeLoss,
    SimilarityDissimilarityLoss,
    SparseLabels,
    StepwiseLabelLoss,
    build_contrastive_loss,
    relation_statistics,
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
WITHOUT_PARAMETERS = sorted({*WEIGHT_RULES} - {"scl"})


def vectors(n_documents: int, dim: int = 8, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_documents, dim, generator=generator).to(dtype).requires_grad_()


def gradient_of(loss: nn.Module, projections: Tensor, labels: Any, **options: Any) -> Tensor:
    (gradient,) = torch.autograd.grad(loss(projections, labels, **options), projections)
    return gradient


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


# Extremes

EXTREMES: dict[str, list[list[int]]] = {
    "no two share a label": [[0], [1], [2], [3]],
    "no labels at all": [[], [], []],
    "some empty label sets": [[], [0, 1], [0], []],
    "all the same": [[0, 1]] * 5,
    "one document": [[0, 1]],
    "one document without labels": [[]],
    "no document": [],
    "a label listed twice": [[0, 0, 1], [0], [1, 1]],
}


def build(name: str, n_labels: int = 6, dim: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return build_contrastive_loss(name, temperature=0.01, n_labels=n_labels, dim=dim)


def projections_for(name: str, n_documents: int, dtype: torch.dtype) -> Tensor:
    shape = (n_documents, 6, 6) if name == "icl" else (n_documents, 6)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


@pytest.mark.parametrize("name", CONTRASTIVE_LOSSES)
@pytest.mark.parametrize("case", EXTREMES)
def test_loss_and_gradient_stay_finite_at_temperature_0_01(name: str, case: str) -> None:
    sets = EXTREMES[case]
    loss = build(name)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        projections = projections_for(name, len(sets), dtype)
        value = loss(projections, SparseLabels.from_lists(sets, n_labels=6))
        value.backward()
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        assert projections.grad is not None
        assert projections.grad.dtype == dtype
        assert torch.isfinite(projections.grad).all()


@pytest.mark.parametrize("name", sorted(set(CONTRASTIVE_LOSSES) - {"msc", "sd_prototypes"}))
@pytest.mark.parametrize(
    "case", ["no two share a label", "no labels at all", "one document without labels", "no document"]
)
def test_without_positives_the_loss_is_zero_and_attached(name: str, case: str) -> None:
    sets = EXTREMES[case]
    projections = projections_for(name, len(sets), torch.float32)
    value = build(name)(projections, SparseLabels.from_lists(sets, n_labels=6))
    assert value.requires_grad
    assert value.item() == 0
    value.backward()
    assert projections.grad is not None
    assert not projections.grad.any()


@pytest.mark.parametrize("name", ["msc", "sd_prototypes"])
def test_prototypes_give_every_document_with_labels_a_positive(name: str) -> None:
    value = build(name)(projections_for(name, 3, torch.float32), SparseLabels.from_lists([[0], [1], []], 6))
    assert value.item() > 0


@pytest.mark.parametrize("rule", WITHOUT_PARAMETERS)
def test_document_without_labels_changes_the_loss_only_as_a_negative(rule: str) -> None:
    """It raises the loss (one more term in the denominator) but is no anchor: with itself far away, nothing moves."""
    z = torch.eye(4)[[0, 0, 1]] + 0.1
    far = torch.tensor([[-1.0, -1.0, -1.0, -1.0]])
    loss = ContrastiveLoss(rule, temperature=0.02)
    sets = [[0, 1], [0, 1], [0]]
    without = loss(z, sets).item()
    assert loss(torch.cat([z, far]), [*sets, []]).item() == pytest.approx(without, rel=1e-5)
    assert loss(torch.cat([z, z[:1]]), [*sets, []]).item() > without + 1e-3


@pytest.mark.parametrize("rule", WITHOUT_PARAMETERS)
def test_a_label_listed_twice_counts_once(rule: str) -> None:
    z, loss = vectors(3), ContrastiveLoss(rule)
    assert loss(z, [[0, 0, 1], [0], [1, 1]]).item() == loss(z, [[0, 1], [0], [1]]).item()


@pytest.mark.parametrize("rule", ["sd", "mulsupcon", "sd_per_label"])
def test_bf16_projections_give_the_loss_of_the_same_numbers_in_float32(rule: str) -> None:
    labels = torch.rand(32, 8, generator=torch.Generator().manual_seed(0)) < 0.3
    z = vectors(32, dtype=torch.bfloat16)
    loss = ContrastiveLoss(rule, temperature=0.05)
    in_half, in_float = loss(z, labels), loss(z.float(), labels)
    assert in_half.item() == in_float.item()


def test_autocast_does_not_reach_the_kernel() -> None:
    labels = torch.rand(32, 8, generator=torch.Generator().manual_seed(0)) < 0.3
    z, loss = vectors(32), SimilarityDissimilarityLoss(temperature=0.05)
    expected = gradient_of(loss, z, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gradient_of(loss, z, labels), expected)


def test_float32_gradient_is_exact_at_small_temperature() -> None:
    """Against float64; all-bf16 arithmetic is 7 to 21 % off here."""
    labels = torch.rand(64, 20, generator=torch.Generator().manual_seed(0)) < 0.2
    z, loss = vectors(64, 32), SimilarityDissimilarityLoss(temperature=0.02)
    expected = gradient_of(loss, z.double(), labels)
    error = (gradient_of(loss, z, labels) - expected).norm() / expected.norm()
    assert error < 1e-5


def test_a_projection_of_zeros_gets_no_gradient() -> None:
    z = torch.zeros(3, 4)
    z[1:] = torch.eye(4)[:2]
    gradient = gradient_of(AnyLoss(), z.requires_grad_(), [[0], [0], [0]])
    assert torch.isfinite(gradient).all()
    assert not gradient[0].any()


def test_length_of_projections_does_not_matter() -> None:
    z, labels = vectors(6), [[0], [0, 1], [1], [2], [2, 0], []]
    loss = SimilarityDissimilarityLoss()
    assert loss(z * 7, labels).item() == pytest.approx(loss(z, labels).item(), rel=1e-6)


def test_many_carriers_are_counted_exactly() -> None:
    """1,000 documents share one label; bf16 counts would stop at 256. All similar: the loss is log 999."""
    loss = AnyLoss()(torch.ones(1000, 4).requires_grad_(), [[0]] * 1000)
    assert loss.item() == pytest.approx(math.log(999), rel=1e-5)


# Gradients, blocks, groups, queue


@pytest.mark.parametrize("name", ["sd", "mulsupcon", "sd_per_label", "jspcl"])
def test_gradcheck(name: str) -> None:
    loss = build_contrastive_loss(name, temperature=0.3)
    z = vectors(5, 3, dtype=torch.float64)
    queued = vectors(2, 3, seed=1, dtype=torch.float64).detach()
    labels = [[0, 1], [0], [1, 2], [2, 0, 3], []]

    def value(projections: Tensor) -> Tensor:
        result: Tensor = loss(projections, labels, extra_projections=queued, extra_labels=[[1], [0, 3]])
        return result

    assert torch.autograd.gradcheck(value, (z,))


@pytest.mark.parametrize("loss_class", [MultiLabelPrototypeLoss, SDPrototypeLoss])
def test_gradcheck_of_prototypes(loss_class: Callable[..., nn.Module]) -> None:
    loss = loss_class(4, 3, temperature=0.3).double()
    labels = [[0, 1], [0], [1, 2], []]

    def value(projections: Tensor, prototypes: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(loss, {"prototypes": prototypes}, (projections, labels))
        return result

    assert torch.autograd.gradcheck(
        value, (vectors(4, 3, dtype=torch.float64), vectors(4, 3, seed=2, dtype=torch.float64))
    )


def test_a_second_derivative_is_refused() -> None:
    z = vectors(3)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(AnyLoss()(z, [[0], [0], [1]]), z, create_graph=True)


def test_no_gradient_is_computed_in_evaluation() -> None:
    with torch.no_grad():
        value = AnyLoss()(vectors(3), [[0], [0], [1]])
    assert not value.requires_grad
    assert value.item() > 0


@pytest.mark.parametrize("rule", WITHOUT_PARAMETERS)
def test_block_size_does_not_change_results(rule: str) -> None:
    labels = torch.rand(41, 30, generator=torch.Generator().manual_seed(5)) < 0.15
    z = vectors(41, dtype=torch.float64)
    gradients = [gradient_of(ContrastiveLoss(rule, n_rows=n), z, labels) for n in (None, 1, 7)]
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", WITHOUT_PARAMETERS)
def test_all_label_forms_give_the_same_loss(rule: str) -> None:
    sets = [[0, 3], [0], [], [3, 1], [1]]
    multi_hot = torch.zeros(5, 6, dtype=torch.int64)
    for row, own in enumerate(sets):
        multi_hot[row, own] = 1
    z, loss = vectors(5), ContrastiveLoss(rule, n_labels=6)
    forms = [sets, SparseLabels.from_lists(sets, 6), multi_hot, multi_hot.bool(), multi_hot.float()]
    assert len({loss(z, form).item() for form in forms}) == 1


@pytest.mark.parametrize("rule", ["any", "sd", "mulsupcon", "sd_idf"])
def test_documents_of_one_admission_neither_attract_nor_repel(rule: str) -> None:
    """Documents 0 and 2 share label 0 at similarity 1; document 1, without labels, is orthogonal. t = 1.

    Alone, anchors 0 and 2 both have -log(e / (e + 1)). With 1 in the group of 0, anchor 0 sees document 2 only and
    has 0; anchor 2 still sees both.
    """
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    loss, sets = ContrastiveLoss(rule, temperature=1.0), [[0], [], [0]]
    alone = -math.log(math.e / (math.e + 1))
    assert loss(z, sets).item() == pytest.approx(alone, rel=1e-6)
    assert loss(z, sets, group_ids=torch.tensor([5, 5, 8])).item() == pytest.approx(alone / 2, rel=1e-6)


def test_a_group_that_holds_all_positives_leaves_no_anchor() -> None:
    value = AnyLoss()(vectors(3), [[0], [0], [1]], group_ids=torch.tensor([4, 4, 9]))
    assert value.item() == 0


def test_queued_samples_are_no_anchors_and_get_no_gradient() -> None:
    queued = vectors(2, seed=3)
    value = AnyLoss()(vectors(1), [[0]], extra_projections=queued, extra_labels=[[0], [0]])
    value.backward()
    assert value.item() > 0
    assert queued.grad is None


# Use under other PyTorch features


# torch.compile itself reads .grad of what the uncompiled loss is given.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_losses_run_under_torch_compile() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    loss = SimilarityDissimilarityLoss()
    z, labels = vectors(6).detach(), torch.eye(6)[:, :3] + torch.eye(6)[:, 3:]

    def step(inputs: Tensor) -> Tensor:
        value: Tensor = loss(model(inputs), labels)
        return value

    expected = step(z)
    compiled = torch.compile(step, backend="eager")(z)
    assert compiled.item() == pytest.approx(expected.item(), rel=1e-6)
    compiled.backward()
    assert model.weight.grad is not None


def test_prototypes_are_in_the_state_dict_and_can_start_from_titles() -> None:
    loss = MultiLabelPrototypeLoss(3, 2)
    loss.load_prototypes(torch.eye(3)[:, :2])
    assert torch.equal(loss.state_dict()["prototypes"], torch.eye(3)[:, :2])
    with pytest.raises(ValueError, match=r"must have shape \(3, 2\)"):
        loss.load_prototypes(torch.eye(3))


# Statistics


def test_relation_statistics_by_hand() -> None:
    """Sets {0,1}, {0,1}, {0}, {1,2}, {3}, {}; 30 ordered pairs.

    R2: A-B both ways (2). Of A to C: C inside A (R4), the other way R5; same for B: R4 2, R5 2. A-D, B-D overlap,
    both ways: R3 4. All else R1: 30 - 10 = 20. K: 2 * 1 + 2 * 1/2 (R4) + 2 * 1/2 (R5) + 4 * 1/4 = 5 over 10.
    Documents A to D have positives. Of 8 label occurrences 2 (in D and {3}) have no partner.
    """
    statistics = relation_statistics([[0, 1], [0, 1], [0], [1, 2], [3], []])
    assert statistics == pytest.approx(
        {
            "share_r1": 20 / 30,
            "share_r2": 2 / 30,
            "share_r3": 4 / 30,
            "share_r4": 2 / 30,
            "share_r5": 2 / 30,
            "mean_k": 0.5,
            "anchors_with_positives": 4 / 6,
            "partner_share": 6 / 8,
        }
    )


@pytest.mark.parametrize("sets", [[], [[]], [[0]]])
def test_relation_statistics_without_pairs_are_zero(sets: list[list[int]]) -> None:
    assert not any(relation_statistics(sets).values())


# Misuse


def test_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of .*'mulsupcon'.*Got 'supcon' instead"):
        build_contrastive_loss("supcon")


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperature_must_be_positive(temperature: float) -> None:
    for build_one in (AllLoss, AnyLoss, IntraLabelLoss):
        with pytest.raises(ValueError, match="must be greater than 0"):
            build_one(temperature=temperature)


@pytest.mark.parametrize("name", ["any", "mulsupcon", "sd_per_label", "msc", "icl", "jspcl"])
def test_weight_in_log_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="log"):
        build_contrastive_loss(name, weight_in="log", n_labels=3, dim=2)


def test_weight_in_log_needs_normalisation_by_positives() -> None:
    with pytest.raises(ValueError, match="normalise='positives'"):
        SimilarityDissimilarityLoss(weight_in="log", normalise="weights")


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="'normalise'"):
        SimilarityDissimilarityLoss(normalise="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'factors'"):
        SimilarityDissimilarityLoss(factors="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["msc", "sd_prototypes", "probmcl"])
def test_losses_with_parameters_need_their_sizes(name: str) -> None:
    with pytest.raises(ValueError, match="needs n_labels and dim"):
        build_contrastive_loss(name)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0], [1]], "describe 2 documents, but there are 3"),
        ([[0], [1], [7]], r"Label ids must be in \[0, 5\). Got ids from 0 to 7"),
        ([[0], [1], [-1]], "Got ids from -1 to 1"),
        (torch.tensor([0, 1, 1]), r"must have shape \(n_documents, n_labels\)"),
        (torch.full((3, 5), 0.5), "must be 0 or 1"),
        (torch.ones(3, 4), "space of 4 labels, but the loss was built for 5"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnyLoss(n_labels=5)(vectors(3), labels)


def test_projections_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(n_documents, dim\)"):
        AnyLoss()(torch.ones(2, 3, 4), [[0], [0]])
    with pytest.raises(TypeError, match="float"):
        AnyLoss()(torch.ones(2, 3, dtype=torch.int64), [[0], [0]])


def test_groups_and_queue_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"integers of shape \(2,\)"):
        AnyLoss()(vectors(2), [[0], [0]], group_ids=torch.tensor([1]))
    with pytest.raises(ValueError, match="must be given together"):
        AnyLoss()(vectors(2), [[0], [0]], extra_projections=vectors(1))
    with pytest.raises(ValueError, match="have dim 3, but projections have 8"):
        AnyLoss()(vectors(2), [[0], [0]], extra_projections=vectors(1, 3), extra_labels=[[0]])


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], []])
def test_sparse_labels_refuse_offsets_that_do_not_describe_the_indices(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        SparseLabels(torch.tensor([0, 1, 2]), torch.tensor(offsets, dtype=torch.int64), 3)
