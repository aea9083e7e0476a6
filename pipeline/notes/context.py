r"""What a document says is not so, not sure, long ago or about someone else.

Codes are given for what the patient has. "No pneumonia", "possible pneumonia", "pneumonia in 1998" and
"mother had pneumonia" are mentions that a model should be able to tell from it. The method is that of NegEx
and ConText (Chapman et al. 2001, 2009), in words of our own (:mod:`pipeline.notes.triggers`): a trigger phrase opens
a scope in its sentence, which ends at a stop, at the next clause or with the sentence. Under the headers of
family and past history everything is family or historical.

spaCy's PhraseMatcher and Matcher find the phrases in the words that :mod:`pipeline.notes.sentences` reads.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipeline.notes.sentences import ITEM, Offsets, Reading, n_line_breaks, read_texts
from pipeline.notes.text import KNOWN_SECTIONS, PREAMBLE, Section, find_sections
from pipeline.notes.trigger_patterns import PATTERNS
from pipeline.notes.triggers import KINDS, PHRASES, RULES, Kind, Rule

if TYPE_CHECKING:
    from spacy.matcher import Matcher, PhraseMatcher
    from spacy.tokens import Doc, Span
    from spacy.vocab import Vocab

_SECTION_KINDS: dict[str, Kind] = {
    "family history": "family",
    "past medical history": "historical",
    "past surgical history": "historical",
}
# Behind these words another trigger begins a statement of its own.
_INTRODUCERS = frozenset({",", "and", "with", ";", ".", ":", "-"})
_LOOSE_ENDS = frozenset({"and", "or", "with", "but", "also", "then"})
# "Return if you have any of the following:" makes the items of the list behind it conditions as well.
_CONDITION = re.compile(r"\b(?:if|return|call)\b", re.IGNORECASE)
_HEADER_ALONE = re.compile(r"[^:]*:[ \t]*(?:[\r\n]|$)")


class ContextSpan(NamedTuple):
    """A stretch of text that does not say what the patient has now.

    Attributes:
        kind: why not. The patient may still have had it ("historical") or turn out to have it ("uncertain").
        start: in characters of the document.
        end: exclusive.
    """

    kind: Kind
    start: int
    end: int


class Annotation(NamedTuple):
    """All that is known of a document's form: see the functions that find each part."""

    sections: list[Section]
    sentences: list[Offsets]
    contexts: list[ContextSpan]


def find_context(text: str) -> list[ContextSpan]:
    """The stretches of one text that are negated, family, historical or uncertain; the rest is affirmed.

    Returns:
        In order of their start. Those of one kind do not overlap, those of different kinds may ("no family
        history of diabetes"). The trigger itself is not part of its scope.

    Example:
        >>> text = "Denies fever but has cough."
        >>> [(kind, text[start:end]) for kind, start, end in find_context(text)]
        [('negated', 'fever')]
    """
    return next(contexts_of([text]))


def contexts_of(texts: Iterable[str]) -> Iterator[list[ContextSpan]]:
    """:func:`find_context` for many texts."""
    for annotation in annotate(texts):
        yield annotation.contexts


def annotate(texts: Iterable[str]) -> Iterator[Annotation]:
    """Sections, sentences and contexts of many texts, with one pass of spaCy."""
    texts, again = itertools.tee(texts)
    for text, readings in zip(texts, read_texts(again), strict=True):
        sections = find_sections(text)
        sentences: list[Offsets] = []
        spans = _section_contexts(text, sections)
        for reading in readings:
            sentences += [reading.source(one.start, one.end) for one in reading.doc.sents]
            spans += _sentence_contexts(reading)
        spans += _conditional_items(text, sentences)
        yield Annotation(sections, sentences, _merge(spans))


class ContextIndex:
    """The contexts of one document, to be asked for many mentions: one answer takes a bisection for each kind.

    Args:
        contexts: as :func:`find_context` gives them, so that those of one kind are in order and do not overlap.
    """

    def __init__(self, contexts: Iterable[ContextSpan]) -> None:
        self._offsets: dict[Kind, tuple[list[int], list[int]]] = {kind: ([], []) for kind in KINDS}
        for kind, start, end in contexts:
            starts, ends = self._offsets[kind]
            starts.append(start)
            ends.append(end)

    def kinds_at(self, start: int, end: int) -> list[Kind]:
        """The kinds of context in which a mention stands, in the order of ``KINDS``; none if it is affirmed.

        Args:
            start: of the mention, in characters.
            end: exclusive; the mention counts as inside where its first character is.
        """
        return [kind for kind, offsets in self._offsets.items() if start < end and _is_inside(start, *offsets)]


def _is_inside(place: int, starts: Sequence[int], ends: Sequence[int]) -> bool:
    before = bisect.bisect_right(starts, place)
    return before > 0 and place < ends[before - 1]


def _section_contexts(text: str, sections: Sequence[Section]) -> list[ContextSpan]:
    """Everything under certain headers; headers of our table end it, small ones inside ("Mother:") do not.

    An unknown header ends it where it looks like a main one or stands behind a blank line.
    """
    spans: list[ContextSpan] = []
    kind: Kind | None = None
    for name, start, end in sections:
        is_own = name in KNOWN_SECTIONS or name == PREAMBLE
        if is_own:
            kind = _SECTION_KINDS.get(name)
        elif _is_main_header(text, start, end) or _follows_blank_line(text, start):
            kind = None
        if kind is not None:
            body = text.index(":", start) + 1 if is_own else start
            stripped = text[body:end].strip()
            body += len(text[body:end]) - len(text[body:end].lstrip())
            if stripped:
                spans.append(ContextSpan(kind, body, body + len(stripped)))
    return spans


