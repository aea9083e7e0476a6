"""One module per data set: where it comes from, licence, files and columns, how it becomes documents.

A recipe is a module with

- a docstring: source, licence, how to get access, files, columns, rules;
- ``Options``: a :class:`pipeline.experiment.settings.Section` with the settings of its own (``data.options`` of a
  config); it may have ``keep_uncoded``;
- ``PUBLISHED``: name -> count that the data set's authors publish (may be empty), first the one that tells whether
  this is the whole data set;
- ``raw_files(raw, options)``: the raw files it reads, whether or not they exist, so that they can be checked
  and watched for changes;
- ``read(raw, options, report, scratch_dir)``: yields :class:`pipeline.notes.documents.Document` in a deterministic
  order, counting what it leaves out in ``report``; ``scratch_dir`` is a folder for what it may need on disk;
- ``read_titles(raw, options, report, scratch_dir)``: label -> title, as far as the data set has tables of titles;
  called after ``read``.

It may also have ``raw_tables(raw, options)``: the same files with the columns that they need, as :class:`RawTable`,
for ``icd doctor``; without it a file is only checked for being there.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from pipeline.errors import UserError
from pipeline.experiment.config_files import validate_section
from pipeline.experiment.settings import Section
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport


class Recipe(Protocol):
    """What a recipe module offers."""

    Options: type[Any]
    PUBLISHED: Mapping[str, int]

    def raw_files(self, raw: Path | None, options: Any) -> list[Path]:
        """The raw files that are read."""

    def read(self, raw: Path | None, options: Any, report: IngestReport, scratch_dir: Path) -> Iterator[Document]:
        """The documents, in a deterministic order."""

    def read_titles(self, raw: Path | None, options: Any, report: IngestReport, scratch_dir: Path) -> Mapping[str, str]:
        """Titles of labels from the data set's own tables."""


OTHER_DATA = "check that data.raw is the data set that data.recipe reads"
"""What to do where a raw file lacks a column that its publisher gives it."""


class RawTable(NamedTuple):
    """A raw file that a recipe reads, and what it must have.

    Attributes:
        path: where it lies, or should lie.
        columns: it must have; none for a file that is no table.
        is_required: whether the recipe stops without it.
        n_rows: rows that are published for it, or None.
        if_missing: what to do where it lacks a column.
    """

    path: Path
    columns: tuple[str, ...] = ()
    is_required: bool = True
    n_rows: int | None = None
    if_missing: str = OTHER_DATA

    def check_is_there(self) -> None:
        """Refuse a file that is missing, or whose name the workflow engine would take for a pattern.

        Raises:
            UserError: if it is no file, or a brace is in its path.
        """
        if not {"{", "}"}.isdisjoint(str(self.path)):
            raise UserError(f"{self.path}: a brace in the name of a file or folder cannot be read; rename it.")
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file; download it, or set data.raw to where it lies.")


def raw_tables(recipe: Recipe, raw: Path | None, options: Any) -> list[RawTable]:
    """The raw files of a recipe with what they must have, as far as it says so.

    Raises:
        UserError: if the recipe needs ``data.raw`` and it is not given or does not exist.
    """
    tables: Callable[[Path | None, Any], list[RawTable]] | None = getattr(recipe, "raw_tables", None)
    return tables(raw, options) if tables else [RawTable(path) for path in recipe.raw_files(raw, options)]


def recipe_names() -> list[str]:
    """Names of all recipes: the public modules here that have a ``read`` of their own."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load_recipe(name: str) -> Recipe:
    """Import a recipe by name.

    Raises:
        UserError: if there is none of that name; the message lists those that are.
    """
    names = recipe_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"data.recipe: no recipe {name!r}; {hint}Known: {', '.join(names)}.")
    return cast(Recipe, importlib.import_module(f"{__name__}.{name}"))


def recipe_options(recipe: Recipe, options: Mapping[str, Any]) -> Section:
    """Check ``data.options`` against the recipe's own settings.

    Raises:
        UserError: naming the unknown or wrong option.
    """
    return cast(Section, validate_section(recipe.Options, options, source="data.options"))


def require_raw(raw: Path | None, what: str) -> Path:
    """The raw path of a recipe that needs one.

    Args:
        raw: ``data.raw`` of the config.
        what: what should lie there, for the message.

    Raises:
        UserError: if it is not given or does not exist.
    """
    if raw is None:
        raise UserError(f"data.raw is not set; give {what} with --set data.raw=PATH.")
    if not raw.exists():
        raise UserError(f"{raw}: no such file or folder; data.raw must be {what}.")
    return raw
