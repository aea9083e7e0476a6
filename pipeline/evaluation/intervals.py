"""How sure a score is: random samples of the documents, and the intervals they give.

Documents of one patient resemble each other, so patients are drawn, each with all documents: taken for independent, the
documents would make intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.label_counts import (
    Counts,
    Floats,
    LabelMatrix,
    as_label_matrices,
    count_by_document,
    f1_score,
    is_exact_match,
    jaccard_by_document,
    ratio,
    shared_labels,
)
from pipeline.evaluation.patients import draw_documents, number_patients
from pipeline.evaluation.ranking import rank_true_labels, scores_by_document

RESAMPLES_AT_A_TIME = 50
_OVER_ALL_CODES = ("macro_f1_all_codes", "macro_f1_caml")
_SHORT = {"average_precision": "map"}  # its mean over documents has a name of its own


class SampleScorer:
    """Scores samples of documents from label counts and from scores by document, both computed once.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape, values in [0, 1]; None leaves out what needs them.
        ks: cut-offs of precision and recall.
        label_groups: name -> label indices; the label scores of each are given as ``<name>/<score>`` too.
    """

    def __init__(
        self,
        true: LabelMatrix,
        predicted: LabelMatrix,
        probabilities: NDArray[np.float32] | None,
        *,
        ks: Sequence[int],
        label_groups: Mapping[str, NDArray[np.int64]] | None = None,
    ) -> None:
        true, predicted = as_label_matrices("true", true, "predicted", predicted)
        self.n_documents = true.shape[0]
        self._label_groups = label_groups or {}
        shared = shared_labels(true, predicted)
        # Label counts of a sample = transposed label matrix times how often each document was drawn.
        self._by_label = [sparse.csr_array(matrix.astype(np.int32).T.tocsr()) for matrix in (true, predicted, shared)]
        everywhere = np.ones(self.n_documents)
        by_document = {
            "exact_match": (is_exact_match(true, predicted).astype(np.float64), everywhere),
            "jaccard": (jaccard_by_document(true, predicted), everywhere),
        }
        if probabilities is not None:
            has_labels = (count_by_document(true) > 0).astype(np.float64)
            ranked = scores_by_document(true, rank_true_labels(true, probabilities), ks=ks)
            by_document |= {
                _SHORT.get(name, name): (values, everywhere if name.startswith("precision") else has_labels)
                for name, values in ranked.items()
            }
        self._names = list(by_document)
        self._values = np.stack([values for values, _ in by_document.values()])  # (n_scores, n_documents)
        self._weights = np.stack([weights for _, weights in by_document.values()])

    def __call__(self, n_drawn: NDArray[np.int32]) -> dict[str, Floats]:
        """Scores of shape (n_samples,) of the samples n_drawn, shape (n_documents, n_samples)."""
        return self._scores(*self._sums(n_drawn), self._weights @ n_drawn)

    def swapped(self, other: SampleScorer, is_swapped: NDArray[np.int32]) -> tuple[dict[str, Floats], ...]:
        """Scores of all documents after some of them changed sides between two systems.

        Args:
            other: scorer of the other system, on the same documents and truth.
            is_swapped: 1 where a document's answers change sides, else 0; shape (n_documents, n_samples).

        Returns:
            Scores of this system's side and of the other's, arrays of shape (n_samples,).
        """
        ones = np.ones((self.n_documents, 1), dtype=np.int32)
        mine, others = self._sums(ones), other._sums(ones)
        lost, won = self._sums(is_swapped), other._sums(is_swapped)
        predicted, found, by_document = won[1] - lost[1], won[2] - lost[2], won[3] - lost[3]
        weights = self._weights @ ones
        return (
            self._scores(mine[0], mine[1] + predicted, mine[2] + found, mine[3] + by_document, weights),
            self._scores(mine[0], others[1] - predicted, others[2] - found, others[3] - by_document, weights),
        )

    def _sums(self, n_drawn: NDArray[np.int32]) -> tuple[Counts, Counts, Counts, Floats]:
        """Labels true, predicted and both, shape (n_labels, n_samples), and sums of the scores by document."""
        n_true, n_predicted, n_found = (matrix @ n_drawn for matrix in self._by_label)
        return n_true, n_predicted, n_found, self._values @ n_drawn

    def _scores(
        self, n_true: Counts, n_predicted: Counts, n_found: Counts, sums: Floats, weights: Floats
    ) -> dict[str, Floats]:
        scores = _label_scores_of_samples(n_true, n_predicted, n_found)
        for group, labels in self._label_groups.items():
            group_scores = _label_scores_of_samples(n_true[labels], n_predicted[labels], n_found[labels])
            scores |= {f"{group}/{name}": values for name, values in group_scores.items()}
        return scores | dict(zip(self._names, ratio(sums, weights), strict=True))


def bootstrap_distributions(
    true: LabelMatrix,
    predicted: LabelMatrix,
    probabilities: NDArray[np.float32] | None,
    *,
    n_resamples: int,
    seed: int,
    patients: Sequence[str] | None = None,
    ks: Sequence[int] = (5, 8, 15),
    label_groups: Mapping[str, NDArray[np.int64]] | None = None,
) -> dict[str, Floats]:
    """Scores on random samples of the documents: patients drawn with replacement, as many as there are.

    Two systems scored on the same documents with the same seed and ``n_resamples`` are scored on the same
    samples: differences of their distributions are those of a paired bootstrap.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape, values in [0, 1]; None leaves out what needs them.
        n_resamples: samples drawn, at least 0.
        seed: of the draw.
        patients: whose each document is, (n_documents,); they are drawn with all their documents. None: every document
            is drawn by itself.
        ks: cut-offs of precision and recall.
        label_groups: name -> label indices; their label scores are named ``<name>/<score>``.

    Returns:
        Name -> scores of shape (n_resamples,) for the scores of ``set_scores`` (macro_f1 over the labels
        present in the sample) and ``rank_scores``; empty without samples.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ, a probability is not in [0, 1], or patients are not one a document.
    """
    scorer = SampleScorer(true, predicted, probabilities, ks=ks, label_groups=label_groups)
    return _distributions(scorer, number_patients(patients, scorer.n_documents), n_resamples, seed)


def _distributions(scorer: SampleScorer, patients: NDArray[np.int64], n_resamples: int, seed: int) -> dict[str, Floats]:
    generator = np.random.default_rng(seed)
    parts: dict[str, list[Floats]] = {}
    for start in range(0, n_resamples, RESAMPLES_AT_A_TIME):
        n_samples = min(RESAMPLES_AT_A_TIME, n_resamples - start)
        for name, values in scorer(draw_documents(generator, patients, n_samples)).items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _label_scores_of_samples(n_true: Counts, n_predicted: Counts, n_found: Counts) -> dict[str, Floats]:
    """Micro and macro scores from counts of shape (n_labels, n_samples)."""
    true, predicted, found = (counts.sum(axis=0) for counts in (n_true, n_predicted, n_found))
    is_present = n_true > 0
    present_f1 = f1_score(n_found, n_true, n_predicted) * is_present
    macro_precision = ratio(n_found, n_predicted).sum(axis=0)  # sums: the number of labels cancels below
    macro_recall = ratio(n_found, n_true).sum(axis=0)
    n_labels = np.full_like(true, max(1, n_true.shape[0]))
    return {
        "micro_precision": ratio(found, predicted),
        "micro_recall": ratio(found, true),
        "micro_f1": f1_score(found, true, predicted),
        "macro_f1": ratio(present_f1.sum(axis=0), is_present.sum(axis=0)),
        "macro_f1_all_codes": present_f1.sum(axis=0) / n_labels,
        "macro_f1_caml": ratio(2 * macro_precision * macro_recall, (macro_precision + macro_recall) * n_labels),
    }


def difference_interval(name: str, difference: float, drawn: Floats) -> tuple[float, float]:
    """Interval of a difference of two systems: percentiles of its bootstrap distribution.

    They are as they stand: where few documents tell two systems apart, many samples hold none of them and give exactly
    0, and percentiles moved onto the difference would end beside 0 where they hold it. But for macro scores over all
    codes: there a code that a sample does not hold counts 0 for both systems, so with many rare codes every sample
    shows too small a difference, and the percentiles are moved by that.

    Args:
        name: of the score, perhaps ``<group>/<score>``.
        difference: on all documents.
        drawn: on each sample, shape (n_resamples,), at least one.
    """
    if name.rpartition("/")[2] in _OVER_ALL_CODES:
        drawn = _laid_around(difference, drawn)
    return percentile_interval(drawn)


def _laid_around(score: float, drawn: Floats) -> Floats:
    """A bootstrap distribution, moved so that its mean is the score itself."""
    moved: Floats = drawn - drawn.mean() + score
    return moved


def percentile_interval(values: Floats, *, level: float = 0.95) -> tuple[float, float]:
    """Percentiles of a bootstrap distribution.

    Args:
        values: of the score on each sample, shape (n_resamples,), at least one.
        level: share of the samples inside the interval, in (0, 1).
    """
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_intervals(
    true: LabelMatrix,
    predicted: LabelMatrix,
    probabilities: NDArray[np.float32] | None,
    *,
    n_resamples: int,
    seed: int,
    patients: Sequence[str] | None = None,
    ks: Sequence[int] = (5, 8, 15),
    label_groups: Mapping[str, NDArray[np.int64]] | None = None,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """How far scores move with the choice of patients: bootstrap intervals around them.

    The percentiles of ``bootstrap_distributions``, moved so that the distribution's mean is the score
    itself. For means over many documents that changes nothing; for macro-F1 it matters, because a sample
    repeats documents and holds rare labels less evenly, so all samples may score below the whole.

    Where all samples score alike, such as a band of which every code is found, there is no interval: it would be of no
    width and say that nothing can change.

    The intervals say nothing about another training run or another hospital.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        probabilities: float32, the same shape, values in [0, 1]; None leaves out what needs them.
        n_resamples: samples drawn; 0 gives no intervals.
        seed: of the draw.
        patients: whose each document is, (n_documents,); they are drawn with all their documents. None: every document
            is drawn by itself.
        ks: cut-offs of precision and recall.
        label_groups: name -> label indices; their label scores are named ``<name>/<score>``.
        level: share of the samples inside the interval, in (0, 1).

    Returns:
        Name -> (low, high) in [0, 1], the names of ``bootstrap_distributions``; empty without samples.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes differ, a probability is not in [0, 1], or patients are not one a document.
    """
    scorer = SampleScorer(true, predicted, probabilities, ks=ks, label_groups=label_groups)
    whole = scorer(np.ones((scorer.n_documents, 1), dtype=np.int32))
    intervals = {}
    drawn = _distributions(scorer, number_patients(patients, scorer.n_documents), n_resamples, seed)
    for name, values in drawn.items():
        if np.ptp(values) == 0:
            continue
        low, high = np.clip(percentile_interval(_laid_around(whole[name][0], values), level=level), 0.0, 1.0).tolist()
        intervals[name] = (low, high)
    return intervals
