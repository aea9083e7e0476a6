"""Manifests: what a finished stage was made of and what it wrote, as a file beside its outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig, Stage, stage_settings
from pipeline.files import read_json, sha256_of


def manifest_path(experiment_dir: Path, stage: Stage) -> Path:
    """Where a stage says what it wrote, from what and with which settings."""
    return experiment_dir / "manifests" / f"{stage}.json"


def read_manifest(experiment_dir: Path, stage: Stage) -> dict[str, Any] | None:
    """The manifest of a stage's last finished run, or None."""
    path = manifest_path(experiment_dir, stage)
    return read_json(path) if path.exists() else None


def has_settings_of(manifest: Mapping[str, Any], config: PipelineConfig, stage: Stage) -> bool:
    """Whether a stage ran with the settings that this config has for it."""
    return bool(manifest["settings"] == json.loads(stage_settings(config, stage)))


def has_another_manifest(experiment_dir: Path, stage: Stage) -> bool:
    """Whether the manifest is not that of the outputs in place.

    Where a stage's process ends badly after its outputs came into place, Snakemake puts the manifest of before back.
    """
    mark, manifest = mark_path(experiment_dir, stage), manifest_path(experiment_dir, stage)
    return mark.exists() and manifest.exists() and mark.read_text(encoding="utf-8") != sha256_of(manifest)


def mark_path(experiment_dir: Path, stage: Stage) -> Path:
    """Digest of the manifest that came with the outputs in place, in a file that Snakemake does not know."""
    return manifest_path(experiment_dir, stage).with_name(f".{stage}.sha256")


def check_predictions_are_of(experiment_dir: Path) -> None:
    """Refuse predictions of other documents, another model or label space than those beside them, as manifests say.

    Raises:
        UserError: if ingest, split or train_classifier ran again after predict did: predictions would be scored
            against other labels, or columns get names of other codes.
    """
    ingested, split, trained, predicted = (
        read_manifest(experiment_dir, stage) for stage in ("ingest", "split", "train_classifier", "predict")
    )
    if split is None or trained is None or predicted is None:
        return
    pairs = [
        (predicted["inputs"].get("classifier"), trained["outputs"]["classifier"]),
        (trained["inputs"].get("label_space.json"), split["outputs"]["label_space.json"]),
    ]
    if ingested is not None:
        pairs.append((predicted["inputs"].get("documents.parquet"), ingested["outputs"]["documents.parquet"]))
    if any(used != found for used, found in pairs):
        raise UserError(
            f"{experiment_dir}: predictions are older than the documents, the label space or the classifier; run the "
            "config again."
        )
