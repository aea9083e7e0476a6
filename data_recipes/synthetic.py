"""Synthetic corpus: discharge summaries with codes, made from a seed, in the shape of MIMIC-IV or MIMIC-III.

Source: invented by the modules in ``_synthetic``; titles of ICD-10-CM codes come from the package
simple-icd-10-cm (public domain, US government).
Licence: that of this project; there are no patients behind it.

The raw files have the columns, quoting and ranges of ids of the real ones. Shape mimic4: hosp/patients, admissions,
diagnoses_icd, procedures_icd, d_icd_diagnoses, d_icd_procedures and note/discharge, each .csv.gz. Shape mimic3:
PATIENTS, ADMISSIONS, DIAGNOSES_ICD, PROCEDURES_ICD, D_ICD_DIAGNOSES, D_ICD_PROCEDURES, and NOTEEVENTS with all 15
categories of notes. They are read by the same code that reads the real ones. The corpus is for trying the pipeline and
for measuring it at full size; a score on it says nothing about real notes.

Make only the raw files:
    python -m data_recipes.synthetic --output DIR --n-documents 1000 --seed 0
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from data_recipes._mimic import mimic3, mimic4, shared
from data_recipes._synthetic.mimic3 import MAX_DOCUMENTS as MAX_MIMIC3_DOCUMENTS
from data_recipes._synthetic.mimic3 import write_mimic3
from data_recipes._synthetic.mimic4 import MAX_DOCUMENTS, write_mimic4
from pipeline.errors import UserError
from pipeline.experiment.config_files import validate_section
from pipeline.files import guarded_io
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport

logger = logging.getLogger(__name__)

PUBLISHED: Mapping[str, int] = {}

_MARKER = "synthetic.json"
_SETTINGS = ("shape", "n_documents", "n_codes", "mean_words", "seed")


class Options(mimic4.Options):
    """Settings of the corpus, and of the recipe that reads it."""

    shape: Literal["mimic4", "mimic3"] = Field("mimic4", description="whose raw files are imitated")
    n_documents: Annotated[int, Field(gt=0, le=MAX_DOCUMENTS)] = Field(
        1000,
        description="summaries; about a fifth belongs to admissions that are coded in ICD-9; "
        "of mimic3: admissions with a summary, all of them coded in ICD-9",
    )
    n_codes: Annotated[int, Field(ge=20, le=20_000)] = Field(
        60, description="different ICD-10-CM codes that may come up; a few procedures come on top"
    )
    mean_words: Annotated[int, Field(ge=100, le=20_000)] = Field(
        160, description="mean length of a summary; what there is to say takes about 150 words"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the corpus")

    @model_validator(mode="after")
    def _ids_suffice(self) -> Self:
        most = MAX_MIMIC3_DOCUMENTS
        if self.shape == "mimic3" and self.n_documents > most:
            raise ValueError(f"n_documents must be at most {most} for shape mimic3, which has fewer ids")
        return self


def raw_files(raw: Path | None, options: Options) -> list[Path]:
    """None: the raw files are made, see :class:`data_recipes.Recipe`."""
    return []


def read(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Iterator[Document]:
    """Make the raw files in ``scratch_dir`` unless they are there, and read them as the real ones are read.

    Raises:
        UserError: if ``raw`` is given.
    """
    if raw is not None:
        raise UserError(
            f"data.raw is {raw}, but recipe 'synthetic' makes its own raw files; leave data.raw out, or read a "
            "folder made before with the recipe of its shape, such as data.recipe=mimic4_icd10."
        )
    folder = scratch_dir / options.shape
    make_raw(folder, options)
    if options.shape == "mimic3":
        yield from mimic3.read(folder, _as_mimic3(options), report, scratch_dir)
    else:
        yield from mimic4.read(folder, options, report, scratch_dir)


def read_titles(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> dict[str, str]:
    """Titles from the corpus's own tables, see :class:`data_recipes.Recipe`."""
    folder = scratch_dir / options.shape
    if options.shape == "mimic3":
        return mimic3.read_titles(folder, _as_mimic3(options), report, scratch_dir)
    return mimic4.read_titles(folder, options, report, scratch_dir)


def make_raw(folder: Path, options: Options) -> None:
    """Make the raw files of a corpus, whole or not at all.

    Files that the same settings and the same version of the generator have made stay as they are.

    Args:
        folder: to be made; replaced if it holds another synthetic corpus.
        options: of the corpus.

    Raises:
        UserError: if something else lies at ``folder``.
    """
    made_of = _made_of(options)
    if _marker(folder) == made_of:
        return
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and _marker(folder) is None):
        raise UserError(
            f"{folder} exists and is no synthetic corpus; nothing was written. Name a new or an empty folder."
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    write = write_mimic3 if options.shape == "mimic3" else write_mimic4
    write(
        partial,
        n_documents=options.n_documents,
        n_codes=options.n_codes,
        mean_words=options.mean_words,
        seed=options.seed,
    )
    (partial / _MARKER).write_text(json.dumps(made_of, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    logger.info("%d synthetic summaries made in %s", options.n_documents, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the raw files of a corpus from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_recipes.synthetic", description="Make the raw files of a synthetic corpus."
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    for name in _SETTINGS:
        field = Options.model_fields[name]
        parser.add_argument(f"--{name.replace('_', '-')}", default=field.default, help=field.description)
    given = vars(parser.parse_args(arguments))
    output: Path = given.pop("output")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        numbers = {name: int(value) if str(value).isdecimal() else value for name, value in given.items()}
        options = validate_section(Options, numbers, source="arguments")
        with guarded_io(output):
            make_raw(output, options)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")


def _as_mimic3(options: Options) -> mimic3.Options:
    return mimic3.Options(**{name: getattr(options, name) for name in shared.Options.model_fields})


def _made_of(options: Options) -> dict[str, Any]:
    """All that the files depend on."""
    sources = sorted(Path(__file__).with_name("_synthetic").glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    settings = {name: getattr(options, name) for name in _SETTINGS}
    return settings | {"generator": digest, "simple-icd-10-cm": importlib.metadata.version("simple-icd-10-cm")}


def _marker(folder: Path) -> Any:
    """What a corpus was made of; None if it is none or not whole."""
    try:
        return json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()
