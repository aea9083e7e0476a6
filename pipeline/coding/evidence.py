"""Evidence: the spans of a document that each of its codes rests on.

Of the neural part of a model it is, for each label, how much every token adds to its logit (``token_scores`` of the
heads), summed over words and grown to spans. Token states already hold something of their neighbourhood, so a span
says where the model looked, not why; :mod:`pipeline.coding.faithfulness` says how far the probability of the neural
part hangs on those spans. Of the lexical part it is the title of the code, where it stands in the text
(:mod:`pipeline.lexical.title_spans`; these spans come first), and the words that TF-IDF holds for it
(:mod:`pipeline.lexical.tfidf_spans`; last, and only those that no other span touches).

Offsets count characters of the text that was tokenized: for ``explain_texts`` that is the text as given, led back
through the cleaning preset; in predictions.parquet it is the text of documents.parquet, which ingest cleaned.

Source:
    Attention times gradient: Serrano and Smith 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from pipeline.coding.encoder_spans import TOKEN_COLUMNS, Columns, EncoderExplainer
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.span_places import sentence_finder
from pipeline.encoders.heads import has_token_scores
from pipeline.encoders.tokens import Tokenize
from pipeline.icd.labels import LabelSpace
from pipeline.lexical.mentions import TitleIndex
from pipeline.lexical.tfidf import LexicalModel
from pipeline.lexical.tfidf_spans import tfidf_spans
from pipeline.lexical.title_spans import title_spans
from pipeline.notes.alignment import align
from pipeline.notes.spans import LabelSpans, Span
from pipeline.notes.text import Preparation


@dataclass(frozen=True)
class Explainer:
    """Finds evidence with the parts of a model that code.

    Attributes:
        label_space: what labels are counted by.
        preparation: how texts become what the model reads.
        neural: of the encoder, None where the model has none.
        titles: what the lexical part looks for; None where it takes no part.
        lexical: TF-IDF; None where it takes no part.
        without_encoder: labels whose probability does not rest on the encoder, though the model has one.
    """

    label_space: LabelSpace
    preparation: Preparation
    neural: EncoderExplainer | None = None
    titles: TitleIndex | None = None
    lexical: LexicalModel | None = None
    without_encoder: frozenset[int] = frozenset()

    @classmethod
    def of_model(cls, model: CodingModel, *, max_tokens: int) -> Explainer:
        """Explain all parts of a model; an encoder of which only the CLS state is read has no evidence beside others.

        Args:
            model: a trained one.
            max_tokens: size of a micro-batch of the neural part, padding included.
        """
        channel = model.lexical if model.kind != "neural" else None
        classifier = model.neural
        if classifier is not None and channel is not None and not has_token_scores(classifier.head):
            classifier = None
        neural = None if classifier is None else EncoderExplainer.build(classifier, max_tokens=max_tokens)
        return cls(
            model.label_space,
            model.preparation,
            neural,
            None if channel is None else channel.titles,
            None if channel is None else channel.model,
            model.labels_without_encoder(),
        )

    def explain_texts(self, texts: Sequence[str], label_ids: Sequence[Sequence[int]]) -> list[LabelSpans]:
        """Evidence in texts as given, for the labels asked of each.

        Args:
            texts: before cleaning.
            label_ids: labels to explain of each text; a text without any costs nothing.

        Returns:
            For each text and each of its labels the spans with their sentences, in characters of the text as given.
        """
        asked = [row for row, labels in enumerate(label_ids) if len(labels)]
        how = self.preparation
        alignments = [
            align(texts[row], how.preset, placeholder=how.placeholder, max_words=how.max_words) for row in asked
        ]
        prepared = [one.text for one in alignments]
        columns: Columns = {}
        if self.neural is not None:
            settings = self.neural.classifier.settings
            columns = Tokenize(self.neural.classifier.tokenizer, settings.max_tokens, settings.has_context)(prepared)
        found: list[LabelSpans] = [[] for _ in texts]
        spans = self._explain(columns, [label_ids[row] for row in asked], prepared)
        for row, alignment, of_text in zip(asked, alignments, spans, strict=True):
            moved = [[_moved(span, *alignment.source(*span[:2])) for span in one] for one in of_text]
            found[row] = _in_sentences(texts[row], moved)
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
            texts: that were tokenized, of each row; needed where the lexical part takes part.
        """
        asked = [place for place, labels in enumerate(label_ids) if len(labels)]
        found: list[LabelSpans] = [[] for _ in rows]
        if asked:
            columns: Columns = {}
            if self.neural is not None:
                columns = tokens.select_columns(list(TOKEN_COLUMNS))[[rows[place] for place in asked]]
            of_asked = None if texts is None else [texts[place] for place in asked]
            spans = self._explain(columns, [label_ids[place] for place in asked], of_asked)
            for place, of_text in zip(asked, spans, strict=True):
                found[place] = of_text
        return found

    def _explain(
        self, columns: Columns, label_ids: Sequence[Sequence[int]], texts: Sequence[str] | None
    ) -> list[LabelSpans]:
        """Spans of all parts: titles, encoder, then what only TF-IDF found."""
        found: list[LabelSpans] = [[[] for _ in labels] for labels in label_ids]
        if self.titles is not None and texts is not None:
            found = list(title_spans(self.titles, texts, label_ids))
        if self.neural is not None:
            places = [[at for at, one in enumerate(ids) if one not in self.without_encoder] for ids in label_ids]
            asked = [[ids[at] for at in kept] for ids, kept in zip(label_ids, places, strict=True)]
            for row, spans in self.neural.explain_columns(columns, asked):
                for at, more in zip(places[row], spans, strict=True):
                    found[row][at] = found[row][at] + more
        if self.lexical is not None and texts is not None:
            for place, spans in enumerate(tfidf_spans(self.lexical, texts, label_ids)):
                found[place] = [one + _not_in(one, more) for one, more in zip(found[place], spans, strict=True)]
        return found


def _moved(span: Span, start: int, end: int) -> Span:
    return span._replace(start=start, end=end)


def _in_sentences(text: str, spans: LabelSpans) -> LabelSpans:
    ends = [span.end for one in spans for span in one]
    if not ends:
        return spans
    sentence_of = sentence_finder(text, max(ends))
    return [[span._replace(sentence=sentence_of(span.start, span.end)) for span in one] for one in spans]


def _not_in(others: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """Those of ``spans`` that no other span touches."""
    return [one for one in spans if not any(other.start < one.end and one.start < other.end for other in others)]
