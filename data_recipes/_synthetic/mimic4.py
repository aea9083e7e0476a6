"""The raw files of a synthetic MIMIC-IV: the columns, the quoting and the ranges of ids of the real ones."""

from __future__ import annotations

import datetime
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_recipes._synthetic.notes import NoteWriter
from data_recipes._synthetic.patients import Stay, draw_stays
from data_recipes._synthetic.tables import P_UNTITLED, Tables, stored
from data_recipes._synthetic.vocabulary import Vocabulary, build_vocabulary, codes_of
from pipeline.icd.codes import undot

COLUMNS: dict[str, tuple[str, ...]] = {
    "hosp/patients": ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"),
    "hosp/admissions": (
        "subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type", "admit_provider_id",
        "admission_location", "discharge_location", "insurance", "language", "marital_status", "race",
        "edregtime", "edouttime", "hospital_expire_flag",
    ),
    "hosp/diagnoses_icd": ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"),
    "hosp/procedures_icd": ("subject_id", "hadm_id", "seq_num", "chartdate", "icd_code", "icd_version"),
    "hosp/d_icd_diagnoses": ("icd_code", "icd_version", "long_title"),
    "hosp/d_icd_procedures": ("icd_code", "icd_version", "long_title"),
    "note/discharge": (
        "note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text",
    ),
}  # fmt: skip
"""Tables and their columns, as in MIMIC-IV 2.2 and MIMIC-IV-Note 2.2."""

_SUBJECT_STEP = 30
MAX_DOCUMENTS = 500_000  # ids of so many patients fit into their range
_TIME = "%Y-%m-%d %H:%M:%S"
_FIRST_SUBJECT, _FIRST_ADMISSION, _N_IDS = 10_000_000, 20_000_000, 10_000_000
_ADMISSION_STEP = 6_180_339  # shares no factor with _N_IDS, so every admission gets an id of its own
_ERAS = (2011, 2014, 2017)  # first years of anchor_year_group, of three years each
_ERA_WEIGHTS = (12, 14, 74)
_FIRST_ICD10_YEAR = 2016
_P_WITHOUT_SUMMARY = 0.06  # admissions with codes but no summary


@dataclass(frozen=True)
class _Patient:
    subject_id: int
    sex: str
    anchor_age: int
    anchor_year: int  # shifted into the future, as all dates are
    era: int  # first of the three true years that anchor_year stands for


def write_mimic4(folder: Path, *, n_documents: int, n_codes: int, mean_words: int, seed: int) -> None:
    """Write the raw files of a synthetic MIMIC-IV.

    Args:
        folder: gets the sub-folders hosp/ and note/.
        n_documents: summaries; about a fifth of them of admissions that are coded in ICD-9.
        n_codes: different ICD-10-CM codes that may come up.
        mean_words: mean length of a summary.
        seed: of everything random. A larger corpus of the same seed begins as the smaller one does.
    """
    vocabulary = build_vocabulary(n_codes)
    notes = NoteWriter(vocabulary, mean_words)
    n_left, n_admissions = n_documents, 0
    with Tables(folder, COLUMNS) as tables, tqdm(total=n_documents, desc="synthetic notes", disable=None) as bar:
        for number in itertools.count():
            rng = random.Random(f"{seed} {number}")
            patient = _draw_patient(rng, number)
            stays = draw_stays(vocabulary, rng, patient.sex)
            n_notes = _add_patient(
                tables, patient, stays, notes=notes, rng=rng, n_admissions=n_admissions, n_left=n_left
            )
            n_admissions += len(stays)
            n_left -= n_notes
            bar.update(n_notes)
            if not n_left:
                break
        _add_titles(tables, vocabulary)


def _draw_patient(rng: random.Random, number: int) -> _Patient:
    return _Patient(
        subject_id=_FIRST_SUBJECT + number * _SUBJECT_STEP + rng.randrange(_SUBJECT_STEP),
        sex=rng.choice("FM"),
        anchor_age=rng.randint(35, 91),
        anchor_year=rng.randint(2110, 2200),
        era=rng.choices(_ERAS, _ERA_WEIGHTS)[0],
    )


