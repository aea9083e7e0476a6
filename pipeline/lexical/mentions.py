"""What the titles of codes say, found in a note: a channel for codes that have few training documents or none.

A title becomes bags of content words ("Pneumonia, organism unspecified": {pneumonia}), with synonyms and
abbreviations made one (lexicon/synonyms.tsv). A note becomes, for each sentence, the words that it says of the
patient now, of the past, as uncertain, or denies or says of the family. How much of a bag stands in a sentence, and
how it is meant, are the features of a (document, label) pair; no training document of the label is needed for them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import UserError
from pipeline.notes.context import Annotation, ContextIndex, annotate

FEATURES = ("affirmed", "historical", "uncertain", "denied", "document", "complete")
"""Of a (document, label) pair, each in [0, 1]: the best coverage of its title by one sentence's words that are
affirmed, historical, uncertain, and negated or of the family; by the affirmed words of the whole document; and
whether one sentence affirms the whole title."""
_STATES = ("affirmed", "historical", "uncertain", "denied")
_AFFIRMED = 0
HISTORICAL = 1
"""State of a mention of the past; see :class:`Mention`."""
_STATE_OF_KIND = {"historical": HISTORICAL, "uncertain": 2, "negated": 3, "family": 3}
_WHOLE = 0.999  # a coverage summed in float32

_WORD = re.compile(r"[a-z0-9]+")
SYNONYMS_PATH = Path(__file__).parent / "lexicon" / "synonyms.tsv"
_HISTORY = re.compile(r"^(?:personal|past) history of ")
# What a title says of the classification, not of the patient. Order matters: longer phrases first.
_QUALIFIERS = re.compile(
    r"\([^)]*\)|without (?:mention of )?[^,;]*|not elsewhere classified|not otherwise specified|"
    r"(?:organism|site|type|cause|region|degree|stage|part|location|episode of care)s? (?:not specified|unspecified)|"
    r"unspecified (?:organism|site|type|cause|region|degree|stage|part|location|episode of care)|"
    r"in diseases classified elsewhere|other specified|other and unspecified|or unspecified|unspecified|"
    r"not specified|\bother\b|\bnec\b|\bnos\b|\balone\b"
)
_GRAMMAR = "a an and any as at by due during for from had has in into is its of on or per than the their to with"
_EMPTY_WORDS = "encounter following initial replaced sequela status subsequent system"  # no note would say them so
_STOP_WORDS = frozenset(f"{_GRAMMAR} {_EMPTY_WORDS}".split())


def stem(word: str) -> str:
    """A word without the endings of plural, -ing, -ed and a final e; short words stay.

    Example:
        >>> [stem(word) for word in ("kidneys", "wheezing", "wheeze", "biopsies", "pus")]
        ['kidney', 'wheez', 'wheez', 'biopsy', 'pus']
    """
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


@dataclass(frozen=True)
class Synonyms:
    """Phrases that mean the same.

    Attributes:
        forms: stems of a phrase -> stems of the form that counts.
        longest: first stem of a phrase -> the most stems of a phrase that begins so.
        lines: as the file has them, to be saved with a model.
    """

    forms: Mapping[tuple[str, ...], tuple[str, ...]]
    longest: Mapping[str, int]
    lines: tuple[str, ...]

    def found_in(self, stems: Sequence[str]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """Phrases in a row of stems, from left to right, the longest first: start, end, the stems that count."""
        start = 0
        while start < len(stems):
            for length in range(min(self.longest.get(stems[start], 0), len(stems) - start), 0, -1):
                kept = self.forms.get(tuple(stems[start : start + length]))
                if kept is not None:
                    yield start, start + length, kept
                    start += length - 1
                    break
            start += 1

    def replaced_in(self, stems: Sequence[str]) -> Iterator[str]:
        """The row of stems with every phrase in the form that counts."""
        at = 0
        for start, end, kept in [*self.found_in(stems), (len(stems), len(stems), ())]:
            yield from stems[at:start]
            yield from kept
            at = end


def load_synonyms(path: Path = SYNONYMS_PATH) -> Synonyms:
    """Read a list of synonyms: a line is the form that counts, a tab, and other forms with "|" between.

    Raises:
        UserError: if the file is missing or a line has another form.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); copy the whole folder.") from None
    lines = tuple(line for line in text.splitlines() if line and not line.startswith("#"))
    forms = {}
    for number, line in enumerate(lines, start=1):
        kept, tab, others = line.partition("\t")
        if not tab or not _stems(kept):
            raise UserError(f"{path}, entry {number}: expected a phrase, a tab and other phrases with '|' between.")
        forms.update({_stems(other): _stems(kept) for other in others.split("|") if _stems(other)})
    longest: Counter[str] = Counter()
    for phrase in forms:
        longest[phrase[0]] = max(longest[phrase[0]], len(phrase))
    raw = Synonyms(forms, longest, lines)
    # "ckd" stands for "chronic kidney disease", whose last word stands for "disorder" itself.
    return Synonyms({phrase: tuple(raw.replaced_in(kept)) for phrase, kept in forms.items()}, longest, lines)


