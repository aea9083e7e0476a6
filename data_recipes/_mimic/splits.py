"""Published splits: lists of admissions with the split that each is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from data_recipes._mimic.shared import plain_values
from data_recipes._raw.csv_columns import read_raw_csv
from data_recipes._raw.table_files import is_csv
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.row_files import describe_columns

Split = Literal["train", "val", "test"]

_COLUMNS = ("_id", "split")
_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


class PublishedSplits:
    """The split of each admission, as a published file has it.

    Args:
        path: a .feather, .parquet or .csv (.csv.gz) file with columns ``_id`` and ``split``; None for no file.
        report: is told which documents are in no split and which ids of the file are no document.

    Raises:
        UserError: if the file cannot be read, lacks a column, or holds an id that is no whole number, an unknown
            split, or an id in two splits.
    """

    def __init__(self, path: Path | None, report: IngestReport) -> None:
        self._path = path
        self._report = report
        self._splits = _load(path) if path is not None else {}
        self._found: set[str] = set()

    def of(self, document_id: str) -> Split | None:
        """The split of a document; None, with a count, if the file does not have it."""
        if self._path is None:
            return None
        split = self._splits.get(document_id)
        if split is None:
            self._report.count("documents_without_given_split")
        else:
            self._found.add(document_id)
        return split

    def check(self, min_match: float) -> None:
        """Count the ids that no document has, once all documents were asked for.

        Args:
            min_match: share of the ids that must have one.

        Raises:
            UserError: if fewer have.
        """
        if self._path is None:
            return
        for document_id in self._splits:
            if document_id not in self._found:
                self._report.drop("split_id_without_document", document_id)
        if len(self._found) < min_match * len(self._splits):
            raise UserError(
                f"{self._path}: of its {len(self._splits):,} ids only {len(self._found):,} are documents here: it is "
                "the split of another data set, or data.raw is only a part of it; name the right file in "
                "data.options.splits_path, or lower data.options.min_split_match for a part."
            )


def _load(path: Path) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for number, (document_id, name) in enumerate(_rows(path), start=1):
        split = _NAMES.get(name.strip().lower())
        if split is None:
            raise UserError(f"{path}, row {number}: unknown split; expected one of {', '.join(_NAMES)}.")
        if not document_id.isdecimal():
            raise UserError(f"{path}, row {number}: _id is no whole number; expected a HADM_ID.")
        if splits.setdefault(document_id, split) != split:
            raise UserError(f"{path}, row {number}: id {document_id} is in two splits; mend the file.")
    if not splits:
        raise UserError(f"{path}: no rows; expected columns {' and '.join(_COLUMNS)} with a row for each document.")
    return splits


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Ids and names of splits, as text."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; data.options.splits_path must be a .feather, .parquet or .csv file.")
    batches = read_raw_csv(path, _COLUMNS, report=IngestReport()) if is_csv(path) else _table(path).to_batches()
    for batch in batches:
        ids, names = plain_values(batch[0]).to_pylist(), batch[1].to_pylist()
        yield from ((str(one or "").strip(), str(name or "")) for one, name in zip(ids, names, strict=True))


def _table(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path) if path.suffix.lower() == ".parquet" else pyarrow.feather.read_table(path)
        return table.select(_COLUMNS).cast(pa.schema([(name, pa.string()) for name in _COLUMNS]))
    except KeyError:
        raise UserError(
            f"{path}: expected columns {' and '.join(_COLUMNS)}; {describe_columns(table.schema.names, _COLUMNS)}."
        ) from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
        raise UserError(f"{path}: not a readable .feather, .parquet or .csv file; download it again.") from None
