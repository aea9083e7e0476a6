"""Clinical text: cleaning presets and the sections of a document.

One rule holds here: offsets count characters of the text as given, so that a section found now and evidence
found much later point at the same place. Sentences are in :mod:`pipeline.notes.sentences`, negation and the like in
:mod:`pipeline.notes.context`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from pipeline.errors import UserError

Preset = Literal["raw", "caml", "edin"]

PRESETS: tuple[Preset, ...] = get_args(Preset)
WORD_LIMITS: dict[Preset, int | None] = {"raw": None, "caml": 2500, "edin": 4000}
"""Words that the works behind the presets keep of a document; see :func:`limit_words`."""

PREAMBLE = "preamble"

_CAML_WORD = re.compile(r"\w+")
_EDIN_WORD = re.compile(r"[0-9a-z]+")
_NOT_BLANK = re.compile(r"\S+")
# MIMIC-III writes [**Known lastname 123**], MIMIC-IV ___; more underscores are a ruled line of the form.
_PLACEHOLDER = re.compile(r"\[\*\*[^\[\]]{0,200}?\*\*\]|(?<!_)___(?!_)")


def clean(text: str, preset: Preset, *, placeholder: str | None = None) -> str:
    r"""Prepare a document's text as a published work does.

    - ``raw`` leaves it as it is; NUL characters, which are no text, go (in every preset).
    - ``caml``: runs of word characters (``\w+``), lower case, numeric ones dropped, one blank between.
    - ``edin``: lower case, runs of anything but ASCII letters and digits become one blank, words of digits
      alone are dropped.

    Neither cuts the text: :func:`prepare` does, if asked to; ``WORD_LIMITS`` has what the works kept.

    Args:
        text: of a document.
        preset: its name.
        placeholder: stands instead of every de-identification mark (``[** **]`` and ``___``) before anything
            else happens; "" and " " both give one blank. None keeps the marks.

    Raises:
        UserError: if the preset is unknown.

    Example:
        >>> clean("BP 120/80, Temp. 37.5C", "caml"), clean("BP 120/80, Temp. 37.5C", "edin")
        ('bp temp 5c', 'bp temp 5c')

    Source:
        Mullenbach et al. 2018 (caml); Edin et al. 2023 (edin).
    """
    if preset not in PRESETS:
        raise UserError(f"unknown cleaning preset {preset!r}; expected one of {', '.join(PRESETS)}.")
    if "\0" in text:
        text = text.replace("\0", "")
    if placeholder is not None:
        text = replace_placeholders(text, placeholder)
    if preset == "caml":
        return " ".join(word.lower() for word in _CAML_WORD.findall(text) if not word.isnumeric())
    if preset == "edin":
        return " ".join(word for word in _EDIN_WORD.findall(text.lower()) if not word.isdigit())
    return text


def replace_placeholders(text: str, replacement: str = " ") -> str:
    """Put one blank or one word where names, dates and places were taken out of a text.

    Example:
        >>> replace_placeholders("Seen by Dr. [**Last Name (un) 12**] on ___.", "DEID")
        'Seen by Dr. DEID on DEID.'
    """
    replacement = replacement or " "  # nothing at all would join the words around the mark
    return _PLACEHOLDER.sub(lambda _: replacement, text)


def find_placeholders(text: str) -> Iterator[re.Match[str]]:
    """De-identification marks of MIMIC-III and MIMIC-IV, as :func:`replace_placeholders` replaces them."""
    return _PLACEHOLDER.finditer(text)


def prepare(text: str, preset: Preset, *, placeholder: str | None = None, max_words: int | None = None) -> str:
    """What a model reads of a document: cleaned, see :func:`clean`, then cut, see :func:`limit_words`.

    Example:
        >>> prepare("Seen on ___ by Dr. ___, well.", "edin", placeholder="deid", max_words=4)
        'seen on deid by'
    """
    return limit_words(clean(text, preset, placeholder=placeholder), max_words)


@dataclass(frozen=True)
class Preparation:
    """How texts are prepared before a model reads them; see :func:`prepare`.

    Attributes:
        preset: cleaning preset.
        placeholder: stands for marks of de-identification, or None.
        max_words: words kept of a document, or None for all.
    """

    preset: Preset = "raw"
    placeholder: str | None = None
    max_words: int | None = None

    def __call__(self, text: str) -> str:
        """Prepare one text."""
        return prepare(text, self.preset, placeholder=self.placeholder, max_words=self.max_words)

    def cuts(self, text: str) -> bool:
        """Whether a text has more words than are kept of it."""
        n_words = len(clean(text, self.preset, placeholder=self.placeholder).split()) if self.max_words else 0
        return n_words > (self.max_words or 0)


def limit_words(text: str, max_words: int | None) -> str:
    """The beginning of a text, up to the end of its ``max_words``-th word; words are what blanks part.

    Args:
        text: of a document.
        max_words: at least 1; None keeps the whole text.

    Raises:
        ValueError: if ``max_words`` is below 1.
    """
    if max_words is None:
        return text
    if max_words < 1:
        raise ValueError(f"max_words must be at least 1, got {max_words}.")
    for n, word in enumerate(_NOT_BLANK.finditer(text), start=1):
        if n == max_words:
            return text[: word.end()]
    return text


class Section(NamedTuple):
    """A stretch of a document under one header.

    Attributes:
        name: canonical ("past medical history"), or the header itself in lower case, or "preamble".
        start: offset of the header's line, in characters.
        end: offset behind the section; the next one starts there.
    """

    name: str
    start: int
    end: int


# Canonical name: other headers for it, "|" between them; all in lower case.
_HEADERS = {
    "admission date": "date of admission",
    "admission diagnosis": "admitting diagnosis|diagnosis on admission|admission diagnoses",
    "addendum": "",
    "allergies": "allergy|drug allergies|allergies and adverse reactions|allergies/adverse drug reactions",
    "assessment and plan": "assessment|assessment/plan|assessment & plan|a/p|a&p|plan|impression and plan",
    "birth history": "perinatal history|prenatal history",
    "brief hospital course": (
        "hospital course|summary of hospital course|brief summary of hospital course|course in hospital|"
        "hospital course by system|hospital course by systems|hospital course by problem|hospital course and "
        "treatment|concise summary of hospital course by issue/system|clinical course"
    ),
    "chief complaint": "cc|presenting complaint|reason for admission|reason for hospitalization",
    "clinical history": "clinical information|clinical data|clinical indication|history",
    "code status": "",
    "comparison": "comparisons|comparison study",
    "date of birth": "dob",
    "discharge condition": "condition on discharge|condition at discharge|condition",
    "discharge date": "date of discharge",
    "discharge diagnosis": (
        "discharge diagnoses|final diagnosis|final diagnoses|diagnosis|diagnoses|diagnosis on discharge|"
        "diagnoses on discharge|principal diagnosis|primary diagnosis|primary diagnoses|secondary diagnosis|"
        "secondary diagnoses|primary discharge diagnosis|secondary discharge diagnoses|___ diagnosis"
    ),
    "discharge disposition": "disposition|discharge status",
    "discharge instructions": "instructions|instructions on discharge|patient instructions",
    "discharge medications": (
        "medications on discharge|medications at discharge|discharge meds|meds on discharge|"
        "medication on discharge"
    ),
    "facility": "",
    "family history": "fh|fhx|fam hx|family hx|family medical history",
    "findings": "finding|radiographic findings",
    "follow-up": (
        "followup|follow up|follow-up plans|follow-up instructions|followup instructions|"
        "follow up instructions|followup plans|follow-up appointments"
    ),
    "history of present illness": (
        "hpi|present illness|history of the present illness|history of presenting illness|"
        "history of present illnes|hx of present illness|interval history"
    ),
    "immunizations": "immunization history",
    "impression": "impressions|conclusion|conclusions|opinion|final impression|radiologic impression",
    "indication": (
        "indications|indication for study|reason for exam|reason for examination|reason for study|"
        "reason for this examination|reason for the exam|history/indication"
    ),
    "medications": "meds|current medications|medication list|current meds|medication",
    "medications on admission": (
        "admission medications|home medications|home meds|meds on admission|medications at home|"
        "medications prior to admission|preadmission medications|outpatient medications|admission meds|"
        "medications on transfer|preadmission medication list|medication on admission"
    ),
    "past medical history": (
        "pmh|pmhx|past history|medical history|past medical and surgical history|pmh/psh|"
        "past medical/surgical history|past medical hx|significant past medical history|"
        "other past medical history|past medical history/past surgical history"
    ),
    "past surgical history": "psh|pshx|surgical history|past surgical hx",
    "pertinent results": (
        "labs|laboratory data|laboratory results|laboratory studies|laboratory|lab results|pertinent labs|"
        "studies|pertinent studies|admission labs|labs on admission|discharge labs|labs on discharge|imaging|"
        "laboratories|pertinent laboratory data|laboratory values|pertinent radiology|data|results|"
        "imaging studies|microbiology|radiology|labs/studies"
    ),
    "physical exam": (
        "physical examination|pe|exam|physical|physical ___|___ exam|admission exam|discharge exam|"
        "admission physical exam|discharge physical exam|physical exam on admission|exam on admission|"
        "physical examination on admission|physical exam on discharge|physical exam at discharge|"
        "physical examination on discharge|exam on discharge|admission physical examination"
    ),
    "procedures": (
        "procedure|operations|operation|major surgical or invasive procedure|procedures performed|"
        "operative procedure|operations and procedures|principal procedure"
    ),
    "review of systems": "ros|review of system",
    "service": "",
    "social history": "sh|shx|social hx|social",
    "technique": "procedure and technique",
    "transitional issues": "issues for followup",
    "vital signs": "vitals|vs",
}  # fmt: skip
_CANONICAL = {alias: name for name, aliases in _HEADERS.items() for alias in (name, *aliases.split("|")) if alias}
KNOWN_SECTIONS = frozenset(_HEADERS)
"""Canonical section names; any other name is a header as it stood in the text, or "preamble"."""

# The possessive quantifier (no backtracking) and the literal line feed in front keep this fast. The first
# character is a letter or the mark of a word that de-identification took for a name ("___ Exam:").
_HEADER_LINE = re.compile(r"\n[ \t]*((?:[A-Za-z]|___)[A-Za-z_ \t/&,'()-]{0,58}+):")
_CAPITAL = r"[A-Z][A-Za-z'()]*|___"
_HEADER_SHAPE = re.compile(
    r"[A-Z]{2}[A-Z '()/&,_-]*[A-Z)_]|"
    rf"(?:{_CAPITAL})(?:[ /&,-]+(?:{_CAPITAL}|of|on|and|or|the|for|with|in|to|at|by|from|an?)){{0,6}}"
)


def find_sections(text: str) -> list[Section]:
    r"""Cut a document at its headers.

    A header stands at the beginning of a line and ends in a colon: a known one in any case ("PMH:", "Past
    medical history:"), any other in capitals or with capitalized words ("ICU Course:") and of at least three
    letters. Text before the first header is the section "preamble".

    Args:
        text: of a document, with any kind of line ends.

    Returns:
        Sections that cover the text in order, without gap or overlap; none for an empty text.

    Example:
        >>> find_sections("Sex: F\nPMH: asthma\n")
        [Section(name='sex', start=0, end=7), Section(name='past medical history', start=7, end=19)]
    """
    lines = "\n" + (text.replace("\r", "\n") if "\r" in text else text)  # offsets in text: one less
    found = [
        (name, match.start()) for match in _HEADER_LINE.finditer(lines) if (name := section_name(match[1])) is not None
    ]
    if text and (not found or found[0][1] > 0):
        found.insert(0, (PREAMBLE, 0))
    ends = [start for _, start in found[1:]] + [len(text)]
    return [Section(name, start, end) for (name, start), end in zip(found, ends, strict=True)] if text else []


@functools.lru_cache(maxsize=1 << 14)  # the same headers stand in every document
def section_name(header: str) -> str | None:
    """The canonical name of a header (without its colon), or None if it does not look like one.

    Example:
        >>> section_name("PMH"), section_name("ICU Course"), section_name("Patient was told")
        ('past medical history', 'icu course', None)
    """
    words = header.split()
    name = " ".join(words).lower()
    if name in _CANONICAL:
        return _CANONICAL[name]
    is_header = len(name) >= 3 and len(words) <= 7 and _HEADER_SHAPE.fullmatch(" ".join(words))
    return name if is_header else None


def blocks_of(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of at most ``size`` texts."""
    block: list[str] = []
    for text in texts:
        block.append(text)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