def save_synonyms(synonyms: Synonyms, path: Path) -> None:
    """Write a list for :func:`load_synonyms`."""
    path.write_text("".join(f"{line}\n" for line in synonyms.lines), encoding="utf-8")


def _stems(text: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in _WORD.findall(text.lower()))


def title_bags(title: str, synonyms: Synonyms) -> list[frozenset[str]]:
    """The content words of a title, in one bag or, where it joins two things by "and", one for each.

    Example:
        >>> [sorted(bag) for bag in title_bags("Pneumonia, organism unspecified", load_synonyms())]
        [['pneumonia']]
        >>> [sorted(bag) for bag in title_bags("Other specified disorders of kidney and ureter", load_synonyms())]
        [['disorder', 'ureter'], ['disorder', 'kidney']]
    """
    text = _QUALIFIERS.sub(" ", _HISTORY.sub("", title.lower()))
    words = _WORD.findall(text)
    variants = [words]
    if words.count("and") == 1:
        at = words.index("and")
        variants = [words[: at - 1] + words[at + 1 :], words[:at] + words[at + 2 :]] if at else [words[1:]]
    bags = [frozenset(_content(variant, synonyms)) for variant in variants]
    return list(dict.fromkeys(bag for bag in bags if bag))


def _content(words: Sequence[str], synonyms: Synonyms) -> list[str]:
    return list(synonyms.replaced_in([stem(word) for word in words if _is_content(word)]))


def _is_content(word: str) -> bool:
    return word not in _STOP_WORDS


def lowered(text: str) -> str:
    """Lower case with every offset as it was: of all characters only U+0130, a capital I with a dot, becomes two.

    Example:
        >>> lowered("DİABETES")
        'diabetes'
    """
    return text.replace("\u0130", "i").lower()


class Mention(NamedTuple):
    """A word of some title, said in a sentence.

    Attributes:
        sentence: number of the sentence.
        state: how it is meant: 0 of the patient now, 1 of the past, 2 uncertain, 3 denied or of the family.
        word: its column of :attr:`TitleIndex.weights`.
        start, end: offsets of the phrase that says it.
    """

    sentence: int
    state: int
    word: int
    start: int
    end: int

    @property
    def is_affirmed(self) -> bool:
        """Whether it is said of the patient now."""
        return self.state == _AFFIRMED


