"""Scores of several models become one probability: logistic regression shared over labels, by frequency band.

A label with two training documents teaches nobody how far to trust a title or an SVM; all labels that are as rare
together do. So the weights belong to a band of training frequency and are pulled toward those that all bands share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from pipeline.evaluation.label_counts import FITTING_BAND_STARTS, LabelMatrix

_N_STEPS = 50
_SHARES = [0.5**halvings for halvings in range(30)]

Floats = NDArray[np.floating]


def fit_logistic(
    features: Floats, true: NDArray[np.bool_], *, sample_weights: Floats, prior: Floats, strength: float
) -> Floats:
    """Logistic regression with a ridge penalty around ``prior``, by Newton's method.

    Args:
        features: (n_cells, n_features); give a column of ones for the intercept.
        true: (n_cells,).
        sample_weights: (n_cells,), how many cells each stands for.
        prior: (n_features,), where the weights stay without evidence.
        strength: half of it times the squared distance from the prior is added to the negative log-likelihood;
            above 0, so the solution exists and is unique.

    Returns:
        (n_features,) float64.
    """
    features = np.asarray(features, dtype=np.float64)
    prior = np.asarray(prior, dtype=np.float64)

    def loss(weights: Floats) -> float:
        logits = features @ weights
        distance = weights - prior
        return float(sample_weights @ (np.logaddexp(0, logits) - true * logits) + strength / 2 * distance @ distance)

    weights, now = prior.copy(), loss(prior)
    for _ in range(_N_STEPS):
        probabilities = expit(features @ weights)
        gradient = features.T @ (sample_weights * (probabilities - true)) + strength * (weights - prior)
        curvature = sample_weights * probabilities * (1 - probabilities)
        hessian = (features * curvature[:, None]).T @ features + strength * np.eye(len(weights))
        move = np.linalg.solve(hessian, gradient)
        # Far from the optimum a whole step can lead away from it, and from there ever further.
        share, after = next(
            ((share, after) for share in _SHARES if (after := loss(weights - share * move)) < now), (0.0, now)
        )
        weights = weights - share * move
        if now - after <= 1e-9 * (1 + abs(now)):
            break
        now = after
    return weights


@dataclass(frozen=True)
class Cells:
    """(document, label) cells to fit on.

    Attributes:
        features: (n_cells, n_features) float32.
        true: (n_cells,).
        bands: (n_cells,) band of the label.
        sample_weights: (n_cells,) how many cells each stands for.
    """

    features: NDArray[np.float32]
    true: NDArray[np.bool_]
    bands: NDArray[np.int64]
    sample_weights: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        """All cells of several blocks."""
        return cls(
            np.concatenate([one.features for one in parts]),
            np.concatenate([one.true for one in parts]),
            np.concatenate([one.bands for one in parts]),
            np.concatenate([one.sample_weights for one in parts]),
        )


def draw_cells(
    features: NDArray[np.float32], true: LabelMatrix, bands: NDArray[np.int64], *, share: float, seed: int
) -> Cells:
    """All positive cells of a block of documents, and a share of the negative ones.

    Args:
        features: (n_documents, n_labels, n_features).
        true: (n_documents, n_labels) bool CSR.
        bands: (n_labels,).
        share: of negative cells, in (0, 1].
        seed: of the draw.
    """
    is_true = true.toarray()
    kept = is_true | (np.random.default_rng(seed).random(is_true.shape) < share)  # a share of 1 keeps all
    chosen = is_true[kept]
    all_bands = np.broadcast_to(bands, is_true.shape)
    return Cells(features[kept], chosen, all_bands[kept], np.where(chosen, 1.0, 1.0 / share))


@dataclass(frozen=True)
class BandedLogistic:
    """One logistic function for each band.

    Attributes:
        weights: (n_bands, n_features + 1) float64, the intercept last.
    """

    weights: NDArray[np.float64]

    @classmethod
    def identity(cls) -> BandedLogistic:
        """Of one feature, a logit, which it gives as it is."""
        return cls(np.tile([1.0, 0.0], (len(FITTING_BAND_STARTS), 1)))

    @classmethod
    def fit(cls, cells: Cells, *, prior: ArrayLike, strength: float) -> BandedLogistic:
        """Fit weights shared by all bands and each band's deviation from them, both penalised.

        Args:
            cells: to fit on.
            prior: weights without evidence, intercept last: (n_features + 1,), or one row for each band.
            strength: of the penalty, in cells.
        """
        n_bands, width = len(FITTING_BAND_STARTS), np.shape(prior)[-1]
        of_band = np.broadcast_to(np.asarray(prior, dtype=np.float64), (n_bands, width))
        columns = np.column_stack([cells.features, np.ones(len(cells.true), dtype=np.float32)])
        design = np.zeros((len(columns), width * (n_bands + 1)), dtype=np.float32)
        design[:, :width] = columns
        for band in range(n_bands):
            inside = cells.bands == band
            design[inside, width * (band + 1) : width * (band + 2)] = columns[inside]
        start = np.concatenate([of_band[-1], (of_band - of_band[-1]).reshape(-1)])
        flat = fit_logistic(design, cells.true, sample_weights=cells.sample_weights, prior=start, strength=strength)
        shared, deviations = flat[:width], flat[width:].reshape(n_bands, width)
        return cls(shared + deviations)

    def logits(self, features: NDArray[np.float32], bands: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n_documents, n_labels) from features (n_documents, n_labels, n_features) and bands (n_labels,)."""
        of_label = self.weights[bands].astype(np.float32)  # (n_labels, n_features + 1)
        result: NDArray[np.float32] = np.einsum("dlf,lf->dl", features, of_label[:, :-1]) + of_label[:, -1]
        return result


