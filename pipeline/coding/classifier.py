"""A trained classifier as a folder that needs nothing else, and how it codes documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from pipeline.coding.model_folder import checked_description
from pipeline.encoders.adapters import merge_adapters
from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.heads import LabelAttentionHead, LinearHead, build_head
from pipeline.encoders.micro_batches import (
    ChunkSettings,
    MicroBatch,
    build_micro_batches,
    chunk_settings,
    iterate_micro_batches,
)
from pipeline.encoders.precision import autocast, precision_as_trained, usable_precision
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.encoders.tokens import AFFIRMED, Tokenize
from pipeline.errors import UserError
from pipeline.icd.labels import LabelSpace
from pipeline.notes.text import Preparation, Preset, blocks_of

# What a classifier reads and gives as an MLflow model: columns and MLflow's types.
MODEL_INPUTS = {"document_id": "string", "text": "string"}
MODEL_OUTPUTS = {
    "document_id": "string", "rank": "long", "code_system": "string", "code": "string", "title": "string",
    "probability": "double",
}  # fmt: skip
_BLOCK = 256
_PARTS = ("encoder", "head.safetensors", "label_space.json")  # of a saved classifier, each with its digest


@dataclass(frozen=True)
class ClassifierSettings:
    """What a saved classifier must know beside its weights.

    Attributes:
        head: 'linear', 'label_attention' or 'laat'.
        pooling: 'mean' or 'cls', for the linear head.
        chunk_tokens, chunk_overlap: how documents are cut.
        max_tokens: tokens read of a document.
        has_context: whether tokens carry their context.
        cleaning: preset that the training text went through.
        placeholder: word that marks of de-identification were replaced by, or None.
        max_words: words that were kept of a document, or None for all.
        precision: 'no' (float32), 'bf16' or 'fp16': what it was trained in and its thresholds were found in.
    """

    head: str
    pooling: str
    chunk_tokens: int
    chunk_overlap: int
    max_tokens: int
    has_context: bool
    cleaning: Preset
    placeholder: str | None = None
    max_words: int | None = None
    precision: str = "no"

    @property
    def preparation(self) -> Preparation:
        """How the training texts were prepared."""
        return Preparation(self.cleaning, self.placeholder, self.max_words)


class CodedText(NamedTuple):
    """What is said of one text.

    Attributes:
        probabilities: of every label, (n_labels,) float32.
        is_cut: whether the text is longer than what was read of it.
    """

    probabilities: np.ndarray
    is_cut: bool


@dataclass(frozen=True)
class Classifier:
    """Encoder, head, tokenizer and label space: the neural part of a model, or all of it.

    Attributes:
        encoder: document encoder.
        head: logits from token states.
        tokenizer: of the encoder.
        label_space: what the logits stand for.
        settings: how documents are read.
        precision: what the encoder computes in, as :meth:`to` set it.
    """

    encoder: DocumentEncoder
    head: LinearHead | LabelAttentionHead
    tokenizer: Any
    label_space: LabelSpace
    settings: ClassifierSettings
    precision: str = "no"

    @property
    def chunks(self) -> ChunkSettings:
        """How documents are cut."""
        return chunk_settings(
            self.tokenizer, chunk_tokens=self.settings.chunk_tokens, chunk_overlap=self.settings.chunk_overlap
        )

    @property
    def limit(self) -> str:
        """How much of a document is read, from its beginning, for messages."""
        return f"the encoder reads ({self.settings.max_tokens} tokens)"

    def save_parts(self, folder: Path) -> dict[str, Any]:
        """Write encoder and head; gives the settings, which the model writes with the digests."""
        folder.mkdir(parents=True, exist_ok=True)
        save_encoder(self.encoder, self.tokenizer, folder / "encoder")
        weights = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        save_file(weights, str(folder / "head.safetensors"))
        return asdict(self.settings)

    @classmethod
    def load(cls, folder: Path, description: dict[str, Any] | None = None) -> Classifier:
        """Read the neural part of a model's folder, on the CPU, in float32, in evaluation mode.

        Args:
            folder: that a model was saved in.
            description: of :func:`checked_description`; None: the folder is checked here.

        Raises:
            UserError: if it is incomplete, changed since, or of another format version.
        """
        settings = _settings_of(folder, description or checked_description(folder))
        encoder = load_encoder(folder / "encoder")
        label_space = LabelSpace.load(folder / "label_space.json")
        head = build_head(settings.head, encoder.dim, len(label_space), dropout=0.0, pooling=settings.pooling)
        try:
            head.load_state_dict(load_file(str(folder / "head.safetensors")))
        except (RuntimeError, SafetensorError) as error:
            raise UserError(f"{folder}: the head does not fit the label space ({error}); train it again.") from None
        return cls(encoder.eval(), head.eval(), load_tokenizer(folder / "encoder"), label_space, settings)

    def to(self, device: torch.device | str, mixed_precision: str | None = None) -> Classifier:
        """Move the weights, and say what the encoder computes in from now on.

        Args:
            device: that computes.
            mixed_precision: 'no', 'bf16' or 'fp16'; None: what it was trained in, where the device has that.

        Raises:
            UserError: if fp16 is asked of a CPU.
        """
        if mixed_precision is None:
            precision = precision_as_trained(self.settings.precision, device)
        else:
            precision = usable_precision(mixed_precision, device)
        return replace(self, encoder=self.encoder.to(device), head=self.head.to(device), precision=precision)

    def code_texts(self, texts: Iterable[str], *, max_tokens: int) -> Iterator[CodedText]:
        """Probabilities for each text, in order, and whether its tokens were cut; memory does not grow."""
        tokenize = Tokenize(self.tokenizer, self.settings.max_tokens, self.settings.has_context)
        for block in blocks_of(texts, _BLOCK):
            columns = tokenize([self.settings.preparation(text) for text in block])
            batches = build_micro_batches(
                range(len(block)),
                columns["input_ids"],
                columns["context_ids"],
                self.chunks,
                max_tokens=max_tokens,
            )
            probabilities = _probabilities(
                self.encoder, self.head, batches, n_documents=len(block), mixed_precision=self.precision
            )
            yield from map(CodedText, probabilities, (n > 0 for n in columns["n_tokens_cut"]))


def _settings_of(folder: Path, description: dict[str, Any]) -> ClassifierSettings:
    if description["model"] in ("tfidf", "lexical"):
        raise UserError(f"{folder}: a model of kind {description['model']!r} has no encoder; this needs one that has.")
    try:
        settings = ClassifierSettings(**description["settings"])
        if set(_PARTS) - description["sha256"].keys():
            raise KeyError
    except (KeyError, TypeError):
        raise UserError(
            f"{folder / 'classifier.json'} is damaged: it lacks settings or digests; copy the folder again."
        ) from None
    return settings


def save_encoder(encoder: DocumentEncoder, tokenizer: Any, folder: Path) -> None:
    """Write encoder and tokenizer as a Hugging Face folder."""
    merge_adapters(encoder)
    encoder.backbone.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)


@torch.inference_mode()
def embed_texts(
    encoder: DocumentEncoder, tokenizer: Any, texts: Sequence[str], settings: ChunkSettings
) -> torch.Tensor:
    """Mean token state of short texts such as code titles, (n_texts, dim) float32."""
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    ids = [one or [tokenizer.unk_token_id] for one in ids]
    context = [[AFFIRMED] * len(one) for one in ids]
    batches = build_micro_batches(range(len(ids)), ids, context, settings, max_tokens=8192)
    device = next(encoder.parameters()).device
    embeddings = torch.empty(len(ids), encoder.dim)
    encoder.eval()
    for batch in batches:
        embeddings[batch.rows] = encoder(batch.to(device)).pooled("mean").float().cpu()
    return embeddings.to(device)


def predict_rows(
    encoder: DocumentEncoder,
    head: nn.Module,
    tokens: datasets.Dataset,
    rows: Sequence[int],
    settings: ChunkSettings,
    *,
    max_tokens: int,
    mixed_precision: str = "no",
) -> Iterator[np.ndarray]:
    """Probabilities of tokenized documents, block by block, in the order of ``rows``.

    Yields:
        (n_documents, n_labels) float32, at most 256 documents at a time.
    """
    with tqdm(total=len(rows), desc="predict", unit="doc", disable=None, leave=False) as bar:
        for start in range(0, len(rows), _BLOCK):
            block = [int(row) for row in rows[start : start + _BLOCK]]
            batches = iterate_micro_batches(tokens, block, settings, max_tokens=max_tokens, n_documents=_BLOCK)
            place = {row: index for index, row in enumerate(block)}
            yield _probabilities(
                encoder, head, batches, n_documents=len(block), mixed_precision=mixed_precision, place=place
            )
            bar.update(len(block))


@torch.inference_mode()
def _probabilities(
    encoder: DocumentEncoder,
    head: nn.Module,
    batches: Iterable[MicroBatch],
    *,
    n_documents: int,
    mixed_precision: str,
    place: dict[int, int] | None = None,
) -> np.ndarray:
    """Probabilities (n_documents, n_labels); ``place`` maps a row of the data set to a row of the result."""
    device = next(encoder.parameters()).device
    was_training = encoder.training
    encoder.eval()
    head.eval()
    result: np.ndarray | None = None
    for batch in batches:
        with autocast(device, mixed_precision):
            logits = head(encoder(batch.to(device)))
        rows = [place[row] if place else row for row in batch.rows.tolist()]
        if result is None:
            result = np.empty((n_documents, logits.shape[1]), dtype=np.float32)
        result[rows] = logits.float().sigmoid().cpu().numpy()
    encoder.train(was_training)
    head.train(was_training)
    return np.empty((0, 0), dtype=np.float32) if result is None else result
