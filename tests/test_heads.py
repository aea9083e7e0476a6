"""Heads: logits from token states, never from padding, from a start that need not be unlearned."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.encoders.encoder import TokenStates
from pipeline.encoders.heads import LabelAttentionHead, LinearHead, build_head, start_from_prevalence
from pipeline.notes.triggers import KINDS

DIM, N_LABELS = 8, 5
HEADS = ("linear", "label_attention", "laat")


def tokens(*, n_documents: int = 3, width: int = 6, seed: int = 0) -> TokenStates:
    """Random states of documents of 6, 5, 4, ... tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([width - index for index in range(n_documents)])
    return TokenStates(
        torch.randn(n_documents, width, DIM, generator=generator),
        torch.arange(width) < lengths.unsqueeze(1),
        torch.randint(0, len(KINDS) + 1, (n_documents, width), generator=generator),
        torch.randn(n_documents, DIM, generator=generator),
    )


def head_of(name: str, pooling: str = "mean") -> LinearHead | LabelAttentionHead:
    torch.manual_seed(1)
    head = build_head(name, DIM, N_LABELS, dropout=0.0, pooling=pooling)
    if isinstance(head, LabelAttentionHead):
        torch.nn.init.normal_(head.context.weight)
    return head.eval()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_a_logit_for_every_label(name: str) -> None:
    logits = head_of(name)(tokens())
    assert logits.shape == (3, N_LABELS)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", ["label_attention", "laat"])
