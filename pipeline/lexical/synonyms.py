"""Phrases that mean the same in notes and in titles of codes (lexicon/synonyms.tsv)."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

WORD = re.compile(r"[a-z0-9]+")
"""A word of a text in lower case."""
SYNONYMS_PATH = Path(__file__).parent / "lexicon" / "synonyms.tsv"


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
        in_capitals: phrases that count only where a note has them in capitals ("CA", not "Ca").
        lines: as the file has them, to be saved with a model.
    """

    forms: Mapping[tuple[str, ...], tuple[str, ...]]
    longest: Mapping[str, int]
    in_capitals: frozenset[tuple[str, ...]]
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
    forms, in_capitals = {}, set()
    for number, line in enumerate(lines, start=1):
        kept, tab, others = line.partition("\t")
        if not tab or not _stems(kept):
            raise UserError(f"{path}, entry {number}: expected a phrase, a tab and other phrases with '|' between.")
        others_of = [other for other in others.split("|") if _stems(other)]
        forms.update({_stems(other): _stems(kept) for other in others_of})
        in_capitals |= {_stems(other) for other in others_of if other.isupper()}
    longest: Counter[str] = Counter()
    for phrase in forms:
        longest[phrase[0]] = max(longest[phrase[0]], len(phrase))
    raw = Synonyms(forms, longest, frozenset(in_capitals), lines)
    # "ckd" stands for "chronic kidney disease", whose last word stands for "disorder" itself.
    return dataclasses.replace(raw, forms={phrase: tuple(raw.replaced_in(kept)) for phrase, kept in forms.items()})


def save_synonyms(synonyms: Synonyms, path: Path) -> None:
    """Write a list for :func:`load_synonyms`."""
    path.write_text("".join(f"{line}\n" for line in synonyms.lines), encoding="utf-8")


def _stems(text: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in WORD.findall(text.lower()))
