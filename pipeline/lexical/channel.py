"""The lexical channel: TF-IDF scores and title mentions of a note, together one logit for each code.

How far a mention of a code's title is to be trusted shows in the training documents: of those that affirm the whole
title, how many carry the code, and how many do not (false alarms). For a code with no or few documents the answer
comes from all codes that are as rare (:mod:`pipeline.lexical.combination`): a title affirmed in one sentence, with at
most one false alarm in training, is then what decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.errors import UserError
from pipeline.evaluation.label_counts import FITTING_BAND_STARTS, fitting_bands
from pipeline.lexical.combination import BandedLogistic, Platt
from pipeline.lexical.mentions import FEATURES, TitleIndex
from pipeline.lexical.synonyms import load_synonyms, save_synonyms
from pipeline.lexical.tfidf import LexicalModel
from pipeline.notes.text import blocks_of

BLOCK = 64
"""Documents at a time: a block of 8,000 labels takes about 60 MB."""
N_CELL_FEATURES = 1 + len(FEATURES) + 8
_COMPLETE = FEATURES.index("complete")
_SVM_SCALE = np.float32(0.3)  # scores of a linear SVM on TF-IDF rows spread by about this much
_PRIOR_HITS = 2.0  # mentions that the precision over all labels is worth
_UNSEEN_LOGIT = -20.0
_MAX_FALSE_ALARMS = 5.0  # more say no more


@dataclass(frozen=True)
class TitleStatistics:
    """What training documents say of titles.

    Attributes:
        n_documents: (n_labels,) training documents that carry the label.
        n_complete: (n_labels,) training documents that affirm its whole title.
        n_right: (n_labels,) both.
    """

    n_documents: NDArray[np.float32]
    n_complete: NDArray[np.float32]
    n_right: NDArray[np.float32]

    @classmethod
    def of(cls, true: NDArray[np.bool_], complete: NDArray[np.bool_]) -> TitleStatistics:
        """Count; both arguments are (n_documents, n_labels)."""
        counts = (true.sum(axis=0), complete.sum(axis=0), (true & complete).sum(axis=0))
        return cls(*(one.astype(np.float32) for one in counts))

    def __add__(self, other: TitleStatistics) -> TitleStatistics:
        """Counts over the documents of both."""
        return TitleStatistics(
            self.n_documents + other.n_documents, self.n_complete + other.n_complete, self.n_right + other.n_right
        )

    def __sub__(self, other: TitleStatistics) -> TitleStatistics:
        """Counts without the documents of ``other``, which must be among those of this one."""
        return TitleStatistics(
            self.n_documents - other.n_documents, self.n_complete - other.n_complete, self.n_right - other.n_right
        )


def cell_features(
    scores: NDArray[np.float32], mentions: NDArray[np.float32], statistics: TitleStatistics
) -> NDArray[np.float32]:
    """What the combination sees of every (document, label) pair.

    Args:
        scores: of the lexical model, (n_documents, n_labels).
        mentions: (n_documents, n_labels, 6), see :data:`pipeline.lexical.mentions.FEATURES`.
        statistics: of training documents, without those of ``scores``.

    Returns:
        (n_documents, n_labels, 15) float32: the score (0 for a label without documents); the six mentions; where the
        title is complete its precision in training (pulled toward that of all titles), the log odds of that, its
        false alarms, whether they are at most one, whether there are none; log(1 + documents of the label); the best
        score of another label; how many other titles are complete.
    """
    n = statistics.n_documents
    overall = float(statistics.n_right.sum() / max(statistics.n_complete.sum(), 1.0))
    overall = min(max(overall, 0.01), 0.99)
    n_wrong = statistics.n_complete - statistics.n_right
    n_right = statistics.n_right + _PRIOR_HITS * overall
    precision = n_right / (n_right + n_wrong + _PRIOR_HITS * (1 - overall))
    complete = mentions[:, :, _COMPLETE]
    per_label = (
        precision,
        np.log(precision / (1 - precision)),
        np.minimum(n_wrong, _MAX_FALSE_ALARMS),
        n_wrong <= 1,
        n_wrong == 0,
    )
    features = np.empty((*scores.shape, N_CELL_FEATURES), dtype=np.float32)
    features[:, :, 0] = np.where(n > 0, scores / _SVM_SCALE, 0)
    features[:, :, 1 : 1 + len(FEATURES)] = mentions
    at = 1 + len(FEATURES)
    for offset, values in enumerate(per_label):
        features[:, :, at + offset] = complete * values.astype(np.float32)
    features[:, :, -3] = np.log1p(n)
    features[:, :, -2] = _best_of_others(scores) / _SVM_SCALE
    features[:, :, -1] = complete.sum(axis=1, keepdims=True) - complete
    return features


def _best_of_others(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """For every cell the highest score of the document's other labels; its own where there is no other."""
    if scores.shape[1] < 2:
        return scores
    top = np.partition(scores, -2, axis=1)
    best, second = top[:, -1:], top[:, -2:-1]
    result: NDArray[np.float32] = np.where(scores == best, second, best)
    return result


