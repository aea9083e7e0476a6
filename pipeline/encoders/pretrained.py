"""Pretrained encoders and tokenizers, loaded without a network or code of theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.encoders.cpu_attention import dropout_setting
from pipeline.encoders.encoder import DocumentEncoder
from pipeline.encoders.micro_batches import ChunkSettings, build_micro_batches
from pipeline.errors import UserError
from pipeline.experiment.encoder_files import check_encoder

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_MIN_CASED_SHARE = 0.01  # of a vocabulary's entries, with capitals: more are no accident
_MARK = re.compile(r"\[.*\]|<.*>")  # "[CLS]", "[unused1]", "<s>"
_PADDING_TOLERANCE = 1e-4  # of the largest state; float32 alone moves states by a hundredth of that


def load_tokenizer(folder: Path) -> Any:
    """Load the fast tokenizer of an encoder from its folder, never from the network.

    Raises:
        UserError: if there is none, or it lower-cases text for a vocabulary with capitals.
    """
    from transformers import AutoTokenizer

    if not any(list(folder.glob(pattern)) for pattern in _VOCABULARIES):
        # Without one transformers gives a tokenizer that knows special tokens only, without a word.
        raise UserError(
            f"{folder}: no tokenizer files ({', '.join(_VOCABULARIES)}); copy them from the encoder's source."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: its tokenizer cannot be loaded ({str(error).partition(chr(10))[0][:200]})."
        ) from None
    if not tokenizer.is_fast:
        raise UserError(f"{folder}: only fast tokenizers give character offsets; add its tokenizer.json.")
    _check_case(folder, tokenizer)
    tokenizer.model_max_length = 10**9  # documents are cut into chunks here; no warning about their length
    return tokenizer


def _check_case(folder: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that lower-cases text, as transformers does unless told otherwise, for a cased vocabulary."""
    normalizer, settings = tokenizer.backend_tokenizer.normalizer, folder / "tokenizer_config.json"
    if normalizer is None or normalizer.normalize_str("Pain") != "pain":
        return
    words = [word for word in tokenizer.get_vocab() if not _MARK.fullmatch(word)]
    n_cased = sum(word != word.lower() for word in words)
    given = json.loads(settings.read_text(encoding="utf-8")).get("do_lower_case") if settings.exists() else None
    if n_cased > _MIN_CASED_SHARE * len(words) and given is not True:
        what = (
            "the normalizer in its tokenizer.json does that: take lower-casing out of it"
            if given is False
            else 'put "do_lower_case": false into its tokenizer_config.json'
        )
        raise UserError(
            f"{folder}: its tokenizer lower-cases text, but {n_cased:,} of the {len(words):,} entries of its "
            f'vocabulary hold capitals and would never be met; {what} ("do_lower_case": true, if it was trained so).'
        )


