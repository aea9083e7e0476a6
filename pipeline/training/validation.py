"""Scores on split val during training: the same on one process and on many."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from scipy import sparse
from torch import nn

from pipeline.coding.classifier import predict_rows
from pipeline.errors import UserError
from pipeline.evaluation.label_counts import label_matrix, set_scores
from pipeline.evaluation.ranking import rank_scores
from pipeline.evaluation.shared_threshold import fit_global_threshold
from pipeline.evaluation.thresholds import apply_thresholds
from pipeline.training.loading import BatchLoader
from pipeline.training.objectives import ClassificationObjective

_SCORES = ("micro_f1", "macro_f1", "map")


class Validator:
    """Codes split val, every process a part of it.

    Args:
        objective: the model in training.
        tokens: the tokenized data set.
        rows: rows of split val.
        n_labels: width of the label space.
        loader: how documents are cut, and how many go through the encoder at a time.
        accelerator: the processes.

    Raises:
        UserError: if there are no rows.
    """

    def __init__(
        self,
        objective: ClassificationObjective,
        tokens: datasets.Dataset,
        rows: Sequence[int],
        *,
        n_labels: int,
        loader: BatchLoader,
        accelerator: Accelerator,
    ) -> None:
        if not len(rows):
            raise UserError(
                "split val has no document to choose epoch and threshold by; raise split.val in the config."
            )
        self._objective, self._tokens, self._rows = objective, tokens, list(rows)
        self._loader, self._accelerator = loader, accelerator
        self.true: sparse.csr_array = label_matrix(tokens[self._rows]["label_ids"], n_labels)

    def probabilities(self) -> np.ndarray:
        """Probabilities of every document of split val, (n_documents, n_labels) float32, on every process."""
        n, rank = self._accelerator.num_processes, self._accelerator.process_index
        parts = np.array_split(np.asarray(self._rows), n)
        blocks = list(
            predict_rows(
                self._objective.encoder,
                self._objective.head,
                self._tokens,
                parts[rank],
                self._loader.settings,
                max_tokens=self._loader.micro_batch_tokens,
                mixed_precision=self._accelerator.mixed_precision,
            )
        )
        gathered = gather_object(blocks) if n > 1 else blocks
        return np.concatenate(gathered)

    def scores(self, _model: nn.Module) -> dict[str, float]:
        """micro_f1 and macro_f1 at the best threshold for split val, and map."""
        probabilities = self.probabilities()
        threshold = fit_global_threshold(self.true, probabilities)
        predicted = apply_thresholds(probabilities, threshold)
        scores = set_scores(self.true, predicted) | rank_scores(self.true, probabilities, ks=())
        return {name: scores[name] for name in _SCORES}
