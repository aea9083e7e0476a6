"""Where the files of a pretrained encoder lie, and which they are."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import sha256_of

_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]


def find_encoder(model: str, *, allow_downloads: bool = False) -> Path:
    """Find the folder of a pretrained encoder.

    Args:
        model: a local folder, an installed Python package that carries a model, or a hub name that lies in the
            local Hugging Face cache.
        allow_downloads: fetch it from the hub where it is not cached.

    Raises:
        UserError: if it is nowhere, has no safetensors weights, or asks for code of its own.
    """
    found = _local_folder(model) or _in_cache(model, allow_downloads=allow_downloads)
    if found is None:
        raise UserError(
            f"encoder.model: {model!r} is neither a folder, nor an installed package with a model, nor in the local "
            "Hugging Face cache. Put its folder (config.json, model.safetensors, tokenizer files) on this machine and "
            "name its path, or set allow_downloads: true where the network permits."
        )
    check_encoder(found)
    return found.resolve()


def _local_folder(model: str) -> Path | None:
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else _in_package(model)


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


def check_encoder(folder: Path) -> None:
    """Refuse a folder without safetensors weights, or whose config asks for code of its own.

    Raises:
        UserError: saying which.
    """
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


@functools.cache
def encoder_digest(model: str) -> str:
    """Digest of the files of an encoder, as this process first saw them, so that other weights under its name are seen.

    Returns:
        A sha256 over weights, configuration and vocabulary; nothing for a name on the hub that was not fetched yet.
    """
    folder = _local_folder(model) or _in_cache(model, allow_downloads=False)
    if folder is None:
        return ""
    files = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
    digests = "".join(f"{path.name} {sha256_of(path)}\n" for path in files)
    return hashlib.sha256(digests.encode()).hexdigest()
