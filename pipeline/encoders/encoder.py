"""The document encoder: any Hugging Face encoder, long documents in chunks, frozen layers computed once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.encoders.cpu_attention import choose_attention
from pipeline.encoders.micro_batches import MicroBatch
from pipeline.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenStates:
    """Encoder output by document.

    Attributes:
        states: (n_documents, width, dim), all tokens of text of a document, its chunks one after another.
        mask: (n_documents, width) bool, False on padding.
        context_ids: (n_documents, width) int64.
        cls_states: (n_documents, dim), CLS state of the first chunk.
    """

    states: Tensor
    mask: Tensor
    context_ids: Tensor
    cls_states: Tensor

    def pooled(self, pooling: str) -> Tensor:
        """One embedding a document, (n_documents, dim): mean over its tokens, or the first CLS state."""
        if pooling == "cls":
            return self.cls_states
        weights = self.mask.unsqueeze(-1).to(self.states.dtype)
        return (self.states * weights).sum(dim=1) / weights.sum(dim=1)

    def split(self, n_documents: int) -> list[TokenStates]:
        """The same in blocks of at most so many documents."""
        columns = (self.states, self.mask, self.context_ids, self.cls_states)
        return [TokenStates(*block) for block in zip(*(torch.split(one, n_documents) for one in columns), strict=True)]


class DocumentEncoder(nn.Module):
    """Encode documents of any length: all their chunks, every token of text, never padding.

    Args:
        backbone: an encoder of transformers.
        n_frozen_layers: lowest layers that stay as they are (and without dropout).
        freeze_embeddings: leave token embeddings as they are.
    """

    def __init__(self, backbone: nn.Module, *, n_frozen_layers: int = 0, freeze_embeddings: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.dim = int(backbone.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self._is_longformer = getattr(backbone.config, "model_type", "") == "longformer"
        self._cache: FrozenLayerCache | None = None
        self._n_frozen = n_frozen_layers
        self._frozen: list[nn.Module] = []  # a plain list: these modules belong to the backbone already
        if freeze_embeddings:
            self._frozen.append(backbone.get_input_embeddings())  # type: ignore[operator]
        if n_frozen_layers:
            layers = _layers_of(backbone)
            if n_frozen_layers > len(layers):
                raise UserError(
                    f"encoding.n_frozen_layers is {n_frozen_layers}, but this encoder has {len(layers)} layers."
                )
            self._frozen.extend(layers[:n_frozen_layers])
            if (positions := _shared_positions(backbone)) is not None:
                self._frozen.append(positions.relative_attention_bias)  # which the frozen layers read as well
        if n_frozen_layers and freeze_embeddings:
            self._frozen.append(backbone.embeddings)  # type: ignore[arg-type]
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> DocumentEncoder:
        """Switch modes; frozen layers stay in evaluation mode, so that their output is one and the same."""
        super().train(mode)
        choose_attention(self.backbone, is_training=mode)
        for module in self._frozen:
            module.eval()
        return self

    def freeze(self) -> None:
        """Leave the whole encoder as it is, without dropout."""
        self._frozen.append(self.backbone)
        self.backbone.requires_grad_(False)
        layers = _find_layers(self.backbone)
        if layers is not None:
            self._n_frozen = len(layers)

    def forward(self, batch: MicroBatch) -> TokenStates:
        """Encode whole documents."""
        cache = self._cache
        hidden = self._whole(batch) if cache is None else self._upper_layers(cache.lookup(batch), batch)
        return _by_document(hidden, batch)  # hidden: (n_chunks, width, dim)

    def fill_cache(
        self, batches: Iterable[MicroBatch], n_documents: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Compute the frozen layers once for all documents; later calls of forward start from there.

        The memory it takes is n_tokens x dim values on the CPU.

        Raises:
            UserError: if the layers of this architecture cannot be run one by one.
        """
        cache = FrozenLayerCache(dtype)
        self.eval()
        with torch.no_grad(), tqdm(total=n_documents, desc="frozen layers", unit="doc", disable=None) as bar:
            for number, batch in enumerate(batches):
                moved = batch.to(device)
                if number == 0:
                    self._check_layers(moved)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                    hidden = self._lower_layers(moved)
                cache.store(hidden, batch)
                bar.update(len(batch))
        self._cache = cache
        logger.info("frozen layers computed once: %d documents, %.0f MB", n_documents, cache.n_bytes / 1e6)

    def drop_cache(self) -> None:
        """Compute all layers again from now on."""
        self._cache = None

    def share_cache(self, other: DocumentEncoder) -> None:
        """Start from the output of another encoder's frozen layers, which must be equal to this one's."""
        self._cache = other._cache

    def _check_layers(self, batch: MicroBatch) -> None:
        whole = self._whole(batch)
        is_same = False
        with contextlib.suppress(Exception):  # whatever an unknown architecture does not take
            cache = FrozenLayerCache(torch.float32)  # which forgets padding, as some architectures do not
            cache.store(self._lower_layers(batch), batch)
            states = self._upper_layers(cache.lookup(batch), batch)
            is_same = torch.allclose(states[batch.text_mask], whole[batch.text_mask], rtol=1e-3, atol=1e-3)
        if not is_same:
            raise UserError(
                f"encoding.cache_frozen_layers works for BERT-like encoders; the layers of "
                f"{type(self.backbone).__name__} do not run one by one. Set it to false."
            )

    def _whole(self, batch: MicroBatch) -> Tensor:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
        if self._is_longformer:  # else CLS sees one window, and the weights of global attention get no gradient
            inputs["global_attention_mask"] = torch.zeros_like(batch.input_ids)
            inputs["global_attention_mask"][:, 0] = 1
        hidden: Tensor = self.backbone(**inputs).last_hidden_state
        return hidden

    def _lower_layers(self, batch: MicroBatch) -> Tensor:
        hidden = self.backbone.embeddings(input_ids=batch.input_ids)  # type: ignore[operator]
        return self._run(_layers_of(self.backbone)[: self._n_frozen], hidden, batch)

    def _upper_layers(self, hidden: Tensor, batch: MicroBatch) -> Tensor:
        return self._run(_layers_of(self.backbone)[self._n_frozen :], hidden, batch)

    def _run(self, layers: Iterable[nn.Module], hidden: Tensor, batch: MicroBatch) -> Tensor:
        from transformers.masking_utils import create_bidirectional_mask

        config: Any = self.backbone.config
        mask = create_bidirectional_mask(
            config=config, inputs_embeds=hidden, attention_mask=batch.attention_mask.long()
        )
        positions = _shared_positions(self.backbone)
        options = {} if positions is None else {"position_bias": positions.compute_position_bias(hidden)}
        for layer in layers:
            output = layer(hidden, mask, **options)
            hidden = output[0] if isinstance(output, tuple) else output  # MPNet's layers answer with a tuple
        return hidden


