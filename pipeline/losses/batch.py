"""From a caller's vectors and labels to what the kernel takes: checked, normalised, gathered over processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from pipeline import distributed
from pipeline.losses.label_sets import Labels, SparseLabels, as_sparse_labels
from pipeline.losses.pairs import LabelPairs, build_label_pairs

P = ParamSpec("P")
R = TypeVar("R")


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Keep torch.compile out of a function (a graph break), with its types kept.

    Block sizes and pair counts depend on the labels of each batch: tracing would recompile again and again.

    Args:
        function: any function.

    Returns:
        The same function, run as it is under torch.compile.
    """
    uncompiled: Callable[P, R] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return uncompiled


def normalise_vectors(vectors: Tensor) -> Tensor:
    """L2-normalise rows in float32 (float64 stays float64); a row of zeros stays zero and gets no gradient.

    Args:
        vectors: any float dtype, shape (n_rows, dim).

    Returns:
        Unit vectors, float32 or float64, same shape.

    Raises:
        TypeError: if the dtype is no float.
        ValueError: if the tensor is not 2-D.
    """
    if not vectors.is_floating_point():
        raise TypeError(f"Projections must be a float tensor. Got {vectors.dtype} instead.")
    if vectors.ndim != 2:
        raise ValueError(
            f"Projections must have shape (n_documents, dim). Got {tuple(vectors.shape)} instead; "
            f"for several views of a document repeat its labels, one row per view."
        )
    if vectors.dtype != torch.float64:
        vectors = vectors.float()
    # The squares of very long or short rows leave float32; the result does not depend on this factor.
    largest = vectors.detach().abs().amax(dim=1, keepdim=True) if vectors.shape[1] else vectors.detach()
    vectors = vectors / largest.masked_fill(largest == 0, 1.0)
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    # Division by infinity rather than by a small number: no exploding gradient, no NaN.
    unit: Tensor = vectors / length.masked_fill(length == 0, float("inf"))
    return unit


def mean_over_units(loss_sum: Tensor, units: Tensor) -> Tensor:
    """Divide a process's sum of losses by what all processes average over.

    Args:
        loss_sum: scalar, attached to the graph.
        units: this process's part of the divisor (anchors with positives, for most rules), scalar.

    Returns:
        ``loss_sum * world_size / sum of units over processes``: averaged over processes it is the loss of one
        process on the global batch, and so is its gradient under DistributedDataParallel. 0, attached to the
        graph, where the divisor is 0.
    """
    total = distributed.sum_over_processes(units)
    scale = distributed.world_size() / total.masked_fill(total <= 0, float("inf"))
    return loss_sum * scale


@dataclass(frozen=True)
class Queue:
    """Samples without gradient, the same on all processes.

    Attributes:
        vectors: L2-normalised, shape (n_queue, dim).
        labels: their label sets.
        group_ids: int64, shape (n_queue,), or None: they belong to no group.
    """

    vectors: Tensor
    labels: SparseLabels
    group_ids: Tensor | None


def build_queue(
    projections: Tensor | None,
    labels: Labels | None,
    group_ids: Tensor | None,
    *,
    anchors: Tensor,
    n_labels: int | None,
) -> Queue | None:
    """Check and normalise queued samples.

    Args:
        projections: shape (n_queue, dim), or None for no queue.
        labels: their label sets, None if and only if there are no projections.
        group_ids: int64, shape (n_queue,), or None.
        anchors: the batch, for device, dtype and dim.
        n_labels: size of the label space if known.

    Returns:
        The queue, or None.

    Raises:
        ValueError: if projections come without labels, or shapes do not fit.
    """
    if projections is None or labels is None:
        if projections is not None or labels is not None or group_ids is not None:
            raise ValueError("extra_projections and extra_labels must be given together, and before extra_group_ids.")
        return None
    vectors = normalise_vectors(projections.detach()).to(anchors)
    if vectors.shape[1] != anchors.shape[1]:
        raise ValueError(f"extra_projections have dim {vectors.shape[1]}, but projections have {anchors.shape[1]}.")
    sparse = as_sparse_labels(labels, n_documents=len(vectors), n_labels=n_labels, device=anchors.device)
    return Queue(vectors, sparse, check_group_ids(group_ids, len(vectors), anchors.device))


