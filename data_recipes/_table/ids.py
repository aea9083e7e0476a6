"""Ids of documents and patients in a table of one's own."""

from __future__ import annotations

from data_recipes._raw.cells import as_id
from data_recipes._raw.table_files import Row
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport

_MAX_ID_CHARS = 100


def row_id(row: Row, column: str, where: str, report: IngestReport) -> str:
    """An id of a row as text, empty if there is none; decimals taken off ("123.0") are counted.

    Raises:
        UserError: if the cell holds something else than an id; its value is not shown.
    """
    try:
        found, is_changed = as_id(row[column])
    except ValueError as error:
        raise UserError(f"{where}: column {column!r}: {error}.") from None
    if len(found) > _MAX_ID_CHARS:
        raise UserError(
            f"{where}: {column!r} holds {len(found):,} characters, an id has {_MAX_ID_CHARS} at most; name its column "
            "in data.options."
        )
    if is_changed:
        report.change("ids_without_their_decimals", where)
    return found
