"""The codes of a synthetic corpus: the hand-written ones first, then a tail drawn from all of ICD-10-CM."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from data_recipes._synthetic.conditions import DIAGNOSES
from data_recipes._synthetic.icd9 import ICD9_TITLES
from data_recipes._synthetic.procedures import PROCEDURES
from pipeline.icd.titles import load_icd10cm

Kind = Literal["chronic", "acute", "status", "procedure"]

_TAIL_SEED = 10  # the order of the tail is the same for every corpus, so that a larger one extends a smaller one
_ZIPF_SHIFT = 10
_MAX_TITLE = 80  # characters of a title that a note would repeat
# ICD-9 categories of the conditions that each chapter of ICD-10-CM names, by the first characters of its codes
_ICD9_CATEGORIES = {
    "A": (1, 139), "B": (1, 139), "C": (140, 209), "D0": (210, 239), "D1": (210, 239), "D2": (210, 239),
    "D3": (210, 239), "D4": (210, 239), "D": (280, 289), "E": (240, 279), "F": (290, 319), "G": (320, 359),
    "H": (360, 389), "I": (390, 459), "J": (460, 519), "K": (520, 579), "L": (680, 709), "M": (710, 739),
    "N": (580, 629), "R": (780, 799), "S": (800, 999), "T": (800, 999),
}  # fmt: skip
_ACUTE_CHAPTERS = frozenset("AB") | frozenset("JKLNRST")
_NO_TAIL_CHAPTERS = frozenset("OPQUVWXYZ")  # births, external causes and factors do not fit the notes
_SHORTER = (
    (re.compile(r", initial encounter.*$"), ""),
    (re.compile(r", (?:unspecified(?: \w+)?|not elsewhere classified)$|^(?:unspecified|other specified) ", re.I), ""),
)
_ABBREVIATIONS = (
    ("without", "w/o"), ("with", "w/"), ("right", "R"), ("left", "L"), ("bilateral", "b/l"), ("fracture", "fx"),
    ("due to", "2/2"), ("history", "hx"), ("secondary", "2nd"), ("chronic", "chr"),
)  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A diagnosis or procedure that a note can be about.

    Attributes:
        code: ICD-10 code, with dot.
        icd9: ICD-9 codes of the same; those of the tail are made up, but of the right chapter.
        kind: chronic ones recur in a patient's admissions.
        sex: the only sex that has it, or None.
        names: how notes call it; the official title of a diagnosis last.
        findings: sentences that imply it.
        drugs: lines of a medication list that imply it.
    """

    code: str
    icd9: tuple[str, ...]
    kind: Kind
    sex: str | None
    names: tuple[str, ...]
    findings: tuple[str, ...] = ()
    drugs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """All conditions of a corpus, and the titles of their codes.

    Attributes:
        diagnoses: by ICD-10-CM code.
        procedures: by ICD-10-PCS code.
        tail: those of ``diagnoses`` that are drawn from ICD-10-CM rather than written by hand, commonest first.
        titles: (kind of table, version, code) -> title, as in the tables d_icd_*.
    """

    diagnoses: dict[str, Condition]
    procedures: dict[str, Condition]
    tail: tuple[Condition, ...]
    titles: dict[tuple[str, int, str], str]

    def tail_of_chapter(self, letter: str) -> tuple[Sequence[Condition], Sequence[float]]:
        """The tail within a chapter (all of it for ""), and cumulative weights by Zipf's law."""
        return self._tail_by_chapter[letter]

    @functools.cached_property
    def _tail_by_chapter(self) -> dict[str, tuple[list[Condition], list[float]]]:
        chapters: dict[str, tuple[list[Condition], list[float]]] = {}
        for rank, condition in enumerate(self.tail):
            for letter in ("", condition.code[0]):
                conditions, sums = chapters.setdefault(letter, ([], []))
                conditions.append(condition)
                sums.append((sums[-1] if sums else 0.0) + 1 / (rank + _ZIPF_SHIFT))
        return chapters


