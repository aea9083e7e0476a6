"""Stage train_classifier: documents.parquet, tokens/, encoder/ -> classifier/, held_out.parquet.

Run alone:
    python -m pipeline.stages.train_classifier --config configs/demo.yaml
On several GPUs, which it launches itself, with
    --set compute.accelerate_config=configs/accelerate/one_node.yaml
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from pipeline.coding.classifier import MODEL_INPUTS, MODEL_OUTPUTS, Classifier, ClassifierSettings
from pipeline.coding.corpora import Corpus, build_corpora
from pipeline.coding.ensemble import Coded, CodingModel
from pipeline.coding.ensemble_fitting import Fitter, fit_model
from pipeline.coding.held_out import save_held_out
from pipeline.encoders.adapters import add_adapters, merge_adapters
from pipeline.encoders.encoder import ProjectionHead
from pipeline.encoders.heads import LabelAttentionHead, build_head, start_from_prevalence
from pipeline.encoders.micro_batches import ChunkSettings
from pipeline.encoders.pretrained import load_encoder, load_tokenizer
from pipeline.encoders.tokens import select_rows
from pipeline.experiment.artifacts import checkpoint_dir, input_signature, is_main_process, need, writing
from pipeline.experiment.config import PipelineConfig, Stage
from pipeline.experiment.loss_settings import loss_arguments
from pipeline.experiment.manifests import read_manifest
from pipeline.experiment.stage_tracking import StageRun
from pipeline.files import write_json
from pipeline.icd.labels import LabelSpace
from pipeline.losses import build_head_loss
from pipeline.notes.text import Preparation
from pipeline.stages import stage_main
from pipeline.training.label_starts import label_starts
from pipeline.training.loading import build_loader, cache_frozen_layers
from pipeline.training.loop import fit, start_accelerator
from pipeline.training.objectives import (
    ClassificationObjective,
    contrastive_loss_of,
    has_prototypes,
    memory_of,
    sees_projections,
    start_prototypes,
)
from pipeline.training.validation import Validator

logger = logging.getLogger(__name__)

PYFUNC = Path(__file__).parents[1] / "mlflow_model.py"


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Train the parts of the model; choose the epoch, the weights of the parts and the thresholds on split val."""
    settings, experiment_dir = config.train_classifier, config.experiment_dir
    tokens = datasets.load_from_disk(str(need(experiment_dir, "tokens")))
    label_space = LabelSpace.load(need(experiment_dir, "label_space.json"))
    train, val = build_corpora(
        need(experiment_dir, "documents.parquet"),
        tokens["document_id"],
        tokens["split"],
        tokens["label_ids"],
        len(label_space),
    )
    with writing(config, "train_classifier") as output:
        neural: tuple[Classifier, np.ndarray] | None = None
        history: list[dict[str, float]] = []
        if settings.has_encoder:
            accelerator = start_accelerator(config.compute, mixed_precision=settings.mixed_precision, seed=config.seed)
            classifier, probabilities, history = _train_neural(config, tracked, accelerator, tokens, label_space)
            output.facts["precision"] = accelerator.mixed_precision
            neural = classifier, probabilities
        if is_main_process():
            model, of_val = _fit_model(config, label_space, train, val, neural)
            model.save(output.dir / "classifier")
            save_held_out(output.dir / "held_out.parquet", val.document_ids, of_val)
            write_json(output.dir / "classifier" / "training_history.json", history)
            threshold = float(np.median(model.thresholds))
            output.facts |= {
                "model": settings.model,
                "threshold": threshold,
                "threshold_rule": settings.threshold,
                "threshold_range": [float(np.min(model.thresholds)), float(np.max(model.thresholds))],
            }
            logger.info("median threshold %.4f", threshold)
            tracked.log_metrics({"threshold": threshold})
    if is_main_process() and config.tracking.log_models:
        tracked.log_model(experiment_dir / "classifier", loader=PYFUNC, inputs=MODEL_INPUTS, outputs=MODEL_OUTPUTS)


def _train_neural(
    config: PipelineConfig,
    tracked: StageRun,
    accelerator: Accelerator,
    tokens: datasets.Dataset,
    label_space: LabelSpace,
) -> tuple[Classifier, np.ndarray, list[dict[str, float]]]:
    """The classifier of the best epoch, its probabilities of split val, and the history."""
    settings = config.train_classifier
    tokenizer = load_tokenizer(config.experiment_dir / "tokens" / "tokenizer")
    rows, val_rows = select_rows(tokens, "train"), select_rows(tokens, "val")
    objective = _build_objective(config, label_space, n_documents=len(rows)).to(accelerator.device)
    loader = build_loader(
        tokens,
        rows,
        tokenizer,
        settings,
        config.encoding,
        seed=config.seed,
        compute=config.compute,
        partner_probability=settings.joint.partner_probability,
        group_by_length=settings.groups_by_length,
    )
    _start_labels(objective, label_space, tokenizer, loader.settings, title_init=settings.title_init)
    validator = Validator(
        objective, tokens, val_rows, n_labels=len(label_space), loader=loader, accelerator=accelerator
    )
    if config.encoding.cache_frozen_layers:
        cache_frozen_layers(objective.encoder, loader, [*rows, *val_rows], accelerator)
    history = fit(
        objective,
        loader,
        settings,
        accelerator,
        checkpoint_dir=checkpoint_dir(config.experiment_dir, "train_classifier"),
        signature=input_signature(config, "train_classifier"),
        head_learning_rate=settings.head_learning_rate,
        validate=validator.scores,
        select_by=settings.select_by,
        patience=settings.patience,
        log=lambda metrics, step: tracked.log_metrics(metrics, step=step),
    )
    # As the saved model computes them: in bf16, adapters aside and frozen layers from a cache make a difference.
    merge_adapters(objective.encoder)
    objective.encoder.drop_cache()
    probabilities = validator.probabilities()
    classifier = Classifier(
        objective.encoder, objective.head, tokenizer, label_space, _classifier_settings(config, accelerator)
    )
    return classifier, probabilities, history


