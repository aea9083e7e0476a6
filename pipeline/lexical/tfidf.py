"""The lexical model: TF-IDF of character n-grams and words, one linear SVM a label.

What a user would take instead of an encoder, so every report shows it, and what an ensemble adds to one: it wins on
codes that a few words give away. Stored without pickle and without words: settings as JSON, numbers as safetensors.
"""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.evaluation.label_counts import LabelMatrix
from pipeline.experiment.training_settings import Lexical
from pipeline.files import read_json, write_json
from pipeline.notes.text import blocks_of

logger = logging.getLogger(__name__)

UNSEEN_SCORE = -1.5
"""Score of a label without a training document: below what a linear SVM gives an ordinary negative."""
_ALWAYS_SCORE = 1.5  # of a label that every training document has
_N_HASHED = 2**20  # columns of an analyzer before the rare ones go
_BLOCK = 256
_ANALYZERS: dict[str, dict[str, Any]] = {
    "chars": {"analyzer": "char_wb", "ngram_range": (2, 5)},
    "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
}


@dataclass(frozen=True)
class Vectorizer:
    """Texts to TF-IDF rows, of one analyzer or two side by side.

    N-grams are hashed: a model holds no word of a note, where a vocabulary would list names that occur in several.

    Attributes:
        columns: by analyzer, which hashed columns are kept, ascending.
        idf: by analyzer, the weight of each kept column, float32.
    """

    columns: dict[str, NDArray[np.int32]]
    idf: dict[str, NDArray[np.float32]]

    @classmethod
    def fit(cls, texts: Callable[[], Iterable[str]], settings: Lexical) -> Vectorizer:
        """Learn which n-grams to keep and their document frequencies.

        Args:
            texts: gives the training texts; they are streamed.
            settings: which n-grams.

        Raises:
            UserError: if no n-gram is in enough texts.
        """
        names = ["chars", "words"] if settings.char_ngrams else ["words"]
        frequencies = {name: np.zeros(_N_HASHED, dtype=np.int64) for name in names}
        n_documents = 0
        for block in blocks_of(texts(), _BLOCK):
            n_documents += len(block)
            for name in names:
                frequencies[name] += np.bincount(hasher(name).transform(block).indices, minlength=_N_HASHED)
        columns, idf = {}, {}
        for name, frequency in frequencies.items():
            found = np.flatnonzero(frequency >= settings.min_documents)
            kept = found[np.argsort(-frequency[found], kind="stable")[: settings.max_features]]
            columns[name] = np.sort(kept).astype(np.int32)
            idf[name] = (np.log((1 + n_documents) / (1 + frequency[columns[name]])) + 1).astype(np.float32)
        if not any(len(kept) for kept in columns.values()):
            raise UserError(
                f"no n-gram is in {settings.min_documents} of the {n_documents} documents that are learned from, so no"
                " lexical model can be fitted; lower train_classifier.lexical.min_documents, or set "
                "train_classifier.model: neural and train_classifier.baseline: false."
            )
        return cls(columns, idf)

    @property
    def n_features(self) -> int:
        """Width of a row."""
        return sum(len(kept) for kept in self.columns.values())

    def transform(self, texts: Sequence[str]) -> sparse.csr_array:
        """(n_texts, n_features) float32; the part of each analyzer has length 1."""
        if not texts:
            return sparse.csr_array(np.zeros((0, self.n_features), dtype=np.float32))
        blocks = []
        for name, columns in self.columns.items():
            counts = sparse.csr_array(hasher(name).transform(texts)[:, columns], dtype=np.float32)
            counts.data = 1 + np.log(counts.data)
            blocks.append(normalize(counts.multiply(self.idf[name]).tocsr(), copy=False))
        return sparse.csr_array(sparse.hstack(blocks, format="csr", dtype=np.float32))

    def transform_all(self, texts: Iterable[str]) -> sparse.csr_array:
        """The same for texts that are too many to hold at once."""
        rows = [self.transform(block) for block in blocks_of(texts, _BLOCK)]
        return sparse.csr_array(sparse.vstack(rows, format="csr")) if rows else self.transform([])


@functools.cache
def hasher(name: str, ngram_range: tuple[int, int] | None = None) -> HashingVectorizer:
    """Counts of hashed n-grams by an analyzer, "chars" or "words"; of other lengths than its own where asked for."""
    analyzer = _ANALYZERS[name] if ngram_range is None else _ANALYZERS[name] | {"ngram_range": ngram_range}
    return HashingVectorizer(**analyzer, n_features=_N_HASHED, alternate_sign=False, norm=None)


