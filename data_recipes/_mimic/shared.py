"""What the recipes of MIMIC-III and MIMIC-IV have in common: settings, kinds of codes, and telling both apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from data_recipes import require_raw
from data_recipes._raw.csv_columns import OnBadRow
from data_recipes._raw.files import raw_file
from pipeline.errors import UserError
from pipeline.experiment.settings import Section, absolute

CodeKind = Literal["diagnoses", "procedures"]

SINGULAR: Mapping[CodeKind, str] = {"diagnoses": "diagnosis", "procedures": "procedure"}
"""Kinds of codes in the order of a document's labels, and what one of them is called in counts."""


class Options(Section):
    """Settings that all recipes of MIMIC have."""

    code_kinds: tuple[CodeKind, ...] = Field(("diagnoses", "procedures"), min_length=1, description="which code tables")
    splits_path: Path | None = Field(
        None,
        description="published split: a .feather, .parquet or .csv file with columns _id (HADM_ID) and split; "
        "null: the project makes its own",
    )
    min_split_match: Annotated[float, Field(ge=0, le=1)] = Field(
        0.95,
        description="share of the ids in 'splits_path' that must become documents; lower it for a part of the data",
    )
    on_bad_row: OnBadRow = Field(
        "error",
        description="a row with a broken quote, a wrong number of fields or bytes that are not UTF-8: stop, or skip "
        "and count",
    )

    _resolve = field_validator("splits_path")(absolute)

    def kinds(self) -> list[CodeKind]:
        """The kinds of codes asked for, diagnoses first."""
        return [kind for kind in SINGULAR if kind in self.code_kinds]


def require_mimic(raw: Path | None, what: str, *, table: str, folder: str, other: tuple[str, str, str]) -> Path:
    """The raw folder, if it can be of the version that a recipe reads.

    Args:
        raw: ``data.raw`` of the config.
        what: what should lie there, for the message.
        table: of notes of this version, in sub-folder ``folder``.
        folder: see :func:`data_recipes._raw.files.raw_file`.
        other: table of notes and sub-folder of the other version, and the recipes that read it.

    Raises:
        UserError: if it is not given, does not exist, or holds the other version only.
    """
    path = require_raw(raw, what)
    other_table, other_folder, recipes = other
    if not raw_file(path, table, folder=folder).is_file():
        found = raw_file(path, other_table, folder=other_folder)
        if found.is_file():
            raise UserError(
                f"{path}: holds {found.name}, so it is another version of MIMIC; data.raw must be {what}. "
                f"For the data there, set data.recipe to {recipes}."
            )
    return path


def plain_values(column: pa.Array) -> pa.Array:
    """Ids, numbers, versions and times of a table, as text without blanks around them.

    Numbers that some program read as fractions and wrote again ("100.0") are whole, in every table alike: an admission
    must be the same in notes and codes. Not for codes, where a digit behind a dot says something.

    Example:
        >>> plain_values(pa.array([" 100.00", "10", "2.50", "100.0 h"])).to_pylist()
        ['100', '10', '2.50', '100.0 h']
    """
    column = pc.utf8_trim_whitespace(column)
    if pc.any(pc.match_substring(column, ".0")).as_py():  # of hardly any file
        column = pc.replace_substring_regex(column, r"^([0-9]+)\.0+$", r"\1")
    return column


def is_number(value: str) -> bool:
    """Whether a text is a whole number that fits into 64 bits."""
    return value.isascii() and value.isdigit() and len(value) < 19