class FrozenLayerCache:
    """Output of the frozen layers by document and chunk, on the CPU."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._states: dict[tuple[int, int], Tensor] = {}
        self._dtype = dtype

    @property
    def n_bytes(self) -> int:
        """Memory taken."""
        return sum(state.numel() * state.element_size() for state in self._states.values())

    def store(self, hidden: Tensor, batch: MicroBatch) -> None:
        """Keep the states of a micro-batch's chunks, without padding."""
        lengths = batch.attention_mask.sum(dim=1).tolist()
        for chunk, key in enumerate(_chunk_keys(batch)):
            self._states[key] = hidden[chunk, : lengths[chunk]].to("cpu", self._dtype, copy=True)

    def lookup(self, batch: MicroBatch) -> Tensor:
        """States of a micro-batch's chunks, (n_chunks, width, dim) on its device, zero on padding."""
        states = [self._states[key] for key in _chunk_keys(batch)]
        padded = states[0].new_zeros(*batch.input_ids.shape, states[0].shape[-1])  # (n_chunks, width, dim)
        for chunk, state in enumerate(states):
            padded[chunk, : len(state)] = state
        return padded.to(batch.input_ids.device).float()


def _chunk_keys(batch: MicroBatch) -> list[tuple[int, int]]:
    rows = batch.rows[batch.document_of_chunk].tolist()
    return list(zip(rows, batch.chunk_of_document.tolist(), strict=True))


def _by_document(hidden: Tensor, batch: MicroBatch) -> TokenStates:
    """Put the tokens of a document's chunks one after another."""
    document_of_token = batch.document_of_chunk.unsqueeze(1).expand_as(batch.text_mask)[batch.text_mask]
    lengths = torch.bincount(document_of_token, minlength=len(batch))  # (n_documents,)
    starts = lengths.cumsum(0) - lengths
    position = torch.arange(len(document_of_token), device=hidden.device) - starts[document_of_token]
    width = int(lengths.max())
    states = hidden.new_zeros(len(batch), width, hidden.shape[-1])
    states = states.index_put((document_of_token, position), hidden[batch.text_mask])
    context_ids = torch.zeros(len(batch), width, dtype=torch.long, device=hidden.device)
    context_ids[document_of_token, position] = batch.context_ids[batch.text_mask]
    mask = torch.arange(width, device=hidden.device) < lengths.unsqueeze(1)
    return TokenStates(states, mask, context_ids, hidden[batch.chunk_of_document == 0, 0])


def _find_layers(backbone: nn.Module) -> nn.ModuleList | None:
    layers = getattr(getattr(backbone, "encoder", None), "layer", None) or getattr(backbone, "layers", None)
    return layers if isinstance(layers, nn.ModuleList) else None


def _layers_of(backbone: nn.Module) -> nn.ModuleList:
    """Transformer layers of an encoder built like BERT or ModernBERT.

    Raises:
        UserError: if this architecture keeps them elsewhere.
    """
    layers = _find_layers(backbone)
    if layers is None or not hasattr(backbone, "embeddings"):
        raise UserError(
            f"encoding.n_frozen_layers works for encoders like BERT or ModernBERT; {type(backbone).__name__} is built "
            "otherwise. Set it to 0."
        )
    return layers


def _shared_positions(backbone: nn.Module) -> Any:
    """What gives all layers one bias by relative position (in MPNet its ``encoder``), or None."""
    encoder = getattr(backbone, "encoder", None)
    return encoder if hasattr(encoder, "relative_attention_bias") else None


class ProjectionHead(nn.Module):
    """Two-layer perceptron from an embedding to what a contrastive loss sees."""

    def __init__(self, dim: int, projection_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, projection_dim))

    def forward(self, embeddings: Tensor) -> Tensor:
        """L2-normalised projections, float32 (float64 from float64 weights), (n_documents, projection_dim)."""
        projections = self.layers(embeddings)
        if projections.dtype != torch.float64:
            projections = projections.float()
        return nn.functional.normalize(projections, dim=-1)
