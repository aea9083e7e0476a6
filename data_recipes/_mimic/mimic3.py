"""What all recipes of MIMIC-III share: discharge summaries of a hospital with the ICD-9 codes of their admission.

Source: MIMIC-III Clinical Database 1.4, PhysioNet.
Licence: PhysioNet Credentialed Health Data License 1.5.0; access for credentialed users after training in human
subjects research, see data_recipes/README.md. No file of it may leave your machine.

Files, .csv.gz or .csv, in ``data.raw`` or up to two folders further down; header in upper or lower case:

- NOTEEVENTS: ROW_ID, SUBJECT_ID, HADM_ID, CHARTDATE, CHARTTIME, CATEGORY, DESCRIPTION, ISERROR, TEXT
- DIAGNOSES_ICD and PROCEDURES_ICD: HADM_ID, SEQ_NUM, ICD9_CODE
- D_ICD_DIAGNOSES and D_ICD_PROCEDURES: ICD9_CODE, LONG_TITLE; titles only, may be missing

Rules: one document for each admission (HADM_ID) that has a note of category "Discharge summary" (blanks around it
do not count). Its notes are joined by one space: reports before addenda, then by CHARTTIME (those without come
last), CHARTDATE and ROW_ID. Notes marked as an error are left out. Labels are the codes of the admission, diagnoses
before procedures, each in the order of SEQ_NUM, each once. Documents come in the order of their first note in the
file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from data_recipes import RawTable
from data_recipes._mimic import shared
from data_recipes._mimic.codes import CodeColumns, CodeTable
from data_recipes._mimic.codes import read_titles as read_titles_of
from data_recipes._mimic.shared import SINGULAR, CodeKind, is_number
from data_recipes._mimic.splits import PublishedSplits
from data_recipes._mimic.spool import Note, note_spool
from data_recipes._raw.csv_columns import read_raw_csv
from data_recipes._raw.files import need_raw_file, raw_file
from pipeline.errors import UserError
from pipeline.experiment.settings import absolute
from pipeline.icd.codes import CodeSystem, is_valid_shape, normalise, parse_label, undot
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport

PUBLISHED_ROWS: Mapping[str, int] = {"notes": 2_083_180, "discharge_summaries": 59_652}
"""Rows of NOTEEVENTS in MIMIC-III 1.4, and those of discharge summaries."""

_WHAT = "the folder of MIMIC-III with NOTEEVENTS and DIAGNOSES_ICD"
_MIMIC4 = ("discharge", "note", "mimic4_icd10 or mimic4_icd9")
_SUMMARY = "Discharge summary"
_COLUMNS = CodeColumns("icd9_code", None)
_SYSTEMS: dict[CodeKind, CodeSystem] = {"diagnoses": "icd9cm", "procedures": "icd9pcs"}
_NOTE_COLUMNS = (
    "row_id", "subject_id", "hadm_id", "chartdate", "charttime", "category", "description", "iserror", "text",
)  # fmt: skip


class Options(shared.Options):
    """Settings of the recipes."""

    top_codes: Annotated[int, Field(gt=0)] | None = Field(
        None, description="keep only the codes that most admissions with a summary have; null for all codes"
    )
    codes_path: Path | None = Field(
        None, description="keep only the codes in this text file, one a line (401.9, 38.93), instead of counting"
    )
    compatibility: Literal["none", "caml"] = Field(
        "none",
        description="'caml' repeats a known defect: procedure codes lose zeros at both ends (00.66 turns 66.0), and "
        "scores by category and chapter go by that spelling",
    )

    _resolve_codes = field_validator("codes_path")(absolute)

    def spell(self) -> Callable[[str, CodeSystem], str]:
        """How a code of the tables is written in labels."""
        return caml_spelling if self.compatibility == "caml" else normalise


def raw_files(raw: Path | None, options: Options) -> list[Path]:
    """The raw files that are read, see :class:`data_recipes.Recipe`."""
    return [] if raw is None else [table.path for table in _tables(raw, options)]


def raw_tables(raw: Path | None, options: Options) -> list[RawTable]:
    """The raw files with their columns, see :class:`data_recipes.RawTable`."""
    return _tables(_folder(raw), options)


def read(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Iterator[Document]:
    """Stream the documents, see :class:`data_recipes.Recipe`.

    Counted as dropped, beside broken rows and unusable codes: ``summary_marked_as_error``,
    ``summary_without_hadm_id``, ``summary_without_subject_id``, ``duplicate_note_id``,
    ``summary_of_another_patient`` and, where only some codes are kept, ``document_without_kept_code``.
    Counted as changed: ``summaries_joined`` and ``principal_diagnosis_unknown``, where no usable diagnosis has the
    sequence number 1.

    Raises:
        UserError: if a raw file or column is missing, damaged, or has a broken row, or the split is of other data.
    """
    folder = _folder(raw)
    notes = need_raw_file(folder, "noteevents")
    tables = {kind: need_raw_file(folder, f"{kind}_icd") for kind in options.kinds()}
    splits = PublishedSplits(options.splits_path, report)
    codes = CodeTable(_COLUMNS, report, on_bad_row=options.on_bad_row, spell=options.spell())
    for kind, path in tables.items():
        codes.add(path, _SYSTEMS[kind], kind=SINGULAR[kind])
    with note_spool(scratch_dir, report) as spool:
        for note, text in _summaries(notes, options, report):
            spool.add(note, text)
        keep = _keep(options, codes, spool.admissions())
        for stay in spool.stays():
            document_id, labels = str(stay.admission), codes.labels_of(stay.admission)
            kept = [label for label in labels if keep(label)]
            if labels and not kept:
                report.drop("document_without_kept_code", document_id)
            else:
                principal = codes.principal_of(stay.admission) if labels else None
                yield Document(
                    document_id,
                    stay.patient_id,
                    stay.text,
                    kept,
                    splits.of(document_id),
                    principal=principal if principal in kept else None,
                )
    splits.check(options.min_split_match)


def read_titles(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> dict[str, str]:
    """Titles of all codes that the title tables have, see :class:`data_recipes.Recipe`.

    A table that is missing gives no titles: some codes have none in any case.
    """
    titles: dict[str, str] = {}
    folder = _folder(raw)
    for kind in options.kinds():
        path = raw_file(folder, f"d_icd_{kind}")
        titles |= read_titles_of(
            path, _COLUMNS, _SYSTEMS[kind], report=report, on_bad_row=options.on_bad_row, spell=options.spell()
        )
    return titles


def caml_spelling(code: str, system: CodeSystem) -> str:
    """A code as the label lists of CAML have it, and those of the works that took them over.

    There, the column of procedures was read as whole numbers, which lost zeros at the beginning, and once dotted
    was read as numbers again, which lost those at the end. Diagnoses went unharmed, since V and E codes kept the
    column text. Two codes can fall together: 03.31 and 33.1. Not repeated is that CAML's lists have some codes in
    both forms (93.90 and 93.9), where one block of rows held diagnoses and procedures.

    A code below 00.10 would come out as no code at all ("1.0") and keeps its zeros.

    Example:
        >>> [caml_spelling(code, "icd9pcs") for code in ("0066", "9390", "0331", "3995", "0001")]
        ['66.0', '93.9', '33.1', '39.95', '00.01']
    """
    canonical = normalise(code, system)
    if system != "icd9pcs":
        return canonical
    number = undot(canonical).lstrip("0")
    spelled = str(float(f"{number[:2]}.{number[2:]}")) if number else canonical
    return spelled if is_valid_shape(spelled, system) else canonical


def _tables(folder: Path, options: Options) -> list[RawTable]:
    return [
        RawTable(raw_file(folder, "noteevents"), _NOTE_COLUMNS, n_rows=PUBLISHED_ROWS["notes"]),
        *(RawTable(raw_file(folder, f"{kind}_icd"), _COLUMNS.of_codes()) for kind in options.kinds()),
        *(RawTable(raw_file(folder, f"d_icd_{kind}"), _COLUMNS.of_titles(), False) for kind in options.kinds()),
        *(RawTable(path) for path in (options.splits_path, options.codes_path) if path is not None),
    ]


def _folder(raw: Path | None) -> Path:
    return shared.require_mimic(raw, _WHAT, table="noteevents", folder="", other=_MIMIC4)


def _keep(options: Options, codes: CodeTable, admissions: Iterator[int]) -> Callable[[str], bool]:
    """Which labels are kept."""
    if options.codes_path is not None:
        listed = _listed_codes(options.codes_path)
        return lambda label: parse_label(label)[1] in listed
    if options.top_codes is not None:
        return codes.most_frequent(admissions, options.top_codes).__contains__
    return lambda _: True


def _listed_codes(path: Path) -> set[str]:
    """Codes of a list, dotted; a dot tells a procedure from a diagnosis (39.95 and 399.5)."""
    try:
        codes = {line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()} - {""}
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: not a readable text file; data.options.codes_path must list a code a line.") from None
    wrong = [one for one in sorted(codes) if not any(is_valid_shape(one, system) for system in _SYSTEMS.values())]
    if wrong or not codes:
        found = f"{wrong[0][:16]!r}" if wrong else "no codes"
        raise UserError(f"{path}: expected dotted ICD-9 codes, one a line (401.9, 38.93), found {found}.")
    return codes


def _summaries(path: Path, options: Options, report: IngestReport) -> Iterator[tuple[Note, pa.StringScalar]]:
    """The usable discharge summaries with their texts, in the order of the file."""
    batches = read_raw_csv(
        path, _NOTE_COLUMNS, report=report, on_bad_row=options.on_bad_row, holding=_SUMMARY, count_as="notes"
    )
    for batch in batches:
        rows = batch.filter(pc.equal(pc.utf8_trim_whitespace(batch["category"]), _SUMMARY))
        report.count("discharge_summaries", rows.num_rows)
        names = [name for name in _NOTE_COLUMNS if name not in ("text", "category")]
        columns = (shared.plain_values(rows[name]).to_pylist() for name in names)
        for values, text in zip(zip(*columns, strict=True), rows["text"], strict=True):
            note = _note(dict(zip(names, values, strict=True)), report)
            if note is not None:
                yield note, text


def _note(row: Mapping[str, str], report: IngestReport) -> Note | None:
    """A row without its text, unless it cannot be used."""
    row_id = row["row_id"]
    if row["iserror"] == "1":
        report.drop("summary_marked_as_error", row_id)
    elif not is_number(row["hadm_id"]):
        report.drop("summary_without_hadm_id", row_id)
    elif not row["subject_id"]:
        report.drop("summary_without_subject_id", row_id)
    else:
        return Note(
            admission=int(row["hadm_id"]),
            patient_id=row["subject_id"],
            is_addendum=row["description"] != "Report",
            has_no_time=not row["charttime"],
            time=row["charttime"],
            date=row["chartdate"],
            row_id=int(row_id) if is_number(row_id) else None,
        )
    return None
