"""Fitting of a coding model: the lexical channel, the weights of the parts and the thresholds, on train and val."""

from __future__ import annotations

import functools
import logging
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.coding.classifier import Classifier
from pipeline.coding.corpora import Corpus
from pipeline.coding.ensemble import Coded, CodingModel
from pipeline.evaluation.label_counts import FITTING_BAND_STARTS, LabelMatrix, fitting_bands
from pipeline.evaluation.thresholds import fit_thresholds
from pipeline.experiment.training_settings import WITH_TITLES, Lexical, ModelKind, ThresholdRule
from pipeline.icd.labels import LabelSpace
from pipeline.lexical.channel import BLOCK, N_CELL_FEATURES, LexicalChannel, TitleStatistics, cell_features
from pipeline.lexical.combination import (
    BandedLogistic,
    Cells,
    Platt,
    draw_cells,
    logits_of,
    probabilities_of,
)
from pipeline.lexical.mentions import FEATURES, TitleIndex
from pipeline.lexical.synonyms import load_synonyms
from pipeline.lexical.tfidf import LexicalModel, LinearScores, Vectorizer
from pipeline.notes.text import Preparation, blocks_of

logger = logging.getLogger(__name__)

_COMPLETE = FEATURES.index("complete")
_MAX_FOLD_CELLS = 20_000_000  # (document, label) pairs of train and val whose mentions are held in memory: 0.5 GB
_MAX_FITTED_CELLS = 300_000
_COMBINER_STRENGTH = 1.0
_MIXTURE_STRENGTH = 100.0
_MIN_DOCUMENTS_OF_ENCODER = 3
_NEURAL_ALONE = np.array([1.0, 0.0])
_ENSEMBLE = np.array([0.8, 0.4, 0.0])  # channel, encoder, intercept
_CHANNEL_ALONE = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class HeldOut:
    """What the lexical channel says of documents that the part of it in question did not see.

    Attributes:
        true: their labels, (n_documents, n_labels) bool CSR.
        baseline: logits of TF-IDF alone, the same shape, float32.
        lexical: logits of the whole channel.
        val_rows: which of the rows are split val, in its order.
    """

    true: LabelMatrix
    baseline: NDArray[np.float32]
    lexical: NDArray[np.float32]
    val_rows: NDArray[np.int64]