def load_encoder(
    folder: Path,
    *,
    chunk_tokens: int = 0,
    n_frozen_layers: int = 0,
    freeze_embeddings: bool = True,
    attention_dropout: float | None = None,
) -> DocumentEncoder:
    """Load an encoder from its folder: safetensors only, no code of its own, never from the network.

    Args:
        folder: a Hugging Face folder.
        chunk_tokens: longest chunk it will be given, checked against its window.
        n_frozen_layers: see :class:`DocumentEncoder`.
        freeze_embeddings: see :class:`DocumentEncoder`.
        attention_dropout: of attention weights in training; None: as its config says.

    Raises:
        UserError: if it cannot be loaded, its window is shorter than a chunk, it is a decoder, reads a document
            differently beside a longer one, or has no dropout of attention weights to be set.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # no table of weights that are left out on purpose
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    check_encoder(folder)
    is_local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **is_local)
        _check_kind(folder, config)
        if attention_dropout is not None:
            _set_attention_dropout(config, attention_dropout)
        if getattr(config, "attention_type", None) == "block_sparse":
            # BigBird changes to full attention for good with the first short input: order would change results.
            config.attention_type = "original_full"
        backbone, loaded = AutoModel.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **is_local
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: the encoder cannot be loaded ({str(error).partition(chr(10))[0][:200]}).") from None
    missing = [name for name in loaded["missing_keys"] if not name.startswith("pooler.")]
    if missing:  # transformers would go on with random numbers
        raise UserError(
            f"{folder}: its weights lack {len(missing)} tensors of the encoder that config.json describes (such as "
            f"{min(missing)}); copy the folder again."
        )
    _check_window(backbone, chunk_tokens)
    if hasattr(backbone, "pooler"):
        backbone.pooler = None  # never used here; unused parameters would stall distributed training
    encoder = DocumentEncoder(backbone, n_frozen_layers=n_frozen_layers, freeze_embeddings=freeze_embeddings)
    _check_padding(folder, encoder)
    return encoder


def _check_kind(folder: Path, config: Any) -> None:
    """Refuse what is no encoder: states of a decoder stand for the tokens before, or for those shifted by one."""
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        kind = "an encoder with a decoder" if config.is_encoder_decoder else "a decoder"
        raise UserError(
            f"{folder}: {config.model_type!r} is {kind} by its config.json; an encoder is needed, whose states read "
            "the whole text (BERT, RoBERTa, ModernBERT, Longformer and the like)."
        )


@torch.no_grad()
def _check_padding(folder: Path, encoder: DocumentEncoder) -> None:
    """Refuse an architecture that cannot be run, or reads padding: a note would get other codes beside other notes."""
    config: Any = encoder.backbone.config
    padding = config.pad_token_id or 0
    some = [token for token in range(min(config.vocab_size, 20)) if token != padding]
    settings = ChunkSettings(chunk_tokens=16, chunk_overlap=0, cls_id=some[-1], sep_id=some[-2], pad_id=padding)
    short, long = some[:6], (some * 14)[:14]  # widths 8 and 16, both without padding of their own
    states = []
    try:
        encoder.eval()
        for documents in ([short], [short, long]):
            (batch,) = build_micro_batches(
                range(len(documents)), documents, [[0] * len(one) for one in documents], settings, max_tokens=10_000
            )
            states.append(encoder(batch).states[0, : len(short)])
    except (ValueError, TypeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise UserError(
            f"{folder}: an encoder of type {config.model_type!r} cannot be run here ({reason}); use another one."
        ) from None
    alone, beside = states
    if not (alone - beside).abs().max() <= _PADDING_TOLERANCE * alone.abs().max():
        raise UserError(
            f"{folder}: encoders of type {config.model_type!r} read a document differently beside a longer one, so "
            "that its codes would depend on its batch; use another one."
        )


def _set_attention_dropout(config: Any, value: float) -> None:
    setting = dropout_setting(config)
    if setting is None:
        raise UserError(
            f"encoding.attention_dropout is {value}, but encoders of type {config.model_type!r} have no such setting; "
            "set it to null."
        )
    setattr(config, setting, value)


def _first_position(backbone: nn.Module) -> int:
    """Position of a document's first token: in RoBERTa and its relatives that after the padding index, else 0."""
    positions = [one for name, one in backbone.named_modules() if name.endswith("position_embeddings")]
    padding = [getattr(one, "padding_idx", None) for one in positions]
    return max((int(one) + 1 for one in padding if one is not None), default=0)


def _check_window(backbone: nn.Module, chunk_tokens: int) -> None:
    """Refuse chunks longer than the encoder's window.

    Raises:
        UserError: naming the longest possible chunk.
    """
    config: Any = backbone.config
    longest: int | None = getattr(config, "max_position_embeddings", None)
    if longest is not None:
        longest -= _first_position(backbone)
    if longest is not None and chunk_tokens > longest:
        raise UserError(f"encoding.chunk_tokens is {chunk_tokens}, but this encoder reads at most {longest} tokens.")
