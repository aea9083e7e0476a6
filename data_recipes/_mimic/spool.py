"""Notes by admission, from a table in which an admission's notes are far apart: texts on disk, the rest in memory.

The file on disk has no name, so nothing of it is left behind, however the process ends.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from pipeline.notes.ingest_report import IngestReport


class Note(NamedTuple):
    """A note without its text; notes of an admission are ordered by these fields, from ``is_addendum`` on.

    Attributes:
        admission: HADM_ID.
        patient_id: SUBJECT_ID.
        is_addendum: whether it comes after the reports.
        has_no_time: whether it comes after those with a time.
        time: CHARTTIME, as text that sorts by time.
        date: CHARTDATE, likewise.
        row_id: ROW_ID; None for one that is no number, which comes last.
    """

    admission: int
    patient_id: str
    is_addendum: bool
    has_no_time: bool
    time: str
    date: str
    row_id: int | None


class Stay(NamedTuple):
    """All notes of an admission, joined."""

    admission: int
    patient_id: str
    text: str


class NoteSpool:
    """Collects notes in any order and gives them back by admission; see :func:`note_spool`.

    Args:
        file: for the texts.
        report: is told which notes are left out or joined.
    """

    def __init__(self, file: BinaryIO, report: IngestReport) -> None:
        self._file = file
        self._n_bytes = 0
        self._report = report
        self._notes: dict[int, list[tuple[Note, int, int]]] = {}  # with place and length of the text, in bytes
        self._row_ids: set[int] = set()

    def add(self, note: Note, text: pa.StringScalar) -> None:
        """Keep a note, unless its row was there before or its admission is another patient's."""
        known = self._notes.get(note.admission, [])
        if note.row_id in self._row_ids:
            self._report.drop("duplicate_note_id", str(note.row_id))
        elif known and known[0][0].patient_id != note.patient_id:
            self._report.drop("summary_of_another_patient", str(note.row_id))
        else:
            buffer = text.as_buffer()
            self._notes.setdefault(note.admission, []).append((note, self._n_bytes, buffer.size))
            self._n_bytes += self._file.write(buffer)
            if note.row_id is not None:
                self._row_ids.add(note.row_id)

    def admissions(self) -> Iterator[int]:
        """All admissions, in the order of their first note."""
        return iter(self._notes)

    def stays(self) -> Iterator[Stay]:
        """The notes of every admission in their order, joined by a space; in the order of :meth:`admissions`."""
        for admission, notes in self._notes.items():
            if len(notes) > 1:
                self._report.change("summaries_joined", str(admission))
            ordered = sorted(notes, key=lambda one: _place(one[0]))
            text = " ".join(self._read(place, n_bytes) for _, place, n_bytes in ordered)
            yield Stay(admission, notes[0][0].patient_id, text)

    def _read(self, place: int, n_bytes: int) -> str:
        self._file.seek(place)
        return self._file.read(n_bytes).decode()


@contextlib.contextmanager
def note_spool(scratch_dir: Path, report: IngestReport) -> Iterator[NoteSpool]:
    """A spool with a file of its own in ``scratch_dir``, which goes away with it."""
    scratch_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch_dir) as file:
        yield NoteSpool(file, report)


def _place(note: Note) -> tuple[bool, bool, str, str, bool, int]:
    return (*note[2:6], note.row_id is None, note.row_id or 0)
