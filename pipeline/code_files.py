"""Files of proposed codes, streamed: what ``icd predict`` writes and :mod:`pipeline.code_reading` reads."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.files import guarded_io
from pipeline.spans import Span

SUFFIXES = (".csv", ".jsonl", ".parquet")
CodedDocument = tuple[str, list["Code"]]


@dataclass(frozen=True)
class Code:
    """One proposed code of a document.

    Attributes:
        rank: 1 for the most probable.
        code_system, code: "icd10cm", "I10".
        title: in words, or None.
        probability: in [0, 1].
        is_predicted: whether the probability reaches the classifier's threshold.
        evidence: spans of the text as given that the code rests on, highest score first; None where not asked for.
    """

    rank: int
    code_system: str
    code: str
    title: str | None
    probability: float
    is_predicted: bool
    evidence: tuple[Span, ...] | None = None


_CODE_FIELDS = (
    ("rank", pa.int32()),
    ("code_system", pa.string()),
    ("code", pa.string()),
    ("title", pa.string()),
    ("probability", pa.float32()),
    ("is_predicted", pa.bool_()),
)
_SPAN_TYPE = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("section", pa.string()),
        ("score", pa.float32()),
        ("source", pa.string()),
        ("sentence_start", pa.int32()),
        ("sentence_end", pa.int32()),
    ]
)
CSV_HEADER = ("document_id", *(name for name, _ in _CODE_FIELDS))


def _codes_schema(has_evidence: bool) -> pa.Schema:
    evidence = [("evidence", pa.list_(_SPAN_TYPE))] if has_evidence else []
    return pa.schema([("document_id", pa.string()), ("codes", pa.list_(pa.struct([*_CODE_FIELDS, *evidence])))])


def _code_row(code: Code) -> dict[str, Any]:
    """A code as it stands in .jsonl and .parquet."""
    row = {name: getattr(code, name) for name, _ in _CODE_FIELDS}
    if code.evidence is not None:
        row["evidence"] = [_span_row(span) for span in code.evidence]
    return row


def _span_row(span: Span) -> dict[str, Any]:
    start, end = span.sentence or (None, None)
    row = {name: getattr(span, name) for name in ("start", "end", "section", "source")}
    return row | {"score": round(span.score, 4), "sentence_start": start, "sentence_end": end}


@contextlib.contextmanager
def writing_codes(path: Path, *, has_evidence: bool = False) -> Iterator[CodesWriter]:
    """Open a codes file by its suffix; it appears under its name only when whole.

    A .csv has one row a code; a document without any has one row with empty code columns. A .jsonl or .parquet has
    one row a document with a list of codes. With evidence a code also has the list of its spans (start, end, section,
    score, source, sentence_start, sentence_end), which a .csv holds as JSON in one more column.

    Raises:
        UserError: if the suffix is unknown, the folder is missing, or the disk is full.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"--output {path}: unknown kind of file {path.suffix!r}; expected {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: the folder {path.parent} does not exist; make it first.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with guarded_io(path):
            with _WRITERS[path.suffix](temporary, has_evidence) as writer:
                yield writer
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class CodesWriter:
    """Writes documents with their codes."""

    def add(self, document_id: str, codes: Sequence[Code]) -> None:
        """Write one document."""
        raise NotImplementedError

    def __enter__(self) -> CodesWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.close()
        except (pa.ArrowInvalid, OSError):
            if exception[0] is None:  # else the first error says more, such as of a full disk
                raise

    def close(self) -> None:
        """Finish the file."""
        raise NotImplementedError


class _CsvWriter(CodesWriter):
    def __init__(self, path: Path, has_evidence: bool) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._has_evidence = has_evidence
        self._rows.writerow([*CSV_HEADER, *(["evidence"] if has_evidence else [])])

    def add(self, document_id: str, codes: Sequence[Code]) -> None:
        for code in codes:
            row = [document_id, code.rank, code.code_system, code.code, code.title or "",
                   f"{code.probability:.6f}", int(code.is_predicted)]  # fmt: skip
            if self._has_evidence:
                row.append(json.dumps([_span_row(span) for span in code.evidence or ()], separators=(",", ":")))
            self._rows.writerow(row)
        if not codes:
            self._rows.writerow([document_id, *[""] * (len(_CODE_FIELDS) + self._has_evidence)])

    def close(self) -> None:
        self._file.close()


class _JsonlWriter(CodesWriter):
    def __init__(self, path: Path, has_evidence: bool) -> None:
        del has_evidence  # every code brings its own
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def add(self, document_id: str, codes: Sequence[Code]) -> None:
        row = {"document_id": document_id, "codes": [_code_row(code) for code in codes]}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _ParquetWriter(CodesWriter):
    def __init__(self, path: Path, has_evidence: bool) -> None:
        self._schema = _codes_schema(has_evidence)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, document_id: str, codes: Sequence[Code]) -> None:
        self._rows.append({"document_id": document_id, "codes": [_code_row(code) for code in codes]})
        if len(self._rows) == 1024:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


_WRITERS: dict[str, type[Any]] = {".csv": _CsvWriter, ".jsonl": _JsonlWriter, ".parquet": _ParquetWriter}
