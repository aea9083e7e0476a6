"""Probabilities of (document, label) cells, a dense array, looked at in chunks.

Probabilities are a dense float32 array of shape (n_documents, n_labels) with values in [0, 1]. Everything
goes through it in chunks of documents or labels, so that the memory beyond the array stays below about
200 MB whatever its size, and every result is exact, ties included.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.label_counts import Counts, count_by_document

CHUNK_CELLS = 4_000_000
"""(document, label) cells that are handled at a time."""


def document_chunks(n_documents: int, n_labels: int) -> Iterator[slice]:
    """Slices of documents with about ``CHUNK_CELLS`` cells each, in order.

    Example:
        >>> [(chunk.start, chunk.stop) for chunk in document_chunks(3, 2_000_000)]
        [(0, 2), (2, 3)]
    """
    n_at_a_time = max(1, CHUNK_CELLS // max(1, n_labels))
    for start in range(0, n_documents, n_at_a_time):
        yield slice(start, min(start + n_at_a_time, n_documents))


def check_probabilities(
    probabilities: NDArray[np.float32], shape: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Check a probability array and give it back.

    Args:
        probabilities: float32, shape (n_documents, n_labels), values in [0, 1].
        shape: what its shape must be, if known.

    Raises:
        TypeError: if it is not a float32 array.
        ValueError: if it has another shape, or a value that is not a number in [0, 1].
    """
    if not isinstance(probabilities, np.ndarray) or probabilities.dtype != np.float32:
        what = getattr(probabilities, "dtype", type(probabilities).__name__)
        raise TypeError(f"probabilities must be a float32 NumPy array, got {what}.")
    if probabilities.ndim != 2 or (shape is not None and probabilities.shape != shape):
        expected = "two dimensions" if shape is None else f"shape {shape}, that of the label matrix"
        raise ValueError(f"probabilities must have {expected}, got shape {probabilities.shape}.")
    for chunk in document_chunks(*probabilities.shape):
        # Comparisons with NaN are false, so one test covers NaN, infinity and the range.
        if not ((probabilities[chunk] >= 0) & (probabilities[chunk] <= 1)).all():
            raise ValueError(
                f"probabilities must be numbers in [0, 1]; rows {chunk.start} to {chunk.stop - 1} hold "
                "others. Were logits passed?"
            )
    return probabilities


def true_cell_values(true: sparse.csr_array, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability of each true (document, label) cell, in row order."""
    rows = np.repeat(np.arange(true.shape[0]), count_by_document(true))
    values: NDArray[np.float32] = probabilities[rows, true.indices]
    return values


def count_cells(probabilities: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[Counts, Counts]:
    """Count the cells above each value, and at or above it.

    Args:
        probabilities: float32, shape (n_documents, n_labels).
        values: what to compare with, shape (n_values,); ascending is fastest.

    Returns:
        Two integer arrays of shape (n_values,): cells > value, and cells >= value.

    Example:
        >>> n_above, n_at_or_above = count_cells(np.float32([[0.5, 0.5], [0.75, 0.25]]), np.float32([0.5]))
        >>> n_above.tolist(), n_at_or_above.tolist()
        ([1], [3])
    """
    n_above = np.zeros(values.shape, dtype=np.int64)
    n_at_or_above = np.zeros(values.shape, dtype=np.int64)
    for chunk in document_chunks(*probabilities.shape):
        cells = np.sort(probabilities[chunk], axis=None)
        n_above += cells.size - np.searchsorted(cells, values, side="right")
        n_at_or_above += cells.size - np.searchsorted(cells, values, side="left")
    return n_above, n_at_or_above
