"""The column of codes of a table of one's own: its labels, and what all its entries together say about it."""

from __future__ import annotations

import logging
import numbers
from collections import Counter
from pathlib import Path
from typing import Any

from data_recipes._raw.cells import as_list, says_nothing
from data_recipes._raw.code_checks import (
    MANY_ENTRIES,
    SLIPS,
    check_are_codes,
    check_leading_zeros,
    is_shortened,
    other_system,
    several_codes,
)
from data_recipes._table.options import Options
from pipeline.errors import UserError
from pipeline.icd.codes import make_label, normalise
from pipeline.icd.titles import title
from pipeline.notes.ingest_report import IngestReport

logger = logging.getLogger(__name__)

_MUCH_UNKNOWN = 0.05  # of the uses; codes that are no longer valid are fewer


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
        self._labels: dict[str, str] = {}  # of sound entries, which come again and again
        self._n_entries = 0
        self._n_shortened = 0
        self._has_zeros = False
        self._others: Counter[str] = Counter()  # systems that malformed entries have the form of
        self._uses: Counter[str] = Counter()  # by label
        self._several: Counter[str] = Counter()  # what entries hold that are several codes
        self._first_several: dict[str, str] = {}  # the first document of each

    def labels_of(self, cell: Any, document_id: str) -> list[str] | None:
        """The labels of a document; None where it has codes and all are malformed.

        Raises:
            UserError: if a code is no text.
        """
        found = as_list(cell, self._options.codes, self._options.delimiter)
        # A label of no system may be such a word ("None", of smoking) beside others.
        entries = [entry for entry in found if self._options.code_system == "none" or not says_nothing(entry)]
        if len(entries) < len(found):
            self._report.change("words_for_nothing_taken_out", document_id, len(found) - len(entries))
        labels = [label for entry in entries if (label := self._label(entry, document_id)) is not None]
        self._uses.update(labels)
        return None if entries and not labels else labels

    def check(self) -> None:
        """Look at the whole column, once all documents were asked for; codes of ICD-10-CM that are none are counted.

        Raises:
            UserError: if entries are several codes, codes have lost their zeros, are of another system, or seem to be
                free text.
        """
        system, n_malformed = self._options.code_system, self._report.dropped("code_malformed")
        for problem, n in self._several.items():  # as one entry each they would be left out
            if n >= MANY_ENTRIES or n > SLIPS * self._n_entries:
                raise UserError(
                    f"{self._path}: column {self._options.codes!r} holds {problem} ({n:,} entries, the first of "
                    f"document {self._first_several[problem]}). If its rows have several delimiters, mend the table."
                )
        check_leading_zeros(
            self._path, system, self._n_entries, has_zeros=self._has_zeros, n_shortened=self._n_shortened
        )
        check_are_codes(
            self._path,
            self._options.codes,
            system,
            self._n_entries,
            len(self._uses),
            n_malformed=n_malformed,
            others=next(iter(self._others.most_common(1)), ("", 0)),
        )
        if system == "icd10cm":
            self._count_unknown()

    def _count_unknown(self) -> None:
        """Codes of ICD-9 without their dot (V5861), of ICD-10-PCS and of other countries may pass by their form."""
        unknown = [n for label, n in self._uses.items() if title(label) is None]
        if not unknown:
            return
        self._report.count("labels_unknown_to_icd10cm", len(unknown))
        self._report.count("label_uses_unknown_to_icd10cm", sum(unknown))
        if sum(unknown) > _MUCH_UNKNOWN * self._uses.total():
            logger.warning(
                "%s: %d of %d codes in column %r (%d different ones) are in no list of ICD-10-CM: another version, or "
                "codes of another country? See data.options.code_system",
                self._path, sum(unknown), self._uses.total(), self._options.codes, len(unknown),
            )  # fmt: skip

    def _label(self, entry: Any, document_id: str) -> str | None:
        system = self._options.code_system
        if not isinstance(entry, str):
            raise UserError(f"document {document_id}: {_no_text(entry)}")
        self._n_entries += 1
        if known := self._labels.get(entry):
            return known
        try:
            label = make_label(system, normalise(entry, system))
        except UserError:
            if (problem := several_codes(entry, system)) is not None:
                self._several[problem] += 1
                self._first_several.setdefault(problem, document_id)
            self._report.drop("code_malformed", document_id)
            self._n_shortened += is_shortened(entry, system)
            self._others.update(filter(None, [other_system(entry, system)]))
            return None
        self._has_zeros = self._has_zeros or entry.lstrip().startswith("0")
        self._labels[entry] = label
        return label


def _no_text(code: object) -> str:
    if isinstance(code, numbers.Number):
        return f"a code is a {type(code).__name__}, not text, so zeros may be lost; export codes as text."
    if isinstance(code, bytes):
        return "a code is bytes, not text: the column is binary; write it as string."
    return f"a code is a {type(code).__name__}, not text; name another column in data.options.codes."
