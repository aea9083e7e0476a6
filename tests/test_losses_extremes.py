"""Contrastive losses: extremes, gradients, blocks, groups, the queue."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from loss_cases import WITHOUT_PARAMETERS, gradient_of, vectors
from torch import Tensor, nn

from pipeline.losses import (
    CONTRASTIVE_LOSSES,
    AnyLoss,
    ContrastiveLoss,
    MultiLabelPrototypeLoss,
    SDPrototypeLoss,
    SimilarityDissimilarityLoss,
    SparseLabels,
    build_contrastive_loss,
)

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


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_projections_of_any_length_have_a_gradient(length: float) -> None:
    """The square of either length is outside float32; loss and direction of the gradient are those of length 1."""
    labels, z = [[0], [0], [1]], vectors(3)
    other = (z.detach() * length).requires_grad_()
    expected, found = gradient_of(AnyLoss(), z, labels), gradient_of(AnyLoss(), other, labels) * length
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


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