@dataclass(frozen=True)
class Fitter:
    """Fits the lexical channel.

    Attributes:
        kind: which model; for 'neural' and 'tfidf' the channel is TF-IDF alone.
        settings: of the lexical model.
        n_threads: labels fitted at a time.
        seed: of folds and draws.
    """

    kind: ModelKind
    settings: Lexical
    n_threads: int
    seed: int

    def fit_channel(self, train: Corpus, val: Corpus, label_space: LabelSpace) -> tuple[LexicalChannel, HeldOut]:
        """Fit on folds of train and val together where that fits into memory, else on train, then val.

        Nothing is calibrated or combined on a document that the scores in question were fitted on.
        """
        started = time.perf_counter()
        has_titles = self.kind in WITH_TITLES and any(label_space.titles)
        titles = TitleIndex.build(label_space.titles, load_synonyms()) if has_titles else None
        both, n_folds = train + val, self.settings.n_folds
        folds = _folds(both.patients(), n_folds, self.seed)
        if n_folds >= 2 and len(both) * len(label_space) <= _MAX_FOLD_CELLS and folds.max(initial=0) >= 1:
            channel, held_out = self._fit_on_folds(titles, both, folds, set(val.document_ids))
        else:
            channel, held_out = self._fit_on_train(titles, train, val)
        logger.info("lexical channel: %d documents, %.1f s", len(both), time.perf_counter() - started)
        return channel, held_out

    def _fit_on_folds(
        self, titles: TitleIndex | None, both: Corpus, folds: NDArray[np.int64], val_ids: set[str]
    ) -> tuple[LexicalChannel, HeldOut]:
        """Every fold as seen by a model and by title counts of the others; then a model of all."""
        vectorizer = Vectorizer.fit(both.texts, self.settings)
        rows, true = vectorizer.transform_all(both.texts()), both.true.toarray()
        mentions = None if titles is None else np.stack(list(titles.features(both.texts())))
        statistics = _statistics(true, mentions)
        scores = np.empty(true.shape, dtype=np.float32)
        features = np.empty((*true.shape, N_CELL_FEATURES), dtype=np.float32) if mentions is not None else None
        is_seen = np.empty(true.shape, dtype=np.bool_)
        cells, parts = [], []
        share = _share_of_negatives(both.true)
        for fold in range(folds.max() + 1):
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            scores[inside] = self._linear(rows[outside], both.true[outside]).scores(rows[inside])
            others = statistics - _statistics(true[inside], None if mentions is None else mentions[inside])
            parts.append((inside, others))
            is_seen[inside] = others.n_documents > 0
            if mentions is not None and features is not None:
                features[inside] = cell_features(scores[inside], mentions[inside], others)
                bands = fitting_bands(others.n_documents)
                cells.append(draw_cells(features[inside], both.true[inside], bands, share=share, seed=self.seed + fold))
        platt = Platt.fit(scores, both.true, is_seen=is_seen)
        channel = LexicalChannel(LexicalModel(vectorizer, self._linear(rows, both.true)), platt, statistics, titles)
        baseline, lexical = np.empty_like(scores), np.empty_like(scores)
        if features is not None:
            channel = replace(channel, combiner=_fit_combiner(Cells.joined(cells)))
        for inside, others in parts:
            seen = replace(channel, statistics=others)
            baseline[inside] = seen.calibrated(scores[inside])
            lexical[inside] = baseline[inside] if features is None else seen.combined(features[inside])
        is_val = np.array([document_id in val_ids for document_id in both.document_ids], dtype=np.bool_)
        return channel, HeldOut(both.true, baseline, lexical, np.flatnonzero(is_val))

    def _fit_on_train(self, titles: TitleIndex | None, train: Corpus, val: Corpus) -> tuple[LexicalChannel, HeldOut]:
        """Fit on split train, then calibrate and combine on split val; texts are streamed."""
        vectorizer = Vectorizer.fit(train.texts, self.settings)
        model = LexicalModel(vectorizer, self._linear(vectorizer.transform_all(train.texts()), train.true))
        scores = np.concatenate([model.scores(block) for block in blocks_of(val.texts(), BLOCK)])
        statistics = _streamed_statistics(titles, train)
        platt = Platt.fit(scores, val.true, is_seen=statistics.n_documents > 0)
        channel = LexicalChannel(model, platt, statistics, titles)
        if titles is not None:
            channel = replace(channel, combiner=_fit_combiner(self._cells_of_val(channel, scores, titles, val)))
        parts = list(channel.blocks(val.texts()))
        baseline, lexical = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        return channel, HeldOut(val.true, baseline, lexical, np.arange(len(val)))

    def _linear(self, rows: sparse.csr_array, true: LabelMatrix) -> LinearScores:
        return LinearScores.fit(rows, true, self.settings, n_threads=self.n_threads, seed=self.seed)

    def _cells_of_val(
        self, channel: LexicalChannel, scores: NDArray[np.float32], titles: TitleIndex, val: Corpus
    ) -> Cells:
        """Split val as seen by the channel's own model, whose scores these are, and counts of split train."""
        cells, first, share = [], 0, _share_of_negatives(val.true)
        bands = fitting_bands(channel.statistics.n_documents)
        for block in blocks_of(val.texts(), BLOCK):
            mentions = np.stack(list(titles.features(block)))
            rows = slice(first, first + len(block))
            features = cell_features(scores[rows], mentions, channel.statistics)
            true = val.true[rows]
            cells.append(draw_cells(features, true, bands, share=share, seed=self.seed + first))
            first += len(block)
        return Cells.joined(cells)


def _fit_combiner(cells: Cells) -> BandedLogistic:
    prior = [1.0, *[0.0] * N_CELL_FEATURES]
    return BandedLogistic.fit(cells, prior=prior, strength=_COMBINER_STRENGTH)


def _statistics(true: NDArray[np.bool_], mentions: NDArray[np.float32] | None) -> TitleStatistics:
    complete = np.zeros_like(true) if mentions is None else mentions[:, :, _COMPLETE] > 0
    return TitleStatistics.of(true, complete)


def _streamed_statistics(titles: TitleIndex | None, corpus: Corpus) -> TitleStatistics:
    if titles is None:
        counts = np.asarray(corpus.true.sum(axis=0), dtype=np.float32).reshape(-1)
        return TitleStatistics(counts, np.zeros_like(counts), np.zeros_like(counts))
    parts, first = [], 0
    for block in blocks_of(corpus.texts(), BLOCK):
        mentions = np.stack(list(titles.features(block)))
        parts.append(_statistics(corpus.true[first : first + len(block)].toarray(), mentions))
        first += len(block)
    return functools.reduce(operator.add, parts)