def _conditional_items(text: str, sentences: Sequence[Offsets]) -> list[ContextSpan]:
    """Items of lists that a condition opens, up to a blank line or what is no item."""
    spans: list[ContextSpan] = []
    opens, last = False, 0
    for start, end in sentences:
        n_breaks = n_line_breaks(text[last:start])
        if opens and (n_breaks == 0 or (n_breaks == 1 and ITEM.match(text, start))):
            spans.append(ContextSpan("uncertain", start, end))
        else:
            opens = text[start:end].rstrip().endswith(":") and _CONDITION.search(text, start, end) is not None
        last = end
    return spans


def _follows_blank_line(text: str, start: int) -> bool:
    before = text[max(0, start - 80) : start]
    return n_line_breaks(before[len(before.rstrip()) :]) > 1


def _is_main_header(text: str, start: int, end: int) -> bool:
    """Whether an unknown header of several words is in capitals or alone on its line."""
    header = text[start : text.index(":", start, end)].strip()
    return " " in header and (header.isupper() or _HEADER_ALONE.match(text, start, end) is not None)


@functools.lru_cache(maxsize=1)  # the matchers belong to the vocabulary of the pipeline in use
def _matchers(vocab: Vocab) -> tuple[PhraseMatcher, Matcher]:
    from spacy.matcher import Matcher, PhraseMatcher

    from pipeline.notes.sentences import language

    phrases, patterns = PhraseMatcher(vocab, attr="LOWER"), Matcher(vocab)
    for name, some in PHRASES.items():
        phrases.add(name, [language().make_doc(phrase) for phrase in some])
    for name, some_patterns in PATTERNS.items():
        patterns.add(name, some_patterns, greedy="LONGEST")
    return phrases, patterns


def _marks(doc: Doc) -> list[Span]:
    """Triggers, stops and decoys in order, none overlapping another: of those that do, the longest."""
    from spacy.util import filter_spans

    phrases, patterns = _matchers(doc.vocab)
    return filter_spans([*phrases(doc, as_spans=True), *patterns(doc, as_spans=True)])


def _sentence_contexts(reading: Reading) -> list[ContextSpan]:
    """The scopes of all triggers of a stretch of text."""
    doc, found = reading.doc, []
    marks = _marks(doc)
    by_sentence = itertools.groupby(marks, key=lambda mark: mark.sent.start)
    for first, group in by_sentence:
        in_sentence = list(group)
        last = in_sentence[0].sent.end
        for i, mark in enumerate(in_sentence):
            rule = RULES[mark.label_]
            if rule.role in ("behind", "around"):
                found.append((rule, mark.end, _scope_end(doc, mark, in_sentence[i + 1 :], last)))
            if rule.role in ("before", "around"):
                found.append((rule, _scope_start(doc, mark, in_sentence[:i], first), mark.start))
    spans = []
    for rule, *scope in found:
        start, end = _trim(doc, *scope)
        if start < end:
            spans += [ContextSpan(kind, *reading.source(start, end)) for kind in rule.kinds]
    return spans


def _scope_end(doc: Doc, trigger: Span, later: Sequence[Span], sentence_end: int) -> int:
    """The word at which the scope behind a trigger ends (exclusive)."""
    kind = RULES[trigger.label_].kinds[0]
    # "never developed", "no reported": directly behind a trigger a verb of the next clause closes nothing.
    ends = (mark for mark in later if mark.start > trigger.end or RULES[mark.label_].kinds == KINDS)
    end = next((mark.start for mark in ends if _ends_scope(doc, kind, mark)), sentence_end)
    depth = 0
    for i in range(trigger.end, end):  # "(no fever) and cough"
        depth += {"(": 1, ")": -1}.get(doc[i].text, 0)
        if depth < 0:
            return i
    return end


def _ends_scope(doc: Doc, kind: Kind, mark: Span) -> bool:
    """Whether a mark closes a scope of a kind that was opened before it."""
    rule = RULES[mark.label_]
    if rule.role == "stop":
        return kind in rule.kinds
    is_other = rule.role == "behind" and kind not in rule.kinds
    return is_other and doc[mark.start - 1].lower_ in _INTRODUCERS


def _scope_start(doc: Doc, trigger: Span, earlier: Sequence[Span], sentence_start: int) -> int:
    """The word at which the scope before a trigger begins: behind the last mark or barrier before it."""
    rule: Rule = RULES[trigger.label_]
    start = max((mark.end for mark in earlier if RULES[mark.label_].role != "decoy"), default=sentence_start)
    for i in range(trigger.start - 1, start - 1, -1):
        if doc[i].lower_ in rule.barriers and i + 1 < trigger.start:
            return i + 1
    return start


def _trim(doc: Doc, start: int, end: int) -> Offsets:
    """Leave out punctuation, joining words and a list number at the ends of a scope."""
    if end - start >= 2 and doc[start].is_digit and doc[start + 1].text == ".":
        start += 2  # a list number
    while start < end and _is_loose(doc, start):
        start += 1
    while start < end and _is_loose(doc, end - 1):
        end -= 1
    return start, end


def _is_loose(doc: Doc, i: int) -> bool:
    token = doc[i]
    return token.lower_ in _LOOSE_ENDS or (token.is_punct and token.text not in ("(", ")"))


def _merge(spans: Iterable[ContextSpan]) -> list[ContextSpan]:
    """Join overlapping spans of one kind; order by place."""
    merged: list[ContextSpan] = []
    for kind, start, end in sorted(spans):
        if merged and merged[-1].kind == kind and start <= merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(end, merged[-1].end))
        else:
            merged.append(ContextSpan(kind, start, end))
    return sorted(merged, key=lambda span: (span.start, span.end, span.kind))