def test_label_attention_holds_a_few_documents_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short documents fit into a micro-batch of tokens, but not n_labels vectors of each of them."""
    head, states, sizes = head_of(name), tokens(), []
    expected = head(states)
    whole = head.label_vectors
    monkeypatch.setattr("pipeline.encoders.heads.MAX_LABEL_VALUES", 2 * N_LABELS * DIM + 1)
    monkeypatch.setattr(head, "label_vectors", lambda part: sizes.append(len(part.states)) or whole(part))
    torch.testing.assert_close(head(states), expected)
    assert sizes == [2, 1]


@pytest.mark.parametrize("name", HEADS)
def test_whatever_stands_in_padding_changes_nothing(name: str) -> None:
    head, states = head_of(name), tokens()
    expected = head(states)
    states.states[~states.mask] = 1e4
    states.context_ids[~states.mask] = len(KINDS)
    torch.testing.assert_close(head(states), expected)


@pytest.mark.parametrize("name", HEADS)
def test_padding_gets_no_gradient(name: str) -> None:
    states = tokens()
    states.states.requires_grad_(True)
    head_of(name)(states).square().sum().backward()
    gradient = states.states.grad
    assert gradient is not None
    assert (gradient[~states.mask] == 0).all()
    assert (gradient[states.mask].abs().sum(dim=-1) > 0).all(), "every token of text is seen"


@pytest.mark.parametrize("name", HEADS)
def test_a_document_is_coded_the_same_alone_and_beside_a_longer_one(name: str) -> None:
    head, states = head_of(name), tokens()
    together = head(states)
    for row in range(3):
        n = int(states.mask[row].sum())
        alone = TokenStates(
            states.states[row : row + 1, :n],
            states.mask[row : row + 1, :n],
            states.context_ids[row : row + 1, :n],
            states.cls_states[row : row + 1],
        )
        torch.testing.assert_close(head(alone)[0], together[row])


@pytest.mark.parametrize("name", ["label_attention", "laat"])
@torch.no_grad()
def test_label_attention_is_its_formula(name: str) -> None:
    """Token by token in float64: keys of normalised states, softmax over the text, weighted mean, dot product."""
    head, states = head_of(name).double(), tokens()
    assert isinstance(head, LabelAttentionHead)
    states = TokenStates(states.states.double(), states.mask, states.context_ids, states.cls_states)
    logits = head(states)
    for document in range(3):
        n = int(states.mask[document].sum())
        normed = [
            head.norm(states.states[document, place] + head.context.weight[states.context_ids[document, place]])
            for place in range(n)
        ]
        for label in range(N_LABELS):
            if name == "laat":
                scores = [float(head.queries[label] @ torch.tanh(head.keys(one))) for one in normed]
            else:
                scores = [float(head.queries[label] @ head.keys(one)) / math.sqrt(DIM) for one in normed]
            total = sum(math.exp(score) for score in scores)
            vector = sum(math.exp(score) / total * one for score, one in zip(scores, normed, strict=True))
            expected = float(vector @ head.weight[label]) + float(head.bias[label])
            assert float(logits[document, label]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_token_in_another_context_is_another_token() -> None:
    head, states = head_of("label_attention"), tokens()
    negated = TokenStates(states.states, states.mask, torch.ones_like(states.context_ids), states.cls_states)
    assert not torch.allclose(head(states), head(negated))
    fresh = build_head("label_attention", DIM, N_LABELS, dropout=0.0, pooling="mean").eval()
    torch.testing.assert_close(fresh(states), fresh(negated), msg="before training a context means nothing")


def test_the_linear_head_pools_as_asked() -> None:
    states = tokens()
    for pooling in ("mean", "cls"):
        head = head_of("linear", pooling)
        assert isinstance(head, LinearHead)
        torch.testing.assert_close(head(states), head.output(states.pooled(pooling)))
    assert not torch.allclose(head_of("linear", "mean")(states), head_of("linear", "cls")(states))


@pytest.mark.parametrize("name", HEADS)
def test_bf16_gives_finite_logits_and_gradients_close_to_float32(name: str) -> None:
    head, states = head_of(name), tokens(width=200)
    states.states.mul_(30)  # states of a trained encoder can be large
    expected = head(states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(states)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.float(), expected, atol=0.5, rtol=0.1)
    logits.float().sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in head.parameters())


def test_dropout_is_on_in_training_only() -> None:
    for name in HEADS:
        head = build_head(name, DIM, N_LABELS, dropout=0.5, pooling="mean")
        assert not torch.equal(head.train()(tokens()), head(tokens()))
        assert torch.equal(head.eval()(tokens()), head(tokens()))


@pytest.mark.parametrize("name", HEADS)
def test_biases_start_at_the_log_odds_of_each_label(name: str) -> None:
    """Of 99 documents, with half a document added to each count and one to all.

    49 documents: 49.5 / 100, log(0.495 / 0.505) = -0.0200. None: 0.005, log(0.005 / 0.995) = -5.2933. All 99: 0.995 is
    held at 0.95, log(19) = 2.9444.
    """
    head = build_head(name, DIM, 3, dropout=0.0, pooling="mean")
    start_from_prevalence(head, [49, 0, 99], n_documents=99)
    bias = head.output.bias if isinstance(head, LinearHead) else head.bias
    assert bias.tolist() == pytest.approx([-0.0200, -5.2933, 2.9444], abs=1e-4)
    assert bias.requires_grad


def test_queries_and_vectors_start_from_titles_and_others_stay() -> None:
    """By hand, in 4 dimensions: titles (2, 0, 0, 0) and (0, 2, 0, 0) have the mean (1, 1, 0, 0) and, centred and of
    length one, the directions (1, -1, 0, 0) / sqrt(2) and its opposite; a query is sqrt(4) / 4 of that.
    """
    head = LabelAttentionHead(4, 3, dropout=0.0)
    untouched = head.queries[1].clone(), head.weight[1].clone()
    titles = torch.tensor([[2.0, 0, 0, 0], [9.0, 9, 9, 9], [0, 2.0, 0, 0]])
    head.start_from_titles(titles, [True, False, True])
    direction = torch.tensor([1.0, -1, 0, 0]) / math.sqrt(2)
    torch.testing.assert_close(head.weight.detach()[[0, 2]], torch.stack([direction, -direction]))
    torch.testing.assert_close(head.queries.detach()[[0, 2]], torch.stack([direction, -direction]) / 2)
    assert torch.equal(head.queries[1], untouched[0])
    assert torch.equal(head.weight[1], untouched[1])
    assert head.queries.requires_grad


@pytest.mark.parametrize("name", ["label_attention", "laat"])
def test_a_label_that_starts_from_its_title_attends_to_tokens_like_it(name: str) -> None:
    """Three titles along axes of eight dimensions, a document with one token near each: before any training every label
    gives its own token more than a third, and most of all.
    """
    head = build_head(name, 8, 3, dropout=0.0, pooling="mean").eval()
    assert isinstance(head, LabelAttentionHead)
    titles = torch.eye(8)[:3]
    head.start_from_titles(titles, [True] * 3)
    states = titles.unsqueeze(0) + 0.1 * torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        attention = head._attention(head.norm(states), torch.ones(1, 3, dtype=torch.bool), head.queries)[0]
    assert attention.argmax(dim=1).tolist() == [0, 1, 2]
    assert (attention.diagonal() > 1.2 / 3).all()


def test_a_linear_head_keeps_documents_apart_in_half_precision() -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head_of("linear")(tokens(n_documents=200, width=200))
    assert logits[:, 0].unique().numel() == 200


@pytest.mark.parametrize("has_title", [[False] * 3, [True, False, False], [True] * 3])
def test_few_or_equal_titles_leave_finite_weights(has_title: list[bool]) -> None:
    head = LabelAttentionHead(4, 3, dropout=0.0)
    head.start_from_titles(torch.ones(3, 4), has_title)
    assert head.queries.isfinite().all()
    assert head.weight.isfinite().all()


def test_a_document_reads_the_token_that_its_label_asks_for() -> None:
    """A query along a token's key and far from others draws all attention to it."""
    head = LabelAttentionHead(4, 1, dropout=0.0).eval()
    with torch.no_grad():
        head.keys.weight.copy_(torch.eye(4))
        head.queries.copy_(torch.tensor([[100.0, 0, 0, 0]]))
        head.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        states = torch.tensor([[[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 3.0, 0]]])
        one = TokenStates(states, torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.long), states[:, 0])
        # LayerNorm of (3, 0, 0, 0): mean 0.75, variance 1.6875, so the first value is 2.25 / 1.299 = 1.732.
        assert head(one).item() == pytest.approx(math.sqrt(3), abs=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_the_scores_of_a_label_and_its_bias_add_up_to_its_logit(name: str) -> None:
    head, states = head_of(name), tokens()
    bias = head.output.bias if isinstance(head, LinearHead) else head.bias
    scores = head.token_scores(states, [3, 0])
    assert scores.shape == (3, 2, 6)
    assert (scores.transpose(1, 2)[~states.mask] == 0).all()
    torch.testing.assert_close(scores.sum(dim=-1) + bias[[3, 0]], head(states)[:, [3, 0]])


def test_scores_of_the_linear_head_are_gradient_times_state_by_autograd() -> None:
    head, states = head_of("linear"), tokens()
    states.states.requires_grad_(True)
    (gradient,) = torch.autograd.grad(head(states)[:, 2].sum(), states.states)
    expected = (gradient * states.states).sum(dim=-1).detach()
    torch.testing.assert_close(head.token_scores(states, [2])[:, 0], expected)


@pytest.mark.parametrize("name", ["label_attention", "laat"])
def test_scores_of_label_attention_are_attention_times_its_gradient_by_autograd(name: str) -> None:
    """The logit as a function of the attention alone, states held: d logit / d attention_t = weight . state_t."""
    head, states = head_of(name), tokens()
    assert isinstance(head, LabelAttentionHead)
    read = head.norm(states.states + head.context(states.context_ids)).detach()
    attention = head._attention(read, states.mask, head.queries).detach().requires_grad_(True)
    logits = (attention @ read * head.weight).sum(dim=-1) + head.bias
    torch.testing.assert_close(logits, head(states))
    (gradient,) = torch.autograd.grad(logits[:, 4].sum(), attention)
    expected = (attention * gradient)[:, 4].detach()
    torch.testing.assert_close(head.token_scores(states, [4])[:, 0], expected)
