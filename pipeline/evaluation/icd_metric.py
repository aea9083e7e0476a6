"""The evaluation as a module of Hugging Face ``evaluate``, for use outside this project.

    metric = IcdCodingMetric(n_labels=8000)
    metric.add_batch(predictions=[[3, 17], []], references=[[3], [4000]])
    scores = metric.compute()

Nothing is fetched from a hub and nothing is written to disk. The stages do not go through it, they score with the
functions behind it: it stacks Python lists, which costs more than the scores themselves, and importing ``evaluate``
takes seconds, since that imports all of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.label_counts import label_matrix
from pipeline.evaluation.metrics import evaluate_predictions

_DESCRIPTION = """Scores of multi-label ICD coding: micro scores, three macro-F1 under three names, ranking
scores where probabilities are given, exact match, Jaccard, and the counts behind them."""

_INPUTS = """
Args:
    predictions: list of label indices of each document.
    references: list of true label indices of each document.
    n_labels: size of the label space, unless given to the constructor.
    probabilities: optional float32 array, shape (n_documents, n_labels), in the order of the documents.
    train_counts: optional documents of each label in split train, shape (n_labels,).
    label_groups: optional mapping of a name to label indices, scored by themselves as well.
    ks: cut-offs of precision and recall at k.
"""


class IcdCodingMetric(evaluate.Metric):  # type: ignore[misc]
    """``metrics.evaluate_predictions`` behind the interface of ``evaluate.Metric``.

    Args:
        n_labels: size of the label space; may be left to ``compute``.
        keep_in_memory: collect batches in memory (default) or, for several processes, in files.
        kwargs: of ``evaluate.Metric``.

    Example:
        >>> metric = IcdCodingMetric(n_labels=3)
        >>> scores = metric.compute(predictions=[[0, 1], []], references=[[0], [2]])
        >>> round(scores["micro_f1"], 3)
        0.5
    """

    def __init__(self, n_labels: int | None = None, *, keep_in_memory: bool = True, **kwargs: Any) -> None:
        self._n_labels = n_labels
        super().__init__(keep_in_memory=keep_in_memory, **kwargs)

    def _build_data_dir(self) -> str:
        # The base class makes a folder in the user's cache even if nothing will be written to it.
        return "" if self.keep_in_memory else str(super()._build_data_dir())

    def _info(self) -> evaluate.MetricInfo:
        indices = datasets.Sequence(datasets.Value("int32"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": indices, "references": indices}),
        )

    def _compute(
        self,
        *,
        predictions: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
        n_labels: int | None = None,
        probabilities: NDArray[np.float32] | None = None,
        train_counts: ArrayLike | None = None,
        label_groups: Mapping[str, Sequence[int]] | None = None,
        ks: Sequence[int] = (5, 8, 15),
    ) -> dict[str, float]:
        n_labels = self._n_labels if n_labels is None else n_labels
        if n_labels is None:
            raise ValueError("n_labels is missing: give the size of the label space to the metric or to compute().")
        return evaluate_predictions(
            label_matrix(references, n_labels, name="references"),
            label_matrix(predictions, n_labels, name="predictions"),
            probabilities,
            train_counts=train_counts,
            label_groups=label_groups,
            ks=ks,
        )
