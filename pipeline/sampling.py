"""Which documents make up a step: the same global batches on one process and on many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import UserError


@dataclass(frozen=True)
class BatchPlan:
    """Divides the rows of split train into global batches, epoch by epoch, and those among processes.

    The order depends on seed and epoch alone, so a resumed run continues exactly and the number of processes does
    not change what a step sees.

    Attributes:
        rows: rows to visit in every epoch.
        global_batch_size: documents a step over all processes; batches of an epoch differ by at most one.
        seed: of the shuffle.
    """

    rows: Sequence[int]
    global_batch_size: int
    seed: int

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
        order = np.random.default_rng([self.seed, epoch]).permutation(np.asarray(self.rows))
        return np.array_split(order, self.n_steps)

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
