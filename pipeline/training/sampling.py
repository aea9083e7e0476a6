"""Which documents make up a step: the same global batches on one process and on many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import UserError

_POOL_STEPS = 16


@dataclass(frozen=True)
class Partners:
    """How partners are brought for rare labels: documents that share one come into the same batch.

    Documents are drawn in the order of the shuffle. With ``probability`` a drawn document brings a second one, the
    next in that order that shares its rarest label and is not drawn yet. Where the batch holds a carrier of that
    label already, none is brought; where all carriers are drawn already, the next rarest label counts. A partner
    brings nobody. So every document still comes **exactly once an epoch**, only earlier than its turn.

    Attributes:
        probability: in [0, 1].
        label_ids: label set of each row of the plan, in the order of its rows.
    """

    probability: float
    label_ids: Sequence[Sequence[int]]

    def rarest_first(self) -> list[list[int]]:
        """Labels of each document by how few documents carry them; those that nobody else carries are left out."""
        n_carriers = Counter(label for ids in self.label_ids for label in set(ids))
        return [
            sorted((label for label in set(ids) if n_carriers[label] > 1), key=lambda label: (n_carriers[label], label))
            for ids in self.label_ids
        ]


@dataclass(frozen=True)
class BatchPlan:
    """Divides the rows of split train into global batches, epoch by epoch, and those among processes.

    The order depends on seed and epoch alone, so a resumed run continues exactly and the number of processes does
    not change what a step sees.

    Attributes:
        rows: rows to visit in every epoch.
        global_batch_size: documents a step over all processes; batches of an epoch differ by at most one.
        seed: of the shuffle.
        partners: brings documents that share rare labels into one batch, or None.
        lengths: tokens of each row, in the order of the rows: documents of about the same length then make up a step,
            out of the next 16 steps of the shuffle, and steps come in a random order. None: whatever their length.
    """

    rows: Sequence[int]
    global_batch_size: int
    seed: int
    partners: Partners | None = None
    lengths: Sequence[int] | None = None

    @property
    def n_steps(self) -> int:
        """Steps an epoch."""
        return -(-len(self.rows) // self.global_batch_size)

    def global_batches(self, epoch: int) -> list[np.ndarray]:
        """Rows of every step of an epoch, each batch of shape (n_documents,).

        Raises:
            UserError: if there are no rows.
        """
        if not len(self.rows):
            raise UserError("split train has no document to learn from; see split and label_space in the config.")
        chance = np.random.default_rng([self.seed, epoch])
        order = chance.permutation(len(self.rows))
        if self.lengths is not None:
            parts = _of_similar_length(np.array_split(order, self.n_steps), np.asarray(self.lengths))
            return [np.asarray(self.rows)[parts[step]] for step in chance.permutation(len(parts))]
        if self.partners is not None:
            sizes = [len(part) for part in np.array_split(order, self.n_steps)]
            brings = chance.random(len(order)) < self.partners.probability
            order = _bring_partners(order.tolist(), sizes, brings.tolist(), self.partners.rarest_first())
        return np.array_split(np.asarray(self.rows)[order], self.n_steps)

    def local_batches(self, epoch: int, *, rank: int, n_processes: int) -> list[tuple[np.ndarray, int]]:
        """This process's rows of every step, with the size of the global batch.

        Raises:
            UserError: if there are no rows, or a step has fewer documents than there are processes.
        """
        batches = self.global_batches(epoch)
        smallest = min(len(batch) for batch in batches)
        if smallest < n_processes:
            raise UserError(
                f"a step has {smallest} documents, fewer than the {n_processes} processes; raise global_batch_size."
            )
        return [(np.array_split(batch, n_processes)[rank], len(batch)) for batch in batches]


def _of_similar_length(parts: list[np.ndarray], lengths: np.ndarray) -> list[np.ndarray]:
    """Exchange documents among each 16 parts, which keep their sizes, so that those of a part are about as long."""
    found = []
    for first in range(0, len(parts), _POOL_STEPS):
        pool = np.concatenate(parts[first : first + _POOL_STEPS])
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        stops = np.cumsum([len(part) for part in parts[first : first + _POOL_STEPS]])
        found += np.split(pool, stops[:-1])
    return found


def _bring_partners(order: list[int], sizes: list[int], brings: list[bool], labels: list[list[int]]) -> np.ndarray:
    """Reorder so that partners stand in one batch.

    Args:
        order: documents as shuffled.
        sizes: documents of each batch.
        brings: whether a drawn document brings a partner, by document.
        labels: labels by document, rarest first.

    Returns:
        The new order; its batches have the same sizes.
    """
    waiting: dict[int, list[int]] = {}  # carriers of a label, the next to draw last
    for document in reversed(order):
        for label in labels[document]:
            waiting.setdefault(label, []).append(document)
    is_drawn = [False] * len(order)
    upcoming = iter(order)
    drawn: list[int] = []
    for size in sizes:
        in_batch: set[int] = set()
        stop = len(drawn) + size
        while len(drawn) < stop:
            document = next(one for one in upcoming if not is_drawn[one])
            is_drawn[document] = True
            drawn.append(document)
            partner = None
            if brings[document] and len(drawn) < stop:
                partner = _find_partner(labels[document], in_batch, waiting, is_drawn)
            in_batch.update(labels[document])
            if partner is not None:
                is_drawn[partner] = True
                drawn.append(partner)
                in_batch.update(labels[partner])
    return np.asarray(drawn)


def _find_partner(
    labels: list[int], in_batch: set[int], waiting: dict[int, list[int]], is_drawn: list[bool]
) -> int | None:
    """The next carrier of the rarest label that still has one; None if the batch holds one already."""
    for label in labels:
        if label in in_batch:
            return None
        carriers = waiting[label]
        while carriers and is_drawn[carriers[-1]]:
            carriers.pop()
        if carriers:
            return carriers[-1]
    return None
