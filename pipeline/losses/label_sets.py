"""Label sets of a batch in sparse form, whatever form the caller has them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from pipeline.distributed import gather_label_lists


@dataclass(frozen=True)
class SparseLabels:
    """Label sets as one list of label ids with offsets (CSR), the cheapest form for large label spaces.

    A label listed twice in one document counts once.

    Args:
        indices: label ids of all documents one after the other, int64 in [0, n_labels), shape (n_occurrences,).
        offsets: document i has ``indices[offsets[i]:offsets[i + 1]]``, int64, shape (n_documents + 1,).
        n_labels: size of the label space.

    Raises:
        ValueError: if the offsets do not start at 0, fall, or do not end at the number of indices.

    Example:
        >>> SparseLabels.from_lists([[0, 2], [], [2]], n_labels=3).offsets
        tensor([0, 2, 2, 3])
    """

    indices: Tensor
    offsets: Tensor
    n_labels: int

    def __post_init__(self) -> None:
        """Refuse offsets which do not describe the indices (values are checked where they are used)."""
        offsets = self.offsets
        if offsets.ndim != 1 or len(offsets) == 0 or self.indices.ndim != 1:
            raise ValueError(
                f"SparseLabels needs 1-D indices and offsets of n_documents + 1 entries. Got shapes "
                f"{tuple(self.indices.shape)} and {tuple(offsets.shape)} instead."
            )
        ends = int(offsets[0]), int(offsets[-1])
        if ends != (0, len(self.indices)) or bool((offsets.diff() < 0).any()):
            raise ValueError(
                f"The 'offsets' of SparseLabels must rise from 0 to the number of indices "
                f"({len(self.indices)}). They go from {ends[0]} to {ends[1]} instead, or fall in between."
            )

    @classmethod
    def from_lists(cls, label_ids: Sequence[Sequence[int]], n_labels: int | None = None) -> SparseLabels:
        """Build from one list of label ids per document.

        Args:
            label_ids: ids in [0, n_labels), one sequence per document, any order.
            n_labels: size of the label space; the largest id plus one if not given.

        Returns:
            The label sets on the CPU.
        """
        flat = [label for document in label_ids for label in document]
        ends = torch.tensor([0, *(len(document) for document in label_ids)], dtype=torch.int64).cumsum(0)
        n_labels = max(flat, default=-1) + 1 if n_labels is None else n_labels
        return cls(torch.tensor(flat, dtype=torch.int64), ends, n_labels)

    @classmethod
    def from_multi_hot(cls, labels: Tensor) -> SparseLabels:
        """Build from a multi-hot tensor.

        Args:
            labels: bool or 0/1 of any dtype, shape (n_documents, n_labels).

        Returns:
            The label sets, on the tensor's device.

        Raises:
            ValueError: if the tensor is not 2-D or holds other values than 0 and 1.
        """
        if labels.ndim != 2:
            raise ValueError(
                f"Multi-hot labels must have shape (n_documents, n_labels). Got {tuple(labels.shape)} instead; "
                f"for one class id per document pass [[id] for id in ids]."
            )
        has_label = labels.bool()
        if labels.dtype != torch.bool and not bool((has_label == labels).all()):
            raise ValueError("Multi-hot labels must be 0 or 1. Got other values; apply a threshold first.")
        rows, indices = has_label.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(labels))
        return cls(indices, torch.cat([counts.new_zeros(1), counts.cumsum(0)]), labels.shape[1])

    @property
    def n_documents(self) -> int:
        """Number of label sets, empty ones included."""
        return len(self.offsets) - 1

    @property
    def rows(self) -> Tensor:
        """Document of every label occurrence, int64, shape (n_occurrences,)."""
        documents = torch.arange(self.n_documents, device=self.indices.device)
        return documents.repeat_interleave(self.offsets.diff(), output_size=len(self.indices))

    def to(self, device: torch.device) -> SparseLabels:
        """Copy to a device (nothing happens if it is there already)."""
        return SparseLabels(self.indices.to(device), self.offsets.to(device), self.n_labels)

    def gathered(self) -> SparseLabels:
        """Label sets of all processes in rank order; a collective, the identity on one process."""
        indices, offsets = gather_label_lists(self.indices, self.offsets)
        return SparseLabels(indices, offsets, self.n_labels)

    def select(self, documents: Tensor) -> SparseLabels:
        """Label sets of some documents.

        Args:
            documents: positions in the wanted order, int64, shape (n_selected,).

        Returns:
            Their label sets.

        Example:
            >>> SparseLabels.from_lists([[0, 2], [], [1]], n_labels=3).select(torch.tensor([2, 0])).indices
            tensor([1, 0, 2])
        """
        sizes = self.offsets.diff()[documents]
        ends = sizes.cumsum(0)
        # Occurrence j of the result lies in the document it falls into, so far behind that document's start.
        shift = (self.offsets[:-1][documents] - (ends - sizes)).repeat_interleave(sizes)
        positions = torch.arange(len(shift), device=shift.device) + shift
        return SparseLabels(self.indices[positions], torch.cat([ends.new_zeros(1), ends]), self.n_labels)

    def followed_by(self, other: SparseLabels) -> SparseLabels:
        """These label sets, then the other's; the label spaces must be the same."""
        return SparseLabels(
            torch.cat([self.indices, other.indices]),
            torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            max(self.n_labels, other.n_labels),
        )


Labels: TypeAlias = Tensor | Sequence[Sequence[int]] | SparseLabels
"""What a loss takes as labels: multi-hot tensor, lists of label ids, or SparseLabels."""


def as_sparse_labels(
    labels: Labels, *, n_documents: int, n_labels: int | None = None, device: torch.device
) -> SparseLabels:
    """Bring labels of any accepted form into sparse form and check them.

    Args:
        labels: multi-hot tensor (n_documents, n_labels), one list of label ids per document, or SparseLabels.
        n_documents: how many label sets there must be.
        n_labels: size of the label space if the caller knows it.
        device: where the result shall lie.

    Returns:
        The label sets on the device.

    Raises:
        ValueError: if the number of documents or labels differs, or a label id is out of range.
    """
    if isinstance(labels, SparseLabels):
        sparse = labels
    elif isinstance(labels, Tensor):
        sparse = SparseLabels.from_multi_hot(labels)
    else:
        sparse = SparseLabels.from_lists(labels, n_labels)
    if sparse.n_documents != n_documents:
        raise ValueError(f"labels describe {sparse.n_documents} documents, but there are {n_documents} projections.")
    if n_labels is not None and sparse.n_labels != n_labels:
        raise ValueError(
            f"labels come from a space of {sparse.n_labels} labels, but the loss was built for {n_labels}."
        )
    if len(sparse.indices):
        lowest, highest = (int(bound) for bound in torch.aminmax(sparse.indices))
        if lowest < 0 or highest >= sparse.n_labels:
            raise ValueError(
                f"Label ids must be in [0, {sparse.n_labels}). Got ids from {lowest} to {highest} instead."
            )
    return sparse.to(device)
