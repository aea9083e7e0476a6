"""What a label means, in words: from a data set's own tables, the chapters, the package with ICD-10-CM, or itself."""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from collections.abc import Mapping
from types import ModuleType

from pipeline.icd.codes import CHAPTERS, parse_label

_BELOW = re.compile(r"--|::|[>|/]")  # between the parts of a name in a hierarchy of one's own
_A_WORD = re.compile(r"[^\W\d_]{4}")


def title(label: str, titles: Mapping[str, str] | None = None) -> str | None:
    """What a label means, in words.

    Args:
        label: of a code, category or chapter.
        titles: label -> title, asked first; such as those of a data set's own tables.

    Returns:
        The title, or None where nothing knows one. A label of no code system that is words and no number is its own
        title: the last part of its name.

    Raises:
        UserError: if it is no label.

    Source:
        ICD-10-CM titles: package simple-icd-10-cm (public domain, US government).
    """
    if titles is not None and label in titles:
        return titles[label]
    system, code = parse_label(label)
    if code in CHAPTERS[system]:
        return CHAPTERS[system][code]
    if system == "none":
        name = _BELOW.split(code)[-1].replace("_", " ").strip()
        return name if _A_WORD.search(name) else None
    return _icd10cm_title(code) if system == "icd10cm" else None


def load_icd10cm() -> ModuleType:
    """The package simple-icd-10-cm, imported where it is first needed: that takes about a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it reads its data in Python's older way
        return importlib.import_module("simple_icd_10_cm")


@functools.lru_cache(maxsize=1 << 17)
def _icd10cm_title(code: str) -> str | None:
    icd10cm = load_icd10cm()
    return str(icd10cm.get_description(code)) if icd10cm.is_valid_item(code) else None
