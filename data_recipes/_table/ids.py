"""Ids of documents and patients in a table of one's own."""

from __future__ import annotations

import logging

from data_recipes._raw.cells import as_id
from data_recipes._raw.table_files import Row
from pipeline.errors import UserError
from pipeline.notes.document_files import MAX_ID_CHARS, can_be_id
from pipeline.notes.ingest_report import IngestReport

logger = logging.getLogger(__name__)


def check_id(text: str, where: str) -> None:
    """Refuse what :func:`can_be_id` refuses; the message begins with ``where`` and does not show it."""
    if not can_be_id(text):
        raise UserError(
            f"{where} holds {len(text):,} characters; an id is one line of at most {MAX_ID_CHARS} printable ones. Name "
            "its column in data.options, or mend it."
        )


def row_id(row: Row, column: str, where: str, report: IngestReport) -> str:
    """An id of a row as text, empty if there is none; decimals taken off ("123.0") are counted.

    Raises:
        UserError: if the cell holds something else than an id; its value is not shown.
    """
    try:
        found, is_changed = as_id(row[column])
    except ValueError as error:
        raise UserError(f"{where}: column {column!r}: {error}.") from None
    check_id(found, f"{where}: column {column!r}")
    if is_changed:
        report.change("ids_without_their_decimals", where)
    return found


class AlikePatients:
    """Finds ids of patients that differ in leading zeros or in capitals only: one patient may be two, in two splits.

    Example:
        >>> patients = AlikePatients()
        >>> for one in ("007", "7", "7", "a1", "A1", "12"):
        ...     patients.add(one)
        >>> patients.n_alike()
        4
    """

    def __init__(self) -> None:
        self._by_core: dict[str, str | set[str]] = {}  # a set only where there are several, since there may be millions

    def add(self, patient_id: str) -> None:
        """Take note of an id."""
        core = patient_id.lstrip("0").casefold()
        known = self._by_core.setdefault(core, patient_id)
        if isinstance(known, set):
            known.add(patient_id)
        elif known != patient_id:
            self._by_core[core] = {known, patient_id}

    def n_alike(self) -> int:
        """How many ids have another that is like them."""
        return sum(len(ids) for ids in self._by_core.values() if isinstance(ids, set))

    def tell(self, column: str, report: IngestReport) -> None:
        """Count the ids that are alike and warn of them."""
        if n := self.n_alike():
            report.count("patient_ids_alike", n)
            logger.warning(
                "%d ids in column %r differ from others only in leading zeros or capitals: they count as different "
                "patients, who may stand in train and in test; if they are the same, spell them alike",
                n, column,
            )  # fmt: skip