def _folds(patients: Sequence[str], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each document; the documents of a patient are in one."""
    names = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {name: int(place) % max(n_folds, 1) for name, place in zip(names, order, strict=True)}
    return np.array([fold_of[patient] for patient in patients], dtype=np.int64)


def _share_of_negatives(true: LabelMatrix) -> float:
    n_negative = true.shape[0] * true.shape[1] - true.nnz
    return min(1.0, _MAX_FITTED_CELLS / max(n_negative, 1))


def fit_model(
    kind: ModelKind,
    label_space: LabelSpace,
    preparation: Preparation,
    val_true: LabelMatrix,
    *,
    neural: tuple[Classifier, NDArray[np.float32]] | None,
    lexical: tuple[LexicalChannel, HeldOut] | None,
    threshold: ThresholdRule,
    n_train_documents: int,
) -> tuple[CodingModel, Coded]:
    """Weights of the parts and thresholds, from what they say of documents they were not fitted on.

    A channel alone is calibrated already; its thresholds come from all its held-out documents. Where an encoder
    takes part, weights and thresholds come from split val, which chose its epoch; but codes with fewer than three
    training documents, of which it knows next to nothing, keep probabilities and thresholds of the channel.

    Args:
        kind: which parts code.
        label_space: of the model.
        preparation: of the texts.
        val_true: labels of split val, bool CSR.
        neural: the classifier and its probabilities of split val.
        lexical: the channel and what it says of held-out documents; also where it is a baseline only.
        threshold: by which rule thresholds are fitted.
        n_train_documents: documents of split train.

    Returns:
        The model, and what its parts said of split val before any of them learned from it.
    """
    bands = fitting_bands(label_space.train_counts)

    def thresholds(true: LabelMatrix, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        probabilities = probabilities_of(logits)
        return fit_thresholds(
            threshold, true, probabilities, train_counts=label_space.train_counts, n_train_documents=n_train_documents
        )

    channel, held_out = lexical or (None, None)
    if neural is not None:
        parts = [logits_of(neural[1])]
        if held_out is not None and kind == "ensemble":
            parts.insert(0, held_out.lexical[held_out.val_rows])
        stacked = np.stack(parts, axis=-1)  # (n_documents, n_labels, n_parts)
        cells = draw_cells(stacked, val_true, bands, share=_share_of_negatives(val_true), seed=0)
        mixture = BandedLogistic.fit(
            cells, prior=_ENSEMBLE if kind == "ensemble" else _NEURAL_ALONE, strength=_MIXTURE_STRENGTH
        )
        if kind == "ensemble":  # codes that the encoder knows next to nothing of are the channel's
            is_rare_band = np.asarray(FITTING_BAND_STARTS) < _MIN_DOCUMENTS_OF_ENCODER
            mixture = BandedLogistic(np.where(is_rare_band[:, None], _CHANNEL_ALONE, mixture.weights))
        of_val = mixture.logits(stacked, bands)
        of_model = thresholds(val_true, of_val)
        if held_out is not None and kind == "ensemble":
            # And so are their thresholds, which rest on many more documents than split val has.
            is_rare = np.asarray(label_space.train_counts) < _MIN_DOCUMENTS_OF_ENCODER
            of_model = np.where(is_rare, thresholds(held_out.true, held_out.lexical), of_model)
    elif held_out is not None:
        mixture = BandedLogistic.identity()
        logits = held_out.baseline if kind == "tfidf" else held_out.lexical
        of_model, of_val = thresholds(held_out.true, logits), logits[held_out.val_rows]
    else:
        raise ValueError(f"a model of kind {kind!r} needs a part that it can code with")
    of_baseline = baseline_of_val = None
    if held_out is not None and kind != "tfidf":
        of_baseline = thresholds(held_out.true, held_out.baseline)
        baseline_of_val = probabilities_of(held_out.baseline[held_out.val_rows])
    classifier = None if neural is None else neural[0]
    model = CodingModel(kind, label_space, preparation, mixture, of_model, classifier, channel, of_baseline)
    return model, Coded(probabilities_of(of_val), baseline_of_val)
