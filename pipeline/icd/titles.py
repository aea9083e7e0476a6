"""What a label means, in words: from a data set's own tables, the chapters, or the package with ICD-10-CM."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Mapping
from types import ModuleType

from pipeline.icd.codes import CHAPTERS, parse_label


def title(label: str, titles: Mapping[str, str] | None = None) -> str | None:
    """What a label means, in words.

    Args:
        label: of a code, category or chapter.
        titles: label -> title, asked first; such as those of a data set's own tables.

    Returns:
        The title, or None where nothing knows one.

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
