r"""Sentences of clinical text, by a blank spaCy pipeline with rules of its own.

Notes wrap lines at some column, list things without full stops, and put full stops behind abbreviations. So a
sentence ends at a full stop that is none of an abbreviation, a decimal or a list number, and at a line break
only where the next line starts something new: a blank line between, a list item, a header, or a capital after
a line too short to have been wrapped.

spaCy's English tokenizer makes the words and a pipeline component marks the sentences. The tokenizer sees the
text with every run of blanks made one blank, so that words of a phrase stay neighbours across a wrapped line;
:class:`Layout` leads back to the offsets of the text as given.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.notes.text import section_name

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

Offsets = tuple[int, int]
"""Start and end of a stretch of text, in characters."""

_MAX_PIECE_CHARS = 50_000  # far below spaCy's limit, and small enough that memory stays flat on any text
_MAX_STRINGS = 300_000  # spaCy keeps every word it has seen: about 100 MB, then the pipeline is built anew
_WRAP_CHARS = 50  # a line shorter than this was not wrapped: its break means something

_RUN = re.compile(r"\s{2,}|[^\S ]")  # blanks that are not one single blank
ITEM = re.compile(r"[-*•·+>#][-*#>]*[ \t]*\w|\(?\d{1,2}[.)]\s|(?:___|\[\*\*[\d-]+\*\*\]) ?\d{1,2}:\d{2}")
"""Beginning of an item of a list."""
_HEADER = re.compile(r"((?:[A-Za-z]|___)[A-Za-z_ \t/&,'()-]{0,58}):")
_GOES_ON = re.compile(
    r"(?:,|\b(?:a|an|and|as|at|by|for|from|in|no|of|on|or|the|to|was|were|with|without|dr\.|mr\.|ms\.|mrs\.))$",
    re.IGNORECASE,
)

_STOPS = frozenset({".", "!", "?", "..", "...", "?!", "!?", "??", "!!"})
_CLOSERS = frozenset(")]\"'”’")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Before a name or a number, never at the end of a sentence.
_NEVER_LAST = _words("approx dr fig mr mrs ms mt no nos pgs prof ref rev st temp vs v")
# May end a sentence, which shows by a capital in the next word.
_ABBREVIATIONS = _words("""
    a.c abd abx adm appt apr aug b.i.d bid bilat bp c.c cap caps ck cont cr cx d.c dec dept diff disch dx
    e.g e.t.c ed est etc ext f.u f/u feb freq ft g.i g.u gen gm h.o h.s hct hosp hr hrs ht hx i.e i.m i.v
    inc incl inj jan jul jun kg l lab labs lat lb lbs lg m.d mar med meds mg min mins ml mo mos n.p.o neg
    neuro nov o.d o.s o.u oct oz p.c p.m p.o p.r p.r.n pos prev prn pt pts q q.a.m q.d q.h q.h.s q.i.d q.o.d
    q.p.m q.w r.n rehab resp rt rx s.c s.l s.p s.q sat sec sep sept sig soln sp spec stat surg sx t.i.d tab
    tabs tbsp tsp tx u.s vol wk wks wt y.o yr yrs
""")
# Words that begin a sentence even behind a single letter ("hepatitis C. She ...", against "E. coli").
_OPENERS = _words("""
    A After All An Any At Both But Due During Follow For Given Has He Her His However If In It No Not Of On
    Our Patient Per Please Pt She Since The Their There These They This Though Unable Was We While Will With
    You Your
