"""Codes by admission and their titles, from the tables of MIMIC: small enough for a laptop at full size.

The code tables have one row for each code, millions of rows in MIMIC-IV. Kept of each row are an admission and the
code's number in the list of different labels, sorted once by admission: 12 bytes a row.
"""

from __future__ import annotations

import array
import bisect
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_recipes._mimic.shared import plain_values
from data_recipes._raw.code_checks import check_leading_zeros
from data_recipes._raw.csv_columns import OnBadRow, read_raw_csv
from pipeline.errors import UserError
from pipeline.icd.codes import CodeSystem, make_label, normalise
from pipeline.notes.ingest_report import IngestReport

_NUMBER = r"^[0-9]{1,18}$"
_LAST = np.iinfo(np.int64).max  # place of a code without seq_num
_VERSIONS = pa.array(["9", "10"])
_Part = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]  # admission, place, label number
_MISSING, _MALFORMED = -1, -2
_NOTHING = np.empty(0, dtype=np.int64)


class _Grouped(NamedTuple):
    """The codes of one table: those of ``admissions[i]`` are ``codes[starts[i]:starts[i + 1]]``."""

    admissions: array.array[int]
    starts: array.array[int]
    codes: array.array[int]


class CodeColumns(NamedTuple):
    """How tables name the column of codes, and of the ICD version if they have one."""

    code: str
    version: str | None

    def of_codes(self) -> tuple[str, ...]:
        """Columns that a table of codes must have."""
        return ("hadm_id", "seq_num", self.code, *([self.version] if self.version else []))

    def of_titles(self) -> tuple[str, ...]:
        """Columns that a table of titles must have."""
        return (self.code, "long_title", *([self.version] if self.version else []))