def _fit_model(
    config: PipelineConfig,
    label_space: LabelSpace,
    train: Corpus,
    val: Corpus,
    neural: tuple[Classifier, np.ndarray] | None,
) -> tuple[CodingModel, Coded]:
    settings = config.train_classifier
    lexical = None
    if settings.model != "neural" or settings.baseline:
        n_threads = config.compute.n_threads or torch.get_num_threads()
        fitter = Fitter(settings.model, settings.lexical, n_threads=n_threads, seed=config.seed)
        lexical = fitter.fit_channel(train, val, label_space)
    return fit_model(
        settings.model,
        label_space,
        _preparation(config),
        val.true,
        neural=neural,
        lexical=lexical,
        threshold=settings.threshold,
        n_train_documents=len(train),
    )


def _build_objective(config: PipelineConfig, label_space: LabelSpace, *, n_documents: int) -> ClassificationObjective:
    settings, encoding, n_labels = config.train_classifier, config.encoding, len(label_space)
    encoder = load_encoder(
        need(config.experiment_dir, "encoder"),
        chunk_tokens=encoding.chunk_tokens,
        n_frozen_layers=encoding.n_frozen_layers,
        freeze_embeddings=encoding.freeze_embeddings,
        attention_dropout=encoding.attention_dropout,
    )
    if settings.freeze_encoder:
        encoder.freeze()
    elif encoding.lora_rank:
        add_adapters(encoder, encoding.lora_rank)
    head = build_head(settings.head, encoder.dim, n_labels, dropout=settings.head_dropout, pooling=encoding.pooling)
    start_from_prevalence(head, label_space.train_counts, n_documents)
    joint = settings.joint
    contrastive: nn.Module | None = None
    projection_head, memory = None, None
    if joint.loss != "none":
        contrastive = contrastive_loss_of(joint, n_labels)
    if contrastive is not None and sees_projections(contrastive):
        projection_head = ProjectionHead(encoder.dim, joint.projection_dim)
        memory = memory_of(joint, encoder, projection_head, n_labels=n_labels, pooling=encoding.pooling)
    return ClassificationObjective(
        encoder,
        head,
        build_head_loss(
            settings.loss,
            train_counts=label_space.train_counts,
            n_documents=n_documents,
            settings=loss_arguments(settings.loss, settings.loss_settings),
        ),
        n_labels=n_labels,
        contrastive=contrastive,
        projection_head=projection_head,
        contrastive_weight=joint.weight,
        pooling=encoding.pooling,
        gradient_cache=settings.gradient_cache,
        memory=memory,
    )


def _start_labels(
    objective: ClassificationObjective,
    label_space: LabelSpace,
    tokenizer: Any,
    chunks: ChunkSettings,
    *,
    title_init: bool,
) -> None:
    """Start label queries and prototypes from the titles of the codes, read by the encoder itself."""
    head = objective.head if title_init and isinstance(objective.head, LabelAttentionHead) else None
    if head is None and not has_prototypes(objective.contrastive):
        return
    starts = label_starts(objective.encoder, tokenizer, label_space, chunks)
    if head is not None and any(starts.is_known):
        head.start_from_titles(starts.embeddings, starts.is_known)
    if objective.projection_head is not None:
        start_prototypes(objective.contrastive, objective.projection_head, starts)


def _classifier_settings(config: PipelineConfig, accelerator: Accelerator) -> ClassifierSettings:
    """What the classifier must know of its training and the stages before: how text was cleaned and cut."""
    tokenize, preparation = _settings_of(config, "tokenize")["tokens"], _preparation(config)
    return ClassifierSettings(
        head=config.train_classifier.head,
        pooling=config.encoding.pooling,
        chunk_tokens=config.encoding.chunk_tokens,
        chunk_overlap=config.encoding.chunk_overlap,
        max_tokens=tokenize["max_tokens"],
        has_context=tokenize["context"],
        cleaning=preparation.preset,
        placeholder=preparation.placeholder,
        max_words=preparation.max_words,
        precision=accelerator.mixed_precision,
    )


def _preparation(config: PipelineConfig) -> Preparation:
    data = _settings_of(config, "ingest")["data"]
    return Preparation(data["cleaning"], data["placeholder"], data["max_words"])


def _settings_of(config: PipelineConfig, stage: Stage) -> dict[str, Any]:
    """The settings that an earlier stage ran with."""
    manifest = read_manifest(config.experiment_dir, stage)
    if manifest is None:
        raise RuntimeError(f"the manifest of {stage} is gone")
    settings: dict[str, Any] = manifest["settings"]
    return settings


if __name__ == "__main__":
    stage_main("train_classifier", run)