""")


class Layout(NamedTuple):
    """A text as the tokenizer sees it, and the way back.

    Attributes:
        text: with every run of blanks made one, none at both ends.
        starts: offsets in ``text`` behind which a shift applies, ascending; the first is 0.
        shifts: what to add to an offset at or behind the start of the same position.
        new_lines: offsets in ``text`` of words that a line break makes the first of a sentence.
    """

    text: str
    starts: list[int]
    shifts: list[int]
    new_lines: frozenset[int]

    def source_offset(self, offset: int) -> int:
        """The offset in the text as given of the character at an offset of ``text``."""
        return offset + self.shifts[bisect.bisect_right(self.starts, offset) - 1]


class Reading(NamedTuple):
    """A stretch of a text, read by spaCy.

    Attributes:
        offset: where the stretch begins in the text.
        doc: its words and sentences; no word is blank.
    """

    offset: int
    doc: Doc

    def source(self, start: int, end: int) -> Offsets:
        """Offsets in the whole text of words ``start`` to ``end`` (exclusive; at least one word)."""
        layout: Layout = self.doc.user_data["layout"]
        last = self.doc[end - 1]
        first_char = layout.source_offset(self.doc[start].idx)
        last_char = layout.source_offset(last.idx + len(last) - 1)
        return self.offset + first_char, self.offset + last_char + 1


def find_sentences(text: str) -> list[Offsets]:
    """The sentences of one text; see :func:`sentences_of` for many.

    Returns:
        Start and end of every sentence, in characters, in order, without blanks at their ends; between two of
        them there are only blanks.

    Example:
        >>> find_sentences("Seen by Dr. Who. No fever.")
        [(0, 16), (17, 26)]
    """
    return next(sentences_of([text]))


def sentences_of(texts: Iterable[str]) -> Iterator[list[Offsets]]:
    """The sentences of many texts, one list for each; any length of text, memory stays flat."""
    for readings in read_texts(texts):
        yield [reading.source(one.start, one.end) for reading in readings for one in reading.doc.sents]


def read_texts(texts: Iterable[str]) -> Iterator[Iterator[Reading]]:
    """Read texts with spaCy: words and sentences.

    Long texts are read in stretches that end at a line break where there is one, and so are their sentences.

    Returns:
        For each text, in order, an iterator over its stretches (one at least). Use it before asking for the
        next text, and keep no stretch: they hold much memory.
    """
    for some in _batches(texts):
        pieces = ((piece, (n, offset)) for n, text in enumerate(some) for offset, piece in _pieces(text))
        docs = _language_with_room().pipe(pieces, as_tuples=True)
        for _, of_one_text in itertools.groupby(docs, key=lambda item: item[1][0]):
            yield (Reading(offset, doc) for doc, (_, offset) in of_one_text)


@functools.cache
def language() -> Language:
    """The blank English pipeline with our sentence rules, built once in a process."""
    import spacy
    from spacy.language import Language as SpacyLanguage

    SpacyLanguage.component("clinical_sentences", func=_mark_sentences)
    nlp = spacy.blank("en")
    nlp.tokenizer = _LayoutTokenizer(nlp.tokenizer)
    nlp.add_pipe("clinical_sentences")
    return nlp


def _language_with_room() -> Language:
    if len(language().vocab.strings) > _MAX_STRINGS:
        language.cache_clear()
    return language()


class _LayoutTokenizer:
    """spaCy's tokenizer on the text with runs of blanks made one; leaves the layout in ``doc.user_data``."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> Doc:
        layout = read_layout(text)
        doc: Doc = self.tokenizer(layout.text)
        doc.user_data["layout"] = layout
        return doc


def read_layout(text: str) -> Layout:
    r"""Make every run of blanks one blank and find the line breaks that end a sentence.

    Example:
        >>> layout = read_layout("  No fever\nor  cough.\n- CAD")
        >>> layout.text, sorted(layout.new_lines), layout.source_offset(12)
        ('No fever or cough. - CAD', [19], 15)
    """
    begin = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    parts, starts, shifts, new_lines = [], [0], [begin], []
    line_start = here = begin
    offset = 0  # in the text made here
    for run in _RUN.finditer(text, begin, max(begin, end)):
        part = text[here : run.start()]
        parts.append(part)
        offset += len(part) + 1
        here = run.end()
        if here - offset != shifts[-1]:
            starts.append(offset)
            shifts.append(here - offset)
        if n_breaks := n_line_breaks(run[0]):
            if n_breaks > 1 or _is_new(text, line_start, run.start(), here):
                new_lines.append(offset)
            line_start = here
    parts.append(text[here:end])
    return Layout(" ".join(parts), starts, shifts, frozenset(new_lines))


