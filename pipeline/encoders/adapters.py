"""LoRA: low-rank additions, trained in place of an encoder's own weights and merged into them when it is saved.

For encoders too large to be trained whole. Needs the extra 'lora' (peft). What is saved is a plain encoder.
"""

from __future__ import annotations

import logging

from torch import nn

from pipeline.encoders.encoder import DocumentEncoder
from pipeline.errors import UserError

logger = logging.getLogger(__name__)

_ALPHA_PER_RANK = 2


def add_adapters(encoder: DocumentEncoder, rank: int) -> None:
    """Give every linear layer that is trained a low-rank addition, and train that alone.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. Scaled by 2, without dropout.

    Args:
        encoder: with its frozen layers, which stay without.
        rank: of the additions, at least 1.

    Raises:
        UserError: if peft is not installed, or no linear layer is left to train.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise UserError("encoding.lora_rank needs peft; install it with: pip install 'icd-contrast[lora]'.") from None
    targets = [
        name
        for name, module in encoder.backbone.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    if not targets:
        raise UserError("encoding.lora_rank: every linear layer of the encoder is frozen; lower n_frozen_layers.")
    config = LoraConfig(r=rank, lora_alpha=_ALPHA_PER_RANK * rank, target_modules=targets, bias="none")
    inject_adapter_in_model(config, encoder.backbone)
    n_trained = sum(one.numel() for one in encoder.backbone.parameters() if one.requires_grad)
    n_all = sum(one.numel() for one in encoder.backbone.parameters())
    logger.info("LoRA of rank %d: %s of %s weights are trained", rank, f"{n_trained:,}", f"{n_all:,}")


def merge_adapters(encoder: DocumentEncoder) -> None:
    """Add what adapters have learned to the encoder's own weights; one without adapters stays as it is."""
    if not hasattr(encoder.backbone, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    for name, module in list(encoder.backbone.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(encoder.backbone.get_submodule(parent), child, module.get_base_layer())
    del encoder.backbone.peft_config
