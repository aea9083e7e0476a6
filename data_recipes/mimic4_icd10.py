"""MIMIC-IV with the ICD-10 codes of at least ten admissions, the set "MIMIC-IV ICD-10" of Edin et al. 2023.

Source, licence, files, columns and rules are those of all recipes of MIMIC-IV, see
:mod:`data_recipes._mimic.mimic4`; access and commands: data_recipes/README.md.

Codes: those of at least ten admissions, counted over all splits: settings of the config
(``label_space.min_documents: 10``, ``label_space.count_over: all``).

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
    "labels_of_10_documents": 7_942,
    "documents_given_train": 89_099,
    "documents_given_val": 13_378,
    "documents_given_test": 19_802,
}
"""Of MIMIC-IV 2.2 with MIMIC-IV-Note 2.2."""
