"""What stages exchange: names, whole-or-nothing writes, locks and manifests.

A stage writes all its outputs into a temporary folder beside them and renames them into place at the end,
under an exclusive lock: a killed stage leaves nothing that looks finished, a failed one leaves what was there.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig, Stage, stage_settings
from pipeline.experiment.encoder_files import encoder_digest
from pipeline.experiment.manifests import has_settings_of, manifest_path, mark_path, read_manifest
from pipeline.experiment.provenance import git_commit, peak_memory_mb, versions
from pipeline.experiment.sources import sources_digest
from pipeline.files import guarded_io, lock, sha256_of, write_json

STAGE_OUTPUTS: dict[Stage, tuple[str, ...]] = {
    "ingest": ("documents.parquet", "annotators.parquet", "titles.json", "ingest_report.json"),
    "split": ("splits.parquet", "label_space.json"),
    "tokenize": ("tokens",),
    "train_encoder": ("encoder",),
    "train_classifier": ("classifier", "held_out.parquet"),
    "predict": ("predictions.parquet", "baseline_predictions.parquet"),
    "evaluate": ("metrics.json", "report.html", "codes.csv"),
}
STAGE_INPUTS: dict[Stage, tuple[str, ...]] = {
    "ingest": (),
    "split": ("documents.parquet", "titles.json"),
    "tokenize": ("documents.parquet", "splits.parquet", "label_space.json"),
    "train_encoder": ("tokens", "label_space.json"),
    "train_classifier": ("documents.parquet", "tokens", "label_space.json", "encoder"),
    "predict": ("documents.parquet", "tokens", "classifier", "held_out.parquet"),
    "evaluate": (
        "predictions.parquet",
        "baseline_predictions.parquet",
        "documents.parquet",
        "annotators.parquet",
        "ingest_report.json",
        "splits.parquet",
        "label_space.json",
        "encoder",
        "classifier",
    ),
}
_OLD = ".old"  # where outputs wait that new ones replace
ENCODER = "encoder.model"
"""Under which name the digest of the pretrained encoder stands among inputs."""
_ENCODER_STAGES: frozenset[Stage] = frozenset({"tokenize", "train_encoder"})
_PRODUCER = {name: stage for stage, names in STAGE_OUTPUTS.items() for name in names}
ARTIFACTS = frozenset(_PRODUCER)
PRODUCERS: dict[Stage, tuple[Stage, ...]] = {
    stage: tuple(one for one, outputs in STAGE_OUTPUTS.items() if set(outputs) & set(inputs))
    for stage, inputs in STAGE_INPUTS.items()
}


def stages_up_to(stage: Stage) -> list[Stage]:
    """A stage and all that it depends on, directly or not."""
    found = {stage}.union(*(stages_up_to(producer) for producer in PRODUCERS[stage]))
    return sorted(found)


def check_inputs_are_of(config: PipelineConfig, stage: Stage) -> None:
    """Refuse inputs of other settings than this config has: a run would show these settings and the scores of those.

    Raises:
        UserError: if a stage that this one depends on, directly or not, ran with others.
    """
    for producer in stages_up_to(stage):
        manifest = read_manifest(config.experiment_dir, producer) if producer != stage else None
        if manifest is not None and not has_settings_of(manifest, config, producer):
            raise UserError(
                f"{config.experiment_dir}: stage '{producer}' ran with other settings than this config has; run the "
                "config with `icd run`, or that stage first."
            )


def need(experiment_dir: Path, name: str) -> Path:
    """Path of an artifact that an earlier stage wrote.

    Raises:
        UserError: if it is not there; the message names the stage to run.
    """
    path = experiment_dir / name
    if not path.exists():
        raise UserError(f"{path} is missing; run the stage '{_PRODUCER[name]}' first.")
    return path


def checkpoint_dir(experiment_dir: Path, stage: Stage) -> Path:
    """Where a training keeps its checkpoints, until its outputs are in place."""
    return experiment_dir / "checkpoints" / stage


@dataclass
class StageOutput:
    """A stage's output while it is being written.

    Attributes:
        dir: temporary folder; write every output under its final name in here.
        facts: counts and digests for the manifest; never text of a document.
    """

    dir: Path
    facts: dict[str, Any] = field(default_factory=dict)


def is_main_process() -> bool:
    """Whether this is the process of a distributed stage that writes and tracks (always, where there is one)."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def writing(
    config: PipelineConfig, stage: Stage, *, extra_inputs: Mapping[str, str] | None = None
) -> Iterator[StageOutput]:
    """Write a stage's outputs whole or not at all.

    In a distributed stage only the main process locks and writes; what others put into their folder is dropped.

    Args:
        config: of the experiment.
        stage: whose outputs (``STAGE_OUTPUTS``) are written into the yielded folder.
        extra_inputs: name -> sha256 of inputs that no stage wrote, such as raw files.

    Raises:
        UserError: if another process writes them now, or the disk is full; what was there stays.
    """
    experiment_dir = config.experiment_dir
    if not is_main_process():
        with tempfile.TemporaryDirectory() as scratch:
            yield StageOutput(Path(scratch))
        return
    with guarded_io(experiment_dir), lock(experiment_dir, stage):
        temporary = experiment_dir / f".writing-{stage}"
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed run: the lock is ours now
        temporary.mkdir(parents=True)
        output = StageOutput(temporary)
        started = datetime.datetime.now(datetime.UTC)
        made_of = {  # as it is now: an edit while the stage runs is no part of what it does
            "sources": sources_digest(stage, config.data.recipe if stage == "ingest" else ""),
            "git_commit": git_commit(),
            "versions": versions(),
        }
        try:
            yield output
            missing = [name for name in STAGE_OUTPUTS[stage] if not (temporary / name).exists()]
            if missing:
                raise RuntimeError(f"stage {stage} did not write {missing}")
            manifest = _manifest(config, stage, output, started, extra_inputs or {}) | made_of
            write_json(temporary / "manifest.json", manifest)
            _put_in_place(temporary, experiment_dir, stage)
            # Not before: what follows a training within its stage can fail, too.
            shutil.rmtree(checkpoint_dir(experiment_dir, stage), ignore_errors=True)
        finally:
            if not (temporary / _OLD).exists():  # else the only copy of what was there, which could not be put back
                shutil.rmtree(temporary, ignore_errors=True)


