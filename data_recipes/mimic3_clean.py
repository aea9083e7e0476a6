"""MIMIC-III with the codes of at least ten admissions, the set "MIMIC-III clean" of Edin et al. 2023.

Source, licence, files, columns and rules are those of all recipes of MIMIC-III, see
:mod:`data_recipes._mimic.mimic3`; access and commands: data_recipes/README.md.

Codes: those of at least ten admissions, each system by itself, counted over all splits: settings of the config
(``label_space.min_documents: 10``, ``label_space.count_over: all``), since labels carry their system. About 3,680.

Split: the published one (``data.options.splits_path``), made by iterative stratification by patient; without it the
project makes one of the same shares, test 15 %, val 10 %.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_recipes._mimic import mimic3
from data_recipes._mimic.mimic3 import raw_files, raw_tables, read, read_titles

__all__ = ["PUBLISHED", "Options", "raw_files", "raw_tables", "read", "read_titles"]

PUBLISHED: Mapping[str, int] = {
    **mimic3.PUBLISHED_ROWS,
    "documents": 52_722,
    "documents_given_train": 38_401,
    "documents_given_val": 5_577,
    "documents_given_test": 8_734,
}
"""Documents before the rare codes are left out; the published split holds 52,712 of them."""

Options = mimic3.Options
