"""Head losses: worked numbers, what they reduce to, extremes, misuse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pipeline.losses import (
    HEAD_LOSSES,
    AsymmetricLoss,
    BinaryCrossEntropyLoss,
    DistributionBalancedLoss,
    ZLPRLoss,
    build_head_loss,
)

COUNTS = [90, 40, 3, 1]


def build(name: str, reduction: str = "mean") -> torch.nn.Module:
    return build_head_loss(name, train_counts=COUNTS, n_documents=100, reduction=reduction)  # type: ignore[arg-type]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def asl_of_label(z: float, y: bool) -> float:
    """gamma_pos 1, gamma_neg 4, margin 0.05."""
    p = sigmoid(z)
    shifted = max(p - 0.05, 0)
    return -(1 - p) * math.log(p) if y else -(shifted**4) * math.log(1 - shifted)


def distribution_balanced_of_document(z: list[float], y: list[bool]) -> float:
    """Defaults: alpha 0.1, beta 10, mu 0.9, kappa 0.05, scale of negatives 2, gamma 2, N = 100."""
    rarity_of_document = sum(1 / n for n, own in zip(COUNTS, y, strict=True) if own)
    total = 0.0
    for logit, own, n in zip(z, y, COUNTS, strict=True):
        share = 1 / n / rarity_of_document if rarity_of_document else 1.0
        weight = 0.1 + sigmoid(10 * (share - 0.9))
        shifted = logit - 0.05 * math.log(100 / n - 1)
        if own:
            q = sigmoid(shifted)
            total -= weight * (1 - q) ** 2 * math.log(q)
        else:
            q = sigmoid(2 * shifted)
            total -= weight / 2 * q**2 * math.log(1 - q)
    return total / len(COUNTS)


def zlpr_of_document(z: list[float], y: list[bool]) -> float:
    positives = sum(math.exp(-logit) for logit, own in zip(z, y, strict=True) if own)
    negatives = sum(math.exp(logit) for logit, own in zip(z, y, strict=True) if not own)
    return math.log1p(positives) + math.log1p(negatives)


documents = st.lists(st.tuples(st.floats(-6, 6), st.booleans()), min_size=4, max_size=4)


@given(st.lists(documents, min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_losses_equal_their_formulas(batch: list[list[tuple[float, bool]]]) -> None:
    logits = torch.tensor([[z for z, _ in document] for document in batch], dtype=torch.float64)
    targets = torch.tensor([[y for _, y in document] for document in batch])
    rows = [tuple(zip(*document, strict=True)) for document in batch]
    asl = [sum(asl_of_label(z, y) for z, y in document) / 4 for document in batch]
    balanced = [distribution_balanced_of_document(list(z), list(y)) for z, y in rows]
    zlpr = [zlpr_of_document(list(z), list(y)) for z, y in rows]
    loss = AsymmetricLoss(gamma_pos=1, gamma_neg=4, margin=0.05, reduction="none")
    assert loss(logits, targets).tolist() == pytest.approx(asl, rel=1e-9, abs=1e-12)
    # Counts are kept in float32.
    assert build("distribution_balanced", "none")(logits, targets).tolist() == pytest.approx(balanced, rel=1e-5)
    assert build("zlpr", "none")(logits, targets).tolist() == pytest.approx(zlpr, rel=1e-9)


def test_bce_of_an_undecided_document_is_log_2() -> None:
    assert BinaryCrossEntropyLoss()(torch.zeros(1, 3), torch.eye(3)[:1]).item() == pytest.approx(math.log(2))


def test_asl_ignores_negatives_below_the_margin() -> None:
    """p = 0.04 < 0.05: p_m = 0, so neither loss nor gradient."""
    logits = torch.tensor([[math.log(0.04 / 0.96)]], requires_grad=True)
    loss = AsymmetricLoss()(logits, torch.zeros(1, 1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.item() == 0


def random_logits_and_targets(n_labels: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, n_labels, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(7, n_labels, generator=generator) < 0.4).double()


def test_asl_without_focus_and_margin_is_bce() -> None:
    logits, targets = random_logits_and_targets()
    asl = AsymmetricLoss(gamma_pos=0, gamma_neg=0, margin=0)(logits, targets)
    assert asl.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, targets).item())


def test_distribution_balanced_without_its_parts_is_weighted_bce() -> None:
    """With mu far above every share the smoothed weight is alpha for all labels."""
    logits, targets = random_logits_and_targets()
    loss = DistributionBalancedLoss(COUNTS, 100, alpha=0.5, mu=1e9, kappa=0, negative_scale=1, gamma=0)
    expected = 0.5 * F.binary_cross_entropy_with_logits(logits, targets).item()
    assert loss(logits, targets).item() == pytest.approx(expected)


def test_zlpr_of_one_positive_and_one_negative_is_the_sum_of_both_cross_entropies() -> None:
    logits, targets = torch.tensor([[0.3, -1.2]]), torch.tensor([[1.0, 0.0]])
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum").item()
    assert ZLPRLoss()(logits, targets).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", HEAD_LOSSES)
def test_gradcheck(name: str) -> None:
    logits, targets = random_logits_and_targets()
    loss = build(name).double()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), (logits.requires_grad_(),))


@pytest.mark.parametrize("name", HEAD_LOSSES)
def test_loss_falls_as_logits_move_to_the_targets(name: str) -> None:
    """A check of the signs: gradient is negative on positives, not negative on negatives."""
    logits, targets = random_logits_and_targets()
    (gradient,) = torch.autograd.grad(build(name)(logits.requires_grad_(), targets), logits)
    assert (gradient[targets > 0] < 0).all()
    assert (gradient[targets == 0] >= 0).all()


@pytest.mark.parametrize("name", HEAD_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.0, 50.0, 3e4])
def test_loss_and_gradient_stay_finite(name: str, dtype: torch.dtype, size: float) -> None:
    logits = torch.tensor([[size, -size, size, -size]] * 3).to(dtype).requires_grad_()
    targets = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    loss = build(name)(logits, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", HEAD_LOSSES)
def test_mean_of_values_per_document_is_the_mean(name: str) -> None:
    logits, targets = random_logits_and_targets()
    per_document = build(name, "none")(logits, targets)
    assert per_document.shape == (7,)
    assert build(name)(logits, targets).item() == pytest.approx(per_document.mean().item())


@pytest.mark.parametrize("name", HEAD_LOSSES)
def test_without_documents_the_loss_is_zero_and_attached(name: str) -> None:
    loss = build(name)(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4))
    assert loss.item() == 0
    loss.backward()


def test_counts_of_none_and_all_keep_the_bias_finite() -> None:
    loss = DistributionBalancedLoss([0, 10], 10)(torch.zeros(1, 2), torch.ones(1, 2))
    assert torch.isfinite(loss)


def test_counts_are_not_in_the_state_dict() -> None:
    assert not build("distribution_balanced").state_dict()


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be one of .*'zlpr'.*Got 'focal'"):
        build("focal")
    with pytest.raises(ValueError, match="'reduction'"):
        build("bce", "sum")
    with pytest.raises(ValueError, match=r"Got \(2, 3\) and \(2, 4\)"):
        BinaryCrossEntropyLoss()(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="counts up to 11"):
        DistributionBalancedLoss([11], 10)
    with pytest.raises(ValueError, match="train_counts had 4"):
        build("distribution_balanced")(torch.zeros(1, 5), torch.zeros(1, 5))
    with pytest.raises(ValueError, match="margin"):
        AsymmetricLoss(margin=1.0)
    with pytest.raises(ValueError, match="beta"):
        DistributionBalancedLoss([1], 10, beta=0)
