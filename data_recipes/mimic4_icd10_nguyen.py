"""MIMIC-IV with all its ICD-10 codes, or the 50 most frequent, as in Nguyen et al. 2023.

Source, licence, files, columns and rules are those of all recipes of MIMIC-IV, see
:mod:`data_recipes._mimic.mimic4`; access and commands: data_recipes/README.md.

Codes: all; or the 50 most frequent, counted over all splits: settings of the config (``label_space.top_k: 50``,
``label_space.count_over: all``).

Split: the published one (``data.options.splits_path``); without it the project makes its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes._mimic import mimic4
from data_recipes._mimic.mimic4 import Icd10Options as Options
from data_recipes._mimic.mimic4 import raw_files, raw_tables, read, read_titles

__all__ = ["PUBLISHED", "Options", "raw_files", "raw_tables", "read", "read_titles"]

PUBLISHED: Mapping[str, int] = {
    "summaries": mimic4.N_SUMMARIES,
    "documents": 122_310,
    "labels": 26_096,
    "documents_given_train": 110_442,
    "documents_given_val": 4_017,
    "documents_given_test": 7_851,
}
"""Of MIMIC-IV 2.2 with MIMIC-IV-Note 2.2, all codes."""