def check_group_ids(group_ids: Tensor | None, n_documents: int, device: torch.device) -> Tensor | None:
    """Refuse group ids of a wrong shape or dtype, and bring them to the device.

    Args:
        group_ids: integers, shape (n_documents,), or None.
        n_documents: how many there must be.
        device: where they shall lie.

    Returns:
        The ids as int64, or None.

    Raises:
        ValueError: if the shape differs or the dtype is no integer.
    """
    if group_ids is None:
        return None
    if group_ids.shape != (n_documents,) or group_ids.is_floating_point():
        raise ValueError(
            f"Group ids must be integers of shape ({n_documents},). "
            f"Got {group_ids.dtype} of shape {tuple(group_ids.shape)} instead."
        )
    return group_ids.to(device=device, dtype=torch.int64)


@dataclass(frozen=True)
class GatheredBatch:
    """Anchors of this process among the samples of all processes.

    Attributes:
        anchors: shape (n_anchors, dim).
        samples: batch of all processes, attached to the graph, then prototypes; None where they are the anchors.
        queue: shape (n_queue, dim), n_queue >= 0.
        pairs: labels of anchors and samples.
    """

    anchors: Tensor
    samples: Tensor | None
    queue: Tensor
    pairs: LabelPairs


def gather_batch(
    anchors: Tensor,
    labels: SparseLabels,
    *,
    group_ids: Tensor | None = None,
    prototypes: Tensor | None = None,
    queue: Queue | None = None,
) -> GatheredBatch:
    """Collect the samples of all processes and sort their labels; a collective.

    Args:
        anchors: vectors of this process's documents, float32 or float64, shape (n_anchors, dim).
        labels: their label sets.
        group_ids: int64, shape (n_anchors,), or None; on all processes or on none.
        prototypes: one vector per label, the same on all processes, shape (n_labels, dim), or None.
        queue: samples without gradient, or None.

    Returns:
        Anchors, samples and pairs, ready for the kernel.

    Raises:
        ValueError: if the queue has groups and the batch has none.
    """
    if group_ids is None and queue is not None and queue.group_ids is not None:
        raise ValueError("extra_group_ids need group_ids: queued documents share groups with those of the batch.")
    sizes = distributed.gather_sizes(len(anchors), anchors.device)
    samples = distributed.gather_with_gradient(anchors, sizes) if len(sizes) > 1 else None
    all_labels = labels.gathered()
    if prototypes is not None:
        samples = torch.cat([anchors if samples is None else samples, prototypes])
        one_each = torch.arange(len(prototypes) + 1, device=anchors.device)
        all_labels = all_labels.followed_by(SparseLabels(one_each[:-1], one_each, len(prototypes)))
    if queue is not None:
        all_labels = all_labels.followed_by(queue.labels)
    n_prototypes = 0 if prototypes is None else len(prototypes)
    groups = None
    if group_ids is not None:
        in_queue = None if queue is None else queue.group_ids
        groups = _groups_of_samples(
            distributed.gather(group_ids, sizes), in_queue, n_prototypes, all_labels.n_documents
        )
    pairs = build_label_pairs(
        all_labels,
        n_anchors=len(anchors),
        n_batch=sum(sizes),
        first_anchor=sum(sizes[: distributed.rank()]),
        n_prototypes=n_prototypes,
        groups=groups,
        dtype=anchors.dtype,
    )
    empty = anchors.detach()[:0]
    return GatheredBatch(anchors, samples, empty if queue is None else queue.vectors, pairs)


def _groups_of_samples(in_batch: Tensor, in_queue: Tensor | None, n_prototypes: int, n_samples: int) -> Tensor:
    """Number the groups of all samples; prototypes and an ungrouped queue get a number that no anchor has."""
    known = in_batch if in_queue is None else torch.cat([in_batch, in_queue])
    number: Tensor = torch.unique(known, return_inverse=True)[1]
    groups = number.new_full((n_samples,), len(known))
    groups[: len(in_batch)] = number[: len(in_batch)]
    if in_queue is not None:
        groups[len(in_batch) + n_prototypes :] = number[len(in_batch) :]
    return groups
