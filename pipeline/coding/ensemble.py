"""A trained model as a folder, whatever it is made of: an encoder with a head, a lexical channel, or both.

Each part gives a logit for every (document, label); one calibrated probability comes of them by weights fitted on
split val (:mod:`pipeline.lexical.combination`), and a prediction by the label's threshold, fitted there too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.coding.classifier import Classifier, CodedText, predict_rows
from pipeline.coding.model_folder import FORMAT_VERSION, checked_description, digest_of
from pipeline.errors import UserError
from pipeline.evaluation.label_counts import FITTING_BAND_STARTS, fitting_bands
from pipeline.evaluation.thresholds import Thresholds
from pipeline.experiment.training_settings import WITH_ENCODER, WITH_TFIDF, ModelKind
from pipeline.files import sha256_of, write_json
from pipeline.icd.labels import LabelSpace
from pipeline.lexical.channel import LexicalChannel
from pipeline.lexical.combination import BandedLogistic, logits_of, probabilities_of
from pipeline.notes.text import Preparation, blocks_of

_BLOCK = 256


class Coded(NamedTuple):
    """What a block of documents is coded with.

    Attributes:
        probabilities: of the model, (n_documents, n_labels) float32.
        baseline: of TF-IDF alone, the same shape; None where none is stored or the model is that itself.
    """

    probabilities: NDArray[np.float32]
    baseline: NDArray[np.float32] | None


@dataclass(frozen=True)
class CodingModel:
    """The final model.

    Attributes:
        kind: what codes: 'neural', 'tfidf', 'lexical' or 'ensemble'.
        label_space: what columns of probabilities stand for.
        preparation: how the training texts were prepared.
        mixture: logits of the parts (lexical first) to the logit of the model.
        thresholds: (n_labels,) float32, from which a label is predicted.
        neural: encoder and head, where ``kind`` has them.
        lexical: TF-IDF and titles, where ``kind`` has them or a baseline was asked for.
        baseline_thresholds: of the baseline, where there is one.
    """

    kind: ModelKind
    label_space: LabelSpace
    preparation: Preparation
    mixture: BandedLogistic
    thresholds: Thresholds
    neural: Classifier | None = None
    lexical: LexicalChannel | None = None
    baseline_thresholds: Thresholds | None = None

    @classmethod
    def of_classifier(cls, classifier: Classifier, *, threshold: float = 0.5) -> CodingModel:
        """An encoder with its head and nothing else: its probabilities as they are, one threshold for all labels."""
        n_labels = len(classifier.label_space)
        mixture = BandedLogistic.identity()
        thresholds = np.full(n_labels, threshold, dtype=np.float32)
        return cls("neural", classifier.label_space, classifier.settings.preparation, mixture, thresholds, classifier)

    @property
    def has_baseline(self) -> bool:
        """Whether TF-IDF alone stands beside the model."""
        return self.lexical is not None and self.kind != "tfidf"

    @property
    def limit(self) -> str:
        """How much of a document is read, from its beginning, for messages; empty where all is."""
        words = self.preparation.max_words
        limits = [f"the model reads ({words} words)"] if words else []
        return " or ".join([*limits, self.neural.limit] if self.neural else limits)

    def labels_without_encoder(self) -> frozenset[int]:
        """Labels of an ensemble in which the encoder has no weight: those with too few training documents for it."""
        if self.kind != "ensemble":
            return frozenset()
        of_encoder = self.mixture.weights[fitting_bands(self.label_space.train_counts), 1]
        return frozenset(np.flatnonzero(of_encoder == 0).tolist())

    def to(self, device: torch.device | str, mixed_precision: str | None = None) -> CodingModel:
        """Move the weights of the neural part, and set its precision; see :meth:`Classifier.to`."""
        if self.neural is None:
            return self
        return replace(self, neural=self.neural.to(device, mixed_precision))

    def code_texts(self, texts: Iterable[str], *, max_tokens: int) -> Iterator[CodedText]:
        """Probabilities for each text as it comes, in order, and whether it exceeds :attr:`limit`; memory stays flat.

        Args:
            texts: of new documents, not yet cleaned.
            max_tokens: size of a micro-batch of the neural part.
        """
        for block in blocks_of(texts, _BLOCK):
            neural = None
            is_cut = [self.preparation.cuts(text) for text in block]
            if self.neural is not None:
                coded = list(self.neural.code_texts(block, max_tokens=max_tokens))
                neural = np.stack([one.probabilities for one in coded])
                is_cut = [words or tokens.is_cut for words, tokens in zip(is_cut, coded, strict=True)]
            prepared = [self.preparation(text) for text in block]
            yield from map(CodedText, self._code(prepared, neural, with_baseline=False).probabilities, is_cut)

    def code_rows(
        self, tokens: datasets.Dataset, rows: Sequence[int], texts: Iterable[str], *, max_tokens: int
    ) -> Iterator[Coded]:
        """Code tokenized documents, block by block, in the order of ``rows``.

        Args:
            tokens: the tokenized data set.
            rows: which of it.
            texts: of the same documents, cleaned, in the same order.
            max_tokens: size of a micro-batch of the neural part.
        """
        remaining = iter(texts)
        if self.neural is None:
            for start in range(0, len(rows), _BLOCK):
                yield self._code(list(itertools.islice(remaining, len(rows[start : start + _BLOCK]))), None)
            return
        neural = self.neural
        for probabilities in predict_rows(
            neural.encoder,
            neural.head,
            tokens,
            rows,
            neural.chunks,
            max_tokens=max_tokens,
            mixed_precision=neural.precision,
        ):
            held = list(itertools.islice(remaining, len(probabilities))) if self.lexical is not None else []
            yield self._code(held, probabilities)

    def _code(self, texts: Sequence[str], neural: NDArray[np.float32] | None, *, with_baseline: bool = True) -> Coded:
        """Combine the parts; texts are not read where only the neural part is asked for."""
        is_lexical = self.kind in WITH_TFIDF
        baseline = None
        logits = []
        if self.lexical is not None and (is_lexical or with_baseline):
            parts = list(self.lexical.blocks(texts))
            if is_lexical:
                logits.append(np.concatenate([whole for _, whole in parts]))
            if self.has_baseline:
                baseline = probabilities_of(np.concatenate([one for one, _ in parts]))
        if neural is not None:
            logits.append(logits_of(neural))
        bands = fitting_bands(self.label_space.train_counts)
        return Coded(probabilities_of(self.mixture.logits(np.stack(logits, axis=-1), bands)), baseline)

    def save(self, folder: Path) -> None:
        """Write a folder that needs nothing else, without pickle, with a digest of every part."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = ["label_space.json", "combination.safetensors"]
        settings: dict[str, object] = {
            "cleaning": self.preparation.preset,
            "placeholder": self.preparation.placeholder,
            "max_words": self.preparation.max_words,
        }
        if self.neural is not None:
            settings = self.neural.save_parts(folder)
            parts += ["encoder", "head.safetensors"]
        if self.lexical is not None:
            self.lexical.save(folder / "lexical")
            parts.append("lexical")
        self.label_space.save(folder / "label_space.json")
        numbers: dict[str, NDArray[Any]] = {"mixture": self.mixture.weights, "thresholds": self.thresholds}
        if self.baseline_thresholds is not None:
            numbers["baseline_thresholds"] = self.baseline_thresholds
        save_file(numbers, str(folder / "combination.safetensors"))
        description = {
            "format_version": FORMAT_VERSION,
            "model": self.kind,
            "settings": settings,
            "sha256": {name: sha256_of(folder / name) for name in parts},
        }
        write_json(folder / "classifier.json", description | {"sha256_of_this": digest_of(description)})

    @classmethod
    def load(cls, folder: Path) -> CodingModel:
        """Read what :meth:`save` wrote, on the CPU.

        Raises:
            UserError: if it is incomplete, changed since, or of another format version.
        """
        description = checked_description(folder)
        kind, digests = description["model"], description["sha256"]
        needed = {"combination.safetensors"} | ({"lexical"} if kind in WITH_TFIDF else set())
        if kind not in {*WITH_ENCODER, *WITH_TFIDF} or needed - digests.keys():
            raise UserError(
                f"{folder / 'classifier.json'} is damaged: it lacks parts of the model; copy the folder again."
            )
        label_space = LabelSpace.load(folder / "label_space.json")
        n_labels = len(label_space)
        try:
            numbers = load_file(str(folder / "combination.safetensors"))
            n_parts = (kind in WITH_ENCODER) + (kind in WITH_TFIDF)
            mixture = BandedLogistic(numbers["mixture"].reshape(len(FITTING_BAND_STARTS), n_parts + 1))
            thresholds = numbers["thresholds"].reshape(n_labels)
            baseline = numbers.get("baseline_thresholds")
            settings = description["settings"]
            preparation = Preparation(settings["cleaning"], settings["placeholder"], settings["max_words"])
        except (KeyError, ValueError, SafetensorError) as error:
            raise UserError(
                f"{folder}: thresholds or weights do not fit the label space ({type(error).__name__}); train it again."
            ) from None
        return cls(
            kind,
            label_space,
            preparation,
            mixture,
            thresholds,
            Classifier.load(folder, description) if kind in WITH_ENCODER else None,
            LexicalChannel.load(folder / "lexical", label_space.titles) if "lexical" in digests else None,
            baseline,
        )
