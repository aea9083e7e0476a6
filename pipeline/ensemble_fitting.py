"""Fitting of a coding model from its parts: the lexical channel on split train, weights and thresholds on split val."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.combination import (
    BandedLogistic,
    Cells,
    Platt,
    bands_of,
    draw_cells,
    logits_of,
    probabilities_of,
)
from pipeline.documents import iterate_documents, values_of
from pipeline.ensemble import CodingModel
from pipeline.errors import UserError
from pipeline.label_counts import LabelMatrix, label_matrix
from pipeline.labels import LabelSpace
from pipeline.lexical import LexicalModel, LinearScores, Vectorizer
from pipeline.lexical_channel import BLOCK, N_CELL_FEATURES, LexicalChannel, TitleStatistics, cell_features
from pipeline.mentions import FEATURES, TitleIndex, load_synonyms
from pipeline.serving import Classifier
from pipeline.settings import Lexical, ModelKind, ThresholdRule
from pipeline.text import Preset, blocks_of
from pipeline.thresholds import fit_thresholds

logger = logging.getLogger(__name__)

_COMPLETE = FEATURES.index("complete")
_MAX_FOLD_CELLS = 20_000_000  # (document, label) pairs of split train whose mentions are held in memory: 0.5 GB
_MAX_FITTED_CELLS = 300_000
_COMBINER_STRENGTH = 1.0
_MIXTURE_STRENGTH = 10.0


@dataclass(frozen=True)
class Corpus:
    """Documents of a split with their labels; the texts are streamed from the documents table.

    Attributes:
        documents_path: the documents table.
        document_ids: which of it, in its order.
        true: (n_documents, n_labels) bool CSR.
    """

    documents_path: Path
    document_ids: Sequence[str]
    true: LabelMatrix

    def __len__(self) -> int:
        return len(self.document_ids)

    def texts(self) -> Iterator[str]:
        """Texts in order.

        Raises:
            UserError: if the table lacks one of the documents or has another order.
        """
        yield from values_of(self.documents_path, "text", self.document_ids)

    def patients(self) -> list[str]:
        """Patient of each document."""
        return list(values_of(self.documents_path, "patient_id", self.document_ids))

    def __add__(self, other: Corpus) -> Corpus:
        """The documents of both, in the order of the table."""
        ids = [*self.document_ids, *other.document_ids]
        places = {document_id: row for row, document_id in enumerate(ids)}
        order = [places[one] for one in _ids_in_table(self.documents_path) if one in places]
        both = sparse.csr_array(sparse.vstack([self.true, other.true], format="csr"))
        return Corpus(self.documents_path, [ids[row] for row in order], both[order])


def _ids_in_table(path: Path) -> Iterator[str]:
    for batch in iterate_documents(path, columns=["document_id"]):
        yield from batch["document_id"].to_pylist()


@dataclass(frozen=True)
class ValidationLogits:
    """What the parts say of split val, each (n_documents, n_labels) float32, from models that did not see it.

    Attributes:
        baseline: TF-IDF alone, calibrated.
        lexical: the whole channel.
    """

    baseline: NDArray[np.float32]
    lexical: NDArray[np.float32]


@dataclass(frozen=True)
class Fitter:
    """Settings of a fit.

    Attributes:
        kind: which model; 'neural' fits a channel for the baseline only.
        settings: of the lexical model.
        n_threads: labels fitted at a time.
        seed: of folds and draws.
    """

    kind: ModelKind
    settings: Lexical
    n_threads: int
    seed: int

    def fit_channel(
        self, train: Corpus, val: Corpus, label_space: LabelSpace
    ) -> tuple[LexicalChannel, ValidationLogits]:
        """Fit on train, calibrate on val; then, where settings say so, fit TF-IDF and title counts on both."""
        started = time.perf_counter()
        has_titles = self.kind in ("lexical", "ensemble") and any(label_space.titles)
        titles = TitleIndex.build(label_space.titles, load_synonyms()) if has_titles else None
        vectorizer = Vectorizer.fit(train.texts, self.settings)
        rows = vectorizer.transform_all(train.texts())
        model = LexicalModel(vectorizer, self._linear(rows, train.true))
        val_scores = np.concatenate([model.scores(block) for block in blocks_of(val.texts(), BLOCK)])
        channel = LexicalChannel(model, Platt.fit(val_scores, val.true), _label_counts(train.true))
        if titles is not None:
            channel = self._with_titles(channel, titles, rows, train, val)
        parts = list(channel.blocks(val.texts()))
        logits = ValidationLogits(np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts]))
        if self.settings.refit:
            channel = self._refitted(channel, train + val, val)
        logger.info("lexical channel: %d documents, %.1f s", len(train), time.perf_counter() - started)
        return channel, logits

    def _linear(self, rows: sparse.csr_array, true: LabelMatrix) -> LinearScores:
        return LinearScores.fit(rows, true, self.settings, n_threads=self.n_threads, seed=self.seed)

    def _with_titles(
        self, channel: LexicalChannel, titles: TitleIndex, rows: sparse.csr_array, train: Corpus, val: Corpus
    ) -> LexicalChannel:
        """Learn what titles say: on folds of split train where they fit into memory, else on split val."""
        n_documents, n_labels = train.true.shape
        folds = _folds(train.patients(), self.settings.n_folds, self.seed)
        if self.settings.n_folds < 2 or n_documents * n_labels > _MAX_FOLD_CELLS or folds.max() < 1:
            statistics = _statistics(titles, train)
            channel = replace(channel, titles=titles, statistics=statistics)
            cells = self._cells_of_val(channel, titles, val)
        else:
            mentions = np.stack(list(titles.features(train.texts())))
            statistics = TitleStatistics.of(train.true.toarray(), mentions[:, :, _COMPLETE] > 0)
            channel = replace(channel, titles=titles, statistics=statistics)
            cells = self._cells_of_folds(rows, mentions, statistics, folds, train)
        prior = [1.0, *[0.0] * (N_CELL_FEATURES - 1), 0.0]
        return replace(channel, combiner=BandedLogistic.fit(cells, prior=prior, strength=_COMBINER_STRENGTH))

    def _cells_of_folds(
        self,
        rows: sparse.csr_array,
        mentions: NDArray[np.float32],
        statistics: TitleStatistics,
        folds: NDArray[np.int64],
        train: Corpus,
    ) -> Cells:
        """Every fold as seen by a model and by title counts of the others."""
        cells = []
        for fold in range(folds.max() + 1):
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            true = train.true[inside]
            scores = self._linear(rows[outside], train.true[outside]).scores(rows[inside])
            others = statistics - TitleStatistics.of(true.toarray(), mentions[inside][:, :, _COMPLETE] > 0)
            features = cell_features(scores, mentions[inside], others)
            share = _share_of_negatives(train.true)
            cells.append(draw_cells(features, true, bands_of(others.n_documents), share=share, seed=self.seed + fold))
        return Cells.joined(cells)

    def _cells_of_val(self, channel: LexicalChannel, titles: TitleIndex, val: Corpus) -> Cells:
        """Split val as seen by the channel's own model and counts of split train."""
        cells, first, share = [], 0, _share_of_negatives(val.true)
        bands = bands_of(channel.statistics.n_documents)
        for block in blocks_of(val.texts(), BLOCK):
            mentions = np.stack(list(titles.features(block)))
            features = cell_features(channel.model.scores(block), mentions, channel.statistics)
            true = val.true[first : first + len(block)]
            cells.append(draw_cells(features, true, bands, share=share, seed=self.seed + first))
            first += len(block)
        return Cells.joined(cells)

    def _refitted(self, channel: LexicalChannel, both: Corpus, val: Corpus) -> LexicalChannel:
        vectorizer = Vectorizer.fit(both.texts, self.settings)
        model = LexicalModel(vectorizer, self._linear(vectorizer.transform_all(both.texts()), both.true))
        more = _label_counts(val.true) if channel.titles is None else _statistics(channel.titles, val)
        return replace(channel, model=model, statistics=channel.statistics + more)


