"""Pretrained encoders and tokenizers: found on this machine, checked, loaded without a network or code of theirs."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.cpu_attention import dropout_setting
from pipeline.encoder import DocumentEncoder
from pipeline.errors import UserError

_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]


_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


def find_encoder(model: str, *, allow_downloads: bool = False) -> Path:
    """Find the folder of a pretrained encoder.

    Args:
        model: a local folder, an installed Python package that carries a model, or a hub name that lies in the
            local Hugging Face cache.
        allow_downloads: fetch it from the hub where it is not cached.

    Raises:
        UserError: if it is nowhere, has no safetensors weights, or asks for code of its own.
    """
    folder = Path(model).expanduser()
    found = folder if folder.is_dir() else _in_package(model) or _in_cache(model, allow_downloads=allow_downloads)
    if found is None:
        raise UserError(
            f"encoder.model: {model!r} is neither a folder, nor an installed package with a model, nor in the local "
            "Hugging Face cache. Put its folder (config.json, model.safetensors, tokenizer files) on this machine and "
            "name its path, or set allow_downloads: true where the network permits."
        )
    _check_encoder(found)
    return found.resolve()


def _in_package(name: str) -> Path | None:
    if not name.replace("-", "_").isidentifier():
        return None
    spec = None
    with contextlib.suppress(ValueError):  # of "__main__"
        spec = importlib.util.find_spec(name.replace("-", "_"))
    roots = list(spec.submodule_search_locations or []) if spec else []
    configs = sorted(config for root in roots for config in Path(root).rglob("config.json"))
    return next((config.parent for config in configs if list(config.parent.glob("*.safetensors"))), None)


def _in_cache(name: str, *, allow_downloads: bool) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    with contextlib.suppress(HFValidationError, LocalEntryNotFoundError, HfHubHTTPError):
        return Path(snapshot_download(name, local_files_only=not allow_downloads, allow_patterns=_FILES))
    return None


def _check_encoder(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder}: no readable config.json; expected the folder of a Hugging Face encoder.") from None
    if "auto_map" in config:
        raise UserError(
            f"{folder}: this encoder asks to run code of its own (auto_map in config.json), which is never done here; "
            "use an encoder that transformers itself implements."
        )
    if not list(folder.glob("*.safetensors")):
        others = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "no weights"
        raise UserError(
            f"{folder}: no *.safetensors weights (found: {others}). Pickled weights are not loaded; convert them with "
            "save_pretrained of transformers on a machine you trust."
        )


def load_tokenizer(folder: Path) -> Any:
    """Load the fast tokenizer of an encoder from its folder, never from the network.

    Raises:
        UserError: if there is none.
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
    tokenizer.model_max_length = 10**9  # documents are cut into chunks here; no warning about their length
    return tokenizer


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
        UserError: if it cannot be loaded, its window is shorter than a chunk, or it has no dropout of attention weights
            to be set.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # no table of weights that are left out on purpose
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _check_encoder(folder)
    is_local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **is_local)
        if attention_dropout is not None:
            _set_attention_dropout(config, attention_dropout)
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
    return DocumentEncoder(backbone, n_frozen_layers=n_frozen_layers, freeze_embeddings=freeze_embeddings)


def _set_attention_dropout(config: Any, value: float) -> None:
    setting = dropout_setting(config)
    if setting is None:
        raise UserError(
            f"encoding.attention_dropout is {value}, but encoders of type {config.model_type!r} have no such setting; "
            "set it to null."
        )
    setattr(config, setting, value)


def _check_window(backbone: nn.Module, chunk_tokens: int) -> None:
    """Refuse chunks longer than the encoder's window.

    Raises:
        UserError: naming the longest possible chunk.
    """
    config: Any = backbone.config
    longest: int | None = getattr(config, "max_position_embeddings", None)
    if getattr(config, "model_type", "") in {"roberta", "longformer", "camembert", "xlm-roberta"} and longest:
        longest -= 2  # their positions start after the padding index
    if longest is not None and chunk_tokens > longest:
        raise UserError(f"encoding.chunk_tokens is {chunk_tokens}, but this encoder reads at most {longest} tokens.")
