"""Columns of codes that are not what they seem: zeros lost on the way, several codes in one entry, another system."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.errors import UserError
from pipeline.icd.codes import CODE_SYSTEMS, CodeSystem, normalise

_DELIMITERS = {
    "comma": ",", "semicolon": ";", "bar": "|", "slash": "/", "tab": "\t", "line break": "\n", "blank": " "
}  # fmt: skip
_SHORTENED = {"icd9cm": re.compile(r"\d{1,2}\.\d+"), "icd9pcs": re.compile(r"\d\.\d+")}
_DECIMAL_COMMA = re.compile(r"([^,]+),(\d{1,2})")
_MANY_LABELS = 100  # from which on labels that do not repeat are none
_MANY_CODES = 5000  # of MIMIC's ICD-9 codes, one in twenty and more begins with 0
_FEW = 3  # slips, below
SLIPS = 0.01
"""Share of the entries up to which something is a slip."""
MANY_ENTRIES = 20
"""From here on something is no slip, and a fifth without the shape of a code says something."""


def check_leading_zeros(path: Path, system: CodeSystem, n_codes: int, *, has_zeros: bool, n_shortened: int = 0) -> None:
    """Refuse codes of ICD-9 that lost their leading zeros: others of them are codes still, but wrong ones.

    Args:
        path: of the table.
        system: the code system.
        n_codes: entries.
        has_zeros: whether a sound one begins with 0.
        n_shortened: entries that :func:`is_shortened`.

    Raises:
        UserError: if none begins with 0 and they are many, or more than slips are shortened.
    """
    if system not in _SHORTENED or has_zeros:
        return
    if n_shortened >= max(_FEW, SLIPS * n_codes):
        raise UserError(
            f"{path}: leading zeros were lost on the way: {n_shortened:,} of its {n_codes:,} {system} codes lack "
            "digits before the dot (38.9 for 038.9) and none begins with 0, so others may be wrong without a trace; "
            "export the column as text from its source. If these are codes of another system, such as procedures among "
            "diagnoses, give each system a table of its own."
        )
    if n_codes >= _MANY_CODES:
        raise UserError(
            f"{path}: none of its {n_codes:,} {system} codes begins with 0, so the column went through a number "
            "and codes are wrong (0117 and 117 are two procedures); download the file again, or export it as text."
        )


def is_shortened(entry: str, system: CodeSystem) -> bool:
    """Whether a malformed entry has a form that only a lost zero gives.

    Example:
        >>> is_shortened("38.9", "icd9cm"), is_shortened("38.9", "icd9pcs"), is_shortened("0389", "icd9cm")
        (True, False, False)
    """
    return system in _SHORTENED and _SHORTENED[system].fullmatch(entry.strip()) is not None


def check_are_codes(
    path: Path,
    column: str,
    system: CodeSystem,
    n_codes: int,
    n_different: int,
    *,
    n_malformed: int,
    others: tuple[str, int] = ("", 0),
) -> None:
    """Refuse a column of codes that must be of another system, and labels of none that hardly repeat.

    Args:
        path: of the table.
        column: of the codes.
        system: the code system.
        n_codes: entries.
        n_different: different labels among them.
        n_malformed: of the entries.
        others: the other system of which most of those are codes, and how many.

    Raises:
        UserError: if a fifth of the entries and more are no codes, or free text would reach reports as labels.
    """
    if n_codes >= MANY_ENTRIES and n_malformed > n_codes / 5:
        other, n_other = others
        is_mixed = n_other > n_malformed / 2 and n_malformed < n_codes
        raise UserError(
            f"{path}: {n_malformed:,} of {n_codes:,} entries of column {column!r} are no codes of {system}"
            + (f", {n_other:,} of them have the form of {other}" if n_other else "")
            + ("; mixed versions: give each a table and an experiment of its own, or " if is_mixed else "; ")
            + "set data.options.code_system, or name another column in data.options.codes."
        )
    if system == "none" and n_codes >= _MANY_LABELS and n_different > n_codes / 2:
        raise UserError(
            f"{path}: column {column!r} has {n_different:,} different values among {n_codes:,}, so it seems to be free "
            "text; labels, which reports show, must repeat. Name the column of labels in data.options.codes."
        )


def several_codes(entry: str, system: CodeSystem) -> str | None:
    """What a malformed entry holds that is several codes, or a code with a decimal comma, and what to do; else None.

    Between blanks everything must be a code, since free text may name some.

    Example:
        >>> print(several_codes("I10|E11.9", "icd10cm"))
        several codes in one entry, with a bar between them; give --set 'data.options.delimiter="|"', quotes and all
        >>> several_codes("D51 Vitamin B12 deficiency", "icd10cm"), several_codes("a b", "none")
        (None, None)
    """
    if system == "none":
        return None  # any words are a label
    if (parts := _DECIMAL_COMMA.fullmatch(entry.strip())) and is_code(f"{parts[1]}.{parts[2]}", system):
        return (
            "codes with a decimal comma, as a spreadsheet may write them; export it as text, with a dot in each code "
            "(39.95)"
        )
    for name, delimiter in _DELIMITERS.items():
        found = [is_code(part, system) for part in entry.split(delimiter) if part.strip()]
        if sum(found) > 1 and (all(found) or delimiter != " "):
            return (
                f"several codes in one entry, with a {name} between them; give "
                f"--set 'data.options.delimiter={json.dumps(delimiter)}', quotes and all"
            )
    return None


def is_code(text: str, system: CodeSystem) -> bool:
    """Whether a text is a code of the system, however it is spelled."""
    try:
        normalise(text, system)
    except UserError:
        return False
    return True


def other_system(entry: str, system: CodeSystem) -> str | None:
    """The first other code system that a malformed entry has the form of, or None.

    Example:
        >>> other_system("401.9", "icd10cm"), other_system("I10", "icd9cm"), other_system("?", "icd9cm")
        ('icd9cm', 'icd10cm', None)
    """
    others = (one for one in CODE_SYSTEMS if one not in (system, "none"))
    return next((one for one in others if is_code(entry, one)), None)
