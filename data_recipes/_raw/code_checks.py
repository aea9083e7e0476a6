"""Columns of codes that are not what they seem: zeros lost on the way, several codes in one entry, another system."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from pipeline.errors import UserError
from pipeline.icd.codes import CodeSystem, normalise

_DELIMITERS = {"comma": ",", "semicolon": ";", "bar": "|", "slash": "/", "tab": "\t", "blank": " "}
_MANY_ENTRIES = 20  # from which on a fifth without the shape of a code says something
_MANY_LABELS = 100  # from which on labels that do not repeat are none
_MANY_CODES = 5000  # of MIMIC's ICD-9 codes, one in twenty and more begins with 0


def check_leading_zeros(path: Path, system: CodeSystem, n_codes: int, *, has_zeros: bool) -> None:
    """Refuse many codes of ICD-9 without a leading zero.

    Raises:
        UserError: if they must have gone through a number.
    """
    if system in ("icd9cm", "icd9pcs") and n_codes >= _MANY_CODES and not has_zeros:
        raise UserError(
            f"{path}: none of its {n_codes:,} {system} codes begins with 0, so the column went through a number "
            "and codes are wrong (0117 and 117 are two procedures); download the file again, or export it as text."
        )


def check_are_codes(
    path: Path, column: str, system: CodeSystem, n_codes: int, n_different: int, *, n_malformed: int
) -> None:
    """Refuse a column of codes that must be of another system, and labels of none that hardly repeat.

    Args:
        path: of the table.
        column: of the codes.
        system: the code system.
        n_codes: entries.
        n_different: different labels among them.
        n_malformed: of the entries.

    Raises:
        UserError: if a fifth of the entries and more are no codes, or free text would reach reports as labels.
    """
    if n_codes >= _MANY_ENTRIES and n_malformed > n_codes / 5:
        raise UserError(
            f"{path}: {n_malformed:,} of {n_codes:,} entries of column {column!r} are no codes of {system}; set "
            "data.options.code_system, or name another column in data.options.codes."
        )
    if system == "none" and n_codes >= _MANY_LABELS and n_different > n_codes / 2:
        raise UserError(
            f"{path}: column {column!r} has {n_different:,} different values among {n_codes:,}, so it seems to be free "
            "text; labels, which reports show, must repeat. Name the column of labels in data.options.codes."
        )


def check_delimiter(entry: str, column: str, system: CodeSystem) -> None:
    """Refuse a malformed entry that is several codes: as one it would be left out.

    Raises:
        UserError: if it falls into codes of the system at another delimiter than the one given.
    """
    for name, delimiter in _DELIMITERS.items():
        parts = [part for part in entry.split(delimiter) if part.strip()]
        if len(parts) > 1 and all(_is_code(part, system) for part in parts):
            raise UserError(
                f"column {column!r} holds several codes in one entry, with a {name} between them; give "
                f"--set 'data.options.delimiter={json.dumps(delimiter)}', quotes and all."
            )


def _is_code(text: str, system: CodeSystem) -> bool:
    with contextlib.suppress(UserError):
        normalise(text.strip(), system)
        return True
    return False