def _add_patient(
    tables: Tables,
    patient: _Patient,
    stays: Sequence[Stay],
    *,
    notes: NoteWriter,
    rng: random.Random,
    n_admissions: int,
    n_left: int,
) -> int:
    """Write a patient with all stays; at most ``n_left`` of them get a summary. Gives how many do."""
    tables.add(
        "hosp/patients", patient.subject_id, patient.sex, patient.anchor_age, patient.anchor_year,
        f"{patient.era} - {patient.era + 2}", "",
    )  # fmt: skip
    n_notes, note_seq, year = 0, 1, rng.randrange(3)
    for place, stay in enumerate(stays):
        version = 9 if patient.era + year < _FIRST_ICD10_YEAR else 10
        admission = _FIRST_ADMISSION + (n_admissions + place) * _ADMISSION_STEP % _N_IDS
        admitted = datetime.datetime(patient.anchor_year + year, 1, 1) + datetime.timedelta(  # noqa: DTZ001
            minutes=rng.randrange(360 * 24 * 60)
        )
        discharged = admitted + datetime.timedelta(minutes=rng.randint(20 * 60, 12 * 24 * 60))
        ids = (patient.subject_id, admission)
        _add_admission(tables, ids, admitted, discharged, rng)
        _add_codes(tables, ids, stay, version=version, discharged=discharged, rng=rng)
        if n_notes < n_left and rng.random() >= _P_WITHOUT_SUMMARY:
            note_seq += rng.randint(1, 6)
            n_notes += 1
            day = discharged.strftime("%Y-%m-%d 00:00:00")
            stored = (discharged + datetime.timedelta(hours=rng.randint(2, 60))).strftime(_TIME)
            tables.add(
                "note/discharge", f"{patient.subject_id}-DS-{note_seq}", *ids, "DS",
                note_seq, day, stored, notes.write(rng, stay, patient.sex),
            )  # fmt: skip
        year += rng.randrange(2)
    return n_notes


def _add_admission(
    tables: Tables,
    ids: tuple[int, int],
    admitted: datetime.datetime,
    discharged: datetime.datetime,
    rng: random.Random,
) -> None:
    tables.add(
        "hosp/admissions", *ids, admitted.strftime(_TIME), discharged.strftime(_TIME), "",
        rng.choice(("EW EMER.", "URGENT", "OBSERVATION ADMIT", "DIRECT EMER.")),
        f"P{rng.randrange(1000, 10_000)}X{rng.choice('ABCDEF')}",
        rng.choice(("EMERGENCY ROOM", "PHYSICIAN REFERRAL", "TRANSFER FROM HOSPITAL")),
        rng.choice(("HOME", "HOME HEALTH CARE", "SKILLED NURSING FACILITY", "REHAB")),
        rng.choice(("Medicare", "Medicaid", "Other")), "ENGLISH",
        rng.choice(("MARRIED", "SINGLE", "WIDOWED", "DIVORCED", "")), "UNKNOWN", "", "", 0,
    )  # fmt: skip


def _add_codes(
    tables: Tables,
    ids: tuple[int, int],
    stay: Stay,
    *,
    version: int,
    discharged: datetime.datetime,
    rng: random.Random,
) -> None:
    for place, code in enumerate(codes_of(stay.diagnoses, version), start=1):
        tables.add("hosp/diagnoses_icd", *ids, place, stored(code, rng), version)
    for place, code in enumerate(codes_of(stay.procedures, version), start=1):
        tables.add("hosp/procedures_icd", *ids, place, discharged.strftime("%Y-%m-%d"), stored(code, rng), version)


def _add_titles(tables: Tables, vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    for (kind, version, code), title in sorted(vocabulary.titles.items()):
        if rng.random() >= P_UNTITLED:
            tables.add(f"hosp/d_icd_{kind}", undot(code), version, title)