@dataclass(frozen=True)
class LinearScores:
    """One linear function a label.

    Attributes:
        weights: (n_features, n_labels) CSC float32, the largest of each label.
        intercepts: (n_labels,) float32.
    """

    weights: sparse.csc_array
    intercepts: NDArray[np.float32]

    @classmethod
    def fit(
        cls, rows: sparse.csr_array, true: LabelMatrix, settings: Lexical, *, n_threads: int, seed: int
    ) -> LinearScores:
        """Fit a linear SVM for every label with a document.

        Of the documents without a label at most ``max_negatives`` are used, drawn anew for each label: cost then
        grows with the labels and their documents, not with their product.

        Args:
            rows: TF-IDF rows of the training documents.
            true: their labels, bool CSR, (n_documents, n_labels).
            settings: penalty, limits.
            n_threads: labels fitted at a time.
            seed: of the negatives drawn.
        """
        started = time.perf_counter()
        columns = sparse.csc_array(true)
        n_labels = columns.shape[1]
        doubles: sparse.csr_array = rows.astype(np.float64)  # as the solver wants them, once instead of for every label

        def fit_one(label: int) -> tuple[sparse.csr_array, float]:
            return _fit_label(doubles, _documents_of(columns, label), settings, seed + label)

        # The solver's vectors are short: with threads of its own, which wait by spinning, BLAS takes far longer.
        with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
            warnings.simplefilter("ignore", ConvergenceWarning)  # a label more or less exact: pruning costs more
            labels = threads.map(fit_one, range(n_labels))
            fitted = list(tqdm(labels, total=n_labels, desc="lexical model", unit="label", disable=None, leave=False))
        weights = sparse.vstack([weight for weight, _ in fitted], format="csr")
        seconds = time.perf_counter() - started
        logger.info("lexical model: %d labels, %d features, %.1f s", n_labels, rows.shape[1], seconds)
        return cls(sparse.csc_array(weights.T), np.array([one for _, one in fitted], dtype=np.float32))

    def scores(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Distances from the boundary, (n_texts, n_labels) float32."""
        result: NDArray[np.float32] = (rows @ self.weights).toarray() + self.intercepts
        return result


def _documents_of(columns: sparse.csc_array, label: int) -> NDArray[np.integer[Any]]:
    documents: NDArray[np.integer[Any]] = columns.indices[columns.indptr[label] : columns.indptr[label + 1]]
    return documents


def _fit_label(
    rows: sparse.csr_array, positives: NDArray[np.integer[Any]], settings: Lexical, seed: int
) -> tuple[sparse.csr_array, float]:
    """Pruned weights (1, n_features) and intercept of a label."""
    n_documents, n_features = rows.shape
    nothing: sparse.csr_array = sparse.csr_array(np.zeros((1, n_features), dtype=np.float32))
    if not len(positives):
        return nothing, UNSEEN_SCORE
    if len(positives) == n_documents:
        return nothing, _ALWAYS_SCORE
    is_positive = np.zeros(n_documents, dtype=np.bool_)
    is_positive[positives] = True
    if n_documents - len(positives) > settings.max_negatives:
        negatives = np.random.default_rng(seed).choice(np.flatnonzero(~is_positive), settings.max_negatives, False)
        kept = np.sort(np.concatenate([positives, negatives]))
        rows, is_positive = rows[kept], is_positive[kept]
    # Not dual: that solver draws from one generator of the process, so threads would not repeat their results.
    model = LinearSVC(C=settings.c, dual=False).fit(rows, is_positive)
    return _largest(model.coef_[0].astype(np.float32), settings.max_weights), float(model.intercept_[0])


def _largest(weights: NDArray[np.float32], n_kept: int) -> sparse.csr_array:
    if np.count_nonzero(weights) > n_kept:
        weights[np.argsort(np.abs(weights), kind="stable")[:-n_kept]] = 0
    row: sparse.csr_array = sparse.csr_array(weights.reshape(1, -1))
    return row


@dataclass(frozen=True)
class LexicalModel:
    """Vectorizer and linear functions: from texts to scores.

    Attributes:
        vectorizer: texts to rows.
        linear: rows to scores.
    """

    vectorizer: Vectorizer
    linear: LinearScores

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Distances from each label's boundary, (n_texts, n_labels) float32; not probabilities."""
        return self.linear.scores(self.vectorizer.transform(texts))

    def save(self, folder: Path) -> None:
        """Write the names of the analyzers as JSON and numbers as safetensors into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        vectorizer, weights = self.vectorizer, self.linear.weights
        write_json(folder / "lexical.json", {"parts": list(vectorizer.idf)})
        numbers: dict[str, NDArray[Any]] = {f"columns_{name}": columns for name, columns in vectorizer.columns.items()}
        numbers |= {f"idf_{name}": idf for name, idf in vectorizer.idf.items()}
        numbers |= {
            "data": weights.data.astype(np.float32),
            "indices": weights.indices.astype(np.int32),
            "indptr": weights.indptr.astype(np.int64),
            "intercepts": self.linear.intercepts,
        }
        save_file(numbers, str(folder / "lexical.safetensors"))

    @classmethod
    def load(cls, folder: Path, n_labels: int) -> LexicalModel:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: if it is damaged or of another label space.
        """
        try:
            raw = read_json(folder / "lexical.json")
            numbers = load_file(str(folder / "lexical.safetensors"))
            columns = {name: numbers[f"columns_{name}"] for name in raw["parts"]}
            idf = {name: numbers[f"idf_{name}"] for name in raw["parts"]}
            vectorizer = Vectorizer(columns, idf)
            weights = sparse.csc_array(
                (numbers["data"], numbers["indices"], numbers["indptr"]), shape=(vectorizer.n_features, n_labels)
            )
            intercepts = numbers["intercepts"].reshape(n_labels)
        except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
            raise UserError(
                f"{folder}: the lexical model is damaged or of another label space ({type(error).__name__}); "
                "train it again."
            ) from None
        return cls(vectorizer, LinearScores(weights, intercepts))
