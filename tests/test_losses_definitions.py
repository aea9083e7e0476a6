"""Every contrastive loss against its definition, written as slow loops over sets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_definitions import (
    N_LABELS,
    Samples,
    by_definition,
    mean,
    msc,
)
from torch import Tensor

from pipeline.losses import (
    WEIGHT_RULES,
    ContrastiveLoss,
    IntraLabelLoss,
    JaccardProbabilityLoss,
    MultiLabelPrototypeLoss,
    ProbMCLLoss,
    SDPrototypeLoss,
    SparseLabels,
)
from pipeline.losses.pairs import build_label_pairs


def assert_same_loss_and_gradient(actual: Tensor, expected: Tensor | float, leaves: list[Tensor]) -> None:
    """Losses and gradients equal to 1e-9; a definition without any term stands for 0 with gradient 0."""
    assert actual.requires_grad
    true_value = expected.item() if isinstance(expected, Tensor) else expected
    assert actual.item() == pytest.approx(true_value, rel=1e-9, abs=1e-12)
    gradients = torch.autograd.grad(actual, leaves, allow_unused=True)
    expected_gradients = (
        torch.autograd.grad(expected, leaves, retain_graph=True)
        if isinstance(expected, Tensor)
        else [torch.zeros_like(leaf) for leaf in leaves]
    )
    for leaf, gradient, true in zip(leaves, gradients, expected_gradients, strict=True):
        own = torch.zeros_like(leaf) if gradient is None else gradient
        torch.testing.assert_close(own, true, rtol=1e-8, atol=1e-10)


label_sets = st.sets(st.integers(0, N_LABELS - 1), max_size=4)
batches = st.lists(label_sets, min_size=1, max_size=6)


@given(
    sets=batches,
    queue=st.lists(label_sets, max_size=3),
    group_ids=st.lists(st.integers(0, 3), min_size=9, max_size=9) | st.none(),
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([0.05, 0.3, 1.0]),
    n_rows=st.sampled_from([None, 1, 2, 4]),
)
@settings(max_examples=40, deadline=None)
def test_loss_and_gradient_of_every_rule_equal_the_definition(
    *,
    sets: list[set[int]],
    queue: list[set[int]],
    group_ids: list[int] | None,
    seed: int,
    temperature: float,
    n_rows: int | None,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(sets), 3, dtype=torch.float64, generator=generator).requires_grad_()
    queued = torch.randn(len(queue), 3, dtype=torch.float64, generator=generator)
    all_sets = [*sets, *queue]
    groups = None if group_ids is None else group_ids[: len(all_sets)]
    samples = torch.cat([vectors, queued])
    batch = Samples(samples, all_sets, len(sets), temperature=temperature, groups=groups)
    group_arguments = {}
    if groups is not None:
        group_arguments["group_ids"] = torch.tensor(groups[: len(sets)])
        group_arguments["extra_group_ids"] = torch.tensor(groups[len(sets) :], dtype=torch.int64)
    for name in sorted(WEIGHT_RULES):
        for normalise in ("positives", "weights") if WEIGHT_RULES[name].is_adjustable else ("positives",):
            loss = ContrastiveLoss(name, temperature=temperature, normalise=normalise, n_rows=n_rows)  # type: ignore[arg-type]
            actual = loss(
                vectors,
                [list(one) for one in sets],
                extra_projections=queued,
                extra_labels=[list(one) for one in queue],
                **group_arguments,
            )
            assert_same_loss_and_gradient(actual, by_definition(batch, name, normalise), [vectors])


@given(sets=batches, queue=st.lists(label_sets, max_size=2), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", ["msc", "sd_prototypes"])
def test_prototype_losses_equal_the_definition(
    name: str, sets: list[set[int]], queue: list[set[int]], seed: int
) -> None:
    """Prototypes are samples with one label each; documents weigh beta = 0.4 in the denominator of MSC."""
    torch.manual_seed(seed)
    loss: MultiLabelPrototypeLoss | SDPrototypeLoss
    if name == "msc":
        loss = MultiLabelPrototypeLoss(N_LABELS, 3, temperature=0.3, alpha=0.7, document_share=0.4).double()
    else:
        loss = SDPrototypeLoss(N_LABELS, 3, temperature=0.3, normalise="weights").double()
    vectors = torch.randn(len(sets), 3, dtype=torch.float64, requires_grad=True)
    queued = torch.randn(len(queue), 3, dtype=torch.float64)
    all_sets = [*sets, *({label} for label in range(N_LABELS)), *queue]
    samples = torch.cat([vectors, loss.prototypes, queued])
    factors = [0.4] * len(sets) + [1.0] * N_LABELS + [0.4] * len(queue) if name == "msc" else None
    batch = Samples(samples, all_sets, len(sets), temperature=0.3, factors=factors)

    expected = (
        msc(batch, range(len(sets), len(sets) + N_LABELS), 0.7)
        if name == "msc"
        else by_definition(batch, "sd", "weights")
    )
    actual = loss(
        vectors, [list(one) for one in sets], extra_projections=queued, extra_labels=[list(one) for one in queue]
    )
    assert_same_loss_and_gradient(actual, expected, [vectors, loss.prototypes])


@given(sets=batches, seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_jspcl_equals_jaccard_weights_between_probabilities(sets: list[set[int]], seed: int) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(len(sets), N_LABELS, dtype=torch.float64, requires_grad=True)
    batch = Samples(torch.sigmoid(logits), sets, len(sets), temperature=0.2)
    actual = JaccardProbabilityLoss(temperature=0.2)(logits, [list(one) for one in sets])
    assert_same_loss_and_gradient(actual, by_definition(batch, "jscl"), [logits])


@given(sets=batches, seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_icl_equals_supcon_inside_each_document(sets: list[set[int]], seed: int) -> None:
    torch.manual_seed(seed)
    embeddings = torch.randn(len(sets), N_LABELS, 3, dtype=torch.float64, requires_grad=True)
    losses = []
    for document, own in zip(embeddings, sets, strict=True):
        batch = Samples(document, [set()] * N_LABELS, N_LABELS, temperature=0.2)
        anchors = [-torch.stack([batch.log_p(i, p) for p in own - {i}]).mean() for i in own if len(own) > 1]
        losses += [torch.stack(anchors).mean()] if anchors else []
    actual = IntraLabelLoss(temperature=0.2)(embeddings, [list(one) for one in sets])
    assert_same_loss_and_gradient(actual, mean(losses), [embeddings])


def mixture_similarity(loss: ProbMCLLoss, left: Tensor, right: Tensor) -> Tensor:
    """Cosine of two densities; the integral of N(a, u) N(b, v) over R^d is N(a - b; 0, (u + v) I)."""

    def inner(one: Tensor, other: Tensor) -> Tensor:
        parts = [row.view(loss.n_components, loss.mixture_dim + 2) for row in (one, other)]
        total = torch.zeros((), dtype=torch.float64)
        for k in range(loss.n_components):
            for m in range(loss.n_components):
                weight = parts[0][:, 0].softmax(0)[k] * parts[1][:, 0].softmax(0)[m]
                variances = [torch.log1p(torch.exp(p[n, 1])) + 1e-3 for p, n in zip(parts, (k, m), strict=True)]
                density = torch.distributions.MultivariateNormal(
                    parts[1][m, 2:], torch.eye(loss.mixture_dim, dtype=torch.float64) * sum(variances)
                )
                total = total + weight * density.log_prob(parts[0][k, 2:]).exp()
        return total

    return inner(left, right) / (inner(left, left) * inner(right, right)).sqrt()


@given(sets=st.lists(label_sets, min_size=2, max_size=4), seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_probmcl_equals_the_definition(sets: list[set[int]], seed: int) -> None:
    torch.manual_seed(seed)
    loss = ProbMCLLoss(3, temperature=0.2, threshold=0.5, n_components=2, mixture_dim=2).double()
    vectors = torch.randn(len(sets), 3, dtype=torch.float64, requires_grad=True)
    mixtures = loss.network(vectors)
    losses = []
    for i, own in enumerate(sets):
        others = [p for p in range(len(sets)) if p != i]
        scaled = {p: mixture_similarity(loss, mixtures[i], mixtures[p]) / 0.2 for p in others}
        log_sum = torch.stack(list(scaled.values())).logsumexp(0)
        positives = [p for p in others if own & sets[p] and len(own & sets[p]) / min(len(own), len(sets[p])) >= 0.5]
        losses += [torch.stack([log_sum - scaled[p] for p in positives]).mean()] if positives else []
    actual = loss(vectors, [list(one) for one in sets])
    assert_same_loss_and_gradient(actual, mean(losses), [vectors, loss.network.weight])


@given(
    sets=st.lists(label_sets, min_size=1, max_size=8),
    group_ids=st.lists(st.integers(0, 4), min_size=8, max_size=8) | st.none(),
    dense_share=st.sampled_from([0.0, 0.3, 2.0]),
    n_rows=st.sampled_from([1, 3, 8]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_dense_and_scattered_label_products_equal_loops(
    sets: list[set[int]], group_ids: list[int] | None, dense_share: float, n_rows: int, seed: int
) -> None:
    """dense_share 0 multiplies every label densely, 2 scatters every label, 0.3 mixes both."""
    torch.manual_seed(seed)
    n = len(sets)
    groups = list(range(n)) if group_ids is None else group_ids[:n]
    pairs = build_label_pairs(
        SparseLabels.from_lists([list(one) for one in sets], N_LABELS),
        n_anchors=n,
        n_batch=n,
        groups=None if group_ids is None else torch.tensor(groups),
        dtype=torch.float64,
        dense_share=dense_share,
    )
    for block in pairs.blocks(n_rows):
        matrix = torch.rand(block.n_rows, n, dtype=torch.float64)
        rows = matrix.tolist()
        shared = block.shared()
        weighted = block.shared(block.sums_over_carriers(matrix))
        for row, i in enumerate(range(block.start, block.stop)):
            for p in range(n):
                common = sets[i] & sets[p] if groups[i] != groups[p] else set()
                sums = [sum(rows[row][q] for q in range(n) if label in sets[q]) for label in common]
                assert shared[row, p].item() == len(common)
                assert weighted[row, p].item() == pytest.approx(sum(sums))
