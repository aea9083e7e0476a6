"""Which attention an encoder computes with: on a CPU the fastest one differs between training and use.

Fused attention with a dropout falls back to the plain formula, and its backward in bf16 is slow on short texts; times
are in docs/decisions/0009-attention-on-a-cpu.md.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

_NAME = "sdpa_float32"
# Settings of encoders for the dropout of attention weights, as transformers names them.
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")


def dropout_setting(config: Any) -> str | None:
    """Name of the setting of an encoder's config that holds the dropout of attention weights, None if there is none."""
    return next((name for name in _DROPOUTS if hasattr(config, name)), None)


def choose_attention(backbone: nn.Module, *, is_training: bool) -> None:
    """Set the attention that is fastest on the encoder's device, for training or for use; the result is the same."""
    name = "sdpa"
    if is_training and next(backbone.parameters()).device.type == "cpu":
        setting = dropout_setting(backbone.config)
        has_dropout = setting is None or getattr(backbone.config, setting) > 0
        name = "eager" if has_dropout else _registered()
    backbone.set_attn_implementation(name)  # type: ignore[operator]


@functools.cache
def _registered() -> str:
    """The name under which transformers knows the attention below."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attention_in_float32)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    return _NAME


def _attention_in_float32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Fused attention of transformers in float32, whatever the precision around it."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):
        found, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return found.to(query.dtype), None
