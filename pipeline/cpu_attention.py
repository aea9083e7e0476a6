"""Which attention an encoder computes with: on a CPU the fastest one differs between training and use.

Measured for 2,048 tokens of 12 heads of 32, forward and backward, ms of one thread: the plain formula with dropout 380
in float32 and 207 in bf16 at 512 tokens a document, fused attention without dropout 57 and 78. Drawing the mask of a
dropout takes most of it, and fused attention with dropout falls back to the plain formula. At 128 tokens the backward
of fused attention in bf16 is slow (81 in all, in float32 23), so it computes in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_NAME = "sdpa_float32"
# Settings of encoders for the dropout of attention weights, as transformers names them.
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")


def dropout_setting(config: dict[str, Any] | Any) -> str | None:
    """Name of the setting that holds the dropout of attention weights, None if there is none.

    Args:
        config: of an encoder, as a dictionary or as an object of transformers.
    """
    names = config if isinstance(config, dict) else vars(config)
    return next((name for name in _DROPOUTS if name in names), None)


def choose_attention(backbone: nn.Module, *, is_training: bool) -> None:
    """Set the attention that is fastest on the encoder's device, for training or for use; the result is the same."""
    name = "sdpa"
    if is_training and next(backbone.parameters()).device.type == "cpu":
        setting = dropout_setting(backbone.config)
        has_dropout = setting is None or getattr(backbone.config, setting) > 0
        name = "eager" if has_dropout else _registered()
    backbone.set_attn_implementation(name)  # type: ignore[operator]


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
