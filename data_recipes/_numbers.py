"""Codes and ids that went through a number on their way here."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from pipeline.codes import CodeSystem
from pipeline.errors import UserError

_FLOAT = re.compile(r"\d+\.0+")
_EXACT = 2**53  # beyond, a float does not hold every whole number
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


def as_id(value: Any) -> tuple[str, bool]:
    """An id as text, the same whether its column held whole numbers or, where one was missing, floats.

    Args:
        value: a cell; 123, 123.0, "123" and "123.0" are one id, None and NaN are none.

    Returns:
        The id without blanks around it, and whether decimals were taken off.

    Raises:
        ValueError: if it is a float that is no whole number, or too large to be exact.

    Example:
        >>> as_id(123.0), as_id("0123.0"), as_id(" a.0"), as_id(float("nan"))
        (('123', True), ('0123', True), ('a.0', False), ('', False))
    """
    if isinstance(value, float):
        if math.isnan(value):
            return "", False
        if not value.is_integer() or abs(value) >= _EXACT:
            raise ValueError("a float is no id; export it as text")
        return str(int(value)), True
    text = "" if value is None else str(value).strip()
    return (text.partition(".")[0], True) if _FLOAT.fullmatch(text) else (text, False)
