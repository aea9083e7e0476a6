"""Classifier heads: from token states to one logit per label."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.encoders.encoder import TokenStates
from pipeline.errors import UserError
from pipeline.notes.triggers import KINDS

MAX_LABEL_VALUES = 2**27
"""Numbers in one tensor of (n_documents, n_labels, ...) at a time, half a GB in float32; one document at least."""


class LinearHead(nn.Module):
    """Pooled embedding, dropout, one linear layer.

    Args:
        dim: width of the encoder.
        n_labels: number of labels.
        dropout: in [0, 1).
        pooling: 'mean' or 'cls'.
    """

    def __init__(self, dim: int, n_labels: int, *, dropout: float, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, n_labels)

    def forward(self, tokens: TokenStates) -> Tensor:
        """Logits, (n_documents, n_labels)."""
        pooled = self.dropout(tokens.pooled(self.pooling))
        with torch.autocast(pooled.device.type, enabled=False):  # in half precision many documents would tie
            return self.output(pooled.to(self.output.weight.dtype))  # type: ignore[no-any-return]

    @torch.no_grad()
    def token_scores(self, tokens: TokenStates, label_ids: Sequence[int]) -> Tensor:
        """How much each token speaks for labels: gradient of the logit with respect to its state, times its state.

        With mean pooling the scores of a label and its bias add up to its logit.

        Args:
            tokens: states of documents.
            label_ids: which labels.

        Returns:
            (n_documents, len(label_ids), width) float32, zero on padding.

        Raises:
            UserError: with pooling 'cls', where the logit depends on no token's state but that of CLS.
        """
        if self.pooling != "mean":
            raise UserError("evidence needs a head of label attention or encoding.pooling 'mean', this one has 'cls'.")
        weight = self.output.weight[list(label_ids)].float()  # (n_asked, dim)
        values = weight @ tokens.states.float().transpose(1, 2)  # (n_documents, n_asked, width)
        mask = tokens.mask.unsqueeze(1)
        return values.masked_fill(~mask, 0.0) / mask.sum(dim=-1, keepdim=True)


class LabelAttentionHead(nn.Module):
    """Per-label attention over all tokens of text of a document.

    Every label has a query; its document vector is the mean of token states weighted by a softmax over the tokens,
    and its logit a linear function of that vector. A learned vector is added to tokens in a context (negated,
    family, historical, uncertain), so that a label need not attend to what the patient does not have.

    LayerNorm before the keys, masking, and a softmax in float32 keep it from the collapse to "all positive" that users
    of earlier code report.

    Source: the label attention of Mullenbach et al. 2018 (CAML), with scaled dot-product scores as in the
    cross-attention of Edin et al. 2024 (PLM-CA); that of LAAT and PLM-ICD is :class:`LaatHead`.

    Args:
        dim: width of the encoder.
        n_labels: number of labels.
        dropout: on token states and on label vectors, in [0, 1).
    """

    def __init__(self, dim: int, n_labels: int, *, dropout: float) -> None:
        super().__init__()
        self.context = nn.Embedding(len(KINDS) + 1, dim)
        nn.init.zeros_(self.context.weight)
        self.norm = nn.LayerNorm(dim)
        self.keys = nn.Linear(dim, dim, bias=False)  # a bias would shift all scores of a label alike
        self.queries = nn.Parameter(torch.randn(n_labels, dim) / math.sqrt(dim))
        self.weight = nn.Parameter(torch.randn(n_labels, dim) / math.sqrt(dim))
        self.bias = nn.Parameter(torch.zeros(n_labels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: TokenStates) -> Tensor:
        """Logits, (n_documents, n_labels); attention and label vectors are held for a few documents at a time."""
        n_labels, dim = self.weight.shape
        n_documents = max(1, MAX_LABEL_VALUES // (n_labels * max(dim, tokens.states.shape[1])))
        return torch.cat([self.logits_of(self.label_vectors(part)) for part in tokens.split(n_documents)])

    def label_vectors(self, tokens: TokenStates) -> Tensor:
        """What each label's attention reads in each document, (n_documents, n_labels, dim)."""
        states = self.dropout(self.norm(tokens.states + self.context(tokens.context_ids)))
        attention = self._attention(states, tokens.mask, self.queries)  # (n_documents, n_labels, width)
        vectors: Tensor = self.dropout(attention.to(states.dtype) @ states)
        return vectors

    def logits_of(self, label_vectors: Tensor) -> Tensor:
        """Logits, (n_documents, n_labels), from ``label_vectors``."""
        logits: Tensor = (label_vectors * self.weight).sum(dim=-1).float() + self.bias
        return logits

    @torch.no_grad()
    def token_scores(self, tokens: TokenStates, label_ids: Sequence[int]) -> Tensor:
        """How much each token speaks for labels: attention times the gradient of the logit with respect to it.

        The logit of label l is ``sum_t attention_lt * (weight_l . state_t) + bias_l``; so the scores of a label and
        its bias add up to its logit. ``state_t`` is what the attention reads: behind the LayerNorm, in front of which
        gradient times state is zero by its invariance to scale.

        Args:
            tokens: states of documents.
            label_ids: which labels.

        Returns:
            (n_documents, len(label_ids), width) float32, zero on padding.
        """
        asked = list(label_ids)
        states = self.norm(tokens.states + self.context(tokens.context_ids))
        attention = self._attention(states, tokens.mask, self.queries[asked])
        values = self.weight[asked].to(states.dtype) @ states.transpose(1, 2)  # (n_documents, n_asked, width)
        scores: Tensor = attention * values.float()
        return scores

    def _read(self, states: Tensor) -> Tensor:
        """The keys of tokens, (n_documents, width, dim)."""
        return self.keys(states)  # type: ignore[no-any-return]

    def _scale(self) -> float:
        """By what the product of a key and a query is divided."""
        return math.sqrt(self.queries.shape[1])

    def _attention(self, states: Tensor, mask: Tensor, queries: Tensor) -> Tensor:
        scores = queries @ self._read(states).transpose(1, 2)  # (n_documents, n_queries, width)
        scores = scores.float() / self._scale()
        attention: Tensor = scores.masked_fill(~mask.unsqueeze(1), float("-inf")).softmax(dim=-1)
        return attention

    @torch.no_grad()
    def start_from_titles(self, title_embeddings: Tensor, has_title: Sequence[bool]) -> None:
        """Let the queries and label vectors of labels with a title start from the title's embedding.

        Keys start as the token states themselves: a query then finds the tokens that are like its title, which it
        does not where keys are a random projection of them.

        Args:
            title_embeddings: (n_labels, dim); rows without a title are ignored.
            has_title: (n_labels,).
        """
        known = torch.tensor(list(has_title), device=self.queries.device)
        centred = title_embeddings - title_embeddings[known].mean(dim=0)
        directions = nn.functional.normalize(centred, dim=-1).to(self.queries)
        nn.init.eye_(self.keys.weight)
        self.queries[known] = directions[known] * self._scale() / 4
        self.weight[known] = directions[known]


