"""Files of proposed codes, streamed: what ``icd predict`` writes and ``icd review`` reads."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.codes import parse_label
from pipeline.errors import UserError
from pipeline.files import guarded_io
from pipeline.labels import LabelSpace
from pipeline.spans import Span

_WRITE_SUFFIXES = (".csv", ".jsonl", ".parquet")
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
    ]
)
_CSV_HEADER = ("document_id", *(name for name, _ in _CODE_FIELDS))


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
    return {
        "start": span.start,
        "end": span.end,
        "section": span.section,
        "score": round(span.score, 4),
        "source": span.source,
    }


@contextlib.contextmanager
def writing_codes(path: Path, *, has_evidence: bool = False) -> Iterator[CodesWriter]:
    """Open a codes file by its suffix; it appears under its name only when whole.

    A .csv has one row a code; a document without any has one row with empty code columns. A .jsonl or .parquet has
    one row a document with a list of codes. With evidence a code also has the list of its spans (start, end, section,
    score, source), which a .csv holds as JSON in one more column.

    Raises:
        UserError: if the suffix is unknown, the folder is missing, or the disk is full.
    """
    if path.suffix not in _WRITE_SUFFIXES:
        raise UserError(
            f"--output {path}: unknown kind of file {path.suffix!r}; expected {', '.join(_WRITE_SUFFIXES)}."
        )
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
        self._rows.writerow([*_CSV_HEADER, *(["evidence"] if has_evidence else [])])

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


def read_codes(path: Path) -> Iterator[CodedDocument]:
    """Stream documents with their codes from what ``icd predict`` or the stage 'predict' wrote.

    Args:
        path: .csv, .jsonl or .parquet; beside a predictions.parquet of the stage stands its label_space.json.

    Raises:
        UserError: if it is missing, of another kind, or a row cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected what `icd predict` or the stage 'predict' wrote.")
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; expected {', '.join(_WRITE_SUFFIXES)}.")
    place = 0
    try:
        for document in readers[path.suffix](path):
            place += 1
            yield document
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error, pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}, behind document {place}: no codes as `icd predict` writes them ({type(error).__name__}); "
            "write the file again."
        ) from None


def _read_csv(path: Path) -> Iterator[CodedDocument]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        if missing := [name for name in _CSV_HEADER if name not in (rows.fieldnames or ())]:
            raise UserError(f"{path}: column {missing[0]} is missing; expected {', '.join(_CSV_HEADER)}.")
        for document_id, of_one in itertools.groupby(rows, key=lambda row: row["document_id"]):
            yield document_id, [_code_of_csv(row) for row in of_one if row["code"]]


def _code_of_csv(row: Mapping[str, str]) -> Code:
    numbers = {"rank": int(row["rank"]), "probability": float(row["probability"])}
    is_predicted = {"0": False, "1": True}[row["is_predicted"]]
    evidence = json.loads(row["evidence"]) if row.get("evidence") else None
    return _code_of({**row, **numbers, "is_predicted": is_predicted, "evidence": evidence})


def _code_of(row: Mapping[str, Any]) -> Code:
    spans = row.get("evidence")
    evidence = None if spans is None else tuple(_span_of(span) for span in spans)
    title = str(row["title"]) if row["title"] else None
    values = (int(row["rank"]), str(row["code_system"]), str(row["code"]), title, float(row["probability"]))
    return Code(*values, bool(row["is_predicted"]), evidence)


def _span_of(row: Mapping[str, Any]) -> Span:
    section, source = str(row.get("section", "")), str(row.get("source", "encoder"))
    return Span(int(row["start"]), int(row["end"]), float(row["score"]), section, source)


def _read_jsonl(path: Path) -> Iterator[CodedDocument]:
    with path.open(encoding="utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                row = json.loads(line)
                yield str(row["document_id"]), [_code_of(code) for code in row["codes"]]


def _read_parquet(path: Path) -> Iterator[CodedDocument]:
    with pq.ParquetFile(path) as file:
        is_of_stage = {"probabilities", "predicted"} <= set(file.schema_arrow.names)
        label_space = _label_space_beside(path) if is_of_stage else None
        for batch in file.iter_batches(batch_size=128):
            if label_space is not None:
                yield from _read_stage_batch(batch, label_space)
                continue
            for row in batch.to_pylist():
                yield str(row["document_id"]), [_code_of(code) for code in row["codes"]]


def _label_space_beside(path: Path) -> LabelSpace:
    label_space_path = path.with_name("label_space.json")
    if not label_space_path.exists():
        raise UserError(f"{path}: {label_space_path} is missing, which says what its labels are; copy it there, too.")
    return LabelSpace.load(label_space_path)


def _read_stage_batch(batch: pa.RecordBatch, label_space: LabelSpace) -> Iterator[CodedDocument]:
    """Rows of predictions.parquet; thousands of probabilities a row never become Python objects."""
    flat = batch.column("probabilities").flatten().to_numpy(zero_copy_only=False)
    probabilities = flat.reshape(batch.num_rows, -1)
    if probabilities.shape[1] != len(label_space):
        raise UserError("predictions.parquet and label_space.json are of different label spaces; copy both again.")
    names = [name for name in ("document_id", "predicted", "evidence") if name in batch.schema.names]
    for row, of_row in zip(batch.select(names).to_pylist(), probabilities, strict=True):
        evidence = row.get("evidence") or [None] * len(row["predicted"])
        spans_of = dict(zip(row["predicted"], evidence, strict=True))
        order = sorted(spans_of, key=lambda label_id: (-of_row[label_id], label_id))
        yield (
            str(row["document_id"]),
            [
                _code_of_stage(rank, label_id, float(of_row[label_id]), spans_of[label_id], label_space)
                for rank, label_id in enumerate(order, start=1)
            ],
        )


def _code_of_stage(
    rank: int, label_id: int, probability: float, spans: Sequence[Mapping[str, Any]] | None, label_space: LabelSpace
) -> Code:
    evidence = None if spans is None else tuple(_span_of(span) for span in spans)
    system, code = parse_label(label_space.labels[label_id])
    return Code(rank, system, code, label_space.titles[label_id], probability, is_predicted=True, evidence=evidence)
