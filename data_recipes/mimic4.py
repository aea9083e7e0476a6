"""MIMIC-IV: discharge summaries of a Boston hospital with the ICD codes of their admission.

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
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from data_recipes import require_raw
from data_recipes._csv import OnBadRow, need_raw_file, raw_file, read_raw_csv
from data_recipes._mimic_codes import CodeTable
from pipeline.codes import CodeSystem, make_label, normalise
from pipeline.documents import Document, IngestReport
from pipeline.errors import UserError
from pipeline.settings import Section

CodeKind = Literal["diagnoses", "procedures"]

PUBLISHED: Mapping[str, int] = {"summaries": 331_794}
"""Rows of note/discharge in MIMIC-IV-Note 2.2. Other published counts are of later stages: codes in at least ten
admissions, published splits."""

IS_SEQUENCED = True
"""The first diagnosis of a document is the principal one."""

_WHAT = "the folder of MIMIC-IV that has hosp/ and note/"
_KINDS: tuple[tuple[CodeKind, str], ...] = (("diagnoses", "diagnosis"), ("procedures", "procedure"))
_SYSTEMS: dict[tuple[int, CodeKind], CodeSystem] = {
    (10, "diagnoses"): "icd10cm",
    (10, "procedures"): "icd10pcs",
    (9, "diagnoses"): "icd9cm",
    (9, "procedures"): "icd9pcs",
}


class Options(Section):
    """Settings of the recipe."""

    icd_version: Literal[10, 9] = Field(10, description="which codes; admissions without any are left out")
    code_kinds: tuple[CodeKind, ...] = Field(("diagnoses", "procedures"), min_length=1, description="which code tables")
    on_bad_row: OnBadRow = Field(
        "error", description="a row with a broken quote or wrong number of fields: stop, or skip and count"
    )


class _Summary(NamedTuple):
    note_id: str
    patient_id: str
    admission: str
    note_seq: str
    text: str


def raw_files(raw: Path | None, options: Options) -> list[Path]:
    """The raw files that are read, see :class:`data_recipes.Recipe`."""
    if raw is None:
        return []
    kinds = _kinds(options)
    return [
        raw_file(raw, "discharge", folder="note"),
        *(raw_file(raw, f"{kind}_icd", folder="hosp") for kind, _ in kinds),
        *(raw_file(raw, f"d_icd_{kind}", folder="hosp") for kind, _ in kinds),
    ]


def read(raw: Path | None, options: Options, report: IngestReport, scratch_dir: Path) -> Iterator[Document]:
    """Stream the documents, see :class:`data_recipes.Recipe`.

    Counted as dropped, beside broken rows and unusable codes: ``summary_without_hadm_id``,
    ``summary_without_subject_id``, ``duplicate_note_id`` and ``admission_without_codes_of_version``.
    Counted as changed: ``summaries_joined``.

    Raises:
        UserError: if a raw file or column is missing, damaged, or has a broken row.
    """
    folder = require_raw(raw, _WHAT)
    notes = need_raw_file(folder, "discharge", folder="note")
    tables = {kind: need_raw_file(folder, f"{kind}_icd", folder="hosp") for kind, _ in _kinds(options)}
    codes = CodeTable(str(options.icd_version), report, on_bad_row=options.on_bad_row)
    for kind, name in _kinds(options):
        codes.add(tables[kind], _SYSTEMS[options.icd_version, kind], kind=name)
    for stay in _stays(_summaries(notes, options, report), report):
        labels = codes.labels_of(int(stay.admission))
        if not labels and codes.has_other_version(int(stay.admission)):
            report.drop("admission_without_codes_of_version", stay.admission)
        else:
            yield Document(stay.admission, stay.patient_id, stay.text, labels)


def read_titles(raw: Path | None, options: Options, scratch_dir: Path) -> dict[str, str]:
    """Titles of all codes that the title tables have, see :class:`data_recipes.Recipe`.

    A table that is missing gives no titles: some codes have none in any case.
    """
    titles: dict[str, str] = {}
    folder = require_raw(raw, _WHAT)
    for kind, _ in _kinds(options):
        path = raw_file(folder, f"d_icd_{kind}", folder="hosp")
        if path.is_file():
            titles |= dict(_titles(path, _SYSTEMS[options.icd_version, kind], options))
    return titles


def _kinds(options: Options) -> list[tuple[CodeKind, str]]:
    return [(kind, name) for kind, name in _KINDS if kind in options.code_kinds]


def _titles(path: Path, system: CodeSystem, options: Options) -> Iterator[tuple[str, str]]:
    columns = ("icd_code", "icd_version", "long_title")
    for batch in read_raw_csv(path, columns, report=IngestReport(), on_bad_row=options.on_bad_row):
        for code, version, title in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if version.strip() != str(options.icd_version) or not title.strip():
                continue
            try:
                yield make_label(system, normalise(code, system)), title.strip()
            except UserError:  # a heading of the table, not a code
                continue


def _summaries(path: Path, options: Options, report: IngestReport) -> Iterator[_Summary]:
    """The usable rows of the table of summaries."""
    columns = ("note_id", "subject_id", "hadm_id", "note_seq", "text")
    for batch in read_raw_csv(path, columns, report=report, on_bad_row=options.on_bad_row):
        report.count("summaries", batch.num_rows)
        *ids, texts = (column.to_pylist() for column in batch.columns)
        for note_id, subject_id, hadm_id, note_seq, text in zip(*ids, texts, strict=True):
            summary = _Summary(note_id.strip(), subject_id.strip(), hadm_id.strip(), note_seq.strip(), text)
            if not _is_number(summary.admission):
                report.drop("summary_without_hadm_id", summary.note_id)
            elif not summary.patient_id:
                report.drop("summary_without_subject_id", summary.note_id)
            else:
                yield summary


def _stays(summaries: Iterator[_Summary], report: IngestReport) -> Iterator[_Summary]:
    """Join the summaries of each admission; only one patient's are held at a time."""
    for _, rows in itertools.groupby(summaries, key=lambda summary: summary.patient_id):
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
    ordered = sorted(notes, key=lambda note: int(note.note_seq) if _is_number(note.note_seq) else sys.maxsize)
    return notes[0]._replace(text="\n\n".join(note.text for note in ordered if note.text.strip()))


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 19
