"""How many documents something is true of, to be told once all were coded."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.coding.classifier import Classifier
from pipeline.coding.ensemble import CodingModel

logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """How many documents something is true of, and the first of them."""

    n: int = 0
    first: str = ""

    def count(self, document_id: str, is_true: bool) -> None:
        """Count a document, if it is true of it."""
        if is_true:
            self.n, self.first = self.n + 1, self.first or document_id

    def warn(self, what: str, n_documents: int) -> None:
        """Say what is true of so many of them, unless it is of none."""
        if self.n:
            logger.warning("%d of %d documents %s (first: %s)", self.n, n_documents, what, self.first)


def cut_at(model: CodingModel | Classifier) -> str:
    """What is true of a document that a model does not read to its end, for :meth:`Tally.warn`."""
    return f"are longer than {model.limit}; what stands behind was not read by it"
