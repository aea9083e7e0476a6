"""Which tokens the neural part of a model rests on: attention times gradient, grown to spans of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.coding.classifier import Classifier
from pipeline.encoders.encoder import TokenStates
from pipeline.encoders.micro_batches import build_micro_batches
from pipeline.encoders.precision import autocast
from pipeline.notes.spans import LabelSpans, grow_spans, word_of_token

Columns = dict[str, list[Any]]
TOKEN_COLUMNS = ("input_ids", "context_ids", "token_starts", "token_ends", "sections")
"""Of a tokenized document, what evidence needs."""

_WORD_MARKS = "Ġ▁Ċ"  # what byte-level and SentencePiece vocabularies write for blanks; two of them are letters


@dataclass(frozen=True)
class EncoderExplainer:
    """Finds the spans that a classifier looks at; memory is that of one micro-batch.

    Attributes:
        classifier: to explain.
        is_word: of every token id, whether it has a letter or a digit, (n_vocabulary,) bool.
        max_tokens: size of a micro-batch, padding included.
    """

    classifier: Classifier
    is_word: np.ndarray
    max_tokens: int

    @classmethod
    def build(cls, classifier: Classifier, *, max_tokens: int) -> EncoderExplainer:
        """Look up once which tokens are words."""
        pieces = classifier.tokenizer.convert_ids_to_tokens(list(range(len(classifier.tokenizer))))
        is_word = np.array([any(one.isalnum() for one in (piece or "").strip(_WORD_MARKS)) for piece in pieces])
        return cls(classifier, is_word, max_tokens)

    def explain_columns(self, columns: Columns, label_ids: Sequence[Sequence[int]]) -> Iterator[tuple[int, LabelSpans]]:
        """Evidence in token columns, by position, shortest documents first.

        Args:
            columns: ``TOKEN_COLUMNS`` of documents.
            label_ids: labels to explain of each.
        """
        for place, scores in self._token_scores(columns, label_ids):
            ids = np.asarray(columns["input_ids"][place])
            starts, ends = (np.asarray(columns[name][place], dtype=np.int64) for name in ("token_starts", "token_ends"))
            words = word_of_token(starts, ends, self.is_word[ids])
            yield place, [grow_spans(one, words, starts, ends, columns["sections"][place]) for one in scores]

    @torch.inference_mode()
    def _token_scores(self, columns: Columns, label_ids: Sequence[Sequence[int]]) -> Iterator[tuple[int, np.ndarray]]:
        """Position and scores (n_asked, n_tokens) of every document."""
        head = self.classifier.head
        for states, places in self._states(columns["input_ids"], columns["context_ids"]):
            for number, place in enumerate(places):
                n_tokens = len(columns["input_ids"][place])
                scores = head.token_scores(_one(states, number, n_tokens), label_ids[place])[0]
                yield place, scores.double().cpu().numpy()

    def _states(
        self, input_ids: Sequence[Sequence[int]], context_ids: Sequence[Sequence[int]]
    ) -> Iterator[tuple[TokenStates, list[int]]]:
        encoder, head = self.classifier.encoder, self.classifier.head
        encoder.eval()
        head.eval()
        device = next(encoder.parameters()).device
        rows = range(len(input_ids))
        for batch in build_micro_batches(
            rows, input_ids, context_ids, self.classifier.chunks, max_tokens=self.max_tokens
        ):
            with autocast(device, self.classifier.precision):
                states = encoder(batch.to(device))
            yield states, batch.rows.tolist()


def _one(states: TokenStates, number: int, width: int) -> TokenStates:
    """Token states of one document of several, without padding."""
    part = slice(number, number + 1)
    return TokenStates(
        states.states[part, :width],
        states.mask[part, :width],
        states.context_ids[part, :width],
        states.cls_states[part],
    )
