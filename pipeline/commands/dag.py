"""What the Snakefile asks, which files a stage depends on, and how ``icd run`` starts it."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import data_recipes
from pipeline.errors import UserError
from pipeline.experiment.artifacts import ENCODER, STAGE_OUTPUTS, pretrained_digest
from pipeline.experiment.config import STAGE_SECTIONS, PipelineConfig, Stage
from pipeline.experiment.encoder_files import find_encoder
from pipeline.experiment.grid import Member, waiting_for_choice
from pipeline.experiment.manifests import has_another_manifest, has_settings_of, manifest_path, read_manifest
from pipeline.experiment.sources import PACKAGE_DIR, are_as_before, sources_digest
from pipeline.files import private_folder, write_json

SNAKEFILE = PACKAGE_DIR / "Snakefile"
_SNAPSHOT = "config.json"
_REQUEST = ".requested.json"


def raw_files(config: PipelineConfig) -> list[Path]:
    """Raw files of the experiment that exist, so that a change of one is seen."""
    recipe = data_recipes.load_recipe(config.data.recipe)
    options = data_recipes.recipe_options(recipe, config.data.options)
    return [path for path in recipe.raw_files(config.data.raw, options) if path.exists()]


def check_sources(config: PipelineConfig) -> None:
    """Refuse at once what ingest and tokenize would refuse at their start, which may come after hours in a queue.

    Raises:
        UserError: if the recipe or its options are unknown, or a raw file or the encoder is missing and still needed.
    """
    recipe = data_recipes.load_recipe(config.data.recipe)
    options = data_recipes.recipe_options(recipe, config.data.options)
    if read_manifest(config.experiment_dir, "ingest") is None:
        for table in data_recipes.raw_tables(recipe, config.data.raw, options):
            if table.is_required:
                table.check_is_there()
    if read_manifest(config.experiment_dir, "tokenize") is None:
        find_encoder(config.encoder.model, allow_downloads=config.allow_downloads)


def stale_stages(config: PipelineConfig) -> list[Stage]:
    """Stages whose outputs are not what this config asks for though Snakemake, which goes by times, may not know.

    That is so when an output was removed; a stage was run alone with other settings; encoder, source files or raw files
    are others than those that it read; or a stage ended badly after its outputs came into place.
    """
    stale: list[Stage] = []
    for stage, names in STAGE_OUTPUTS.items():
        manifest = read_manifest(config.experiment_dir, stage)
        if manifest is not None:
            is_whole = all((config.experiment_dir / name).exists() for name in names)
            if (
                not is_whole
                or has_another_manifest(config.experiment_dir, stage)
                or not _is_of(config, stage, manifest)
            ):
                stale.append(stage)
    return stale


def _is_of(config: PipelineConfig, stage: Stage, manifest: Mapping[str, Any]) -> bool:
    """Whether a stage's manifest tells what the config asks for and what it would read now."""
    encoder = pretrained_digest(config, stage)
    raw_state = manifest["facts"].get("raw_state")
    return (
        has_settings_of(manifest, config, stage)
        and (not encoder or manifest["inputs"].get(ENCODER) == encoder)
        and manifest.get("sources") == sources_digest(stage, config.data.recipe)
        and (raw_state is None or are_as_before(raw_state, raw_files(config)))
    )


def is_finished(config: PipelineConfig) -> bool:
    """Whether the last stage of an experiment has run with this config."""
    return manifest_path(config.experiment_dir, "evaluate").exists() and not stale_stages(config)


def write_snapshot(config: PipelineConfig) -> None:
    """Write the resolved config that all stages of a run read, so that an edit meanwhile cannot mix two configs."""
    config.experiment_dir.mkdir(parents=True, exist_ok=True)
    write_json(config.experiment_dir / _SNAPSHOT, config.model_dump(mode="json"))


