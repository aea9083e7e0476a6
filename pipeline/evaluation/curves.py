"""Curves of the report: scores as one threshold moves, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.cells import check_probabilities, document_chunks, true_cell_values
from pipeline.evaluation.label_counts import (
    Counts,
    Floats,
    LabelMatrix,
    as_label_matrix,
    count_by_label,
    f1_score,
    ratio,
)


def threshold_curve(
    true: LabelMatrix, probabilities: NDArray[np.float32], thresholds: Sequence[float] | None = None
) -> pd.DataFrame:
    """Micro and macro scores as one threshold moves over all labels: both curves of the report.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        thresholds: where to compute; by default 0.01 to 0.99 in steps of 0.01 and up to 100 quantiles of
            the true cells' probabilities, which spaces the recall evenly.

    Returns:
        One row a threshold, ascending: ``threshold``, ``micro_precision`` (0 if nothing is predicted),
        ``micro_recall``, ``micro_f1``, ``macro_f1`` (over the labels present) and ``n_predicted``.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the shapes differ or a probability is not in [0, 1].
    """
    true = as_label_matrix("true", true)
    check_probabilities(probabilities, true.shape)
    grid = _threshold_grid(true_cell_values(true, probabilities), thresholds)
    n_predicted = _count_by_label_and_threshold(probabilities, grid)  # (n_labels, n_thresholds)
    n_found = _found_by_label_and_threshold(true, probabilities, grid)
    n_true = count_by_label(true)
    f1 = f1_score(n_found, n_true[:, np.newaxis], n_predicted)[n_true > 0]
    found, predicted = n_found.sum(axis=0), n_predicted.sum(axis=0)
    return pd.DataFrame(
        {
            "threshold": grid.astype(np.float64),
            "micro_precision": ratio(found, predicted),
            "micro_recall": ratio(found, np.full_like(found, n_true.sum())),
            "micro_f1": f1_score(found, np.full_like(found, n_true.sum()), predicted),
            "macro_f1": f1.mean(axis=0) if f1.size else np.zeros(grid.size),
            "n_predicted": predicted,
        }
    )


def _threshold_grid(true_values: NDArray[np.float32], thresholds: Sequence[float] | None) -> NDArray[np.float32]:
    if thresholds is not None:
        return np.unique(np.asarray(thresholds, dtype=np.float32))
    even = np.arange(1, 100, dtype=np.float32) / np.float32(100)
    if not true_values.size:
        return even
    quantiles = np.quantile(true_values, np.linspace(0, 1, 100), method="lower").astype(np.float32)
    return np.unique(np.concatenate([even, quantiles]))


def _count_by_label_and_threshold(probabilities: NDArray[np.float32], grid: NDArray[np.float32]) -> Counts:
    n_labels = probabilities.shape[1]
    counts = np.zeros(n_labels * grid.size, dtype=np.int64)
    for chunk in document_chunks(*probabilities.shape):
        rows, labels = np.nonzero(probabilities[chunk] >= grid[0])  # nearly all cells drop out here
        reached = np.searchsorted(grid, probabilities[chunk][rows, labels], side="right") - 1
        counts += np.bincount(labels * grid.size + reached, minlength=counts.size)
    return _at_least(counts.reshape(n_labels, grid.size))


def _found_by_label_and_threshold(
    true: sparse.csr_array, probabilities: NDArray[np.float32], grid: NDArray[np.float32]
) -> Counts:
    reached = np.searchsorted(grid, true_cell_values(true, probabilities), side="right") - 1
    cells = (true.indices.astype(np.int64) * grid.size + reached)[reached >= 0]
    counts = np.bincount(cells, minlength=true.shape[1] * grid.size)
    return _at_least(counts.reshape(true.shape[1], grid.size))


def _at_least(counts: Counts) -> Counts:
    """From cells whose highest reached threshold is t to cells that reach t, along the last axis."""
    sums: Counts = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    return sums


def wilson_interval(
    n_right: Counts, n: Counts, *, n_independent: Counts | Floats | None = None, z: float = 1.96
) -> tuple[Floats, Floats]:
    """Interval of a share from its counts, sound for few cases too; 0 to 1 where n is 0.

    Args:
        n_right: cases counted, at most ``n``.
        n: cases in all, the same shape.
        n_independent: how many of them tell something of their own, such as patients; None: all.
        z: standard normal quantile; 1.96 gives 95 %.

    Returns:
        Ends of the interval, values in [0, 1].

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Example:
        >>> low, high = wilson_interval(np.array([10]), np.array([10]))
        >>> round(float(low[0]), 3), float(high[0])
        (0.722, 1.0)
    """
    share = ratio(n_right, n)
    n = np.asarray(n if n_independent is None else n_independent, dtype=np.float64)
    middle, spread = (
        share + z**2 / (2 * np.maximum(n, 1)),
        z * np.sqrt(share * (1 - share) / np.maximum(n, 1) + z**2 / (4 * np.maximum(n, 1) ** 2)),
    )
    scale = 1 + z**2 / np.maximum(n, 1)
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return np.where(n > 0, low.clip(0, 1), 0.0), np.where(n > 0, high.clip(0, 1), 1.0)


def reliability_table(true: LabelMatrix, probabilities: NDArray[np.float32], *, n_bins: int = 10) -> pd.DataFrame:
    """Do probabilities mean what they say? Cells by probability, beside the share of them that is true.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        probabilities: float32, the same shape, values in [0, 1].
        n_bins: bins of equal width, at least 1; the last one includes 1.

    Returns:
        One row a bin, empty ones too: ``low``, ``high``, ``n_cells``, ``n_true``, ``mean_probability``,
        ``share_true`` (both 0 without cells) and its 95 % interval ``share_low``, ``share_high``.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ or a probability is not in [0, 1].
    """
    true = as_label_matrix("true", true)
    check_probabilities(probabilities, true.shape)
    edges = np.linspace(0, 1, n_bins + 1, dtype=np.float32)
    n_cells, sums = np.zeros(n_bins, dtype=np.int64), np.zeros(n_bins)
    for chunk in document_chunks(*probabilities.shape):
        cells = probabilities[chunk].ravel()
        bins = _bins(cells, edges)
        n_cells += np.bincount(bins, minlength=n_bins)
        sums += np.bincount(bins, weights=cells, minlength=n_bins)
    n_true = np.bincount(_bins(true_cell_values(true, probabilities), edges), minlength=n_bins)
    low, high = wilson_interval(n_true, n_cells)
    return pd.DataFrame(
        {
            "low": edges[:-1].astype(np.float64),
            "high": edges[1:].astype(np.float64),
            "n_cells": n_cells,
            "n_true": n_true,
            "mean_probability": ratio(sums, n_cells),
            "share_true": ratio(n_true, n_cells),
            "share_low": low,
            "share_high": high,
        }
    )


def _bins(values: NDArray[np.float32], edges: NDArray[np.float32]) -> Counts:
    """The bin of each value; its lower end belongs to a bin, and 1 to the last."""
    places: Counts = np.searchsorted(edges[1:-1], values, side="right")
    return places


def expected_calibration_error(table: pd.DataFrame, *, lowest: float = 0.0) -> float:
    """Mean distance of probability and share true over the bins, each weighed by its cells; 0 without cells.

    Args:
        table: from ``reliability_table``.
        lowest: leave out bins below it. Nearly all (document, label) cells are obviously false and well
            calibrated, so the value over all of them is tiny whatever the rest does.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, over (document, label) cells.

    Example:
        >>> table = pd.DataFrame({"low": [0.0, 0.5], "n_cells": [3, 1], "mean_probability": [0.1, 0.9],
        ...                       "share_true": [0.1, 0.5]})
        >>> round(expected_calibration_error(table), 3), round(expected_calibration_error(table, lowest=0.5), 3)
        (0.1, 0.4)
    """
    shown = table[table["low"] >= lowest - 1e-6]
    gaps = (shown["mean_probability"] - shown["share_true"]).abs() * shown["n_cells"]
    return float(gaps.sum() / max(1, shown["n_cells"].sum()))
