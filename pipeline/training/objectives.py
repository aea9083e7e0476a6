"""What the two trainings minimise: a module that takes a batch of documents and gives a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.distributed import sum_over_processes, world_size
from pipeline.encoders.encoder import DocumentEncoder, ProjectionHead
from pipeline.encoders.heads import LabelAttentionHead, LinearHead
from pipeline.encoders.micro_batches import Batch, MicroBatch
from pipeline.experiment.loss_settings import loss_arguments
from pipeline.experiment.training_settings import Contrastive
from pipeline.losses import (
    IntraLabelLoss,
    JaccardProbabilityLoss,
    PrototypeLoss,
    SparseLabels,
    build_contrastive_loss,
    partner_share,
    relation_statistics,
)
from pipeline.training.label_starts import LabelStarts
from pipeline.training.memory_queue import Memory, build_memory


class Objective(nn.Module):
    """What a training minimises: called with a batch it gives the loss of a process and statistics.

    Averaged over processes, the loss is that of the global batch.
    """

    def parts(self, batch: Batch) -> list[Batch]:
        """Batches whose losses add up to that of ``batch``: each has its backward before the next one is encoded."""
        return [batch]


class ContrastiveObjective(Objective):
    """Encoder, projection head and contrastive loss over the documents of all processes.

    Args:
        encoder: document encoder.
        projection_head: to what the loss sees.
        loss: of :mod:`pipeline.losses`; gathers over processes by itself.
        n_labels: width of the label space.
        pooling: how token states become an embedding.
        gradient_cache: keep no activations of micro-batches but recompute them in backward, with the same dropout;
            the gradient is that of the whole batch, and memory does not grow with it.
        memory: documents of earlier steps as further samples, or None.
    """

    def __init__(
        self,
        encoder: DocumentEncoder,
        projection_head: ProjectionHead,
        loss: nn.Module,
        *,
        n_labels: int,
        pooling: str,
        gradient_cache: bool,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.projection_head, self.loss, self.memory = encoder, projection_head, loss, memory
        self.n_labels, self.pooling, self.gradient_cache = n_labels, pooling, gradient_cache

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Loss and statistics of a batch."""
        projections = torch.cat([self._run(self._project, one) for one in batch.micro_batches])
        term = _contrast(self.loss, self.memory, projections, batch, self.n_labels)
        if self.memory is not None and self.training:
            self.memory.remember(batch, projections, term.labels, self.encoder, self.projection_head)
        return term.loss, term.statistics

    def _project(self, batch: MicroBatch) -> Tensor:
        return self.projection_head(self.encoder(batch).pooled(self.pooling))  # type: ignore[no-any-return]

    def _run(self, function: Callable[[MicroBatch], Any], batch: MicroBatch) -> Any:
        return run_micro_batch(function, batch, recompute=self.gradient_cache and torch.is_grad_enabled())