def snakemake_arguments(
    config: PipelineConfig,
    members: Sequence[Member],
    *,
    profile: str,
    cores: int | None,
    until: Stage | None,
    dry_run: bool,
) -> list[str]:
    """Arguments of Snakemake for an experiment or a grid of them.

    Args:
        config: of the experiment or grid.
        members: what it expands to.
        profile: name of a folder in profiles/, or the path of one of a site's own.
        cores: to use; None: all of this machine, or what the profile says.
        until: last stage to run, of all members that are needed whatever the first seed of a grid chooses.
        dry_run: only show what would run.

    Raises:
        UserError: if there is no such profile.
    """
    private_folder(config.experiment_dir)
    request = config.experiment_dir / _REQUEST
    write_json(request, config.model_dump(mode="json"))
    stages = list(STAGE_SECTIONS)
    asked = stages if until is None else stages[: stages.index(until) + 1]  # what is forced is made, asked for or not
    waiting = waiting_for_choice(members, config.grid)
    stale = []
    for member, stage in ((one, stage) for one in members for stage in stale_stages(one.config) if stage in asked):
        if member not in waiting:
            stale.append(_target(member, stage))
        elif not dry_run:  # made again if the choice needs it, where forcing would make it in any case
            manifest_path(member.config.experiment_dir, stage).unlink()
    arguments = [
        "--snakefile",
        str(SNAKEFILE),
        "--configfile",
        str(request),
        "--profile",
        str(profile_dir(profile)),
    ]
    if profile == "local" or cores:
        arguments += ["--cores", str(cores or os.cpu_count() or 1)]
    if len(members) > 1:
        # Snakemake wakes its scheduler once a timespan (one second, if not said) for every job that has ended.
        arguments += ["--max-jobs-per-timespan", "1000/10s"]
    if dry_run:
        arguments += ["--dry-run", "--quiet", "host"]
    else:
        # Stages say what happens. Of a scheduler only Snakemake knows why it refused a job.
        arguments += ["--quiet", *(["all"] if profile == "local" else ["host", "progress"])]
    if stale:
        arguments += ["--forcerun", *stale]
    targets = [_target(member, until) for member in members if member not in waiting] if until else ["all"]
    return [*arguments, "--", *targets]


def _target(member: Member, stage: Stage) -> str:
    return f"{member.folder}manifests/{stage}.json"


def profile_dir(profile: str) -> Path:
    """Folder of a profile of Snakemake's: one of ours by its name, or a site's own by its path.

    Raises:
        UserError: if there is none.
    """
    ours = {path.name: path for path in (PACKAGE_DIR / "profiles").iterdir()}
    folder = ours.get(profile, Path(profile).absolute())
    if not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(ours))
        raise UserError(f"--profile {profile}: no such profile; known: {known}, or a folder with a config.yaml.")
    return folder


def clear_after_kill(config: PipelineConfig) -> None:
    """Remove what a killed head left of Snakemake's; call only while holding the experiment's run lock.

    Marks of incomplete outputs go too: a manifest is there only when its stage has finished.
    """
    state = config.experiment_dir / ".snakemake"
    for name in ("locks", "backup", "incomplete"):
        shutil.rmtree(state / name, ignore_errors=True)


@contextlib.contextmanager
def keeping_unfinished(config: PipelineConfig, members: Sequence[Member]) -> Iterator[None]:
    """Leave stages that did not finish as they were for Snakemake too, so that nothing reruns for a failure.

    Snakemake puts a failed stage's manifest back, but with a new time, and it notes the settings of a job when the job
    starts. Where the manifest's content is still the old one, time and note become the old ones again.
    """
    records = {}
    for member, stage in itertools.product(members, STAGE_SECTIONS):
        path = manifest_path(member.config.experiment_dir, stage)
        note = _snakemake_note(config, _target(member, stage))
        if path.exists():
            records[path] = (path.read_bytes(), path.stat(), note, note.read_bytes() if note.exists() else None)
    try:
        yield
    finally:
        for path, (content, stat, note, noted) in records.items():
            if path.exists() and path.read_bytes() == content:
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
                if noted is not None and note.exists():
                    note.write_bytes(noted)


def _snakemake_note(config: PipelineConfig, target: str) -> Path:
    """Where Snakemake keeps what it knows of a stage's last job; if it ever moves, failed stages merely rerun."""
    name = base64.b64encode(target.encode()).decode()
    return config.experiment_dir / ".snakemake" / "metadata" / name


def failures(config: PipelineConfig, members: Sequence[Member]) -> list[dict[str, str]]:
    """What was noted of a user's mistake in the last run, by stages in the order of the DAG and by those of a grid."""
    found = []
    for member, stage in [*itertools.product(members, STAGE_SECTIONS), (None, "choose"), (None, "grid")]:
        folder = member.folder if member else ""
        path = config.experiment_dir / folder / "logs" / f"{stage}.failure.json"
        if path.exists():
            found.append({"folder": folder} | json.loads(path.read_text(encoding="utf-8")))
    return found


def tracebacks(config: PipelineConfig, members: Sequence[Member]) -> list[Path]:
    """Files with what bugs of the last run left; they may quote documents."""
    folders = {config.experiment_dir, *(member.config.experiment_dir for member in members)}
    return sorted(path for folder in folders for path in (folder / "logs").glob("*.traceback.txt"))


def clear_failures(config: PipelineConfig, members: Sequence[Member]) -> None:
    """Forget the failures of an earlier run."""
    for folder in {config.experiment_dir, *(member.config.experiment_dir for member in members)}:
        for pattern in ("*.failure.json", "*.traceback.txt"):
            for path in (folder / "logs").glob(pattern):
                path.unlink()
