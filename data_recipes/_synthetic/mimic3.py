"""The raw files of a synthetic MIMIC-III: the columns, the quoting and the ranges of ids of the real ones.

Notes stand by category, as in the real table: an admission's are far apart, its summary, a second one and its
addenda too. Of every category there are as many for each admission with a summary as in the real table, so 52,726
such admissions give its 2,083,180 rows.
"""

from __future__ import annotations

import datetime
import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Never

from tqdm import tqdm

from data_recipes._synthetic.notes import NoteWriter
from data_recipes._synthetic.patients import Stay, draw_stays
from data_recipes._synthetic.tables import P_UNTITLED, Tables, stored
from data_recipes._synthetic.vocabulary import Vocabulary, build_vocabulary, codes_of
from pipeline.icd.codes import undot

COLUMNS: dict[str, tuple[str, ...]] = {
    "PATIENTS": ("ROW_ID", "SUBJECT_ID", "GENDER", "DOB", "DOD", "DOD_HOSP", "DOD_SSN", "EXPIRE_FLAG"),
    "ADMISSIONS": (
        "ROW_ID", "SUBJECT_ID", "HADM_ID", "ADMITTIME", "DISCHTIME", "DEATHTIME", "ADMISSION_TYPE",
        "ADMISSION_LOCATION", "DISCHARGE_LOCATION", "INSURANCE", "LANGUAGE", "RELIGION", "MARITAL_STATUS",
        "ETHNICITY", "EDREGTIME", "EDOUTTIME", "DIAGNOSIS", "HOSPITAL_EXPIRE_FLAG", "HAS_CHARTEVENTS_DATA",
    ),
    "DIAGNOSES_ICD": ("ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"),
    "PROCEDURES_ICD": ("ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"),
    "D_ICD_DIAGNOSES": ("ROW_ID", "ICD9_CODE", "SHORT_TITLE", "LONG_TITLE"),
    "D_ICD_PROCEDURES": ("ROW_ID", "ICD9_CODE", "SHORT_TITLE", "LONG_TITLE"),
    "NOTEEVENTS": (
        "ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "STORETIME", "CATEGORY", "DESCRIPTION", "CGID",
        "ISERROR", "TEXT",
    ),
}  # fmt: skip
"""Tables and their columns, as in MIMIC-III 1.4."""


class _Category(NamedTuple):
    """Notes of one category: as the real table has them, and about how long (words) they are there."""

    n_notes: int
    n_words: int
    description: str
    has_time: bool = True


CATEGORIES = {
    "Echo": _Category(45_794, 370, "Report", has_time=False),
    "ECG": _Category(209_051, 35, "Report", has_time=False),
    "Nursing": _Category(223_556, 330, "Nursing Progress Note"),
    "Physician ": _Category(141_624, 1250, "Physician Resident Progress Note"),
    "Rehab Services": _Category(5_431, 430, "Physical Therapy Evaluation Note"),
    "Case Management ": _Category(967, 280, "Case Management Initial Patient Assessment"),
    "Respiratory ": _Category(31_739, 200, "Respiratory Care Shift Note"),
    "Nutrition": _Category(9_418, 380, "Clinical Nutrition Note"),
    "General": _Category(8_301, 250, "Generic Note"),
    "Social Work": _Category(2_670, 470, "Social Work Progress Note"),
    "Pharmacy": _Category(103, 430, "Pharmacy Note"),
    "Consult": _Category(98, 1400, "Physician Consult Note"),
    "Radiology": _Category(522_279, 260, "CHEST (PORTABLE AP)"),
    "Nursing/other": _Category(822_497, 170, "Report"),
}
"""All categories but the discharge summaries, in the order of the table; some names end with a blank there."""

DISCHARGE = "Discharge summary"
N_ADMISSIONS, N_REPORTS, N_ADDENDA = 52_726, 55_177, 4_475  # with a summary; summaries of either kind
N_NOTES = N_REPORTS + N_ADDENDA + sum(one.n_notes for one in CATEGORIES.values())
MAX_DOCUMENTS = 80_000  # ids of so many admissions fit into their range

_N_UNCODED, _N_NULL_CODES, _N_ERRORS, _N_WITHOUT_ADMISSION = 4, 47, 886, 231_836
_WITHOUT_ADMISSION = ("ECG", "Radiology")  # where notes of outpatients stand
_WITH_ERRORS = ("Nursing", "Physician ")
_DISCHARGE_WORDS, _ADDENDUM_WORDS = 1500, 120  # of the real table
_P_WITHOUT_SUMMARY = 0.106
_FIRST_ADMISSION, _N_IDS, _ADMISSION_STEP = 100_001, 99_999, 61_804  # the step shares no factor with their number
_PLACEHOLDER = re.compile("___")
_PLACEHOLDERS = ("[**{}-{}-{}**]", "[**Hospital1 {2}**]", "[**Last Name (un) {2}**]", "[**Known lastname {2}**]")


@dataclass(frozen=True)
class _Admission:
    """An admission that has a summary."""

    subject_id: int
    hadm_id: int
    sex: str
    admitted: datetime.datetime
    discharged: datetime.datetime


