"""Where the title of a code stands in a note: evidence for what the lexical channel says of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pipeline.lexical.mentions import Mention, TitleIndex
from pipeline.notes.context import annotate
from pipeline.notes.spans import MAX_GAP_CHARS, Span, section_name

MIN_COVERAGE = 0.5
"""Of a title, by the words of one sentence; below it a mention says little."""

_Sentence = Sequence[Mention]


def title_spans(
    index: TitleIndex, texts: Sequence[str], label_ids: Sequence[Sequence[int]]
) -> Iterator[list[list[Span]]]:
    """For each text and each label asked of it, the words of its title in the sentence that says most of them.

    Only what a sentence says of the patient counts: nothing denied, uncertain, of the family or of the past; of titles
    of a history only what is said of the past, or of the family. Words with a small gap between them become one span.

    Args:
        index: of the titles.
        texts: as the lexical channel reads them.
        label_ids: labels asked of each text.

    Returns:
        Spans of source "title" in order of the text, all with the coverage of the title as score; none where no
        sentence covers half of it.
    """
    for text, form, labels in zip(texts, annotate(texts), label_ids, strict=True):
        sentences: dict[int, list[Mention]] = defaultdict(list)
        for mention in index.said(text, form):
            sentences[mention.sentence].append(mention)
        names = [(section.start, section.name) for section in form.sections]
        found = []
        for label in labels:
            coverage, mentions = _best(index, label, list(sentences.values()))
            kept = mentions if coverage >= MIN_COVERAGE else []
            found.append(
                [Span(start, end, coverage, section_name(names, start), "title") for start, end in _joined(kept)]
            )
        yield found


def _best(index: TitleIndex, label: int, sentences: Sequence[_Sentence]) -> tuple[float, list[Mention]]:
    """Coverage by the sentence that says most of a title, and the mentions in it; of equal ones the first."""
    best: tuple[float, list[Mention]] = (0.0, [])
    for weights, state in index.bags_of(label):
        for sentence in sentences:
            mentions = [one for one in sentence if one.word in weights and one.state == state]
            coverage = min(sum(weights[word] for word in {one.word for one in mentions}), 1.0)
            if coverage > best[0]:
                best = coverage, mentions
    return best


def _joined(mentions: Sequence[Mention]) -> list[tuple[int, int]]:
    """Offsets of mentions without overlap, neighbours as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted({(one.start, one.end) for one in mentions}):
        if joined and start - joined[-1][1] <= MAX_GAP_CHARS:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
