"""Label intersections of anchors with samples, in blocks of anchors, cheap for large label spaces.

The product of two label matrices is the largest one of a contrastive loss over 8,929 labels if it is done
densely. Here a label goes one of two ways: the few labels that many documents carry are multiplied densely, all
others are scattered pair by pair (a label with n carriers makes n pairs per anchor that has it). Labels with one
carrier in the batch make no pairs at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from pipeline.losses.label_sets import SparseLabels

DENSE_SHARE = 0.04
"""A label carried by more than this share of the samples is multiplied densely. Both ways give the same counts;
on a CPU one scattered pair costs about as much as 25 dense ones."""


@dataclass(frozen=True)
class LabelPairs:
    """Everything that weight rules need to know about labels, once per batch.

    Samples come in the order batch (all processes), prototypes, queue. An *occurrence* is one label of one anchor.
    Only occurrences whose label has another carrier are kept, in anchor order.

    Attributes:
        n_anchors: anchors of this process.
        first_anchor: position of the first anchor among the samples.
        n_samples: batch, prototypes and queue together.
        prototypes: positions of the prototypes among the samples.
        n_anchor_labels: label set sizes, float, shape (n_anchors, 1).
        n_sample_labels: label set sizes, float, shape (n_samples,).
        n_label_rows: labels of an anchor which another sample carries too, float, shape (n_anchors,).
        n_partners: other carriers of each label occurrence, float, shape (n_occurrences of the batch and others,),
            not only of the anchors; what the share of occurrences with a partner is counted from.
        groups: group of every sample or None, int64, shape (n_samples,).
    """

    n_anchors: int
    first_anchor: int
    n_samples: int
    prototypes: slice
    n_anchor_labels: Tensor
    n_sample_labels: Tensor
    n_label_rows: Tensor
    n_partners: Tensor
    groups: Tensor | None
    _dense_samples: Tensor  # (n_samples, n_dense_labels), multi-hot
    _sample_of_carrier: Tensor  # samples, label after label
    _dense: _Occurrences
    _scattered: _Occurrences

    def blocks(self, n_rows: int) -> Iterator[PairBlock]:
        """Cut the anchors into blocks.

        Args:
            n_rows: anchors per block, >= 1.

        Yields:
            Blocks in anchor order.
        """
        starts = list(range(0, self.n_anchors, n_rows))
        bounds = torch.tensor([*starts, self.n_anchors], device=self.n_anchor_labels.device)
        dense, scattered = self._dense.cut(bounds), self._scattered.cut(bounds)
        for start, dense_part, scattered_part in zip(starts, dense, scattered, strict=True):
            stop = min(start + n_rows, self.n_anchors)
            yield PairBlock(pairs=self, start=start, stop=stop, dense=dense_part, scattered=scattered_part)


@dataclass(frozen=True)
class _Occurrences:
    """Label occurrences of anchors, sorted by anchor; every field has shape (n_occurrences,)."""

    anchor: Tensor  # position among this process's anchors
    dense_label: Tensor  # column of the dense product, meaningless for scattered ones
    first_carrier: Tensor  # where the label's carriers start
    n_carriers: Tensor  # all carriers, the anchor itself included
    n_partners: Tensor  # float, carriers outside the anchor's group
    n_anchors_of_label: Tensor  # float, anchors on all processes that find a partner through this label

    def select(self, positions: Tensor | slice) -> _Occurrences:
        return _Occurrences(
            self.anchor[positions],
            self.dense_label[positions],
            self.first_carrier[positions],
            self.n_carriers[positions],
            self.n_partners[positions],
            self.n_anchors_of_label[positions],
        )

    def cut(self, bounds: Tensor) -> list[_Occurrences]:
        """Split at anchor positions; one transfer to the host for all blocks."""
        ends = torch.searchsorted(self.anchor, bounds).tolist()
        return [self.select(slice(first, last)) for first, last in pairwise(ends)]


@dataclass(frozen=True)
class PairBlock:
    """Pairs of a block of anchors with all samples.

    Matrices have shape (n_rows, n_samples) and are zero where anchor and sample are one document or one group.
    Values per occurrence have shape (n_occurrences,): densely multiplied ones first, then scattered ones.
    """

    pairs: LabelPairs
    start: int
    stop: int
    dense: _Occurrences
    scattered: _Occurrences

    @property
    def n_rows(self) -> int:
        """Anchors in this block."""
        return self.stop - self.start

    @property
    def n_anchor_labels(self) -> Tensor:
        """Label set sizes of the anchors, shape (n_rows, 1)."""
        return self.pairs.n_anchor_labels[self.start : self.stop]

    @property
    def n_sample_labels(self) -> Tensor:
        """Label set sizes of the samples, shape (n_samples,)."""
        return self.pairs.n_sample_labels

    @cached_property
    def n_partners(self) -> Tensor:
        """Carriers in A(i) of each label occurrence, n_l, shape (n_occurrences,)."""
        return torch.cat([self.dense.n_partners, self.scattered.n_partners])

    @cached_property
    def n_anchors_of_label(self) -> Tensor:
        """Anchors, on all processes, with a partner for the occurrence's label, shape (n_occurrences,)."""
        return torch.cat([self.dense.n_anchors_of_label, self.scattered.n_anchors_of_label])

    @cached_property
    def _row(self) -> Tensor:
        return torch.cat([self.dense.anchor, self.scattered.anchor]) - self.start

    @cached_property
    def _scattered_pairs(self) -> tuple[Tensor, Tensor]:
        """Scattered pairs: position in the flattened matrix, and the occurrence each comes from."""
        lengths = self.scattered.n_carriers
        occurrence = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        first_pair = lengths.cumsum(0) - lengths
        shift = self.scattered.first_carrier - first_pair
        carrier = torch.arange(len(occurrence), device=lengths.device).add_(shift[occurrence])
        row_start = (self.scattered.anchor - self.start) * self.pairs.n_samples
        flat = self.pairs._sample_of_carrier[carrier].add_(row_start[occurrence])
        return flat, occurrence

    def fill_excluded(self, matrix: Tensor, value: float) -> Tensor:
        """Overwrite, in place, the pairs of a document with itself or with its group."""
        pairs = self.pairs
        if pairs.groups is None:
            matrix.diagonal(pairs.first_anchor + self.start).fill_(value)
            return matrix
        own = pairs.groups[pairs.first_anchor + self.start : pairs.first_anchor + self.stop]
        return matrix.masked_fill_(own[:, None] == pairs.groups, value)

    def shared(self, weights: Tensor | None = None) -> Tensor:
        """Add up the labels that anchor and sample share.

        Args:
            weights: what each label occurrence of an anchor counts, float, shape (n_occurrences,); 1 if None.

        Returns:
            ``sum over l in S_i and S_p of w_il`` (|S_i and S_p| without weights), shape (n_rows, n_samples); a new
            tensor that the caller may overwrite.
        """
        samples = self.pairs._dense_samples
        n_dense, one = len(self.dense.anchor), samples.new_ones(())
        anchors = samples.new_zeros((self.n_rows, samples.shape[1]))
        anchors[self._row[:n_dense], self.dense.dense_label] = one if weights is None else weights[:n_dense]
        matrix = anchors @ samples.T
        flat, occurrence = self._scattered_pairs
        values = one.expand(len(flat)) if weights is None else weights[n_dense:][occurrence]
        matrix.view(-1).scatter_add_(0, flat, values)
        return self.fill_excluded(matrix, 0.0)

    def sums_over_carriers(self, matrix: Tensor) -> Tensor:
        """Add up a pair matrix over the carriers of each label occurrence.

        Args:
            matrix: float, shape (n_rows, n_samples).

        Returns:
            ``sum over p of matrix_ip Y_pl`` for each occurrence (i, l), shape (n_occurrences,).
        """
        n_dense = len(self.dense.anchor)
        per_label = matrix @ self.pairs._dense_samples  # (n_rows, n_dense_labels)
        dense = per_label[self._row[:n_dense], self.dense.dense_label]
        flat, occurrence = self._scattered_pairs
        scattered = matrix.new_zeros(len(self.scattered.anchor))
        scattered.scatter_add_(0, occurrence, matrix.view(-1)[flat])
        return torch.cat([dense, scattered])

    def sums_per_anchor(self, values: Tensor) -> Tensor:
        """Add up values per occurrence over the labels of each anchor, shape (n_rows, 1)."""
        return values.new_zeros(self.n_rows).scatter_add_(0, self._row, values)[:, None]


