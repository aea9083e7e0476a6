"""Evidence: the spans of a document that each of its codes rests on, and how far to believe them.

Of the neural part of a classifier it is, for each label, how much every token adds to its logit (``token_scores`` of
the heads), summed over words and grown to spans. Token states already hold something of their neighbourhood, so a span
says where the model looked, not why; :func:`measure_faithfulness` says how far the probability of the neural part hangs
on those spans. Of the lexical part it is the title of the code, where it stands in the text
(:mod:`pipeline.title_spans`); these spans come first.

Offsets count characters of the text that was tokenized: for ``explain_texts`` that is the text as given, led back
through the cleaning preset; in predictions.parquet it is the text of documents.parquet, which ingest cleaned.

Source:
    Attention times gradient: Serrano and Smith 2019. Comprehensiveness and sufficiency: DeYoung et al. 2020 (ERASER),
    here for one label of many and beside random spans of the same lengths.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch

from pipeline.alignment import align
from pipeline.encoder import TokenStates
from pipeline.ensemble import CodingModel
from pipeline.errors import UserError
from pipeline.mentions import TitleIndex
from pipeline.micro_batches import build_micro_batches
from pipeline.precision import autocast
from pipeline.serving import Classifier
from pipeline.spans import Span, grow_spans, random_runs, tokens_within, word_of_token
from pipeline.title_spans import title_spans
from pipeline.tokens import AFFIRMED, Tokenize

Columns = dict[str, list[Any]]
LabelSpans = list[list[Span]]
"""For each asked label of a document its spans: those of its title, then those of the encoder, highest score first."""

_WORD_MARKS = "Ġ▁Ċ"  # what byte-level and SentencePiece vocabularies write for blanks; two of them are letters
_TOKEN_COLUMNS = ("input_ids", "context_ids", "token_starts", "token_ends", "sections")


@dataclass(frozen=True)
class Explainer:
    """Finds evidence with a classifier; memory is that of one micro-batch.

    Attributes:
        classifier: whose neural part is explained.
        is_word: of every token id, whether it has a letter or a digit, (n_vocabulary,) bool.
        max_tokens: size of a micro-batch, padding included.
        mixed_precision: of the encoder: 'no', 'bf16' or 'fp16'.
        titles: what the lexical part looks for; None where it takes no part.
    """

    classifier: Classifier
    is_word: np.ndarray
    max_tokens: int
    mixed_precision: str = "no"
    titles: TitleIndex | None = None

    @classmethod
    def build(
        cls,
        classifier: Classifier,
        *,
        max_tokens: int,
        mixed_precision: str = "no",
        titles: TitleIndex | None = None,
    ) -> Explainer:
        """Look up once which tokens are words."""
        pieces = classifier.tokenizer.convert_ids_to_tokens(list(range(len(classifier.tokenizer))))
        is_word = np.array([any(one.isalnum() for one in (piece or "").strip(_WORD_MARKS)) for piece in pieces])
        return cls(classifier, is_word, max_tokens, mixed_precision, titles)

    @classmethod
    def of_model(cls, model: CodingModel, *, max_tokens: int, mixed_precision: str = "no") -> Explainer:
        """Explain the neural part of a model, and the titles where the lexical part codes, too.

        Raises:
            UserError: if it has no neural part.
        """
        if model.neural is None:
            raise UserError(f"evidence needs an encoder, but this model is of kind {model.kind!r}.")
        titles = model.lexical.titles if model.kind == "ensemble" and model.lexical is not None else None
        return cls.build(model.neural, max_tokens=max_tokens, mixed_precision=mixed_precision, titles=titles)

    def explain_texts(self, texts: Sequence[str], label_ids: Sequence[Sequence[int]]) -> list[LabelSpans]:
        """Evidence in texts as given, for the labels asked of each.

        Args:
            texts: before cleaning.
            label_ids: labels to explain of each text; a text without any costs nothing.

        Returns:
            For each text and each of its labels the spans, in characters of the text as given.
        """
        asked = [row for row, labels in enumerate(label_ids) if len(labels)]
        settings = self.classifier.settings
        alignments = [
            align(texts[row], settings.cleaning, placeholder=settings.placeholder, max_words=settings.max_words)
            for row in asked
        ]
        tokenize = Tokenize(self.classifier.tokenizer, settings.max_tokens, settings.has_context)
        columns = tokenize([one.text for one in alignments])
        found: list[LabelSpans] = [[] for _ in texts]
        prepared = [one.text for one in alignments]
        for place, spans in self._explain(columns, [label_ids[row] for row in asked], prepared):
            alignment = alignments[place]
            found[asked[place]] = [[_moved(span, *alignment.source(*span[:2])) for span in one] for one in spans]
        return found

    def explain_rows(
        self,
        tokens: datasets.Dataset,
        rows: Sequence[int],
        label_ids: Sequence[Sequence[int]],
        texts: Sequence[str] | None = None,
    ) -> list[LabelSpans]:
        """Evidence in rows of a tokenized data set, in characters of the text that was tokenized.

        Args:
            tokens: the data set.
            rows: which of it.
            label_ids: labels to explain of each row.
            texts: that were tokenized, of each row; needed where titles are looked for.
        """
        asked = [place for place, labels in enumerate(label_ids) if len(labels)]
        found: list[LabelSpans] = [[] for _ in rows]
        if asked:
            columns = tokens.select_columns(list(_TOKEN_COLUMNS))[[rows[place] for place in asked]]
            of_asked = None if texts is None else [texts[place] for place in asked]
            for place, spans in self._explain(columns, [label_ids[place] for place in asked], of_asked):
                found[asked[place]] = spans
        return found

    def _explain(
        self, columns: Columns, label_ids: Sequence[Sequence[int]], texts: Sequence[str] | None
    ) -> Iterator[tuple[int, LabelSpans]]:
        """Spans of both parts, by position."""
        of_titles: list[LabelSpans] | None = None
        if self.titles is not None and texts is not None:
            of_titles = list(title_spans(self.titles, texts, label_ids))
        for place, spans in self.explain_columns(columns, label_ids):
            yield place, spans if of_titles is None else list(map(operator.add, of_titles[place], spans))

    def explain_columns(self, columns: Columns, label_ids: Sequence[Sequence[int]]) -> Iterator[tuple[int, LabelSpans]]:
        """Evidence in token columns, by position, shortest documents first."""
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
            with autocast(device, self.mixed_precision):
                states = encoder(batch.to(device))
            yield states, batch.rows.tolist()

    @torch.inference_mode()
    def probabilities(
        self, input_ids: Sequence[Sequence[int]], context_ids: Sequence[Sequence[int]], label_ids: Sequence[int]
    ) -> np.ndarray:
        """Probability of one label for each token sequence, (n_sequences,) float64."""
        result = np.zeros(len(input_ids))
        for states, places in self._states(input_ids, context_ids):
            logits = self.classifier.head(states).float()
            for number, place in enumerate(places):
                result[place] = float(logits[number, label_ids[place]].sigmoid())
        return result


def _moved(span: Span, start: int, end: int) -> Span:
    return span._replace(start=start, end=end)


def _one(states: TokenStates, number: int, width: int) -> TokenStates:
    """Token states of one document of several, without padding."""
    part = slice(number, number + 1)
    return TokenStates(
        states.states[part, :width],
        states.mask[part, :width],
        states.context_ids[part, :width],
        states.cls_states[part],
    )


@dataclass(frozen=True)
class Explained:
    """One code of a document with the tokens it rests on.

    Attributes:
        input_ids, context_ids: tokens of the whole document, (n_tokens,).
        label_id: of the code.
        inside: whether a token belongs to the evidence, (n_tokens,) bool.
    """

    input_ids: np.ndarray
    context_ids: np.ndarray
    label_id: int
    inside: np.ndarray


def explained_of(columns: Columns, place: int, label_id: int, spans: Sequence[Span]) -> Explained:
    """What :func:`measure_faithfulness` needs of one document and one of its codes."""
    ids, context, starts, ends = (np.asarray(columns[name][place], dtype=np.int64) for name in _TOKEN_COLUMNS[:4])
    return Explained(ids, context, label_id, tokens_within(spans, starts, ends))


def measure_faithfulness(explainer: Explainer, explained: Iterable[Explained], *, seed: int = 0) -> dict[str, float]:
    """How far probabilities hang on the evidence, against random spans of the same lengths.

    Comprehensiveness is the drop of the code's probability when the evidence is removed from the document (high is
    good), sufficiency the drop when only the evidence is kept (low is good). Tokens are taken out, not masked, and
    the rest is encoded anew.

    Args:
        explainer: with the model to ask.
        explained: documents and codes; 4 + 1 sequences are encoded for each.
        seed: of the random spans.

    Returns:
        Means over codes: evidence_comprehensiveness, evidence_sufficiency, the same two with ``_random``, the share of
        tokens that is evidence (evidence_share), and n_evidence_codes; only the count, 0, where nothing was given.
    """
    generator = np.random.default_rng(seed)
    unknown = int(explainer.classifier.tokenizer.unk_token_id)
    drops: list[np.ndarray] = []
    shares: list[float] = []
    for one in explained:
        elsewhere = random_runs(one.inside, generator)
        kept = (np.ones_like(one.inside), ~one.inside, one.inside, ~elsewhere, elsewhere)
        ids = [one.input_ids[mask] if mask.any() else np.array([unknown]) for mask in kept]
        context = [one.context_ids[mask] if mask.any() else np.array([AFFIRMED]) for mask in kept]
        found = explainer.probabilities(ids, context, [one.label_id] * len(kept))  # type: ignore[arg-type]
        drops.append(found[0] - found[1:])
        shares.append(float(one.inside.mean()))
    if not drops:
        return {"n_evidence_codes": 0.0}
    means = np.mean(drops, axis=0)
    names = ("comprehensiveness", "sufficiency", "comprehensiveness_random", "sufficiency_random")
    result = {f"evidence_{name}": float(value) for name, value in zip(names, means, strict=True)}
    return result | {"evidence_share": float(np.mean(shares)), "n_evidence_codes": float(len(drops))}


class FaithfulnessSample:
    """Up to 200 documents, evenly over the rows, with one predicted code each, drawn at random with a fixed seed."""

    def __init__(self, tokens: datasets.Dataset, rows: Sequence[int], *, n_documents: int = 200) -> None:
        self._tokens, self._rows = tokens, rows
        self._step = max(-(-len(rows) // n_documents), 1)
        self._generator = np.random.default_rng(0)
        self._drawn: list[tuple[int, int, list[Span]]] = []

    def add(self, first: int, label_ids: Sequence[Sequence[int]], spans: Sequence[LabelSpans]) -> None:
        """Draw from a block of documents with their predicted labels and evidence; ``first`` is its place in rows."""
        for place in range(-first % self._step, len(label_ids), self._step):
            of_encoder = ([one for one in found if one.source == "encoder"] for found in spans[place])
            explained = [one for one in zip(label_ids[place], of_encoder, strict=True) if one[1]]
            if explained:
                label_id, found = explained[int(self._generator.integers(len(explained)))]
                self._drawn.append((self._rows[first + place], label_id, found))

    def measure(self, explainer: Explainer) -> dict[str, float]:
        """See :func:`measure_faithfulness`."""
        columns = self._tokens.select_columns(list(_TOKEN_COLUMNS[:4]))
        return measure_faithfulness(
            explainer, (explained_of(columns[row : row + 1], 0, label, spans) for row, label, spans in self._drawn)
        )