def _manifest(
    config: PipelineConfig,
    stage: Stage,
    output: StageOutput,
    started: datetime.datetime,
    extra_inputs: Mapping[str, str],
) -> dict[str, Any]:
    finished = datetime.datetime.now(datetime.UTC)
    return {
        "stage": stage,
        "started": started.isoformat(timespec="seconds"),
        "duration_s": round((finished - started).total_seconds(), 3),
        "peak_memory_mb": peak_memory_mb(),
        "settings": json.loads(stage_settings(config, stage)),
        "facts": output.facts,
        "inputs": dict(extra_inputs) | _input_digests(config, stage),
        "outputs": {name: sha256_of(output.dir / name) for name in STAGE_OUTPUTS[stage]},
    }


def _input_digests(config: PipelineConfig, stage: Stage) -> dict[str, str]:
    """Digests of a stage's inputs as their producers recorded them, and of the pretrained encoder."""
    pretrained = pretrained_digest(config, stage)
    digests = {ENCODER: pretrained} if pretrained else {}
    for name in STAGE_INPUTS[stage]:
        producer = read_manifest(config.experiment_dir, _PRODUCER[name])
        digests[name] = producer["outputs"][name] if producer else sha256_of(config.experiment_dir / name)
    return digests


def pretrained_digest(config: PipelineConfig, stage: Stage) -> str:
    """Digest of the pretrained encoder for a stage that reads it; nothing for the others, or where it is not known."""
    if stage not in _ENCODER_STAGES:
        return ""
    return encoder_digest(config.encoder.model)


def input_signature(config: PipelineConfig, stage: Stage) -> str:
    """Digest of a stage's settings, inputs, source files and packages: what a checkpoint of it belongs to."""
    content = [
        stage_settings(config, stage),
        _input_digests(config, stage),
        sources_digest(stage),
        versions(),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def share_outputs(source_dir: Path, target_dir: Path, stage: Stage) -> None:
    """Give a second experiment the outputs of a stage that is the same in both; files are linked, not copied."""
    target_dir.mkdir(parents=True, exist_ok=True)
    with guarded_io(target_dir), lock(target_dir, stage):
        temporary = target_dir / f".writing-{stage}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name in STAGE_OUTPUTS[stage]:
            source = source_dir / name
            if source.is_dir():
                shutil.copytree(source, temporary / name, copy_function=_link)
            else:
                _link(source, temporary / name)
        shutil.copy(manifest_path(source_dir, stage), temporary / "manifest.json")
        _put_in_place(temporary, target_dir, stage)
        shutil.rmtree(temporary)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy(source, target)


def _put_in_place(temporary: Path, experiment_dir: Path, stage: Stage) -> None:
    """Rename finished outputs over what was there, in an order in which a kill never leaves old beside new.

    The manifest goes first and comes last; in between all old outputs leave before the first new one comes. Where that
    fails half-way, all that was there comes back, and none of the new stays.
    """
    manifest = manifest_path(experiment_dir, stage)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    old = temporary / _OLD
    old.mkdir()  # before the manifest goes: a full disk refuses it
    mark = mark_path(experiment_dir, stage)
    (temporary / mark.name).write_text(sha256_of(temporary / "manifest.json"), encoding="utf-8")
    places = {"manifest.json": manifest, mark.name: mark}
    places |= {name: experiment_dir / name for name in STAGE_OUTPUTS[stage]}
    try:
        for name, place in places.items():
            if place.exists():
                place.rename(old / name)
        for name, place in reversed(places.items()):
            (temporary / name).rename(place)
    except BaseException:
        for name, place in reversed(places.items()):
            if not (temporary / name).exists() and place.exists():
                place.rename(temporary / name)
        for name, place in reversed(places.items()):
            if (old / name).exists():
                (old / name).rename(place)
        old.rmdir()
        raise
    shutil.rmtree(old)