def build_label_pairs(
    labels: SparseLabels,
    *,
    n_anchors: int,
    n_batch: int,
    first_anchor: int = 0,
    n_prototypes: int = 0,
    groups: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    dense_share: float = DENSE_SHARE,
) -> LabelPairs:
    """Sort the labels of a batch so that pair blocks are cheap.

    Args:
        labels: label sets of all samples in the order batch, prototypes, queue.
        n_anchors: anchors of this process: samples first_anchor to first_anchor + n_anchors.
        n_batch: documents in the global batch, the anchors of all processes.
        first_anchor: position of the first anchor among the samples.
        n_prototypes: prototypes among the samples, directly after the batch.
        groups: int64, shape (n_samples,); documents of one group are neither positives nor negatives of each
            other. None: every document is its own group.
        dtype: float32 or float64.
        dense_share: see DENSE_SHARE.

    Returns:
        The pairs, on the labels' device.
    """
    n_samples = labels.n_documents
    # Label after label, no duplicates; ``given`` are the same occurrences as they came, document after document.
    occurrences, given = torch.unique(labels.indices * n_samples + labels.rows, return_inverse=True)
    sample = occurrences % n_samples if n_samples else occurrences
    label_id = occurrences.div(max(n_samples, 1), rounding_mode="floor")
    _, label, n_carriers = torch.unique_consecutive(label_id, return_inverse=True, return_counts=True)
    n_partners = n_carriers[label] - _carriers_in_own_group(label, sample, groups)
    n_sample_labels = torch.bincount(sample, minlength=n_samples).to(dtype)

    has_partner = n_partners > 0
    n_anchors_of_label = torch.bincount(label[has_partner & (sample < n_batch)], minlength=len(n_carriers))
    is_dense = n_carriers > max(dense_share * n_samples, 1)
    dense_label = is_dense.cumsum(0) - 1
    dense_samples = torch.zeros((n_samples, int(is_dense.sum())), dtype=dtype, device=sample.device)
    in_dense = is_dense[label]
    dense_samples[sample[in_dense], dense_label[label[in_dense]]] = 1

    is_anchor = (sample >= first_anchor) & (sample < first_anchor + n_anchors)
    # A label listed twice would appear twice in ``given``: only then is a second sort needed.
    by_document = given if len(given) == len(occurrences) else sample.argsort(stable=True)
    kept = by_document[(is_anchor & (n_carriers[label] > 1))[by_document]]
    kept_label = label[kept]
    all_kept = _Occurrences(
        anchor=sample[kept] - first_anchor,
        dense_label=dense_label[kept_label],
        first_carrier=(n_carriers.cumsum(0) - n_carriers)[kept_label],
        n_carriers=n_carriers[kept_label],
        n_partners=n_partners[kept].to(dtype),
        n_anchors_of_label=n_anchors_of_label[kept_label].to(dtype),
    )
    kept_dense = is_dense[kept_label]
    label_rows = torch.bincount(all_kept.anchor[all_kept.n_partners > 0], minlength=n_anchors)
    return LabelPairs(
        n_anchors=n_anchors,
        first_anchor=first_anchor,
        n_samples=n_samples,
        prototypes=slice(n_batch, n_batch + n_prototypes),
        n_anchor_labels=n_sample_labels[first_anchor : first_anchor + n_anchors, None],
        n_sample_labels=n_sample_labels,
        n_label_rows=label_rows.to(dtype),
        n_partners=n_partners.to(dtype),
        groups=groups,
        _dense_samples=dense_samples,
        _sample_of_carrier=sample,
        _dense=all_kept.select(kept_dense.nonzero().squeeze(1)),
        _scattered=all_kept.select((~kept_dense).nonzero().squeeze(1)),
    )


def _carriers_in_own_group(label: Tensor, sample: Tensor, groups: Tensor | None) -> Tensor:
    """Count, for every label occurrence, carriers of the label in the document's own group (itself included)."""
    if groups is None:
        return torch.ones_like(label)
    _, group = torch.unique(groups, return_inverse=True)
    n_groups = len(groups) + 1
    carriers = torch.unique(label * n_groups + group[sample], return_inverse=True, return_counts=True)
    pair, n_carriers = carriers[1], carriers[2]
    in_own_group: Tensor = n_carriers[pair]
    return in_own_group
