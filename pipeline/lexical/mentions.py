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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.lexical.synonyms import WORD, Synonyms, stem
from pipeline.notes.context import Annotation, ContextIndex, annotate

FEATURES = ("affirmed", "historical", "uncertain", "denied", "document", "complete")
"""Of a (document, label) pair, each in [0, 1]: the best coverage of its title by one sentence's words that are
affirmed, historical, uncertain, and negated or of the family (for titles of a history, what is said of the past, or of
the family, counts as affirmed); by the affirmed words of the whole document; and
whether one sentence affirms the whole title."""
AFFIRMED, HISTORICAL, UNCERTAIN, FAMILY, NEGATED = range(5)
"""How a mention is meant, see :class:`Mention`; of two contexts the later one of these counts."""
_N_STATES = 5
_STATE_OF_KIND = {"historical": HISTORICAL, "uncertain": UNCERTAIN, "family": FAMILY, "negated": NEGATED}
_WHOLE = 0.999  # a coverage summed in float32

# Titles of a history, and the state of a mention that affirms them.
_HISTORIES = {
    HISTORICAL: re.compile(r"^(?:personal|past) history of "),
    FAMILY: re.compile(r"^family history of "),
}
# What a title says of the classification, not of the patient. Order matters: longer phrases first.
_QUALIFIERS = re.compile(
    r"\([^)]*\)|without foreign body|not intractable|not stated as uncontrolled|"
    r"without (?:mention of )?[^,;]*|not elsewhere classified|not otherwise specified|"
    r"(?:organism|site|type|cause|region|degree|stage|part|location|episode of care)s? (?:not specified|unspecified)|"
    r"unspecified (?:organism|site|type|cause|region|degree|stage|part|location|episode of care)|"
    r"in diseases classified elsewhere|other specified|other and unspecified|or unspecified|unspecified|"
    r"not specified|\bother\b|\bnec\b|\bnos\b|\balone\b"
)
_TWO_THINGS = re.compile(r", and |^\w+-\w+ and ")  # each with all its words
_GRAMMAR = "a an and any as at by due during for from had has in into is its of on or per than the their to with"
_EMPTY_WORDS = "encounter following initial replaced sequela status subsequent system"  # no note would say them so
_STOP_WORDS = frozenset(f"{_GRAMMAR} {_EMPTY_WORDS}".split())


def title_bags(title: str, synonyms: Synonyms) -> list[frozenset[str]]:
    """The content words of a title, in one bag or, where it joins two things by "and", one for each.

    Example:
        >>> from pipeline.lexical.synonyms import load_synonyms
        >>> [sorted(bag) for bag in title_bags("Pneumonia, organism unspecified", load_synonyms())]
        [['pneumonia']]
        >>> [sorted(bag) for bag in title_bags("Other specified disorders of kidney and ureter", load_synonyms())]
        [['disorder', 'ureter'], ['disorder', 'kidney']]
        >>> [sorted(bag) for bag in title_bags("Hypo-osmolality and hyponatremia", load_synonyms())]
        [['hypo', 'osmolality'], ['hyponatremia']]
        >>> [sorted(bag) for bag in title_bags("Acute and chronic respiratory failure", load_synonyms())]
        [['acut', 'chronic', 'failur', 'respiratory']]
    """
    text = title.lower()
    for pattern in _HISTORIES.values():
        text = pattern.sub("", text)
    text = _QUALIFIERS.sub(" ", text)
    words = WORD.findall(text)
    variants = [words]
    if words.count("and") == 1 and "acute and chronic" not in text:
        at = words.index("and")
        if _TWO_THINGS.search(text):
            variants = [words[:at], words[at + 1 :]]
        else:
            variants = [words[: at - 1] + words[at + 1 :], words[:at] + words[at + 2 :]] if at else [words[1:]]
    bags = [frozenset(_content(variant, synonyms)) for variant in variants]
    return list(dict.fromkeys(bag for bag in bags if bag))


def _content(words: Sequence[str], synonyms: Synonyms) -> list[str]:
    return list(synonyms.replaced_in([stem(word) for word in words if _is_content(word)]))


def _is_content(word: str) -> bool:
    return word not in _STOP_WORDS


def _state_of_title(title: str) -> int:
    return next((state for state, pattern in _HISTORIES.items() if pattern.match(title.lower())), AFFIRMED)


