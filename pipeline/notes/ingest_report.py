"""What an ingestion counted: rows and documents kept, dropped and changed by reason, beside published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

_N_EXAMPLES = 20
_SIZE_TOLERANCE = 0.05

Verdict = Literal["pass", "differs", "other size", "not counted"]
"""Of a published count: equal; not equal; not comparable, since the data is a part of the data set or synthetic; of
something that this run did not count, such as a split that was not given."""


class IngestReport:
    """Counts of an ingestion: rows read and kept, and what was dropped or changed, by reason.

    Args:
        published: name -> count that the data set's authors publish, to stand beside the counts found here. The
            first one tells whether this is the whole data set: the others mean nothing for a part of it.
    """

    def __init__(self, published: Mapping[str, int] | None = None) -> None:
        self.published = dict(published or {})
        self.counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._changed: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def count(self, name: str, n: int = 1) -> None:
        """Count something met on the way, such as rows read of a file."""
        self.counts[name] += n

    def drop(self, reason: str, where: str | None = None, n: int = 1) -> None:
        """Count a row, document or code that is left out; ``where`` is a document id or row, never text."""
        self._add(self._dropped, reason, where, n)

    def change(self, reason: str, where: str | None = None, n: int = 1) -> None:
        """Count a document that is kept but altered, such as one with NUL characters taken out."""
        self._add(self._changed, reason, where, n)

    def dropped(self, reason: str) -> int:
        """How often ``reason`` was counted by :meth:`drop`."""
        return self._dropped[reason]

    def as_dict(self) -> dict[str, Any]:
        """All counts, ordered by name, with up to 20 places for each reason."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "dropped": dict(sorted(self._dropped.items())),
            "changed": dict(sorted(self._changed.items())),
            "examples": dict(sorted(self._examples.items())),
            "published": {name: self._check(name, n) for name, n in self.published.items()},
        }

    def _check(self, name: str, published: int) -> dict[str, Any]:
        """A published count beside the one found; see ``Verdict``."""
        found = self.counts[name]
        first, n_first = next(iter(self.published.items()))
        verdict: Verdict = "pass" if found == published else "differs"
        if name not in self.counts:
            verdict = "not counted"
        elif abs(self.counts[first] - n_first) > _SIZE_TOLERANCE * n_first:
            verdict = "other size"
        return {"published": published, "found": found, "matches": found == published, "verdict": verdict}

    def _add(self, counter: Counter[str], reason: str, where: str | None, n: int) -> None:
        counter[reason] += n
        examples = self._examples.setdefault(reason, [])
        if where is not None and len(examples) < _N_EXAMPLES:
            examples.append(where)
