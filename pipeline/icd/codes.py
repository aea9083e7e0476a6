"""Code systems: the canonical form of a code and its place in the hierarchy.

A label is a code with its system, "icd10cm:I10", because systems share digits: 39.95 is a procedure, 039.95
would be a diagnosis, and neither may turn into the other. Codes are text from the first byte on; what went
through a number has lost zeros and is refused.

======== ============================ ================ =================== =========================
system   what                         dot              category            chapter
======== ============================ ================ =================== =========================
icd9cm   diagnoses, E and V codes     after 3 (E: 4)   3 characters (E: 4) range, "390-459"
icd9pcs  procedures                   after 2          2 digits            range, "35-39" ("00-00")
icd10cm  diagnoses                    after 3          3 characters        range, "I00-I99"
icd10pcs procedures                   none             3 (the table)       section, "0"
none     any other labels             as given         the label itself    the label itself
======== ============================ ================ =================== =========================
"""

from __future__ import annotations

import bisect
import functools
import numbers
import re
from typing import Literal, NamedTuple, get_args

from pipeline.errors import UserError
from pipeline.icd.chapters import CHAPTERS, CodeSystem

__all__ = [
    "CHAPTERS", "CODE_SYSTEMS", "LEVELS", "CodeSystem", "Level", "at_level", "category", "chapter",
    "check_system", "is_valid_shape", "make_label", "normalise", "parent", "parse_label", "undot",
]  # fmt: skip

Level = Literal["full", "category", "chapter"]

CODE_SYSTEMS: tuple[CodeSystem, ...] = get_args(CodeSystem)
LEVELS: tuple[Level, ...] = get_args(Level)


class _Shape(NamedTuple):
    pattern: re.Pattern[str]  # of the canonical form, whole string
    expected: str  # for messages


_SHAPES: dict[CodeSystem, _Shape] = {
    "icd9cm": _Shape(
        re.compile(r"(?:(?!000)[0-9]{3}|V[0-9]{2})(?:\.[0-9]{1,2})?|E[0-9]{3}(?:\.[0-9])?"),
        "3 digits (or V and 2 digits) and up to 2 more after a dot, or E and 3 digits and up to 1 more, "
        "such as 038.9, V05.3 or E888.9",
    ),
    "icd9pcs": _Shape(re.compile(r"[0-9]{2}(?:\.[0-9]{1,2})?"), "2 digits and up to 2 more after a dot, such as 00.66"),
    # A second character A came with the block QA0; anything looser would let words through.
    "icd10cm": _Shape(
        re.compile(r"[A-Z](?:[0-9][0-9A-Z]|A[0-9])(?:\.[0-9A-Z]{1,4})?"),
        "a letter, 2 characters and up to 4 more after a dot, such as I10 or E11.65",
    ),
    "icd10pcs": _Shape(
        re.compile(r"[0-9BCDFGHX][0-9A-HJ-NP-Z]{6}"), "7 characters without dot, I and O, such as 0DTJ4ZZ"
    ),
    "none": _Shape(re.compile(r"(?=\S).{1,100}(?<=\S)"), "1 to 100 printable characters"),
}
_PCS_TABLE = re.compile(r"[0-9BCDFGHX][0-9A-HJ-NP-Z]{2}")
_MAX_ECHO = 16
# Ranges begin at the first category in use; a code below it still belongs there, not to the chapter before.
_FIRST_CATEGORY = {"F01": "F00", "V01": "V00"}
_STARTS: dict[CodeSystem, list[str]] = {
    system: [_FIRST_CATEGORY.get(start := key.partition("-")[0], start) for key in chapters]
    for system, chapters in CHAPTERS.items()
}


def make_label(system: CodeSystem, code: str) -> str:
    """Join a system and a canonical code (see :func:`normalise`), category or chapter to a label.

    Raises:
        UserError: if the system is unknown or the code empty.

    Example:
        >>> make_label("icd10cm", "E11.65")
        'icd10cm:E11.65'
    """
    check_system(system)
    if not code:
        raise UserError(f"a label of {system} needs a code, got an empty one.")
    return f"{system}:{code}"


def parse_label(label: str) -> tuple[CodeSystem, str]:
    """Split a label into its system and its code.

    Raises:
        UserError: if it is not of the form "system:code" with a known system.

    Example:
        >>> parse_label("icd9pcs:39.95")
        ('icd9pcs', '39.95')
    """
    system, colon, code = label.partition(":")
    if not colon or not code or system not in CODE_SYSTEMS:
        raise UserError(f"{_echo(label)} is no label; expected a code system, a colon and a code, such as icd10cm:I10.")
    return system, code


def check_system(system: str) -> CodeSystem:
    """Give the name of a code system back, typed.

    Raises:
        UserError: if it is unknown.
    """
    if system not in CODE_SYSTEMS:
        raise UserError(f"unknown code system {_echo(system)}; expected one of {', '.join(CODE_SYSTEMS)}.")
    return system


def normalise(code: str, system: CodeSystem) -> str:
    """The canonical form of a code: no blanks around it, upper case, the system's dot, all its zeros.

    Args:
        code: with or without dot, blank-padded or not; a dot must stand where the system has it, a dot at the
            very end ("I10.") is dropped. Labels of system "none" only lose the blanks around them.
        system: the code's system.

    Raises:
        UserError: (a ValueError) if it is no code of the system, or no text; the message holds at most 16
            characters of it.

    Example:
        >>> normalise("0389 ", "icd9cm"), normalise("0066", "icd9pcs"), normalise("i10.", "icd10cm")
        ('038.9', '00.66', 'I10')
    """
    if not isinstance(code, str):
        raise UserError(_not_text(code, system))
    return _normalise(code, system)


