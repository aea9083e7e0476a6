"""What a batch offers to a contrastive loss: relations between label sets, positives, partners of labels."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.losses.kernel import PAIRS_PER_BLOCK_CPU
from pipeline.losses.label_sets import Labels, SparseLabels, as_sparse_labels
from pipeline.losses.pairs import PairBlock, build_label_pairs

RELATIONS = ("r1", "r2", "r3", "r4", "r5")
"""Of an anchor's label set S to a sample's T: disjoint, equal, partial overlap, T inside S, S inside T."""


def relation_statistics(labels: Labels) -> dict[str, float]:
    """Count how the documents of a batch relate by their labels.

    Costs one pass over the label intersections and no vectors, so it can be logged for every batch. For the
    statistics of a batch that is spread over processes pass ``labels.gathered()``.

    Args:
        labels: multi-hot (n_documents, n_labels), one list of label ids per document, or SparseLabels.

    Returns:
        - ``share_r1`` to ``share_r5``: share of ordered pairs (anchor, sample) in each relation; an empty set is
          disjoint (R1) from all. They sum to 1, but are 0 for fewer than two documents.
        - ``mean_k``: mean of SD's K over positive pairs, 0 without any.
        - ``anchors_with_positives``: share of documents that share a label with another.
        - ``partner_share``: share of label occurrences whose label another document of the batch carries, 0 without
          any.

    Example:
        >>> statistics = relation_statistics([[0, 1], [0, 1], [1, 2], [3]])
        >>> round(statistics["share_r3"], 3), round(statistics["partner_share"], 3)
        (0.333, 0.714)
    """
    sparse = _as_sparse(labels)
    n_documents = sparse.n_documents
    pairs = build_label_pairs(sparse, n_anchors=n_documents, n_batch=n_documents)
    counts = torch.zeros(len(RELATIONS) + 2, dtype=torch.float64)
    with torch.autocast(sparse.indices.device.type, enabled=False):  # counts in bf16 are exact only to 256
        for block in pairs.blocks(max(16, PAIRS_PER_BLOCK_CPU // max(n_documents, 1))):
            counts += _count_block(block).cpu()
    n_disjoint, *n_overlapping, sum_k, n_anchors = counts.tolist()
    n_pairs = n_documents * (n_documents - 1)
    n_positives = sum(n_overlapping)
    statistics = {
        f"share_{name}": count / max(n_pairs, 1)
        for name, count in zip(RELATIONS, [n_disjoint - n_documents, *n_overlapping], strict=True)
    }
    statistics["mean_k"] = sum_k / max(n_positives, 1)
    statistics["anchors_with_positives"] = n_anchors / max(n_documents, 1)
    has_partner = (pairs.n_partners > 0).double()
    statistics["partner_share"] = has_partner.mean().item() if len(has_partner) else 0.0
    return statistics


def partner_share(labels: SparseLabels, queued: SparseLabels) -> float:
    """Share of a batch's label occurrences whose label another document of the batch or of a queue carries.

    Args:
        labels: label sets of the (gathered) batch.
        queued: label sets of the queue, of the same label space; no document of the batch among them.

    Returns:
        In [0, 1], 0 for a batch without labels.

    Example:
        >>> batch, queue = (SparseLabels.from_lists(sets, 4) for sets in ([[0, 1], [1, 2]], [[2, 3]]))
        >>> partner_share(batch, queue)  # label 0 has none, label 1 twice, label 2 in the queue
        0.75
    """
    own, other = (torch.unique(one.rows * one.n_labels + one.indices) % one.n_labels for one in (labels, queued))
    n_carriers = torch.bincount(torch.cat([own, other]), minlength=labels.n_labels)
    return (n_carriers[own] > 1).double().mean().item() if len(own) else 0.0


def _as_sparse(labels: Labels) -> SparseLabels:
    device = labels.device if isinstance(labels, Tensor) else torch.device("cpu")
    if isinstance(labels, SparseLabels):
        return as_sparse_labels(labels, n_documents=labels.n_documents, device=labels.indices.device)
    return as_sparse_labels(labels, n_documents=len(labels), device=device)


def _count_block(block: PairBlock) -> Tensor:
    """Pairs in R1 to R5 (a document with itself counts as R1), sum of K, anchors with positives; shape (7,)."""
    shared = block.shared()
    is_positive = shared > 0
    misses = block.n_anchor_labels > shared  # the anchor has labels that the sample lacks
    has_extra = block.n_sample_labels > shared
    k = shared / (block.n_anchor_labels.clamp(min=1) * (1 + block.n_sample_labels - shared))
    return torch.stack(
        [
            (~is_positive).sum(),
            (is_positive & ~misses & ~has_extra).sum(),
            (is_positive & misses & has_extra).sum(),
            (is_positive & misses & ~has_extra).sum(),
            (is_positive & ~misses & has_extra).sum(),
            k.sum(dtype=torch.float64),
            is_positive.any(dim=1).sum(),
        ]
    ).double()
