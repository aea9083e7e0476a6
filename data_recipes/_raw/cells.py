"""What cells of tables hold: text, ids that went through a number, lists."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from pipeline.errors import UserError

_SHORTENED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")
_FLOAT = re.compile(r"[0-9]+\.0")
_NOTHING = frozenset({"NULL", "null", "NaN", "nan", "None", r"\N", "<NA>"})
_EXACT = 2**53  # beyond, a float does not hold every whole number
_SHORT = 20  # longer ones are not looked at: a text is not copied
_LIST = re.compile(r"\[(['\"].*['\"])?\]", re.DOTALL)  # as Python writes a list of texts, or an empty one


def says_nothing(value: Any) -> bool:
    r"""Whether a cell is a word by which a database's export or pandas says that it is empty, or not a number.

    Example:
        >>> [says_nothing(one) for one in ("NULL", " \\N ", "nan", float("nan"), "none", "Null", "", None)]
        [True, True, True, True, False, False, False, False]
    """
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and len(value) < _SHORT and value.strip() in _NOTHING


def as_list(value: Any, column: str, delimiter: str) -> list[Any]:
    """The entries of a cell, a list or delimited text, without empty ones.

    Raises:
        UserError: if it is the text of a list, whose entries would be read with their quotes.

    Example:
        >>> as_list("I10; E11.9;", "codes", ";"), as_list(["I10", ""], "codes", ";"), as_list(None, "codes", ";")
        (['I10', ' E11.9'], ['I10'], [])
    """
    if isinstance(value, str):
        if _LIST.fullmatch(value.strip()):
            raise UserError(
                f"column {column!r} holds text in brackets, as pandas writes a list to CSV; write the table as "
                f".parquet or .jsonl, or the codes with {delimiter!r} between them."
            )
        return [part for part in value.split(delimiter) if part.strip()]
    values = value if isinstance(value, list) else [value]
    return [one for one in values if one is not None and one != "" and not (isinstance(one, str) and one.isspace())]


def as_id(value: Any) -> tuple[str, bool]:
    """An id as text, the same whether its column held whole numbers or, where one was missing, floats.

    Args:
        value: a cell; 123, 123.0, "123" and "123.0" are one id ("123.000" is another), None and NaN are none.

    Returns:
        The id without blanks around it, and whether decimals were taken off.

    Raises:
        ValueError: if it is neither text nor a number, a number that is not whole, a float too large to be exact, or
            "1.23E+12"; without the value.

    Example:
        >>> as_id(123.0), as_id("0123.0"), as_id(" a.0"), as_id(float("nan"))
        (('123', True), ('0123', True), ('a.0', False), ('', False))
    """
    if isinstance(value, float | Decimal):
        if math.isnan(value):
            return "", False
        if not math.isfinite(value) or value % 1 or (isinstance(value, float) and abs(value) >= _EXACT):
            raise ValueError(f"a {type(value).__name__.lower()} is no id; export it as text")
        return str(int(value)), "." in str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), False
    text = as_text(value, "id").strip()
    if _SHORTENED.fullmatch(text):
        raise ValueError("a spreadsheet shortened this id, and others may have become the same; export it as text")
    return (text.removesuffix(".0"), True) if _FLOAT.fullmatch(text) else (text, False)


def as_text(value: Any, what: str = "text") -> str:
    """Text of a cell, empty where it holds nothing; a cell of another type is none, whatever ``str`` makes of it.

    Raises:
        ValueError: saying that a value of this type is no ``what``; without the value.
    """
    if value is None or isinstance(value, str):
        return value or ""
    kind = "bytes (a binary column)" if isinstance(value, bytes) else type(value).__name__
    raise ValueError(f"a value of type {kind} is no {what}; write the column as text, or name another in data.options")
