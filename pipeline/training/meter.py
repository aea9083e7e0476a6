"""What a training loop reports of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from pipeline.encoders.micro_batches import Batch

LOG_EVERY_S = 2.0


class Meter:
    """Means since the last logged row."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._started = time.perf_counter()
        self._n_documents, self._n_steps, self._waited_s = 0, 0, 0.0
        self._sums: dict[str, float] = {}

    def add(self, loss: float, n_documents: int, statistics: dict[str, float]) -> None:
        """Count a step of so many documents over all processes."""
        self._n_documents += n_documents
        self._n_steps += 1
        for name, value in {"loss": loss, **statistics}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def waiting_for(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches as they come; the time until each is there counts as waiting."""
        remaining = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(remaining, None)
            self._waited_s += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    @property
    def is_due(self) -> bool:
        """Whether the last row is long enough ago."""
        return time.perf_counter() - self._started >= LOG_EVERY_S

    def row(self) -> dict[str, float]:
        """Means over the steps since the last row, documents/s, and the share of the time spent waiting."""
        seconds = max(time.perf_counter() - self._started, 1e-9)
        means = {name: total / self._n_steps for name, total in self._sums.items()}
        row = means | {
            "documents_per_second": self._n_documents / seconds, "loading_share": self._waited_s / seconds,
        }  # fmt: skip
        self._reset()
        return row
