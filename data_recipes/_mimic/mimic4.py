"""What all recipes of MIMIC-IV share: discharge summaries of a hospital with the ICD codes of their admission.

Source: MIMIC-IV (v2.2 or v3.x, module hosp) and MIMIC-IV-Note (v2.2), PhysioNet.
Licence: PhysioNet Credentialed Health Data License 1.5.0; access for credentialed users after training in human
subjects research, see data_recipes/README.md. No file of it may leave your machine.

Files, .csv.gz or .csv, in ``data.raw``, its sub-folders hosp/ and note/, or up to two folders further down:

- note/discharge: note_id, subject_id, hadm_id, note_seq, text
- hosp/diagnoses_icd and hosp/procedures_icd: hadm_id, seq_num, icd_code, icd_version
- hosp/d_icd_diagnoses and hosp/d_icd_procedures: icd_code, icd_version, long_title; titles only, may be missing

Rules: one document for each admission (hadm_id) that has a summary; should an admission have several, they are
joined in the order of note_seq with a blank line between. Labels are the codes of one ICD version, diagnoses before
procedures, each in the order of seq_num, each once. Codes are text, stripped of blank padding. Documents come in the
order of the file, in which the rows of a patient stand together; an admission that turns up again after another
patient is a duplicate.
"""

from __future__ import annotations

import itertools
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from data_recipes import RawTable
from data_recipes._mimic import shared
from data_recipes._mimic.codes import CodeColumns, CodeTable
from data_recipes._mimic.codes import read_titles as read_titles_of
from data_recipes._mimic.shared import SINGULAR, CodeKind, is_number
from data_recipes._mimic.splits import PublishedSplits
from data_recipes._raw.csv_columns import read_raw_csv
from data_recipes._raw.files import need_raw_file, raw_file
from pipeline.icd.codes import CodeSystem
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport

N_SUMMARIES = 331_794
"""Rows of note/discharge in MIMIC-IV-Note 2.2."""

_WHAT = "the folder of MIMIC-IV that has hosp/ and note/"
_MIMIC3 = ("noteevents", "", "mimic3_full, mimic3_50 or mimic3_clean")
_COLUMNS = CodeColumns("icd_code", "icd_version")
_SUMMARY_COLUMNS = ("note_id", "subject_id", "hadm_id", "note_seq", "text")
_SYSTEMS: dict[tuple[int, CodeKind], CodeSystem] = {
    (10, "diagnoses"): "icd10cm",
    (10, "procedures"): "icd10pcs",
    (9, "diagnoses"): "icd9cm",
    (9, "procedures"): "icd9pcs",
}


class Options(shared.Options):
    """Settings of the recipes."""

    icd_version: Literal[10, 9] = Field(10, description="which codes; admissions without any are left out")


class Icd9Options(Options):
    """Settings of the recipes of ICD-9."""

    icd_version: Literal[9] = Field(9, description="which codes; admissions without any are left out")


class Icd10Options(Options):
    """Settings of the recipes of ICD-10."""

    icd_version: Literal[10] = Field(10, description="which codes; admissions without any are left out")


class _Summary(NamedTuple):
    note_id: str
    patient_id: str
    admission: str
    note_seq: str
    text: str


_patient_id = operator.attrgetter("patient_id")


def raw_files(raw: Path | None, options: Options) -> list[Path]:
    """The raw files that are read, see :class:`data_recipes.Recipe`."""
    return [] if raw is None else [table.path for table in _tables(raw, options)]


def raw_tables(raw: Path | None, options: Options) -> list[RawTable]:
    """The raw files with their columns, see :class:`data_recipes.RawTable`."""
    return _tables(_folder(raw), options)


