"""Reading files of proposed codes: of ``icd predict``, or predictions.parquet of the stage."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.coding.code_files import CSV_HEADER, SUFFIXES, Code, CodedDocument
from pipeline.errors import UserError
from pipeline.experiment.manifests import check_predictions_are_of
from pipeline.files import csv_text
from pipeline.icd.codes import parse_label
from pipeline.icd.labels import LabelSpace
from pipeline.notes.document_files import can_be_id
from pipeline.notes.spans import Span


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
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; expected {', '.join(SUFFIXES)}.")
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
        csv.field_size_limit(2**31 - 1)  # evidence of a code is one field
        rows = csv.DictReader(file, strict=True)
        if missing := [name for name in CSV_HEADER if name not in (rows.fieldnames or ())]:
            is_report = "verdict" in (rows.fieldnames or ())
            raise UserError(
                f"{path}: that is the report's table of codes, not what `icd predict` wrote."
                if is_report
                else f"{path}: column {missing[0]} is missing; expected {', '.join(CSV_HEADER)}."
            )
        for document_id, of_one in itertools.groupby(map(_as_given, rows), key=_id_of):
            found = list(of_one)
            if any(None in row or None in row.values() for row in found):
                raise ValueError("fields missing or too many")
            codes = [_code_of_csv(row) for row in found if row["code"]]
            yield CodedDocument(document_id, codes, found[0].get("text_digest") or None)


def _code_of_csv(row: Mapping[str, str]) -> Code:
    numbers = {"rank": int(row["rank"]), "probability": float(row["probability"])}
    is_predicted = {"0": False, "1": True, "false": False, "true": True}[row["is_predicted"].lower()]
    evidence = json.loads(row["evidence"]) if row.get("evidence") else None
    return _code_of({**row, **numbers, "is_predicted": is_predicted, "evidence": evidence})


def _code_of(row: Mapping[str, Any]) -> Code:
    spans = row.get("evidence")
    evidence = None if spans is None else tuple(_span_of(span) for span in spans)
    title = str(row["title"]) if row["title"] else None
    probability, is_predicted = row["probability"], row["is_predicted"]
    if not (isinstance(is_predicted, bool) and isinstance(probability, float | int) and 0 <= probability <= 1):
        raise ValueError("no truth value, or no probability")
    names = int(row["rank"]), str(row["code_system"]), str(row["code"]), title
    return Code(*names, float(probability), is_predicted, evidence)


def _as_given(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: csv_text(value) for name, value in row.items()}


def _id_of(row: Mapping[str, Any]) -> str:
    document_id = str(row["document_id"])
    if not can_be_id(document_id):  # perhaps a text, which messages would show
        raise ValueError("no id of a document")
    return document_id


def _span_of(row: Mapping[str, Any]) -> Span:
    section, source = str(row.get("section", "")), str(row.get("source", "encoder"))
    ends = row.get("sentence_start"), row.get("sentence_end")
    if not math.isfinite(score := float(row["score"])):
        raise ValueError("no score")
    sentence = None if None in ends else (int(ends[0]), int(ends[1]))  # type: ignore[arg-type]
    return Span(int(row["start"]), int(row["end"]), score, section, source, sentence)


def _document_of(row: Mapping[str, Any]) -> CodedDocument:
    return CodedDocument(_id_of(row), [_code_of(code) for code in row["codes"]], row.get("text_digest"))


def _read_jsonl(path: Path) -> Iterator[CodedDocument]:
    with path.open(encoding="utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                yield _document_of(json.loads(line))


def _read_parquet(path: Path) -> Iterator[CodedDocument]:
    with pq.ParquetFile(path) as file:
        is_of_stage = {"probabilities", "predicted"} <= set(file.schema_arrow.names)
        label_space = _label_space_beside(path) if is_of_stage else None
        for batch in file.iter_batches(batch_size=128):
            if label_space is not None:
                yield from _read_stage_batch(batch, label_space)
                continue
            yield from map(_document_of, batch.to_pylist())


def _label_space_beside(path: Path) -> LabelSpace:
    label_space_path = path.with_name("label_space.json")
    if not label_space_path.exists():
        raise UserError(f"{path}: {label_space_path} is missing, which says what its labels are; copy it there, too.")
    check_predictions_are_of(path.parent)
    return LabelSpace.load(label_space_path)


def _read_stage_batch(batch: pa.RecordBatch, label_space: LabelSpace) -> Iterator[CodedDocument]:
    """Rows of predictions.parquet; thousands of probabilities a row never become Python objects."""
    flat = batch.column("probabilities").flatten().to_numpy(zero_copy_only=False)
    probabilities = flat.reshape(batch.num_rows, -1)
    if probabilities.shape[1] != len(label_space):
        raise UserError("predictions.parquet and label_space.json are of different label spaces; copy both again.")
    names = [name for name in ("document_id", "predicted", "evidence", "text_digest") if name in batch.schema.names]
    for row, of_row in zip(batch.select(names).to_pylist(), probabilities, strict=True):
        evidence = row.get("evidence") or [None] * len(row["predicted"])
        spans_of = dict(zip(row["predicted"], evidence, strict=True))
        order = sorted(spans_of, key=lambda label_id: (-of_row[label_id], label_id))
        codes = [
            _code_of_stage(rank, label_id, float(of_row[label_id]), spans_of[label_id], label_space)
            for rank, label_id in enumerate(order, start=1)
        ]
        yield CodedDocument(str(row["document_id"]), codes, row.get("text_digest"))


def _code_of_stage(
    rank: int, label_id: int, probability: float, spans: Sequence[Mapping[str, Any]] | None, label_space: LabelSpace
) -> Code:
    evidence = None if spans is None else tuple(_span_of(span) for span in spans)
    system, code = parse_label(label_space.labels[label_id])
    return Code(rank, system, code, label_space.titles[label_id], probability, is_predicted=True, evidence=evidence)
