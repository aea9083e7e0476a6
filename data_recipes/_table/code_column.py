"""The column of codes of a table of one's own: its labels, and what all its entries together say about it."""

from __future__ import annotations

import numbers
from collections import Counter
from pathlib import Path
from typing import Any

from data_recipes._raw.cells import as_list
from data_recipes._raw.code_checks import check_are_codes, check_delimiter, check_leading_zeros
from data_recipes._table.options import Options
from pipeline.errors import UserError
from pipeline.icd.codes import make_label, normalise
from pipeline.notes.ingest_report import IngestReport


class CodeColumn:
    """Reads cells one by one and counts what they hold.

    Args:
        path: of the table or the folder, for messages.
        options: name the column, the delimiter and the code system.
        report: codes that cannot be used are counted there.
    """

    def __init__(self, path: Path, options: Options, report: IngestReport) -> None:
        self._path = path
        self._options = options
        self._report = report
        self._n_entries = 0
        self._has_zeros = False
        self._uses: Counter[str] = Counter()  # by label

    def labels_of(self, cell: Any, document_id: str) -> list[str] | None:
        """The labels of a document; None where it has codes and all are malformed.

        Raises:
            UserError: if a code is no text, or an entry is several codes at another delimiter.
        """
        entries = as_list(cell, self._options.codes, self._options.delimiter)
        labels = [label for entry in entries if (label := self._label(entry, document_id)) is not None]
        self._uses.update(labels)
        return None if entries and not labels else labels

    def check(self) -> None:
        """Look at the whole column, once all documents were asked for.

        Raises:
            UserError: if its codes have lost their zeros, are of another system, or seem to be free text.
        """
        system, n_malformed = self._options.code_system, self._report.dropped("code_malformed")
        check_leading_zeros(self._path, system, self._n_entries, has_zeros=self._has_zeros)
        check_are_codes(
            self._path, self._options.codes, system, self._n_entries, len(self._uses), n_malformed=n_malformed
        )

    def _label(self, entry: Any, document_id: str) -> str | None:
        system = self._options.code_system
        if not isinstance(entry, str):
            raise UserError(f"document {document_id}: {_no_text(entry)}")
        self._n_entries += 1
        try:
            label = make_label(system, normalise(entry, system))
        except UserError:
            check_delimiter(entry, self._options.codes, system)
            self._report.drop("code_malformed", document_id)
            return None
        self._has_zeros = self._has_zeros or entry.lstrip().startswith("0")
        return label


def _no_text(code: object) -> str:
    if isinstance(code, numbers.Number):
        return f"a code is a {type(code).__name__}, not text, so zeros may be lost; export codes as text."
    if isinstance(code, bytes):
        return "a code is bytes, not text: the column is binary; write it as string."
    return f"a code is a {type(code).__name__}, not text; name another column in data.options.codes."