class CodeTable:
    """The labels of every admission.

    Args:
        columns: how the tables name the column of codes and, if they hold several versions, that of the version.
        report: is told how many rows were read, how many codes kept, and which could not be used.
        version: of the codes that are kept; None if the tables hold one version only.
        on_bad_row: see :func:`data_recipes._raw.csv_columns.read_raw_csv`.
        spell: gives a code its canonical form; another one than :func:`normalise` imitates a published data set.
    """

    def __init__(
        self,
        columns: CodeColumns,
        report: IngestReport,
        *,
        version: str | None = None,
        on_bad_row: OnBadRow,
        spell: Callable[[str, CodeSystem], str] = normalise,
    ) -> None:
        self._columns = columns
        self._version = version
        self._report = report
        self._on_bad_row = on_bad_row
        self._spell = spell
        self._labels: list[str] = []  # by number
        self._number_of: dict[str, int] = {}
        self._numbers: dict[tuple[CodeSystem, str], int] = {}  # of a code as the tables have it, several a label
        self._tables: list[_Grouped] = []
        self._principals: tuple[array.array[int], array.array[int]] | None = None  # admissions, numbers of their labels
        self._other_version = _NOTHING
        self._other_admissions = _packed(self._other_version)

    def add(self, path: Path, system: CodeSystem, *, kind: str) -> None:
        """Read a table; in every admission its codes come after those of the tables added before.

        Rows without a usable admission or code are counted as dropped, by reason.

        Args:
            path: CSV with columns hadm_id, seq_num and ``columns``.
            system: code system of the rows that are kept.
            kind: what the codes are, for the counts, such as "diagnosis".

        Raises:
            UserError: if the table cannot be read, or its ICD-9 codes have lost their leading zeros.
        """
        admissions, places, codes = _joined(self._read(path, system, kind))
        order = np.lexsort((places, admissions))  # stable: equal places stay in the order of the file
        admissions, places, codes = admissions[order], places[order], codes[order]
        if kind == "diagnosis":
            with_one, at = np.unique(admissions[places == 1], return_index=True)
            self._principals = _packed(with_one), _packed(codes[places == 1][at])
        unique, starts = np.unique(admissions, return_index=True)
        self._tables.append(_Grouped(_packed(unique), _packed(np.append(starts, len(admissions))), _packed(codes)))
        self._report.count(f"{kind}_codes", len(codes))
        check_leading_zeros(path, system, len(codes), has_zeros=self._has_leading_zeros(system))

    def labels_of(self, admission: int) -> list[str]:
        """Labels of an admission, each once, in the order of their sequence numbers."""
        codes: list[int] = []
        for table in self._tables:
            at = _find(table.admissions, admission)
            if at is not None:
                codes.extend(table.codes[table.starts[at] : table.starts[at + 1]])
        return [self._labels[code] for code in dict.fromkeys(codes)]

    def principal_of(self, admission: int) -> str | None:
        """Label of an admission's diagnosis of sequence number 1; None, counted, where that is missing or unusable.

        None as well, not counted, where no table of diagnoses was read.
        """
        if self._principals is None:
            return None
        admissions, codes = self._principals
        at = _find(admissions, admission)
        if at is None:
            self._report.change("principal_diagnosis_unknown", str(admission))
        return None if at is None else self._labels[codes[at]]

    def most_frequent(self, admissions: Iterable[int], n_labels: int) -> set[str]:
        """The labels that most of some admissions have; ties go to the label that sorts first."""
        counts = Counter(label for admission in admissions for label in self.labels_of(admission))
        return set(sorted(counts, key=lambda label: (-counts[label], label))[:n_labels])

    def has_other_version(self, admission: int) -> bool:
        """Whether an admission has codes of another version than the one kept."""
        if len(self._other_admissions) != len(self._other_version):
            self._other_admissions = _packed(self._other_version)
        return _find(self._other_admissions, admission) is not None

    def _has_leading_zeros(self, system: CodeSystem) -> bool:
        return any(code.startswith("0") for of, code in self._numbers if of == system)

    def _read(self, path: Path, system: CodeSystem, kind: str) -> Iterator[_Part]:
        """Admission, place and label number of every usable row, batch by batch."""
        for batch in read_raw_csv(path, self._columns.of_codes(), report=self._report, on_bad_row=self._on_bad_row):
            self._report.count(f"{kind}_rows", batch.num_rows)
            rows = _trimmed(batch, self._columns.code)
            rows = self._keep(rows, pc.match_substring_regex(rows["hadm_id"], _NUMBER), "code_without_hadm_id")
            rows = self._of_version(rows)
            rows = rows.append_column("label", pa.array(self._label_numbers(rows[self._columns.code], system)))
            rows = self._keep(rows, pc.not_equal(rows["label"], _MISSING), "code_missing")
            rows = self._keep(rows, pc.not_equal(rows["label"], _MALFORMED), "code_malformed")
            yield _integers(rows["hadm_id"]), self._places(rows), np.asarray(rows["label"])

    def _of_version(self, rows: pa.Table) -> pa.Table:
        """The rows of the version asked for; remembers which admissions have others."""
        column = self._columns.version
        if column is None:
            return rows
        rows = self._keep(rows, pc.is_in(rows[column], _VERSIONS), "code_version_unknown")
        is_wanted = pc.equal(rows[column], self._version)
        others = _integers(rows.filter(pc.invert(is_wanted))["hadm_id"])
        self._other_version = np.union1d(self._other_version, others)
        return rows.filter(is_wanted)

    def _keep(self, rows: pa.Table, is_usable: pa.ChunkedArray, reason: str) -> pa.Table:
        """The usable rows; the others are counted, by admission."""
        for admission in rows["hadm_id"].filter(pc.invert(is_usable)).to_pylist():
            self._report.drop(reason, admission if admission.isdigit() else None)
        return rows.filter(is_usable)

    def _label_numbers(self, codes: pa.ChunkedArray, system: CodeSystem) -> NDArray[np.int32]:
        """The number of each row's label; negative where the code cannot be used."""
        encoded = codes.combine_chunks().dictionary_encode()
        numbers = [self._label_number(code, system) for code in encoded.dictionary.to_pylist()]
        of_row: NDArray[np.int32] = np.asarray(numbers, dtype=np.int32)[encoded.indices.to_numpy()]
        return of_row

    def _label_number(self, code: str, system: CodeSystem) -> int:
        key = (system, code)
        if key not in self._numbers:
            try:
                label = make_label(system, self._spell(code, system))
            except UserError:
                return _MALFORMED if code else _MISSING
            if label not in self._number_of:
                self._number_of[label] = len(self._labels)
                self._labels.append(label)
            self._numbers[key] = self._number_of[label]
        return self._numbers[key]

    def _places(self, rows: pa.Table) -> NDArray[np.int64]:
        """The sequence number of each row; rows without one go last."""
        has_place = pc.match_substring_regex(rows["seq_num"], _NUMBER)
        for admission in rows["hadm_id"].filter(pc.invert(has_place)).to_pylist():
            self._report.change("code_without_seq_num", admission)
        return _integers(pc.if_else(has_place, rows["seq_num"], str(_LAST)))


