"""Small encoders of many architectures, and micro-batches for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from pipeline.encoders.micro_batches import ChunkSettings, MicroBatch, build_micro_batches

SETTINGS = ChunkSettings(chunk_tokens=16, chunk_overlap=2, cls_id=2, sep_id=3, pad_id=0)
LONG_WINDOWS: dict[str, dict[str, Any]] = {
    "ModernBert": {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "Longformer": {"attention_window": [8] * 3},
}


def batches_of(ids: list[list[int]], max_tokens: int = 64) -> list[MicroBatch]:
    return build_micro_batches(range(len(ids)), ids, [[0] * len(one) for one in ids], SETTINGS, max_tokens=max_tokens)


def build_tiny(name: str, **changed: Any) -> torch.nn.Module:
    """A random encoder of another architecture, three layers, without dropout."""
    import transformers

    sizes = {
        "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 40,
    }  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes | changed)
    model: torch.nn.Module = getattr(transformers, f"{name}Model")(config)
    return model


def without_dropout(folder: Path, target: Path) -> Path:
    """Each process draws dropout of its own, so it is switched off where weights are compared."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (target / "config.json").write_text(json.dumps(config))
    return target
