"""Stage train_encoder: tokens/ -> encoder/, by contrastive fine-tuning.

Run alone:
    python -m pipeline.stages.train_encoder --config configs/demo.yaml
On several GPUs, which it launches itself, with
    --set compute.accelerate_config=configs/accelerate/one_node.yaml
"""

from __future__ import annotations

import logging
from typing import Any

import datasets
from accelerate import Accelerator

from pipeline.coding.classifier import save_encoder
from pipeline.encoders.adapters import add_adapters
from pipeline.encoders.encoder import DocumentEncoder, ProjectionHead
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.encoders.tokens import select_rows
from pipeline.errors import UserError
from pipeline.experiment.artifacts import checkpoint_dir, input_signature, is_main_process, need, writing
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.encoder_files import find_encoder
from pipeline.experiment.stage_tracking import StageRun
from pipeline.files import write_json
from pipeline.icd.labels import LabelSpace
from pipeline.stages import stage_main
from pipeline.training.label_starts import label_starts
from pipeline.training.loading import build_loader, cache_frozen_layers
from pipeline.training.loop import fit, start_accelerator
from pipeline.training.objectives import (
    ContrastiveObjective,
    contrastive_loss_of,
    has_prototypes,
    memory_of,
    start_prototypes,
)

logger = logging.getLogger(__name__)


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Fine-tune the encoder so that documents with similar label sets come to lie close together."""
    tokens_dir = need(config.experiment_dir, "tokens")
    tokenizer = load_tokenizer(tokens_dir / "tokenizer")
    encoder = load_encoder(
        find_encoder(config.encoder.model, allow_downloads=config.allow_downloads),
        chunk_tokens=config.encoding.chunk_tokens,
        n_frozen_layers=config.encoding.n_frozen_layers,
        freeze_embeddings=config.encoding.freeze_embeddings,
        attention_dropout=config.encoding.attention_dropout,
    )
    with writing(config, "train_encoder") as output:
        history: list[dict[str, float]] = []
        if config.train_encoder.loss == "none":
            logger.info("train_encoder.loss is 'none': the pretrained encoder is passed on as it is")
        else:
            accelerator = start_accelerator(
                config.compute, mixed_precision=config.train_encoder.mixed_precision, seed=config.seed
            )
            if config.encoding.lora_rank:
                add_adapters(encoder, config.encoding.lora_rank)
            history = _train(config, encoder, tokenizer, accelerator, tracked)
            output.facts["precision"] = accelerator.mixed_precision
        if is_main_process():
            save_encoder(encoder, tokenizer, output.dir / "encoder")
            write_json(output.dir / "encoder" / "training_history.json", history)


def _train(
    config: PipelineConfig, encoder: DocumentEncoder, tokenizer: Any, accelerator: Accelerator, tracked: StageRun
) -> list[dict[str, float]]:
    settings, experiment_dir = config.train_encoder, config.experiment_dir
    if not any(one.requires_grad for one in encoder.parameters()):
        raise UserError(
            f"train_encoder.loss is {settings.loss!r}, but no weight of the encoder is left to train; lower "
            f"encoding.n_frozen_layers ({config.encoding.n_frozen_layers}), or set the loss to none."
        )
    tokens = datasets.load_from_disk(str(experiment_dir / "tokens"))
    label_space = LabelSpace.load(need(experiment_dir, "label_space.json"))
    n_labels = len(label_space)
    rows = select_rows(tokens, "train")
    loader = build_loader(
        tokens,
        rows,
        tokenizer,
        settings,
        config.encoding,
        seed=config.seed,
        compute=config.compute,
        partner_probability=settings.partner_probability,
    )
    projection_head, pooling = ProjectionHead(encoder.dim, settings.projection_dim), config.encoding.pooling
    objective = ContrastiveObjective(
        encoder,
        projection_head,
        contrastive_loss_of(settings, n_labels),
        n_labels=n_labels,
        pooling=pooling,
        gradient_cache=settings.gradient_cache,
        memory=memory_of(settings, encoder, projection_head, n_labels=n_labels, pooling=pooling),
    )
    objective.to(accelerator.device)
    if has_prototypes(objective.loss):
        start_prototypes(
            objective.loss, projection_head, label_starts(encoder, tokenizer, label_space, loader.settings)
        )
    if config.encoding.cache_frozen_layers:
        cache_frozen_layers(encoder, loader, rows, accelerator)
    return fit(
        objective,
        loader,
        settings,
        accelerator,
        checkpoint_dir=checkpoint_dir(experiment_dir, "train_encoder"),
        signature=input_signature(config, "train_encoder"),
        head_learning_rate=settings.head_learning_rate,
        log=lambda metrics, step: tracked.log_metrics(metrics, step=step),
    )


if __name__ == "__main__":
    stage_main("train_encoder", run)
