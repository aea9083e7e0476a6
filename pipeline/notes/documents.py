"""The documents table: what every recipe produces and every later stage reads.

A recipe yields :class:`Document` objects; :func:`write_documents` checks and streams them to Parquet, so
memory does not grow with the number of documents. What cannot be used is counted by reason, never dropped in
silence.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.files import without_half_pairs
from pipeline.notes.ingest_report import IngestReport

logger = logging.getLogger(__name__)

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("given_split", pa.string()),
        pa.field("date", pa.date32()),
        pa.field("principal", pa.string()),
    ]
)
ANNOTATOR_SCHEMA = pa.schema(
    [
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("annotator", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
    ]
)
_REPEATED = ["labels.list.element", "given_split", "date", "principal", "annotator"]
_Content = tuple[int | None, int]  # hashes of text (None: no text) and labels
_NO_ANNOTATIONS: Mapping[str, Sequence[str]] = MappingProxyType({})
_BATCH_CHARS = 8_000_000
_FREQUENT = 10


class Document(NamedTuple):
    """One document of a corpus.

    Attributes:
        document_id: unique key (MIMIC: hadm_id).
        patient_id: whose document it is (MIMIC: subject_id).
        text: the whole text, as the recipe joined it.
        labels: codes with their system ("icd10cm:I10"), each once, in the order of the source.
        given_split: split that the source gives, or None.
        date: when it was written, or None; what ``split.method: temporal`` goes by.
        principal: label of the principal diagnosis, or None where the source does not tell it.
        annotations: further label sets of this document by annotator, such as human coders.
    """

    document_id: str
    patient_id: str
    text: str
    labels: Sequence[str]
    given_split: Literal["train", "val", "test"] | None = None
    date: datetime.date | None = None
    principal: str | None = None
    annotations: Mapping[str, Sequence[str]] = _NO_ANNOTATIONS


def write_documents(
    documents: Iterable[Document],
    documents_path: Path,
    annotators_path: Path,
    report: IngestReport,
    *,
    clean: Callable[[str], str] = str,
    keep_uncoded: bool = False,
    max_documents: int | None = None,
) -> None:
    """Check documents and stream them to Parquet.

    Dropped and counted: documents with an id seen before (the first one stays), without text after cleaning,
    without labels (with ``keep_uncoded`` these stay, and are counted). NUL characters are taken out of texts, halves
    of surrogate pairs replaced in texts, ids and labels, and both counted.

    Args:
        documents: from a recipe, in a deterministic order.
        documents_path: new file of ``DOCUMENT_SCHEMA``.
        annotators_path: new file of ``ANNOTATOR_SCHEMA``; without rows where no document has annotations.
        report: is filled: ``documents`` (also by given split), ``patients``, ``labels``, ``labels_of_10_documents``
            (those of ten and more), ``label_occurrences`` and the drops.
        clean: text cleaning preset.
        keep_uncoded: documents without labels are documents that need none.
        max_documents: stop after so many kept documents.

    Raises:
        UserError: if no document is left, or one comes again with other labels.
    """
    labels: Counter[str] = Counter()
    patients: set[str] = set()
    with (
        _TableWriter(documents_path, DOCUMENT_SCHEMA) as table,
        _TableWriter(annotators_path, ANNOTATOR_SCHEMA) as annotators,
    ):
        for document in usable_documents(documents, report, clean=clean, keep_uncoded=keep_uncoded):
            table.add(document[: len(DOCUMENT_SCHEMA)], size=len(document.text))
            for annotator, given in document.annotations.items():
                annotators.add((document.document_id, annotator, list(given)), size=64)
            labels.update(document.labels)
            patients.add(document.patient_id)
            report.count("label_occurrences", len(document.labels))
            report.count("documents")
            if not document.labels:
                report.count("documents_without_codes")
            if document.given_split is not None:
                report.count(f"documents_given_{document.given_split}")
            if max_documents is not None and report.counts["documents"] >= max_documents:
                break
    report.count("patients", len(patients))
    report.count("labels", len(labels))
    report.count(f"labels_of_{_FREQUENT}_documents", sum(n >= _FREQUENT for n in labels.values()))
    if not report.counts["documents"]:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in report.as_dict()["dropped"].items()) or "no rows"
        raise UserError(
            f"no usable document is left after ingestion ({reasons}); check data.raw, data.recipe and data.options."
        )


def usable_documents(
    documents: Iterable[Document], report: IngestReport, *, clean: Callable[[str], str] = str, keep_uncoded: bool
) -> Iterator[Document]:
    """Clean documents and leave out, with a count, those that cannot be used, see :func:`write_documents`.

    Raises:
        UserError: if one comes again with other labels.
    """
    seen: dict[str, _Content] = {}
    for raw in documents:
        given = [raw.document_id, raw.patient_id, raw.text, *raw.labels]
        document_id, patient_id, text, *labels = whole = [without_half_pairs(one) for one in given]
        if whole != given:
            report.change("half_characters_replaced", document_id)
        if "\0" in text:
            report.change("nul_characters_removed", document_id)
            text = text.replace("\0", "")
        text = clean(text)
        is_empty = not text or text.isspace()
        content = None if is_empty else hash(text), hash(frozenset(labels))
        before = seen.get(document_id)
        if before is not None and labels and _are_codes_of_one(before, content):
            raise UserError(
                f"document {document_id}: it comes twice with the same text, or once without one, and other codes, so "
                "rows seem to be codes; put all codes of a document into one row."
            )
        if is_empty:
            report.drop("empty_text", document_id)
            if labels:
                seen.setdefault(document_id, content)
        elif before is not None and before[0] is not None:
            report.drop("duplicate_document_id", document_id)
        elif not labels and not keep_uncoded:
            report.drop("document_without_codes", document_id)
        else:
            seen[document_id] = content
            yield Document(document_id, patient_id, text, list(dict.fromkeys(labels)), *raw[4:])


def _are_codes_of_one(before: _Content, now: _Content) -> bool:
    """Whether two rows of one id look like two codes of one document."""
    return before[1] != now[1] and (before[0] == now[0] or None in (before[0], now[0]))


class _TableWriter:
    """Collect rows and write a row group, in a thread, whenever enough text has come together."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        # A dictionary of values that never repeat, as texts, would be built in vain.
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=_REPEATED)
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self._size = 0
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._pending: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> _TableWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._writer, self._pool:
            if exception[0] is None:
                self._flush()
                self._wait()

    def add(self, row: tuple[Any, ...], *, size: int) -> None:
        """Add a row, its values in the order of the schema; ``size`` is about that of its text."""
        self._rows.append(row)
        self._size += size
        if self._size >= _BATCH_CHARS:
            self._flush()

    def _flush(self) -> None:
        self._wait()
        self._pending = self._pool.submit(self._write, self._rows)
        self._rows, self._size = [], 0

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            columns = zip(zip(*rows, strict=True), self._schema.types, strict=True)
            arrays = [pa.array(values, type=type_) for values, type_ in columns]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _wait(self) -> None:
        """Wait for the row group before, so that no more than two are held; an error of its writing comes up here."""
        if self._pending is not None:
            self._pending.result()


def iterate_documents(
    path: Path, *, columns: Sequence[str] | None = None, n_rows: int = 512
) -> Iterator[pa.RecordBatch]:
    """Stream the documents table in batches of at most ``n_rows`` documents."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=n_rows, columns=columns)


def values_of(path: Path, column: str, document_ids: Sequence[str]) -> Iterator[str]:
    """Stream a column of some documents of the documents table.

    Args:
        path: the table.
        column: 'text' or 'patient_id'.
        document_ids: which, in the order of the table.

    Raises:
        UserError: if a document is not in the table, or ``document_ids`` have another order.
    """
    wanted, expected = set(document_ids), iter(document_ids)
    for batch in iterate_documents(path, columns=["document_id", column]):
        for document_id, value in zip(batch["document_id"].to_pylist(), batch[column].to_pylist(), strict=True):
            if document_id in wanted:
                if document_id != next(expected):
                    raise UserError(f"{path}: documents and tokens differ in order; run the stage 'tokenize' again.")
                yield value
    missing = next(expected, None)
    if missing is not None:
        raise UserError(f"{path}: it lacks document {missing}; run the stages again from 'tokenize' on.")