def read(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Iterator[Document]:
    """Stream the documents, see :class:`data_recipes.Recipe`.

    Counted as dropped, beside broken rows and unusable codes: ``summary_without_hadm_id``,
    ``summary_without_subject_id``, ``duplicate_note_id`` and ``admission_without_codes_of_version``.
    Counted as changed: ``summaries_joined`` and ``principal_diagnosis_unknown``, where no usable diagnosis of that
    version has the sequence number 1.

    Raises:
        UserError: if a raw file or column is missing, damaged, or has a broken row, or the split is of other data.
    """
    folder = _folder(raw)
    notes = need_raw_file(folder, "discharge", folder="note")
    tables = {kind: need_raw_file(folder, f"{kind}_icd", folder="hosp") for kind in options.kinds()}
    splits = PublishedSplits(options.splits_path, report)
    codes = CodeTable(_COLUMNS, report, version=str(options.icd_version), on_bad_row=options.on_bad_row)
    for kind, path in tables.items():
        codes.add(path, _SYSTEMS[options.icd_version, kind], kind=SINGULAR[kind])
    for stay in _stays(_summaries(notes, options, report), report):
        labels = codes.labels_of(int(stay.admission))
        if not labels and codes.has_other_version(int(stay.admission)):
            report.drop("admission_without_codes_of_version", stay.admission)
        else:
            principal = codes.principal_of(int(stay.admission)) if labels else None
            split = splits.of(stay.admission)
            yield Document(stay.admission, stay.patient_id, stay.text, labels, split, principal=principal)
    splits.check(options.min_split_match)


def read_titles(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> dict[str, str]:
    """Titles of all codes that the title tables have, see :class:`data_recipes.Recipe`.

    A table that is missing gives no titles: some codes have none in any case.
    """
    titles: dict[str, str] = {}
    folder = _folder(raw)
    version = str(options.icd_version)
    for kind in options.kinds():
        path = raw_file(folder, f"d_icd_{kind}", folder="hosp")
        system = _SYSTEMS[options.icd_version, kind]
        titles |= read_titles_of(path, _COLUMNS, system, version=version, report=report, on_bad_row=options.on_bad_row)
    return titles


def _tables(folder: Path, options: Options) -> list[RawTable]:
    kinds = options.kinds()
    return [
        RawTable(raw_file(folder, "discharge", folder="note"), _SUMMARY_COLUMNS, n_rows=N_SUMMARIES),
        *(RawTable(raw_file(folder, f"{kind}_icd", folder="hosp"), _COLUMNS.of_codes()) for kind in kinds),
        *(RawTable(raw_file(folder, f"d_icd_{kind}", folder="hosp"), _COLUMNS.of_titles(), False) for kind in kinds),
        *([RawTable(options.splits_path)] if options.splits_path else []),
    ]


def _folder(raw: Path | None) -> Path:
    return shared.require_mimic(raw, _WHAT, table="discharge", folder="note", other=_MIMIC3)


def _summaries(path: Path, options: Options, report: IngestReport) -> Iterator[_Summary]:
    """The usable rows of the table of summaries."""
    for batch in read_raw_csv(path, _SUMMARY_COLUMNS, report=report, on_bad_row=options.on_bad_row):
        report.count("summaries", batch.num_rows)
        *ids, texts = batch.columns
        columns = (column.to_pylist() for column in (*map(shared.plain_values, ids), texts))
        for summary in map(_Summary._make, zip(*columns, strict=True)):
            if not is_number(summary.admission):
                report.drop("summary_without_hadm_id", summary.note_id)
            elif not summary.patient_id:
                report.drop("summary_without_subject_id", summary.note_id)
            else:
                yield summary


def _stays(summaries: Iterator[_Summary], report: IngestReport) -> Iterator[_Summary]:
    """Join the summaries of each admission; only one patient's are held at a time."""
    for _, rows in itertools.groupby(summaries, key=_patient_id):
        by_admission: dict[str, dict[str, _Summary]] = {}
        for summary in rows:
            notes = by_admission.setdefault(summary.admission, {})
            if summary.note_id in notes:
                report.drop("duplicate_note_id", summary.note_id)
            else:
                notes[summary.note_id] = summary
        for admission, notes in by_admission.items():
            if len(notes) > 1:
                report.change("summaries_joined", admission)
            yield _join(list(notes.values()))


def _join(notes: list[_Summary]) -> _Summary:
    if len(notes) == 1:
        return notes[0]
    ordered = sorted(notes, key=lambda note: int(note.note_seq) if is_number(note.note_seq) else sys.maxsize)
    return notes[0]._replace(text="\n\n".join(note.text for note in ordered if note.text.strip()))