class LaatHead(LabelAttentionHead):
    """Label attention whose scores go through a tanh, so that each lies within the 1-norm of its query.

    Source: LAAT, Vu et al. 2020, as PLM-ICD (Huang et al. 2022) has it over an encoder. LayerNorm, mask, context and
    the softmax in float32 are those of :class:`LabelAttentionHead`; the projection is as wide as the encoder.
    """

    def _read(self, states: Tensor) -> Tensor:
        return super()._read(states).tanh()

    def _scale(self) -> float:
        return 1.0


def has_token_scores(head: nn.Module) -> bool:
    """Whether a head can say what single tokens add: not a linear one over the CLS state."""
    return not isinstance(head, LinearHead) or head.pooling == "mean"


def build_head(name: str, dim: int, n_labels: int, *, dropout: float, pooling: str) -> LinearHead | LabelAttentionHead:
    """Build a head by name: 'linear', 'label_attention' or 'laat'."""
    if name == "linear":
        return LinearHead(dim, n_labels, dropout=dropout, pooling=pooling)
    attention = LaatHead if name == "laat" else LabelAttentionHead
    return attention(dim, n_labels, dropout=dropout)


@torch.no_grad()
def start_from_prevalence(head: LinearHead | LabelAttentionHead, train_counts: Sequence[int], n_documents: int) -> None:
    """Set biases to the log odds of each label in split train, so that training does not begin by unlearning 0.5."""
    share = (torch.tensor(train_counts, dtype=torch.float32) + 0.5) / (n_documents + 1)
    bias = head.output.bias if isinstance(head, LinearHead) else head.bias
    bias.copy_(torch.logit(share.clamp(max=0.95)))