def _is_in_capitals(written: str) -> bool:
    """Whether a phrase, with the character behind it, is an abbreviation in capitals and no header."""
    return not written.endswith(":") and written.isupper()


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
        state: how it is meant: AFFIRMED (of the patient now), HISTORICAL, UNCERTAIN, FAMILY or NEGATED.
        word: its column of :attr:`TitleIndex.weights`.
        start, end: offsets of the phrase that says it.
    """

    sentence: int
    state: int
    word: int
    start: int
    end: int


@dataclass(frozen=True)
class TitleIndex:
    """The words of all titles, ready to be looked for.

    Attributes:
        words: stem -> column of ``weights``.
        weights: (n_bags, n_words) CSR, a row sums to 1; rare words of titles weigh more.
        label_of_bag: (n_bags,) label ids, ascending.
        state_of_bag: (n_bags,) state of a mention that affirms the title: for a history that is the past or the family.
        n_labels: width of the label space; a label without title has no bag.
        synonyms: what made phrases one.
    """

    words: Mapping[str, int]
    weights: sparse.csr_array
    label_of_bag: NDArray[np.int64]
    state_of_bag: NDArray[np.int64]
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
        states = np.array([_state_of_title(titles[label] or "") for label in labels.tolist()], dtype=np.int64)
        shares = sparse.csr_array(weights.multiply(1 / np.maximum(totals, 1e-9)))
        return cls(words, shares, labels, states, len(titles), synonyms)

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
        rows = [one.sentence * _N_STATES + one.state for one in mentions]
        columns = [one.word for one in mentions]
        ones = np.ones(len(rows), dtype=np.float32)
        shape = (len(form.sentences) * _N_STATES, len(self.words))
        said = sparse.csr_array((ones, (rows, columns)), shape=shape)
        said.data[:] = 1  # a word said twice counts once
        coverage = np.zeros((len(self.label_of_bag), len(FEATURES)), dtype=np.float32)
        by_state = np.zeros((len(self.label_of_bag), _N_STATES), dtype=np.float32)
        for state in range(_N_STATES):
            by_state[:, state] = (self.weights @ said[state::_N_STATES].T).max(axis=1).toarray().reshape(-1)
        is_family = self.state_of_bag == FAMILY
        coverage[:, 0] = by_state[np.arange(len(by_state)), self.state_of_bag]
        coverage[:, 1] = by_state[:, HISTORICAL]
        coverage[:, 2] = by_state[:, UNCERTAIN]
        coverage[:, 3] = np.where(is_family, by_state[:, NEGATED], by_state[:, [FAMILY, NEGATED]].max(axis=1))
        for state in (AFFIRMED, *_HISTORIES):
            of_state = sparse.csr_array(said[state::_N_STATES].max(axis=0).toarray().reshape(1, -1))
            is_of_state = self.state_of_bag == state
            coverage[is_of_state, 4] = (self.weights @ of_state.T).toarray().reshape(-1)[is_of_state]
        coverage[:, 5] = coverage[:, 0] >= _WHOLE
        np.maximum.at(result, self.label_of_bag, coverage)
        return result

    def bags_of(self, label: int) -> Iterator[tuple[dict[int, float], int]]:
        """Of every bag of a label's title: the weight of each word, summing to 1, and the state that affirms it."""
        first, last = np.searchsorted(self.label_of_bag, [label, label + 1])
        for bag in range(first, last):
            row = slice(self.weights.indptr[bag], self.weights.indptr[bag + 1])
            words, weights = self.weights.indices[row].tolist(), self.weights.data[row].tolist()
            yield dict(zip(words, weights, strict=True)), int(self.state_of_bag[bag])

    def said(self, text: str, form: Annotation) -> Iterator[Mention]:
        """Every word of some title in a text."""
        lower = lowered(text)
        contexts = ContextIndex(form.contexts)
        for number, (first, last) in enumerate(form.sentences):
            found = list(WORD.finditer(lower, first, last))
            stems = [stem(match[0]) for match in found]
            mentioned: list[tuple[int, int, tuple[str, ...]]] = [(at, at + 1, (one,)) for at, one in enumerate(stems)]
            for start, end, kept in self.synonyms.found_in(stems):
                written = text[found[start].start() : found[end - 1].end() + 1]
                if tuple(stems[start:end]) not in self.synonyms.in_capitals or _is_in_capitals(written):
                    mentioned.append((start, end, kept))
            for start, end, kept in mentioned:
                wanted = [self.words[one] for one in kept if one in self.words]
                if wanted:
                    place = found[start].start(), found[end - 1].end()
                    kinds = contexts.kinds_at(place[0], found[start].end())
                    state = max((_STATE_OF_KIND[kind] for kind in kinds), default=AFFIRMED)
                    yield from (Mention(number, state, word, *place) for word in wanted)