def _label_counts(true: LabelMatrix) -> TitleStatistics:
    counts = np.asarray(true.sum(axis=0), dtype=np.float32).reshape(-1)
    return TitleStatistics(counts, np.zeros_like(counts), np.zeros_like(counts))


def _statistics(titles: TitleIndex, corpus: Corpus) -> TitleStatistics:
    total = _label_counts(corpus.true[:0])
    first = 0
    for block in blocks_of(corpus.texts(), BLOCK):
        complete = np.stack([one[:, _COMPLETE] > 0 for one in titles.features(block)])
        total += TitleStatistics.of(corpus.true[first : first + len(block)].toarray(), complete)
        first += len(block)
    return total


def _folds(patients: Sequence[str], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each document; the documents of a patient are in one."""
    names = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {name: int(place) % max(n_folds, 1) for name, place in zip(names, order, strict=True)}
    return np.array([fold_of[patient] for patient in patients], dtype=np.int64)


def _share_of_negatives(true: LabelMatrix) -> float:
    n_negative = true.shape[0] * true.shape[1] - true.nnz
    return min(1.0, _MAX_FITTED_CELLS / max(n_negative, 1))


def build_corpora(
    documents_path: Path,
    document_ids: Sequence[str],
    splits: Sequence[str],
    label_ids: Sequence[Sequence[int]],
    n_labels: int,
) -> tuple[Corpus, Corpus]:
    """The corpora of split train and split val from columns of the tokenized data set."""
    corpora = []
    for split in ("train", "val"):
        rows = [row for row, one in enumerate(splits) if one == split]
        true = label_matrix([label_ids[row] for row in rows], n_labels)
        corpora.append(Corpus(documents_path, [document_ids[row] for row in rows], true))
    if not len(corpora[1]):
        raise UserError("split val has no document to fit thresholds on; raise split.val in the config.")
    return corpora[0], corpora[1]


def fit_model(
    kind: ModelKind,
    label_space: LabelSpace,
    cleaning: Preset,
    val_true: LabelMatrix,
    *,
    neural: tuple[Classifier, NDArray[np.float32]] | None,
    lexical: tuple[LexicalChannel, ValidationLogits] | None,
    threshold: ThresholdRule,
    n_train_documents: int,
) -> CodingModel:
    """Weights of the parts and thresholds, from what they say of split val.

    Args:
        kind: which parts code.
        label_space: of the model.
        cleaning: of the text.
        val_true: labels of split val, bool CSR.
        neural: the classifier and its probabilities of split val.
        lexical: the channel and its logits of split val; also where it is a baseline only.
        threshold: by which rule thresholds are fitted.
        n_train_documents: documents of split train.
    """
    parts = []
    if lexical is not None and kind != "neural":
        parts.append(lexical[1].baseline if kind == "tfidf" else lexical[1].lexical)
    if neural is not None:
        parts.append(logits_of(neural[1]))
    stacked = np.stack(parts, axis=-1)  # (n_documents, n_labels, n_parts)
    bands = bands_of(label_space.train_counts)
    cells = draw_cells(stacked, val_true, bands, share=_share_of_negatives(val_true), seed=0)
    prior = [*[1.0 / len(parts)] * len(parts), 0.0]
    mixture = BandedLogistic.fit(cells, prior=prior, strength=_MIXTURE_STRENGTH)

    def thresholds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return fit_thresholds(
            threshold,
            val_true,
            probabilities_of(logits),
            train_counts=label_space.train_counts,
            n_train_documents=n_train_documents,
        )

    return CodingModel(
        kind,
        label_space,
        cleaning,
        mixture,
        thresholds(mixture.logits(stacked, bands)),
        None if neural is None else neural[0],
        None if lexical is None else lexical[0],
        None if lexical is None or kind == "tfidf" else thresholds(lexical[1].baseline),
    )