def n_line_breaks(blanks: str) -> int:
    """Line breaks of any kind in a run of blanks; of two and more one is a blank line."""
    return blanks.count("\n") or blanks.count("\r")


def _is_new(text: str, line_start: int, line_end: int, next_start: int) -> bool:
    """Whether a single line break ends a sentence, by the line before and the line after it."""
    if ITEM.match(text, next_start) or text[line_end - 1] == ":":
        return True
    header = _HEADER.match(text, next_start)
    if header and section_name(header[1]) is not None:
        return True
    was_wrapped = line_end - line_start >= _WRAP_CHARS
    if was_wrapped or not text[next_start].isupper():
        return False
    return not _GOES_ON.search(text, line_start, line_end)


def _mark_sentences(doc: Doc) -> Doc:
    """Pipeline component: say of every word whether a sentence starts there."""
    new_lines = doc.user_data["layout"].new_lines
    is_first = [token.idx in new_lines for token in doc]
    if is_first:
        is_first[0] = True
    start = 0
    for i, token in enumerate(doc):
        if is_first[i]:
            start = i
        if i + 1 < len(doc) and (token.text in _STOPS or token.text[-1] == ".") and _is_last(doc, i, start):
            is_first[_behind_closers(doc, i)] = True
    # Not by token.is_sent_start: its setter looks at the whole document every time.
    values: Any = np.where(is_first, 1, -1).astype(np.uint64).reshape(-1, 1)
    return doc.from_array(["SENT_START"], values)


def _is_last(doc: Doc, i: int, start: int) -> bool:
    """Whether the stop at word ``i`` ends the sentence that began at word ``start``."""
    token, before, after = doc[i], doc[max(i - 1, start)], doc[i + 1]
    if token.text == "?":  # "pain? No." against "?pneumonia" and "? pneumonia"
        return i > start and not before.whitespace_ and bool(token.whitespace_)
    if token.text not in _STOPS:  # the tokenizer left the stop at an abbreviation: "Dr.", "e.g.", "p.m.", "C."
        return token.lower_.rstrip(".") not in _NEVER_LAST and after.text in _OPENERS
    if token.text != "." or i == start:
        return i > start
    is_alone = i - 1 == start or (i - 2 >= start and doc[i - 2].text == ":")
    return _word_is_last(before, after, is_alone=is_alone)


def _word_is_last(word: Token, after: Token, *, is_alone: bool) -> bool:
    """Whether a full stop between two words ends a sentence."""
    name = word.lower_
    if name in _NEVER_LAST or (is_alone and word.is_digit and len(word) <= 2):  # "2. Hypothyroidism"
        return name == "no" and after.text in _OPENERS
    if len(word) == 1 and word.is_alpha:
        return after.text in _OPENERS
    return name not in _ABBREVIATIONS or after.text[0].isupper()


def _behind_closers(doc: Doc, i: int) -> int:
    """The word behind a stop and what closes with it (quotes, brackets); 0 where there is none."""
    j = i + 1
    while j < len(doc) and doc[j].text in _CLOSERS and not doc[j - 1].whitespace_:
        j += 1
    return j if j < len(doc) else 0


def _batches(texts: Iterable[str], size: int = 64) -> Iterator[list[str]]:
    remaining = iter(texts)
    while some := list(itertools.islice(remaining, size)):
        yield some


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Cut a text into stretches that spaCy reads at once, at a line break or a blank where there is one."""
    start = 0
    while len(text) - start > _MAX_PIECE_CHARS:
        limit = start + _MAX_PIECE_CHARS
        end = max(text.rfind("\n", start, limit), text.rfind("\r", start, limit)) + 1
        end = end or text.rfind(" ", start, limit) + 1 or limit
        yield start, text[start:end]
        start = end
    yield start, text[start:]