def write_mimic3(folder: Path, *, n_documents: int, n_codes: int, mean_words: int, seed: int) -> None:
    """Write the raw files of a synthetic MIMIC-III.

    Args:
        folder: gets the tables.
        n_documents: admissions with a discharge summary; notes of other categories come on top.
        n_codes: different conditions that may come up; fewer ICD-9 codes, since some conditions share one.
        mean_words: mean length of a discharge summary; other notes are longer and shorter in proportion.
        seed: of everything random.
    """
    total = sum(_n_until(n_documents, n) for n in (N_REPORTS, N_ADDENDA, *(one.n_notes for one in CATEGORIES.values())))
    with (
        Tables(folder, COLUMNS, quoting="text") as tables,
        tqdm(total=total, desc="synthetic notes", disable=None) as bar,
    ):
        writer = _Writer(tables, bar, build_vocabulary(n_codes), mean_words=mean_words, seed=seed)
        admissions = writer.add_patients(n_documents)
        for name, category in CATEGORIES.items():
            writer.add_notes(name, category, admissions)
        writer.add_titles()


def _n_until(place: int, n_in_all: int) -> int:
    """How many of something that the real table has ``n_in_all`` of come before admission ``place``.

    Rounded up, so that the smallest corpus has one of everything.
    """
    return -(-place * n_in_all // N_ADMISSIONS)


def _has_one(place: int, n_in_all: int, n_places: int) -> bool:
    """Whether one of ``n_in_all`` rare events, spread evenly over ``n_places``, happens at ``place``."""
    return (place + 1) * n_in_all // n_places > place * n_in_all // n_places


class _Writer:
    """Fills the tables; knows the row numbers."""

    def __init__(self, tables: Tables, bar: tqdm[Never], vocabulary: Vocabulary, *, mean_words: int, seed: int) -> None:
        self._tables = tables
        self._bar = bar
        self._vocabulary = vocabulary
        self._notes = NoteWriter(vocabulary, mean_words)
        self._scale = mean_words / _DISCHARGE_WORDS
        self._seed = seed
        self._row_ids: dict[str, Iterator[int]] = {name: itertools.count(1) for name in COLUMNS}
        self._n_diagnoses = 0

    def add_patients(self, n_documents: int) -> list[_Admission]:
        """All patients with stays, codes and summaries; gives the admissions that have a summary."""
        admissions: list[_Admission] = []
        late: list[tuple[_Admission, Stay | None]] = []
        n_stays = 0
        for number in itertools.count():
            rng = random.Random(f"{self._seed} {number}")
            subject_id, sex = 2 + 2 * number + rng.randrange(2), rng.choice("FM")
            admitted = datetime.datetime(rng.randint(2100, 2200), 1, 1)  # noqa: DTZ001
            born = admitted.date() - datetime.timedelta(days=rng.randint(35 * 365, 90 * 365))
            self._add("PATIENTS", subject_id, sex, f"{born} 00:00:00", None, None, None, 0)
            for stay in draw_stays(self._vocabulary, rng, sex):
                admitted += datetime.timedelta(minutes=rng.randrange(300 * 24 * 60))
                admission = self._add_stay(rng, subject_id, n_stays, sex, admitted)
                admitted = admission.discharged
                n_stays += 1
                self._add_codes(rng, admission, stay, is_coded=not _has_one(len(admissions), _N_UNCODED, N_ADMISSIONS))
                if rng.random() < _P_WITHOUT_SUMMARY:
                    continue
                late += self._add_first_summary(rng, admission, stay, place=len(admissions))
                admissions.append(admission)
                if len(admissions) == n_documents:
                    self._add_late_summaries(late)
                    return admissions
        raise RuntimeError("patients ran out")

    def add_notes(self, name: str, category: _Category, admissions: list[_Admission]) -> None:
        """All notes of a category, in the order of the admissions."""
        rng = random.Random(f"{self._seed} {name}")
        n_outpatient = _N_WITHOUT_ADMISSION if name in _WITHOUT_ADMISSION else 0
        n_errors = _N_ERRORS if name in _WITH_ERRORS else 0
        number = 0
        for place, admission in enumerate(admissions):
            days = max(1, (admission.discharged - admission.admitted).days)
            for _ in range(_n_until(place + 1, category.n_notes) - _n_until(place, category.n_notes)):
                time = admission.admitted + datetime.timedelta(days=rng.randrange(days), minutes=rng.randrange(600))
                n_words = category.n_words * self._scale * rng.lognormvariate(-0.125, 0.5)
                self._add_note(
                    admission.subject_id,
                    None if _has_one(number, n_outpatient, _n_all(_WITHOUT_ADMISSION)) else admission.hadm_id,
                    time,
                    (name, category.description),
                    _masked(f"___ {time:%H:%M}\n{self._notes.write_filler(rng, n_words)}\n", rng),
                    has_time=category.has_time,
                    is_error=_has_one(number, n_errors, _n_all(_WITH_ERRORS)),
                )
                number += 1

    def add_titles(self) -> None:
        """The tables of titles; some codes are missing from them."""
        rng = random.Random(0)
        for (kind, version, code), title in sorted(self._vocabulary.titles.items()):
            if version == 9 and rng.random() >= P_UNTITLED:
                self._add(f"D_ICD_{kind.upper()}", undot(code), title[:24], title)

    def _add_stay(
        self, rng: random.Random, subject_id: int, number: int, sex: str, admitted: datetime.datetime
    ) -> _Admission:
        hadm_id = _FIRST_ADMISSION + number * _ADMISSION_STEP % _N_IDS
        discharged = admitted + datetime.timedelta(minutes=rng.randint(20 * 60, 20 * 24 * 60))
        self._add(
            "ADMISSIONS", subject_id, hadm_id, admitted, discharged, None, rng.choice(("EMERGENCY", "ELECTIVE")),
            rng.choice(("EMERGENCY ROOM ADMIT", "PHYS REFERRAL/NORMAL DELI")), rng.choice(("HOME", "SNF", "REHAB")),
            rng.choice(("Medicare", "Private", "Medicaid")), "ENGL", "NOT SPECIFIED",
            rng.choice(("MARRIED", "SINGLE")), "UNKNOWN/NOT SPECIFIED", None, None, "", 0, 1,
        )  # fmt: skip
        return _Admission(subject_id, hadm_id, sex, admitted, discharged)

    def _add_codes(self, rng: random.Random, admission: _Admission, stay: Stay, *, is_coded: bool) -> None:
        ids = (admission.subject_id, admission.hadm_id)
        if not is_coded:
            self._add("DIAGNOSES_ICD", *ids, None, None)
            return
        for place, code in enumerate(codes_of(stay.diagnoses, 9), start=1):
            self._add("DIAGNOSES_ICD", *ids, place, stored(code, rng))
        for place, code in enumerate(codes_of(stay.procedures, 9), start=1):
            self._add("PROCEDURES_ICD", *ids, place, stored(code, rng))
        if _has_one(admission.hadm_id - _FIRST_ADMISSION, _N_NULL_CODES, _N_IDS):
            self._add("DIAGNOSES_ICD", *ids, None, None)

    def _add_first_summary(
        self, rng: random.Random, admission: _Admission, stay: Stay, *, place: int
    ) -> list[tuple[_Admission, Stay | None]]:
        """A summary, every other time behind its addendum; gives what is to come at the end (None: an addendum)."""
        n_more = _n_until(place + 1, N_REPORTS) - _n_until(place, N_REPORTS) - 1
        n_addenda = _n_until(place + 1, N_ADDENDA) - _n_until(place, N_ADDENDA)
        if n_addenda and place % 2 == 0:
            self._add_addendum(rng, admission)
            n_addenda -= 1
        self._add_summary(rng, admission, stay)
        return [(admission, stay)] * n_more + [(admission, None)] * n_addenda

    def _add_late_summaries(self, late: list[tuple[_Admission, Stay | None]]) -> None:
        rng = random.Random(f"{self._seed} late")
        for admission, stay in late:
            if stay is None:
                self._add_addendum(rng, admission)
            else:
                self._add_summary(rng, admission, stay)

    def _add_summary(self, rng: random.Random, admission: _Admission, stay: Stay) -> None:
        self._add_discharge(rng, admission, "Report", self._notes.write(rng, stay, admission.sex))

    def _add_addendum(self, rng: random.Random, admission: _Admission) -> None:
        filler = self._notes.write_filler(rng, _ADDENDUM_WORDS * self._scale)
        self._add_discharge(rng, admission, "Addendum", f"Admission Date:  ___\n\nADDENDUM:\n{filler}\n")

    def _add_discharge(self, rng: random.Random, admission: _Admission, description: str, text: str) -> None:
        day = admission.discharged + datetime.timedelta(days=rng.randrange(3))
        ids = (admission.subject_id, admission.hadm_id)
        self._add_note(*ids, day, (DISCHARGE, description), _masked(text, rng), has_time=False)

    def _add_note(
        self,
        subject_id: int,
        hadm_id: int | None,
        time: datetime.datetime,
        kind: tuple[str, str],
        text: str,
        *,
        has_time: bool,
        is_error: bool = False,
    ) -> None:
        times = (time, time + datetime.timedelta(minutes=9)) if has_time else (None, None)
        caregiver = 14_000 + time.minute if has_time else None
        self._add(
            "NOTEEVENTS", subject_id, hadm_id, time.date(), *times, *kind, caregiver, 1 if is_error else None, text
        )
        self._bar.update()

    def _add(self, name: str, *values: object) -> None:
        self._tables.add(name, next(self._row_ids[name]), *values)


def _n_all(names: tuple[str, ...]) -> int:
    return sum(CATEGORIES[name].n_notes for name in names)


def _masked(text: str, rng: random.Random) -> str:
    """A text with the marks of de-identification that MIMIC-III has instead of those of MIMIC-IV."""
    return _PLACEHOLDER.sub(lambda _: _mask(rng), text)


def _mask(rng: random.Random) -> str:
    numbers = (2100 + rng.randrange(100), rng.randint(1, 12), rng.randint(1, 28))
    return rng.choice(_PLACEHOLDERS).format(*numbers)
