"""ProbMCL: documents as Gaussian mixtures, similar as densities are."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import distributed
from pipeline.losses.batch import mean_over_units, not_compiled
from pipeline.losses.contrastive import check_temperature
from pipeline.losses.kernel import KernelSettings, block_weights
from pipeline.losses.label_sets import Labels, as_sparse_labels
from pipeline.losses.pairs import build_label_pairs
from pipeline.losses.weights import WeightRule, overlap_coefficient_positives


class ProbMCLLoss(nn.Module):
    """Contrast mixture densities; positives are samples whose labels overlap enough.

    A small mixture density network turns each projection into a mixture of n_components Gaussians with one variance
    each. The similarity of two documents is the cosine of their densities, ``<p, q> / sqrt(<p, p> <q, q>)`` with
    ``<p, q> = integral of p q`` in closed form, in [0, 1]. Positives are samples with ``I / min(n_i, n_p) >=
    threshold``, all weighted alike; then SupCon's L_out.

    It is not fused: memory is O(n_anchors n_samples n_components^2). The loss owns parameters: give them to the
    optimiser, and keep the loss inside the module that DistributedDataParallel wraps.

    Args:
        dim: width of the projections, >= 1.
        temperature: > 0.
        threshold: least overlap coefficient of a positive, in [0, 1].
        n_components: Gaussians per document, >= 1.
        mixture_dim: width of the space they live in, >= 1. In a wide space densities hardly overlap at first, and
            the gradient vanishes.

    Raises:
        ValueError: if a setting is out of range.

    Source:
        Sajedi et al., "ProbMCL", ICASSP 2024 (arXiv 2401.01448). The paper's network has one component per label,
        which thousands of labels rule out, and adds a likelihood term, left out here. Overlap coefficient and
        cosine of densities are our reading of its index D and similarity; code is not public.
    """

    def __init__(
        self,
        dim: int,
        *,
        temperature: float = 0.1,
        threshold: float = 0.5,
        n_components: int = 4,
        mixture_dim: int = 16,
    ) -> None:
        super().__init__()
        if min(dim, n_components, mixture_dim) < 1 or not 0 <= threshold <= 1:
            raise ValueError(
                f"ProbMCLLoss needs sizes of at least 1 and a threshold in [0, 1]. Got dim={dim}, "
                f"n_components={n_components}, mixture_dim={mixture_dim}, threshold={threshold} instead."
            )
        self.temperature, self.threshold = check_temperature(temperature), threshold
        self.n_components, self.mixture_dim = n_components, mixture_dim
        self.network = nn.Linear(dim, n_components * (mixture_dim + 2))
        self.weight_rule = WeightRule(partial(overlap_coefficient_positives, threshold=threshold))

    def extra_repr(self) -> str:
        """Show the settings in the module's representation."""
        return f"temperature={self.temperature}, threshold={self.threshold}"

    @not_compiled
    def forward(self, projections: Tensor, labels: Labels) -> Tensor:
        """Compute the loss of a batch.

        Args:
            projections: float, shape (n_documents, dim).
            labels: multi-hot, lists of label ids, or SparseLabels.

        Returns:
            Scalar in the network's dtype, float32 unless the module was moved; a 0 attached to the graph if no
            anchor has a positive.

        Raises:
            ValueError: if shapes or label ids do not fit.
        """
        with torch.autocast(projections.device.type, enabled=False):
            own = self.network(projections.to(self.network.weight.dtype))
            sizes = distributed.gather_sizes(len(own), own.device)
            samples = distributed.gather_with_gradient(own, sizes)
            sparse = as_sparse_labels(labels, n_documents=len(own), device=own.device).gathered()
            pairs = build_label_pairs(
                sparse,
                n_anchors=len(own),
                n_batch=len(samples),
                first_anchor=sum(sizes[: distributed.rank()]),
                dtype=own.dtype,
            )
            if not len(own):
                # The samples stay in the graph: backward of the gather waits for every process.
                return mean_over_units(own.sum() + samples.sum() * 0, own.detach().sum())
            settings = KernelSettings(self.weight_rule, self.temperature)
            block = next(pairs.blocks(len(own)))
            weighted = block_weights(block, settings)
            similarities = self.similarities(own, samples) / self.temperature
            log_sum = block.fill_excluded(similarities.clone(), torch.finfo(own.dtype).min / 2).logsumexp(dim=1)
            weights = weighted.weights * weighted.scale
            losses = weighted.total.squeeze(1) * log_sum - (weights * similarities).sum(dim=1)
            return mean_over_units(losses.sum(), weighted.units.sum())

    def similarities(self, anchors: Tensor, samples: Tensor) -> Tensor:
        """Cosine of mixture densities.

        Args:
            anchors: output of the network, shape (n_anchors, n_components * (mixture_dim + 2)).
            samples: the same for samples, shape (n_samples, ...).

        Returns:
            In [0, 1], 1 for equal densities, shape (n_anchors, n_samples).
        """
        of_anchors, of_samples = self._mixture(anchors), self._mixture(samples)
        log_product = _log_inner_product(of_anchors, of_samples)
        log_norms = [_log_squared_norm(mixture) for mixture in (of_anchors, of_samples)]
        return (log_product - 0.5 * (log_norms[0][:, None] + log_norms[1])).exp()

    def _mixture(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights (n, k), means (n, k, mixture_dim) and variances (n, k)."""
        parts = parameters.view(len(parameters), self.n_components, self.mixture_dim + 2)
        log_weights = parts[..., 0].log_softmax(dim=1)
        variances = F.softplus(parts[..., 1]) + 1e-3
        return log_weights, parts[..., 2:], variances


def _log_normal(squared_distance: Tensor, variance: Tensor, dim: int) -> Tensor:
    """Log density of an isotropic Gaussian at a distance from its mean."""
    return -0.5 * (squared_distance / variance + dim * torch.log(2 * math.pi * variance))


def _log_inner_product(left: tuple[Tensor, Tensor, Tensor], right: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Log of the integral of the product of two mixtures, for all pairs, shape (n_left, n_right)."""
    (log_a, mean_a, variance_a), (log_b, mean_b, variance_b) = left, right
    (n_a, k_a, dim), (n_b, k_b, _) = mean_a.shape, mean_b.shape
    flat_a, flat_b = mean_a.reshape(-1, dim), mean_b.reshape(-1, dim)
    # Not by a matrix product: near means would cancel to noise in float32.
    squared = torch.cdist(flat_a, flat_b, compute_mode="donot_use_mm_for_euclid_dist").square()
    # The integral of N(x; a, u) N(x; b, v) is N(a - b; 0, u + v).
    log_pair = _log_normal(squared, variance_a.reshape(-1, 1) + variance_b.reshape(-1), dim)
    log_pair = log_pair + log_a.reshape(-1, 1) + log_b.reshape(-1)
    return log_pair.view(n_a, k_a, n_b, k_b).permute(0, 2, 1, 3).reshape(n_a, n_b, -1).logsumexp(dim=2)


def _log_squared_norm(mixture: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Log of the integral of a mixture's square, shape (n,)."""
    log_weights, means, variances = mixture
    squared = (means[:, :, None] - means[:, None]).pow(2).sum(dim=3)  # (n, k, k)
    log_pair = _log_normal(squared, variances[:, :, None] + variances[:, None], means.shape[2])
    log_pair = log_pair + log_weights[:, :, None] + log_weights[:, None]
    return log_pair.flatten(1).logsumexp(dim=1)