def probabilities_of(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The logistic function, as float32 in [0, 1]."""
    result: NDArray[np.float32] = expit(logits).astype(np.float32)
    return result


def logits_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse, finite also at 0 and 1, and different wherever two probabilities are."""
    clipped = np.clip(probabilities.astype(np.float64), np.finfo(np.float32).tiny, 1 - 2**-25)
    result: NDArray[np.float32] = np.log(clipped / (1 - clipped)).astype(np.float32)
    return result


@dataclass(frozen=True)
class Platt:
    """Sigmoid calibration of one model's scores.

    Attributes:
        slope, intercept: shared over labels.
        offsets: (n_labels,) added to the logit; 0 for a label with fewer than six positives.
    """

    slope: float
    intercept: float
    offsets: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        scores: NDArray[np.float32],
        true: LabelMatrix,
        *,
        is_seen: NDArray[np.bool_] | None = None,
        shrinkage: float = 20.0,
        min_positives: int = 6,
    ) -> Platt:
        """Fit on split val: a shared sigmoid, then an offset for each label, pulled to 0 the less is known of it.

        Args:
            scores: (n_documents, n_labels) float32.
            true: bool CSR, the same shape.
            is_seen: whether the model that scored a document had any of the label, (n_documents, n_labels) or
                (n_labels,); the score of others says nothing, and they are left out. None: it had all.
            shrinkage: positives that the shared sigmoid is worth.
            min_positives: positives a label needs for an offset of its own.
        """
        counts = np.broadcast_to(True if is_seen is None else is_seen, scores.shape)
        is_true = true.toarray() & counts
        columns = np.column_stack([scores[counts], np.ones(counts.sum())])
        slope, intercept = fit_logistic(
            columns, is_true[counts], sample_weights=np.ones(len(columns)), prior=np.array([4.0, 0.0]), strength=1e-3
        )
        n_true = is_true.sum(axis=0)
        offsets = np.zeros(scores.shape[1])
        shared = slope * scores.astype(np.float64) + intercept
        for _ in range(_N_STEPS):  # each label's own offset: as many expected as there are
            p = expit(shared + offsets) * counts
            offsets += np.clip((n_true - p.sum(axis=0)) / np.maximum((p * (1 - p)).sum(axis=0), 1e-3), -1, 1)
        share = np.where(n_true >= min_positives, n_true / (n_true + shrinkage), 0.0)
        own = np.where(n_true < counts.sum(axis=0), offsets, 0.0)
        return cls(float(slope), float(intercept), (share * own).astype(np.float32))

    def logits(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_documents, n_labels) float32."""
        result: NDArray[np.float32] = np.float32(self.slope) * scores + np.float32(self.intercept) + self.offsets
        return result