@dataclass(frozen=True)
class TitleIndex:
    """The words of all titles, ready to be looked for.

    Attributes:
        words: stem -> column of ``weights``.
        weights: (n_bags, n_words) CSR, a row sums to 1; rare words of titles weigh more.
        label_of_bag: (n_bags,) label ids, ascending.
        is_history: (n_bags,) whether the title is of a history, for which a mention of the past is what affirms it.
        n_labels: width of the label space; a label without title has no bag.
        synonyms: what made phrases one.
    """

    words: Mapping[str, int]
    weights: sparse.csr_array
    label_of_bag: NDArray[np.int64]
    is_history: NDArray[np.bool_]
    n_labels: int
    synonyms: Synonyms

    @classmethod
    def build(cls, titles: Sequence[str | None], synonyms: Synonyms) -> TitleIndex:
        """Read the titles of a label space, in its order."""
        bags = [(label, bag) for label, title in enumerate(titles) if title for bag in title_bags(title, synonyms)]
        counts = Counter(word for _, bag in bags for word in bag)
        words = {word: column for column, word in enumerate(sorted(counts))}
        rows = [row for row, (_, bag) in enumerate(bags) for _ in bag]
        columns = [words[word] for _, bag in bags for word in sorted(bag)]
        rarity = np.array([1 + np.log(len(bags) / counts[word]) for word in sorted(counts)])
        weights = sparse.csr_array((rarity[columns], (rows, columns)), shape=(len(bags), len(words)))
        totals = np.asarray(weights.sum(axis=1)).reshape(-1, 1)
        labels = np.array([label for label, _ in bags], dtype=np.int64)
        of_history = [bool(_HISTORY.match((titles[label] or "").lower())) for label in labels.tolist()]
        shares = sparse.csr_array(weights.multiply(1 / np.maximum(totals, 1e-9)))
        return cls(words, shares, labels, np.array(of_history, dtype=np.bool_), len(titles), synonyms)

    def features(self, texts: Iterable[str]) -> Iterator[NDArray[np.float32]]:
        """(n_labels, 6) for each text, in the order of ``FEATURES``; zero where a title is not mentioned at all."""
        held: list[str] = []

        def kept() -> Iterator[str]:
            for text in texts:
                held.append(text)
                yield text

        for form in annotate(kept()):
            yield self._document_features(held.pop(0), form)

    def _document_features(self, text: str, form: Annotation) -> NDArray[np.float32]:
        result = np.zeros((self.n_labels, len(FEATURES)), dtype=np.float32)
        mentions = list(self.said(text, form))
        if not mentions or not len(self.label_of_bag):
            return result
        rows = [one.sentence * len(_STATES) + one.state for one in mentions]
        columns = [one.word for one in mentions]
        ones = np.ones(len(rows), dtype=np.float32)
        shape = (len(form.sentences) * len(_STATES), len(self.words))
        said = sparse.csr_array((ones, (rows, columns)), shape=shape)
        said.data[:] = 1  # a word said twice counts once
        coverage = np.zeros((len(self.label_of_bag), len(FEATURES)), dtype=np.float32)
        for state in range(len(_STATES)):
            of_state = said[state :: len(_STATES)]
            coverage[:, state] = (self.weights @ of_state.T).max(axis=1).toarray().reshape(-1)
        past = self.is_history
        coverage[past, _AFFIRMED] = np.maximum(coverage[past, _AFFIRMED], coverage[past, HISTORICAL])
        affirmed = sparse.csr_array(said[_AFFIRMED :: len(_STATES)].max(axis=0).toarray().reshape(1, -1))
        coverage[:, 4] = (self.weights @ affirmed.T).toarray().reshape(-1)
        coverage[:, 5] = coverage[:, _AFFIRMED] >= _WHOLE
        np.maximum.at(result, self.label_of_bag, coverage)
        return result

    def bags_of(self, label: int) -> Iterator[tuple[dict[int, float], bool]]:
        """Of every bag of a label's title: the weight of each word, summing to 1, and whether it is of a history."""
        first, last = np.searchsorted(self.label_of_bag, [label, label + 1])
        for bag in range(first, last):
            row = slice(self.weights.indptr[bag], self.weights.indptr[bag + 1])
            words, weights = self.weights.indices[row].tolist(), self.weights.data[row].tolist()
            yield dict(zip(words, weights, strict=True)), bool(self.is_history[bag])

    def said(self, text: str, form: Annotation) -> Iterator[Mention]:
        """Every word of some title in a text."""
        lower = lowered(text)
        contexts = ContextIndex(form.contexts)
        for number, (first, last) in enumerate(form.sentences):
            found = list(_WORD.finditer(lower, first, last))
            stems = [stem(match[0]) for match in found]
            mentioned = [(at, at + 1, (one,)) for at, one in enumerate(stems)] + list(self.synonyms.found_in(stems))
            for start, end, kept in mentioned:
                wanted = [self.words[one] for one in kept if one in self.words]
                if wanted:
                    place = found[start].start(), found[end - 1].end()
                    kinds = contexts.kinds_at(place[0], found[start].end())
                    state = max((_STATE_OF_KIND[kind] for kind in kinds), default=_AFFIRMED)
                    yield from (Mention(number, state, word, *place) for word in wanted)
