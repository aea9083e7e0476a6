"""How sure a score is: random samples of the documents, and the intervals they give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.label_counts import (
    Counts,
    Floats,
    LabelMatrix,
    as_label_matrices,
    count_by_document,
    f1_score,
    is_exact_match,
    ratio,
    shared_labels,
)
from pipeline.ranking import rank_true_labels, scores_by_document

_RESAMPLES_AT_A_TIME = 50


class _Scorer:
    """Scores samples of documents from label counts and from scores by document, both computed once."""

    def __init__(
        self, true: LabelMatrix, predicted: LabelMatrix, probabilities: NDArray[np.float32] | None, k: int
    ) -> None:
        true, predicted = as_label_matrices("true", true, "predicted", predicted)
        self.n_documents = true.shape[0]
        # Label counts of a sample = transposed label matrix times how often each document was drawn.
        self._by_label = [
            sparse.csr_array(matrix.astype(np.int32).T.tocsr())
            for matrix in (true, predicted, shared_labels(true, predicted))
        ]
        everywhere = np.ones(self.n_documents)
        self._by_document = {"exact_match": (is_exact_match(true, predicted).astype(np.float64), everywhere)}
        if probabilities is not None:
            ranked = scores_by_document(true, rank_true_labels(true, probabilities), ks=(k,))
            has_labels = (count_by_document(true) > 0).astype(np.float64)
            self._by_document["map"] = ranked["average_precision"], has_labels
            self._by_document[f"precision_at_{k}"] = ranked[f"precision_at_{k}"], everywhere

    def __call__(self, n_drawn: NDArray[np.int32]) -> dict[str, Floats]:
        """Scores of shape (n_samples,) of the samples n_drawn, shape (n_documents, n_samples)."""
        scores = _label_scores_of_samples(*(matrix @ n_drawn for matrix in self._by_label))
        for name, (values, weights) in self._by_document.items():
            scores[name] = ratio(values @ n_drawn, weights @ n_drawn)
        return scores


def bootstrap_distributions(
    true: LabelMatrix,
    predicted: LabelMatrix,
    probabilities: NDArray[np.float32] | None,
    *,
    n_resamples: int,
    seed: int,
    k: int = 5,
) -> dict[str, Floats]:
    """Scores on random samples of the documents, drawn with replacement, as many as there are.

    Two systems scored on the same documents with the same seed and ``n_resamples`` are scored on the same
    samples: differences of their distributions are those of a paired bootstrap.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape, values in [0, 1]; None leaves out what needs them.
        n_resamples: samples drawn, at least 0.
        seed: of the draw.
        k: cut-off of precision_at_k.

    Returns:
        Name -> scores of shape (n_resamples,) for micro_precision, micro_recall, micro_f1, macro_f1 (over
        the labels present in the sample), exact_match, map and precision_at_k; empty without samples.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ or a probability is not in [0, 1].
    """
    return _distributions(_Scorer(true, predicted, probabilities, k), n_resamples, seed)


def _distributions(scorer: _Scorer, n_resamples: int, seed: int) -> dict[str, Floats]:
    generator = np.random.default_rng(seed)
    parts: dict[str, list[Floats]] = {}
    for start in range(0, n_resamples, _RESAMPLES_AT_A_TIME):
        n_samples = min(_RESAMPLES_AT_A_TIME, n_resamples - start)
        for name, values in scorer(_draw(generator, scorer.n_documents, n_samples)).items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _draw(generator: np.random.Generator, n_documents: int, n_samples: int) -> NDArray[np.int32]:
    """How often each document was drawn, shape (n_documents, n_samples)."""
    if not n_documents:
        return np.zeros((0, n_samples), dtype=np.int32)
    drawn = generator.integers(n_documents, size=(n_samples, n_documents))
    cells = drawn + n_documents * np.arange(n_samples)[:, np.newaxis]
    counts = np.bincount(cells.ravel(), minlength=n_samples * n_documents)
    return np.ascontiguousarray(counts.reshape(n_samples, n_documents).T, dtype=np.int32)


def _label_scores_of_samples(n_true: Counts, n_predicted: Counts, n_found: Counts) -> dict[str, Floats]:
    """Micro and macro scores from counts of shape (n_labels, n_samples)."""
    true, predicted, found = (counts.sum(axis=0) for counts in (n_true, n_predicted, n_found))
    is_present = n_true > 0
    f1 = f1_score(n_found, n_true, n_predicted)
    return {
        "micro_precision": ratio(found, predicted),
        "micro_recall": ratio(found, true),
        "micro_f1": f1_score(found, true, predicted),
        "macro_f1": ratio((f1 * is_present).sum(axis=0), is_present.sum(axis=0)),
    }


def bootstrap_intervals(
    true: LabelMatrix,
    predicted: LabelMatrix,
    probabilities: NDArray[np.float32] | None,
    *,
    n_resamples: int,
    seed: int,
    k: int = 5,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """How far scores move with the choice of documents: bootstrap intervals around them.

    The percentiles of ``bootstrap_distributions``, moved so that the distribution's mean is the score
    itself. For means over many documents that changes nothing; for macro-F1 it matters, because a sample
    repeats documents and holds rare labels less evenly, so all samples may score below the whole.

    The intervals say nothing about another training run or another hospital.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape, values in [0, 1]; None leaves out what needs them.
        n_resamples: samples drawn; 0 gives no intervals.
        seed: of the draw.
        k: cut-off of precision_at_k.
        level: share of the samples inside the interval, in (0, 1).

    Returns:
        Name -> (low, high) in [0, 1], the names of ``bootstrap_distributions``; empty without samples.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ or a probability is not in [0, 1].
    """
    scorer = _Scorer(true, predicted, probabilities, k)
    whole = scorer(np.ones((scorer.n_documents, 1), dtype=np.int32))
    intervals = {}
    for name, values in _distributions(scorer, n_resamples, seed).items():
        ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) - values.mean() + whole[name]
        low, high = np.clip(ends, 0.0, 1.0).tolist()
        intervals[name] = (low, high)
    return intervals