def read_titles(
    path: Path,
    columns: CodeColumns,
    system: CodeSystem,
    *,
    version: str | None = None,
    report: IngestReport,
    on_bad_row: OnBadRow,
    spell: Callable[[str, CodeSystem], str] = normalise,
) -> dict[str, str]:
    """Label -> title from a table of titles; a label that two codes share by their spelling has none.

    Args:
        path: CSV with ``columns`` and long_title; where there is no file, there are no titles.
        columns: see :class:`CodeColumns`.
        system: of the codes that are kept.
        version: of the codes that are kept; None if the table holds one version only.
        report: rows left out are counted there.
        on_bad_row: see :func:`data_recipes._raw.csv_columns.read_raw_csv`.
        spell: how labels are written, see :class:`CodeTable`.
    """
    titles: dict[str, str] = {}
    code_of: dict[str, str] = {}
    shared: set[str] = set()
    if not path.is_file():
        return titles
    for batch in read_raw_csv(path, columns.of_titles(), report=report, on_bad_row=on_bad_row):
        codes, names, *versions = batch.columns
        read = (column.to_pylist() for column in (codes, names, *map(plain_values, versions)))
        for code, title, *of_version in zip(*read, strict=True):
            if title.strip() and of_version == ([version] if columns.version else []):
                with contextlib.suppress(UserError):  # a heading of the table, not a code
                    label, canonical = make_label(system, spell(code, system)), normalise(code, system)
                    titles[label] = title.strip()
                    if code_of.setdefault(label, canonical) != canonical:
                        shared.add(label)
    return {label: title for label, title in titles.items() if label not in shared}


def _trimmed(batch: pa.RecordBatch, code: str) -> pa.Table:
    """The batch as a table without blanks around values, see :func:`plain_values`: codes may be padded."""
    return pa.table({
        name: pc.utf8_trim_whitespace(batch[name]) if name == code else plain_values(batch[name])
        for name in batch.schema.names
    })  # fmt: skip


def _joined(parts: Iterator[_Part]) -> _Part:
    """All parts of a table, one after the other."""
    columns = list(zip(*parts, strict=True)) or [()] * 3
    empty = np.empty(0, dtype=np.int64)
    admissions, places, codes = (np.concatenate(column or [empty]) for column in columns)
    return admissions, places, codes.astype(np.int32)


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()))


def _packed(values: NDArray[np.integer]) -> array.array[int]:
    """The same numbers, as small as in NumPy, but quick to look up one by one from Python."""
    return array.array(values.dtype.char, values.tobytes())


def _find(ordered: array.array[int], value: int) -> int | None:
    at = bisect.bisect_left(ordered, value)
    return at if at < len(ordered) and ordered[at] == value else None
