"""MIMIC-III with all its ICD-9 codes, the set "MIMIC-III full" of CAML and those after it.

Source, licence, files, columns and rules are those of all recipes of MIMIC-III, see
:mod:`data_recipes._mimic.mimic3`; access and commands: data_recipes/README.md.

Split: the published one of Mullenbach et al. 2018 (``data.options.splits_path``): 47,723, 1,631 and 3,372 admissions;
4 of split train have no codes.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes._mimic import mimic3
from data_recipes._mimic.mimic3 import raw_files, raw_tables, read, read_titles

__all__ = ["PUBLISHED", "Options", "raw_files", "raw_tables", "read", "read_titles"]

PUBLISHED: Mapping[str, int] = {
    **mimic3.PUBLISHED_ROWS,
    "documents": 52_722,
    "labels": 8_929,
    "documents_given_train": 47_719,
    "documents_given_val": 1_631,
    "documents_given_test": 3_372,
}
"""Admissions without codes are not counted; codes as they are, see ``compatibility``."""

Options = mimic3.Options