@functools.lru_cache(maxsize=4)
def build_vocabulary(n_codes: int) -> Vocabulary:
    """The vocabulary with the first ``n_codes`` diagnosis codes, and all procedures."""
    diagnoses, titles = {}, dict(_icd9_titles())
    for lines in itertools.islice(_entries(DIAGNOSES, 3), n_codes):
        condition = _condition(lines, title=_icd10cm_title(lines[0].split()[0]))
        diagnoses[condition.code] = condition
    tail = tuple(itertools.islice(_tail(), max(0, n_codes - len(diagnoses))))
    diagnoses |= {condition.code: condition for condition in tail}
    titles |= {("diagnoses", 10, code): _icd10cm_title(code) for code in diagnoses}
    for condition in tail:
        titles.setdefault(("diagnoses", 9, condition.icd9[0]), titles["diagnoses", 10, condition.code])
    procedures = {}
    for *lines, icd10_title, icd9_title in _entries(PROCEDURES, 5):
        condition = _condition(lines)
        procedures[condition.code] = condition
        titles["procedures", 10, condition.code] = icd10_title
        titles["procedures", 9, condition.icd9[0]] = icd9_title
    return Vocabulary(diagnoses, procedures, tail, titles)


def codes_of(conditions: Sequence[Condition], version: int) -> list[str]:
    """The codes of some conditions in ICD-9 or ICD-10, each once."""
    codes = (code for one in conditions for code in ((one.code,) if version == 10 else one.icd9))
    return list(dict.fromkeys(codes))


def written_codes() -> list[str]:
    """The diagnosis codes of the hand-written table, in its order."""
    return [lines[0].split()[0] for lines in _entries(DIAGNOSES, 3)]


def _entries(table: str, n_lines: int) -> Iterator[Sequence[str]]:
    lines = table.strip().splitlines()
    for start in range(0, len(lines), n_lines):
        yield lines[start : start + n_lines]


def _condition(lines: Sequence[str], title: str | None = None) -> Condition:
    head, names, clues = lines
    code, icd9, kind, *sex = head.split()
    items = [clue.strip() for clue in clues.split(";")]
    return Condition(
        code=code,
        icd9=tuple(icd9.split("+")),
        kind=_as_kind(kind),
        sex=sex[0] if sex else None,
        names=(*(name.strip() for name in names.split(";")), *([title.lower()] if title else [])),
        findings=tuple(item for item in items if not item.startswith("rx ")),
        drugs=tuple(item.removeprefix("rx ") for item in items if item.startswith("rx ")),
    )


def _as_kind(kind: str) -> Kind:
    kinds: dict[str, Kind] = {one: one for one in ("chronic", "acute", "status", "procedure")}
    return kinds[kind]


def _icd10cm_title(code: str) -> str:
    return str(load_icd10cm().get_description(code))


def _icd9_titles() -> Iterator[tuple[tuple[str, int, str], str]]:
    for line in ICD9_TITLES.replace("\n  ", " ").strip().splitlines():
        code, _, title = line.partition(" ")
        yield ("diagnoses", 9, code), title


def _tail() -> Iterator[Condition]:
    """Conditions made of ICD-10-CM titles alone, in a fixed random order."""
    icd10cm = load_icd10cm()
    written = {code[:3] for code in written_codes()}
    codes = sorted(
        code
        for code in icd10cm.get_all_codes(with_dots=True)
        if code[:3] not in written
        and code[0] not in _NO_TAIL_CHAPTERS
        and code[7:] in ("", "A")  # of injuries only the first encounter
        and icd10cm.is_leaf(code)
    )
    random.Random(_TAIL_SEED).shuffle(codes)
    for code in codes:
        title = _icd10cm_title(code)
        if len(title) <= _MAX_TITLE:
            kind: Kind = "acute" if code[0] in _ACUTE_CHAPTERS else "chronic"
            yield Condition(code, (_made_up_icd9(code),), kind, None, _names_from_title(title))


def _made_up_icd9(code: str) -> str:
    """A code of the shape and the chapter that ICD-9-CM has for a condition; always the same one."""
    first, last = _ICD9_CATEGORIES.get(code[:2]) or _ICD9_CATEGORIES[code[0]]
    rng = random.Random(code)
    n_digits = rng.choice((1, 2))
    return f"{rng.randint(first, last):03}.{rng.randrange(10**n_digits):0{n_digits}}"


def _names_from_title(title: str) -> tuple[str, ...]:
    """A title as notes may put it: in lower case, without what only a coder says, abbreviated."""
    short = title
    for pattern, replacement in _SHORTER:
        short = pattern.sub(replacement, short)
    short = short[:1].lower() + short[1:]
    abbreviated = short
    for word, abbreviation in _ABBREVIATIONS:
        abbreviated = re.sub(rf"\b{word}\b", abbreviation, abbreviated)
    return tuple(dict.fromkeys((short, abbreviated, title.lower())))
