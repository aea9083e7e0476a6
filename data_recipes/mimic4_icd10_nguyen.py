"""MIMIC-IV with all its ICD-10 codes, or the 50 most frequent, as in Nguyen et al. 2023.

Source, licence, files, columns and rules are those of all recipes of MIMIC-IV, see :mod:`data_recipes._mimic4`; access
and commands: data_recipes/README.md.

Codes: all; or the 50 most frequent, counted over all splits: settings of the config (``label_space.top_k: 50``,
``label_space.count_over: all``).

Split: the published one (``data.options.splits_path``); without it the project makes its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from data_recipes import _mimic4

__all__ = ["IS_SEQUENCED", "PUBLISHED", "Options", "raw_files", "raw_tables", "read", "read_titles"]

PUBLISHED: Mapping[str, int] = {
    "summaries": _mimic4.N_SUMMARIES,
    "documents": 122_310,
    "labels": 26_096,
    "documents_given_train": 110_442,
    "documents_given_val": 4_017,
    "documents_given_test": 7_851,
}
"""Of MIMIC-IV 2.2 with MIMIC-IV-Note 2.2, all codes."""

IS_SEQUENCED = _mimic4.IS_SEQUENCED
raw_files, raw_tables = _mimic4.raw_files, _mimic4.raw_tables
read, read_titles = _mimic4.read, _mimic4.read_titles


class Options(_mimic4.Options):
    """Settings of the recipe."""

    icd_version: Literal[10] = Field(10, description="which codes; admissions without any are left out")
