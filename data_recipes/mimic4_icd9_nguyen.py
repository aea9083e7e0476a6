"""MIMIC-IV with all its ICD-9 codes, or the 50 most frequent, as in Nguyen et al. 2023.

Source, licence, files, columns and rules are those of all recipes of MIMIC-IV, see
:mod:`data_recipes._mimic.mimic4`; access and commands: data_recipes/README.md.

Codes: all; or the 50 most frequent, counted over all splits: settings of the config (``label_space.top_k: 50``,
``label_space.count_over: all``).

Split: the published one (``data.options.splits_path``); without it the project makes its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes._mimic import mimic4
from data_recipes._mimic.mimic4 import Icd9Options as Options
from data_recipes._mimic.mimic4 import raw_files, raw_tables, read, read_titles

__all__ = ["PUBLISHED", "Options", "raw_files", "raw_tables", "read", "read_titles"]

PUBLISHED: Mapping[str, int] = {
    "summaries": mimic4.N_SUMMARIES,
    "documents": 209_352,
    "documents_given_train": 188_533,
    "documents_given_val": 7_110,
    "documents_given_test": 13_709,
}
"""Of MIMIC-IV 2.2 with MIMIC-IV-Note 2.2, all codes."""