class ClassificationObjective(Objective):
    """Encoder, head and classification loss, with a contrastive term where one is given.

    Args:
        encoder: document encoder.
        head: logits from token states.
        loss: head loss of :mod:`pipeline.losses`, mean over documents.
        n_labels: width of the label space.
        contrastive: contrastive loss, or None. Most see projections of documents; JSPCL sees the logits, ICL what each
            label's attention reads in a document, which needs a head of label attention.
        projection_head: to what a loss over projections sees.
        contrastive_weight: factor of the contrastive term (lambda).
        pooling: how token states become an embedding for the contrastive term.
        gradient_cache: as in :class:`ContrastiveObjective`; without a contrastive loss there is nothing to recompute,
            since micro-batches go forward and backward one by one.
        memory: as in :class:`ContrastiveObjective`.
    """

    def __init__(
        self,
        encoder: DocumentEncoder,
        head: LinearHead | LabelAttentionHead,
        loss: nn.Module,
        *,
        n_labels: int,
        contrastive: nn.Module | None = None,
        projection_head: ProjectionHead | None = None,
        contrastive_weight: float = 0.0,
        pooling: str = "mean",
        gradient_cache: bool = False,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.loss = encoder, head, loss
        self.contrastive, self.projection_head, self.memory = contrastive, projection_head, memory
        self.n_labels, self.contrastive_weight, self.pooling = n_labels, contrastive_weight, pooling
        self.gradient_cache = gradient_cache

    def parts(self, batch: Batch) -> list[Batch]:
        """Micro-batches, unless a contrastive loss compares documents of all of them."""
        return batch.parts() if self.contrastive is None else [batch]

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Loss and statistics of a batch or of a part of it."""
        recompute = self.gradient_cache and self.contrastive is not None and torch.is_grad_enabled()
        outputs = [
            run_micro_batch(self._logits_and_contrasted, one, recompute=recompute) for one in batch.micro_batches
        ]
        logits = torch.cat([one for one, _ in outputs])  # (n_documents, n_labels)
        targets = multi_hot(batch.label_ids, self.n_labels, logits.device)
        loss = self.loss(logits, targets) * (len(batch) * world_size() / batch.n_global)
        if self.contrastive is None:
            return loss, {}
        contrasted = torch.cat([one for _, one in outputs])
        term = _contrast(self.contrastive, self.memory, contrasted, batch, self.n_labels)
        if self.memory is not None and self.projection_head is not None and self.training:
            self.memory.remember(batch, contrasted, term.labels, self.encoder, self.projection_head)
        of_batch = sum_over_processes(term.loss) / world_size()
        statistics = {"contrastive_loss": float(of_batch), **term.statistics}
        return loss + self.contrastive_weight * term.loss, statistics

    def _logits_and_contrasted(self, batch: MicroBatch) -> tuple[Tensor, Tensor | None]:
        """Logits, and what the contrastive loss sees of each document."""
        tokens = self.encoder(batch)
        if isinstance(self.contrastive, IntraLabelLoss) and isinstance(self.head, LabelAttentionHead):
            vectors = self.head.label_vectors(tokens)
            return self.head.logits_of(vectors), vectors
        logits = self.head(tokens)
        if isinstance(self.contrastive, JaccardProbabilityLoss):
            return logits, logits
        return logits, self.projection_head(tokens.pooled(self.pooling)) if self.projection_head else None

    def logits(self, batch: MicroBatch) -> Tensor:
        """Logits of a micro-batch, float32, (n_documents, n_labels)."""
        return self.head(self.encoder(batch)).float()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Contrasted:
    """A contrastive loss, statistics of the batch, and the label sets of all processes' documents."""

    loss: Tensor
    statistics: dict[str, float]
    labels: SparseLabels


def _contrast(loss: nn.Module, memory: Memory | None, projections: Tensor, batch: Batch, n_labels: int) -> _Contrasted:
    labels = SparseLabels.from_lists(batch.label_ids, n_labels).to(projections.device)
    gathered = labels.gathered()
    statistics = relation_statistics(gathered)
    if memory is None:
        return _Contrasted(loss(projections, labels), statistics, gathered)
    vectors, queued = memory.samples(batch, projections)
    statistics |= {"queued_documents": len(vectors), "partner_share_with_queue": partner_share(gathered, queued)}
    value = loss(projections, labels, extra_projections=vectors, extra_labels=queued)
    return _Contrasted(value, statistics, gathered)


def memory_of(
    settings: Contrastive, encoder: DocumentEncoder, projection_head: ProjectionHead, *, n_labels: int, pooling: str
) -> Memory | None:
    """The memory that settings ask for, None where they ask for no queue."""
    return build_memory(
        size=settings.queue_size,
        momentum=settings.momentum,
        n_labels=n_labels,
        encoder=encoder,
        projection_head=projection_head,
        pooling=pooling,
    )


def contrastive_loss_of(settings: Contrastive, n_labels: int) -> nn.Module:
    """The contrastive loss that settings ask for; not for loss 'none'."""
    return build_contrastive_loss(
        settings.loss,
        temperature=settings.temperature,
        normalise=settings.normalise,
        weight_in=settings.weight_in,
        n_labels=n_labels,
        dim=settings.projection_dim,
        settings=loss_arguments(settings.loss, settings.loss_settings),
    )


def sees_projections(loss: nn.Module) -> bool:
    """Whether a loss sees projections of documents, not logits or what labels read."""
    return not isinstance(loss, IntraLabelLoss | JaccardProbabilityLoss)


def has_prototypes(loss: nn.Module | None) -> bool:
    """Whether a loss has a vector for each label, which can start from titles."""
    return isinstance(loss, PrototypeLoss)


@torch.no_grad()
def start_prototypes(loss: nn.Module | None, projection_head: ProjectionHead, starts: LabelStarts) -> None:
    """Start the label prototypes of a loss from label vectors, as the projection head sees them.

    A label without one keeps its random start; losses without prototypes stay as they are.
    """
    if isinstance(loss, PrototypeLoss):
        vectors = projection_head(starts.embeddings)
        is_known = torch.tensor(starts.is_known, device=vectors.device).unsqueeze(1)
        loss.load_prototypes(torch.where(is_known, vectors, loss.prototypes.to(vectors.dtype)))


def run_micro_batch(function: Callable[[MicroBatch], Any], batch: MicroBatch, *, recompute: bool) -> Any:
    """Apply a function to a micro-batch, keeping its activations or recomputing them in backward."""
    return checkpoint(function, batch, use_reentrant=False) if recompute else function(batch)


def multi_hot(label_ids: Sequence[Sequence[int]], n_labels: int, device: torch.device) -> Tensor:
    """Label sets as (n_documents, n_labels) float32."""
    targets = torch.zeros(len(label_ids), n_labels)
    for row, ids in enumerate(label_ids):
        targets[row, list(ids)] = 1.0
    return targets.to(device)
