"""ICL: contrast the label embeddings of one document with each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.losses.batch import mean_over_units, normalise_vectors, not_compiled
from pipeline.losses.contrastive import check_temperature
from pipeline.losses.label_sets import Labels, as_sparse_labels


class IntraLabelLoss(nn.Module):
    """Pull the embeddings of a document's labels together and away from those of labels that it lacks.

    It needs one embedding for each label **inside each document**, as label attention makes them. For a document
    with label set S, over its labels' embeddings: the mean over l in S of ``-1/(|S| - 1) * sum over other k in S of
    log(exp(s_lk) / sum over all m but l of exp(s_lm))``; then the mean over documents with at least two labels.

    No sample crosses documents, so nothing is gathered between processes but the number of documents.

    Args:
        temperature: > 0.
        n_labels: size of the label space, or None.

    Raises:
        ValueError: on a temperature <= 0.

    Source:
        Lin et al., Findings of ACL 2023. Their code also pulls the embeddings of absent labels together; this does
        not.
    """

    def __init__(self, *, temperature: float = 0.1, n_labels: int | None = None) -> None:
        super().__init__()
        self.temperature, self.n_labels = check_temperature(temperature), n_labels

    def extra_repr(self) -> str:
        """Show the settings in the module's representation."""
        return f"temperature={self.temperature}"

    @not_compiled
    def forward(self, label_embeddings: Tensor, labels: Labels) -> Tensor:
        """Compute the loss of a batch.

        Args:
            label_embeddings: float, L2-normalised in here, shape (n_documents, n_labels, dim).
            labels: multi-hot, lists of label ids, or SparseLabels.

        Returns:
            Scalar, float32 (float64 for float64 input); a 0 attached to the graph if no document has two labels.

        Raises:
            ValueError: if shapes or label ids do not fit.
        """
        if label_embeddings.ndim != 3:
            raise ValueError(
                f"label_embeddings must have shape (n_documents, n_labels, dim). "
                f"Got {tuple(label_embeddings.shape)} instead."
            )
        n_documents, n_labels, dim = label_embeddings.shape
        sparse = as_sparse_labels(
            labels, n_documents=n_documents, n_labels=self.n_labels, device=label_embeddings.device
        )
        if sparse.n_labels > n_labels:
            raise ValueError(
                f"labels come from a space of {sparse.n_labels} labels, but there are {n_labels} embeddings."
            )
        with torch.autocast(label_embeddings.device.type, enabled=False):
            vectors = normalise_vectors(label_embeddings.reshape(-1, dim)).reshape(n_documents, n_labels, dim)
            sets = [torch.unique(own) for own in torch.split(sparse.indices, sparse.offsets.diff().tolist())]
            losses = [
                _document_loss(document, own, self.temperature)
                for document, own in zip(vectors, sets, strict=True)
                if len(own) > 1
            ]
            # The empty sum keeps the graph where no document has two labels.
            total = torch.stack(losses).sum() if losses else vectors.sum() * 0
            return mean_over_units(total, total.new_tensor(float(len(losses))).detach())


def _document_loss(vectors: Tensor, own: Tensor, temperature: float) -> Tensor:
    """SupCon among the label embeddings of one document, anchors are its labels."""
    similarities = vectors[own] @ vectors.T / temperature  # (n_own, n_labels)
    is_self = torch.zeros_like(similarities, dtype=torch.bool).scatter_(1, own[:, None], True)
    log_sum = similarities.masked_fill(is_self, float("-inf")).logsumexp(dim=1)
    to_own = similarities[:, own]  # (n_own, n_own), the diagonal is each label with itself
    attraction = (to_own.sum(dim=1) - to_own.diagonal()) / (len(own) - 1)
    return (log_sum - attraction).mean()
