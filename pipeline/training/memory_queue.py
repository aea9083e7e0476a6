"""What a contrastive loss sees beyond its batch: documents of earlier steps, embedded by a slow copy of the encoder."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pipeline import distributed
from pipeline.encoders.encoder import DocumentEncoder, ProjectionHead
from pipeline.encoders.micro_batches import Batch, MicroBatch
from pipeline.losses import SparseLabels


class MemoryQueue:
    """The latest documents of earlier steps: detached projections with label sets, the same on all processes.

    Queued documents are samples, never anchors. A document is held once, with its latest projection, and those of a
    step's own batch are left out of what that step sees: no document is its own positive or negative, and none is
    counted twice. Part of every checkpoint (accelerate asks for ``state_dict``), so that a resumed run continues
    exactly.

    Args:
        size: documents held at most; the oldest leave first.
        n_labels: width of the label space.
    """

    def __init__(self, size: int, n_labels: int) -> None:
        self.size = size
        self._vectors = torch.zeros(0, 0)  # (n_queued, dim), oldest first
        self._rows = torch.zeros(0, dtype=torch.int64)  # (n_queued,)
        self._labels = SparseLabels.from_lists([], n_labels)

    def __len__(self) -> int:
        """Documents held."""
        return len(self._rows)

    def samples_without(self, rows: Tensor) -> tuple[Tensor, SparseLabels]:
        """Projections (n_samples, dim) and label sets of the queue, without some documents.

        Args:
            rows: documents to leave out, int64, those of the whole global batch.

        Returns:
            What is left, oldest first, on the device of ``rows``; (0, 0) vectors before the first push.
        """
        kept = (~torch.isin(self._rows.to(rows.device), rows)).nonzero().squeeze(1)
        return self._vectors.to(rows.device)[kept], self._labels.to(rows.device).select(kept)

    def push(self, vectors: Tensor, labels: SparseLabels, rows: Tensor) -> None:
        """Hold the documents of a global batch.

        Args:
            vectors: projections of all processes, shape (n_documents, dim).
            labels: their label sets.
            rows: their rows, unique, int64, shape (n_documents,).
        """
        order = rows.argsort()  # ranks stand in no order that one process would know
        old_vectors, old_labels = self.samples_without(rows)
        old_rows = self._rows.to(rows.device)
        all_rows = torch.cat([old_rows[~torch.isin(old_rows, rows)], rows[order]])
        new_vectors = vectors.detach()[order]
        all_vectors = torch.cat([old_vectors.reshape(-1, vectors.shape[1]), new_vectors])
        latest = torch.arange(max(len(all_rows) - self.size, 0), len(all_rows), device=rows.device)
        self._rows, self._vectors = all_rows[latest], all_vectors[latest]
        self._labels = old_labels.followed_by(labels.select(order)).select(latest)

    def state_dict(self) -> dict[str, Tensor]:
        """For accelerate's checkpoints."""
        labels = self._labels
        return {"vectors": self._vectors, "rows": self._rows, "indices": labels.indices, "offsets": labels.offsets}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """From accelerate's checkpoints."""
        self._vectors, self._rows = state["vectors"], state["rows"]
        self._labels = SparseLabels(state["indices"], state["offsets"], self._labels.n_labels)


class MomentumEncoder(nn.Module):
    """A copy of encoder and projection head that follows them slowly, so that queued projections age less.

    It never learns by gradient and has no dropout.

    Args:
        encoder: the encoder in training.
        projection_head: its projection head.
        momentum: share of the copy that a step keeps, in [0, 1).
        pooling: how token states become an embedding.

    Source:
        He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020, equation 2.
    """

    def __init__(
        self, encoder: DocumentEncoder, projection_head: ProjectionHead, *, momentum: float, pooling: str
    ) -> None:
        super().__init__()
        self.momentum, self.pooling = momentum, pooling
        self.encoder, self.projection_head = copy.deepcopy((encoder, projection_head))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> MomentumEncoder:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def follow(self, encoder: DocumentEncoder, projection_head: ProjectionHead) -> None:
        """Move towards the weights in training: ``momentum * own + (1 - momentum) * theirs``."""
        self.encoder.share_cache(encoder)
        for own, leader in ((self.encoder, encoder), (self.projection_head, projection_head)):
            for slow, fast in zip(own.parameters(), leader.parameters(), strict=True):
                if fast.requires_grad:
                    slow.lerp_(fast, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, micro_batches: list[MicroBatch]) -> Tensor:
        """Projections, (n_documents, projection_dim)."""
        return torch.cat([self.projection_head(self.encoder(one).pooled(self.pooling)) for one in micro_batches])


class Memory(nn.Module):
    """A queue, and the momentum encoder that fills it where there is one.

    Args:
        queue: documents of earlier steps.
        momentum_encoder: gives the projections to queue; None: those of the encoder in training.
    """

    def __init__(self, queue: MemoryQueue, momentum_encoder: MomentumEncoder | None = None) -> None:
        super().__init__()
        self.queue, self.momentum_encoder = queue, momentum_encoder

    def samples(self, batch: Batch, projections: Tensor) -> tuple[Tensor, SparseLabels]:
        """What the loss sees beside the batch: projections (n_samples, dim) and label sets; a collective."""
        vectors, labels = self.queue.samples_without(distributed.gather(batch.rows.to(projections.device)))
        return vectors.reshape(-1, projections.shape[1]).to(projections), labels

    def remember(
        self,
        batch: Batch,
        projections: Tensor,
        gathered_labels: SparseLabels,
        encoder: DocumentEncoder,
        projection_head: ProjectionHead,
    ) -> None:
        """Queue a step's documents of all processes; a collective.

        Args:
            batch: this process's documents.
            projections: theirs, by the encoder in training, shape (n_documents, dim).
            gathered_labels: label sets of all processes' documents, in rank order.
            encoder: the encoder in training.
            projection_head: its projection head.
        """
        if self.momentum_encoder is not None:
            self.momentum_encoder.follow(encoder, projection_head)
            projections = self.momentum_encoder(batch.micro_batches)
        rows = distributed.gather(batch.rows.to(projections.device))
        self.queue.push(distributed.gather(projections), gathered_labels, rows)


def build_memory(
    *,
    size: int,
    momentum: float | None,
    n_labels: int,
    encoder: DocumentEncoder,
    projection_head: ProjectionHead,
    pooling: str,
) -> Memory | None:
    """The memory that settings ask for, or None for a size of 0."""
    if not size:
        return None
    slow = None
    if momentum is not None:
        slow = MomentumEncoder(encoder, projection_head, momentum=momentum, pooling=pooling)
    return Memory(MemoryQueue(size, n_labels), slow)


def memory_queues(model: nn.Module) -> list[MemoryQueue]:
    """Queues anywhere inside a model, which its parameters and buffers do not hold."""
    return [module.queue for module in model.modules() if isinstance(module, Memory)]
