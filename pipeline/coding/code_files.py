"""Files of proposed codes, streamed: what ``icd predict`` writes and :mod:`pipeline.coding.code_reading` reads."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.files import csv_cell, guarded_io, replacing
from pipeline.notes.spans import Span

SUFFIXES = (".csv", ".jsonl", ".parquet")


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


class CodedDocument(NamedTuple):
    """A document with its codes, as a file of codes gives it.

    Attributes:
        document_id: unique in the file.
        codes: most probable first.
        text_digest: :func:`text_digest` of the text that was coded, which offsets of evidence refer to; None where the
            file has none.
    """

    document_id: str
    codes: list[Code]
    text_digest: str | None = None


def text_digest(text: str) -> str:
    """What tells one version of a text from another: the first 16 hexadecimal digits of its SHA-256.

    Example:
        >>> text_digest("fever") == text_digest("fever ")
        False
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
_DIGEST, _EVIDENCE = "text_digest", "evidence"


def _codes_schema(has_evidence: bool) -> pa.Schema:
    evidence = [(_EVIDENCE, pa.list_(_SPAN_TYPE))] if has_evidence else []
    codes = pa.list_(pa.struct([*_CODE_FIELDS, *evidence]))
    return pa.schema([("document_id", pa.string()), (_DIGEST, pa.string()), ("codes", codes)])


def _document_row(document_id: str, codes: Sequence[Code], digest: str | None) -> dict[str, Any]:
    """A document as it stands in .jsonl and .parquet."""
    return {"document_id": document_id, _DIGEST: digest, "codes": [_code_row(code) for code in codes]}


def _code_row(code: Code) -> dict[str, Any]:
    """A code as it stands in .jsonl and .parquet."""
    row = {name: getattr(code, name) for name, _ in _CODE_FIELDS}
    if code.evidence is not None:
        row[_EVIDENCE] = [_span_row(span) for span in code.evidence]
    return row


def _span_row(span: Span) -> dict[str, Any]:
    start, end = span.sentence or (None, None)
    row = {name: getattr(span, name) for name in ("start", "end", "section", "source")}
    return row | {"score": round(span.score, 4), "sentence_start": start, "sentence_end": end}


@contextlib.contextmanager
def writing_codes(path: Path, *, has_evidence: bool = False) -> Iterator[CodesWriter]:
    """Open a codes file by its suffix; it appears under its name only when whole, readable by its owner alone.

    A .csv has one row a code; a document without any has one row with empty code columns. A .jsonl or .parquet has
    one row a document with a list of codes. Beside each document stands the digest of the text that was coded. With
    evidence a code also has the list of its spans (start, end, section, score, source, sentence_start, sentence_end),
    which a .csv holds as JSON in one more column. Texts of a .csv are those of :func:`pipeline.files.csv_cell`.

    Raises:
        UserError: if the suffix is unknown, the folder is missing, or the disk is full.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"--output {path}: unknown kind of file {path.suffix!r}; expected {', '.join(SUFFIXES)}.")
    if not path.resolve().parent.is_dir():
        raise UserError(f"--output {path}: the folder {path.resolve().parent} does not exist; make it first.")
    target = path.resolve()  # of a link, so that it stays one
    with guarded_io(path), replacing(target) as temporary:
        if target.exists():  # whoever shared it with colleagues shares the new one, too
            temporary.chmod(target.stat().st_mode & 0o777)
        with _WRITERS[path.suffix](temporary, has_evidence) as writer:
            yield writer


class CodesWriter:
    """Writes documents with their codes."""

    def add(self, document_id: str, codes: Sequence[Code], digest: str | None = None) -> None:
        """Write one document, with the :func:`text_digest` of the text that was coded where it is known."""
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
        self._rows.writerow([*CSV_HEADER, _DIGEST, *([_EVIDENCE] if has_evidence else [])])

    def add(self, document_id: str, codes: Sequence[Code], digest: str | None = None) -> None:
        for code in codes:
            row = [document_id, code.rank, code.code_system, code.code, code.title or "",
                   f"{code.probability:.6f}", int(code.is_predicted), digest or ""]  # fmt: skip
            if self._has_evidence:
                evidence = [_span_row(span) for span in code.evidence or ()]
                row.append(json.dumps(evidence, separators=(",", ":")))
            self._rows.writerow(map(csv_cell, row))
        if not codes:
            row = [document_id, *[""] * len(_CODE_FIELDS), digest or "", *[""] * self._has_evidence]
            self._rows.writerow(map(csv_cell, row))

    def close(self) -> None:
        self._file.close()


class _JsonlWriter(CodesWriter):
    def __init__(self, path: Path, has_evidence: bool) -> None:
        del has_evidence  # every document brings its own
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def add(self, document_id: str, codes: Sequence[Code], digest: str | None = None) -> None:
        self._file.write(json.dumps(_document_row(document_id, codes, digest), ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _ParquetWriter(CodesWriter):
    def __init__(self, path: Path, has_evidence: bool) -> None:
        self._schema = _codes_schema(has_evidence)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, document_id: str, codes: Sequence[Code], digest: str | None = None) -> None:
        self._rows.append(_document_row(document_id, codes, digest))
        if len(self._rows) == 1024:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


_WRITERS: dict[str, type[Any]] = {".csv": _CsvWriter, ".jsonl": _JsonlWriter, ".parquet": _ParquetWriter}