@dataclass(frozen=True)
class LexicalChannel:
    """The lexical model, calibrated, and what titles add to it.

    Attributes:
        model: TF-IDF scores.
        platt: makes probabilities of them: the baseline.
        statistics: of titles and labels in training.
        titles: the titles; None where the channel is TF-IDF alone.
        combiner: scores and mentions to a logit; None where the channel is TF-IDF alone.
    """

    model: LexicalModel
    platt: Platt
    statistics: TitleStatistics
    titles: TitleIndex | None = None
    combiner: BandedLogistic | None = None

    def blocks(self, texts: Iterable[str]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Logits of TF-IDF alone and of the whole channel, for at most 64 texts at a time, in order.

        Yields:
            Two arrays of (n_texts, n_labels) float32; the same one twice where there are no titles.
        """
        for block in blocks_of(texts, BLOCK):
            scores = self.model.scores(block)
            baseline = self.calibrated(scores)
            if self.titles is None:
                yield baseline, baseline
            else:
                mentions = np.stack(list(self.titles.features(block)))
                yield baseline, self.combined(cell_features(scores, mentions, self.statistics))

    def calibrated(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of TF-IDF alone, which knows nothing of a label without a training document."""
        result: NDArray[np.float32] = np.where(
            self.statistics.n_documents > 0, self.platt.logits(scores), np.float32(_UNSEEN_LOGIT)
        )
        return result

    def combined(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits from :func:`cell_features`.

        Raises:
            ValueError: if the channel is TF-IDF alone.
        """
        if self.combiner is None:
            raise ValueError("this channel has no titles")
        return self.combiner.logits(features, fitting_bands(self.statistics.n_documents))

    def save(self, folder: Path) -> None:
        """Write a folder; JSON, TSV and safetensors only."""
        self.model.save(folder)
        numbers = {
            "n_documents": self.statistics.n_documents,
            "n_complete": self.statistics.n_complete,
            "n_right": self.statistics.n_right,
            "platt": np.array([self.platt.slope, self.platt.intercept]),
            "platt_offsets": self.platt.offsets,
        }
        if self.titles is not None and self.combiner is not None:
            numbers["combiner"] = self.combiner.weights
            save_synonyms(self.titles.synonyms, folder / "synonyms.tsv")
        save_file(numbers, str(folder / "channel.safetensors"))

    @classmethod
    def load(cls, folder: Path, titles: Sequence[str | None]) -> LexicalChannel:
        """Read what :meth:`save` wrote.

        Args:
            folder: of the channel.
            titles: of the label space, in its order.

        Raises:
            UserError: if it is damaged or of another label space.
        """
        model = LexicalModel.load(folder, len(titles))
        try:
            numbers = load_file(str(folder / "channel.safetensors"))
            columns = [numbers[name].reshape(len(titles)) for name in ("n_documents", "n_complete", "n_right")]
            slope, intercept = (float(one) for one in numbers["platt"])
            platt = Platt(slope, intercept, numbers["platt_offsets"].reshape(len(titles)))
            channel = cls(model, platt, TitleStatistics(*columns))
            if "combiner" not in numbers:
                return channel
            weights = numbers["combiner"].reshape(len(FITTING_BAND_STARTS), N_CELL_FEATURES + 1)
        except (KeyError, ValueError, OSError, SafetensorError) as error:
            raise UserError(
                f"{folder}: the lexical channel is damaged or of another label space ({type(error).__name__}); "
                "train it again."
            ) from None
        index = TitleIndex.build(titles, load_synonyms(folder / "synonyms.tsv"))
        return replace(channel, titles=index, combiner=BandedLogistic(weights))