@functools.lru_cache(maxsize=1 << 18)  # more than all codes of all systems; ingestion asks for each very often
def _normalise(code: str, system: CodeSystem) -> str:
    check_system(system)
    canonical = code.strip()
    if system != "none" and canonical.isascii():  # upper() turns some other letters into ASCII ones
        canonical = canonical.upper()
        head, dot, tail = canonical.partition(".")
        if not dot:
            n_head = _n_category(canonical, system) if system != "icd10pcs" else 7
            head, tail = canonical[:n_head], canonical[n_head:]
        canonical = f"{head}.{tail}" if tail else head
    if not is_valid_shape(canonical, system):
        raise UserError(_no_code(code, system))
    return canonical


def undot(code: str) -> str:
    """The code without its dot, as MIMIC's tables write it.

    Example:
        >>> undot("E888.9")
        'E8889'
    """
    return code.replace(".", "")


def is_valid_shape(code: str, system: CodeSystem) -> bool:
    """Whether a text is a code of the system in canonical form; the code need not be in use.

    Example:
        >>> is_valid_shape("39.95", "icd9pcs"), is_valid_shape("39.95", "icd9cm")
        (True, False)
    """
    shape = _SHAPES[check_system(system)]
    return shape.pattern.fullmatch(code) is not None and code.isprintable()


def category(code: str, system: CodeSystem) -> str:
    """The category a code belongs to: what stands before its dot, for ICD-10-PCS its table.

    Args:
        code: a code in any form that :func:`normalise` accepts, or a category.
        system: the code's system; labels of "none" are their own category.

    Raises:
        UserError: if it is no code of the system.

    Example:
        >>> category("E888.9", "icd9cm"), category("0DTJ4ZZ", "icd10pcs")
        ('E888', '0DT')
    """
    if system == "icd10pcs" and _PCS_TABLE.fullmatch(code):
        return code
    canonical = normalise(code, system)
    return canonical if system == "none" else canonical[: _n_category(canonical, system)]


def chapter(code: str, system: CodeSystem) -> str:
    """The key in ``CHAPTERS`` of the chapter a code belongs to.

    Args:
        code: a code, a category or a chapter's key (which comes back).
        system: the code's system; labels of "none" are their own chapter.

    Raises:
        UserError: if it is no code of the system.

    Example:
        >>> chapter("D50.9", "icd10cm"), chapter("39.95", "icd9pcs")
        ('D50-D89', '35-39')
    """
    chapters = CHAPTERS[check_system(system)]
    if code in chapters or not chapters:
        return code
    position = bisect.bisect_right(_STARTS[system], category(code, system)) - 1
    return list(chapters)[position]


def parent(code: str, system: CodeSystem) -> str | None:
    """One step up: a shorter code, the category, the chapter; None above a chapter.

    The placeholder X of ICD-10-CM is no level of its own: above S01.00XA stands S01.00.

    Raises:
        UserError: if it is no code of the system.

    Example:
        >>> parent("E11.65", "icd10cm"), parent("E11", "icd10cm"), parent("E00-E89", "icd10cm")
        ('E11.6', 'E00-E89', None)
    """
    if system == "none" or code in CHAPTERS[check_system(system)]:
        return None
    top = category(code, system)
    if system == "icd10pcs":
        return chapter(code, system) if code == top else top
    canonical = normalise(code, system)
    if canonical == top:
        return chapter(top, system)
    shorter = canonical[:-1]
    if len(canonical) == 8:  # a seventh character, before which X fills the places not in use
        shorter = shorter.rstrip("X")
    return shorter.removesuffix(".")


def at_level(label: str, level: Level) -> str:
    """A label's ancestor at a level of the hierarchy.

    Args:
        label: of a code, or of a category or chapter that is not below ``level``.
        level: "full" gives the label back.

    Raises:
        UserError: if it is no label, or of a chapter where its category is asked for.

    Example:
        >>> at_level("icd10cm:E11.65", "category"), at_level("icd10cm:E11.65", "chapter")
        ('icd10cm:E11', 'icd10cm:E00-E89')
    """
    system, code = parse_label(label)
    if level == "full":
        return label
    return make_label(system, category(code, system) if level == "category" else chapter(code, system))


def _n_category(code: str, system: CodeSystem) -> int:
    """How many characters of a code are its category."""
    if system == "icd9pcs":
        return 2
    return 4 if system == "icd9cm" and code.startswith("E") else 3


def _echo(value: object) -> str:
    """A value as it may stand in a message: a wrong column may hold anything, so only its beginning."""
    text = str(value)
    return repr(text if len(text) <= _MAX_ECHO else text[:_MAX_ECHO] + "…")


def _no_code(code: str, system: CodeSystem) -> str:
    lost = re.fullmatch(r"\s*[0-9]{1,2}(?:\.[0-9]*)?\s*", code) and system in ("icd9cm", "icd9pcs")
    hint = " A leading zero may have been lost on the way: read the column as text." if lost else ""
    return f"{_echo(code)} is no code of {system}; expected {_SHAPES[system].expected}.{hint}"


def _not_text(code: object, system: CodeSystem) -> str:
    kind = type(code).__name__
    if isinstance(code, numbers.Number):
        return (
            f"codes of {system} are text, got the number {_echo(code)} ({kind}): a code that went through a "
            "number has lost its zeros (0389, 250.00); read the column as text (pandas: dtype=str)."
        )
    return f"codes of {system} are text, got {kind}; read the column as text and leave out missing values."
