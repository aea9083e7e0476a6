"""Collectives of the contrastive stage: gather with gradient, sums and means over processes.

All functions are identities when ``torch.distributed`` is not initialised, so the same code runs on one
process and on many. All of them are collectives otherwise: every process must call them, in the same order.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Count the processes that train together.

    Returns:
        The size of the default process group, 1 when none is initialised.
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number this process.

    Returns:
        The rank in the default process group, in [0, world_size()), 0 when none is initialised.
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_sizes(n_rows: int, device: torch.device | None = None) -> list[int]:
    """Tell every process how many rows each process holds.

    Args:
        n_rows: rows of this process, >= 0.
        device: where the message is made; NCCL needs the process's GPU.

    Returns:
        Rows of every process, in rank order, length world_size().
    """
    if world_size() == 1:
        return [n_rows]
    own = torch.tensor([n_rows], dtype=torch.int64, device=device)
    sizes = [torch.zeros_like(own) for _ in range(world_size())]
    dist.all_gather(sizes, own)
    return [int(size) for size in torch.cat(sizes).tolist()]


def gather(tensor: Tensor, sizes: list[int] | None = None) -> Tensor:
    """Concatenate the rows of all processes, without gradient.

    Processes may hold different numbers of rows (also none): rows are padded for the message only.

    Args:
        tensor: any dtype, shape (n_rows, ...); all but the first dimension equal on all processes.
        sizes: rows of every process where the caller knows them already (saves a message).

    Returns:
        Detached rows in rank order, shape (sum of sizes, ...). The tensor itself, detached, on one process.

    Raises:
        ValueError: if ``sizes`` does not fit the rows of this process.
    """
    tensor = tensor.detach()
    if world_size() == 1:
        return tensor
    sizes = gather_sizes(len(tensor), tensor.device) if sizes is None else sizes
    if len(sizes) != world_size() or sizes[rank()] != len(tensor):
        raise ValueError(f"sizes is {sizes}, but process {rank()} of {world_size()} holds {len(tensor)} rows.")
    padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    received = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(received, padded)
    return torch.cat([rows[:size] for rows, size in zip(received, sizes, strict=True)])


class _GatherWithGradient(torch.autograd.Function):
    """All-gather forward; sum of all processes' gradients, own rows only, backward."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, tensor: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes  # type: ignore[attr-defined]
        return gather(tensor, sizes)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        sizes: list[int] = ctx.sizes  # type: ignore[attr-defined]
        total = gradient.contiguous().clone()  # the engine may still need the incoming gradient
        dist.all_reduce(total)
        first = sum(sizes[: rank()])
        return total[first : first + sizes[rank()]], None


def gather_with_gradient(tensor: Tensor, sizes: list[int] | None = None) -> Tensor:
    """Concatenate the rows of all processes so that gradients flow back to the process that owns a row.

    The gradient of a row is the **sum** of what all processes send to it. With a loss that each process scales
    by ``world_size() / global count``, the mean over processes that DistributedDataParallel takes is then the
    gradient of one process on the global batch.

    Backward is a collective too: every process must run it, or none. A tensor that needs no gradient on one
    process must not need one on any other.

    Args:
        tensor: float, shape (n_rows, ...); numbers of rows may differ between processes.
        sizes: rows of every process where the caller knows them already.

    Returns:
        Rows in rank order, shape (sum of sizes, ...). The tensor itself on one process.
    """
    if world_size() == 1:
        return tensor
    sizes = gather_sizes(len(tensor), tensor.device) if sizes is None else sizes
    gathered: Tensor = _GatherWithGradient.apply(tensor, sizes)  # type: ignore[no-untyped-call]
    return gathered


def gather_label_lists(indices: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate sparse label sets (CSR) of all processes.

    Args:
        indices: label ids of all documents one after the other, int64, shape (n_occurrences,).
        offsets: document i has ``indices[offsets[i]:offsets[i + 1]]``, int64, shape (n_documents + 1,).

    Returns:
        The same pair for the global batch, documents in rank order.
    """
    if world_size() == 1:
        return indices, offsets
    n_labels_of_document = gather(offsets.diff())
    global_offsets = n_labels_of_document.new_zeros(len(n_labels_of_document) + 1)
    torch.cumsum(n_labels_of_document, dim=0, out=global_offsets[1:])
    return gather(indices), global_offsets


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Add a tensor up over processes, without gradient.

    Args:
        tensor: any shape, equal on all processes.

    Returns:
        The sum, detached, same shape; the input is left as it is.
    """
    total = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def mean_over_processes(per_document: Tensor) -> Tensor:
    """Reduce one value per document so that DDP's mean gives the mean over the global batch.

    A plain mean on every process is wrong where processes hold different numbers of documents.

    Args:
        per_document: float, shape (n_documents,), with gradient; n_documents may differ between processes.

    Returns:
        ``sum of own values * world_size() / global n_documents``, scalar, still attached to the graph. Its
        mean over processes is the mean over all documents (0 if there is none anywhere).

    Example:
        >>> mean_over_processes(torch.tensor([1.0, 2.0, 6.0])).item()
        3.0
    """
    n_documents = sum_over_processes(
        torch.tensor(float(per_document.numel()), dtype=torch.float64, device=per_document.device)
    )
    scale = world_size() / n_documents.clamp(min=1)
    return per_document.sum() * scale.to(per_document.dtype)
