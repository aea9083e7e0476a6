"""MIMIC-III with its 50 most frequent ICD-9 codes, the set "MIMIC-III 50" of CAML and those after it.

Source, licence, files, columns and rules are those of all recipes of MIMIC-III, see
:mod:`data_recipes._mimic.mimic3`; access and commands: data_recipes/README.md.

Codes: the 50 that most admissions with a discharge summary have, counted over all splits as the published set does;
or those of a list (``codes_path``). The published list is not part of this project. CAML counted codes that had lost
zeros, which put 37.23 in the place of 93.90: give its list as ``codes_path`` to have its labels. Admissions with none
of the 50 are left out.

Split: the published one of Mullenbach et al. 2018 (``data.options.splits_path``), of only a part of the admissions.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from data_recipes._mimic import mimic3
from data_recipes._mimic.mimic3 import raw_files, raw_tables, read, read_titles

__all__ = ["PUBLISHED", "Options", "raw_files", "raw_tables", "read", "read_titles"]

PUBLISHED: Mapping[str, int] = {
    **mimic3.PUBLISHED_ROWS,
    "labels": 50,
    "documents_given_train": 8_066,
    "documents_given_val": 1_573,
    "documents_given_test": 1_729,
}
"""The published split leaves most admissions out, so documents are counted by split."""


class Options(mimic3.Options):
    """Settings of the recipe."""

    top_codes: int | None = Field(50, gt=0, description="keep only so many codes, those that most admissions have")
