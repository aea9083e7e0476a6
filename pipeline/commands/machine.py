"""What an experiment needs of the machine: versions, encoder, GPUs and how trainings are launched, memory, disk.

Needs are estimates from the sizes of raw files and weights, on the safe side.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.commands.executors import PACKAGE, executor_findings, executor_of, installed
from pipeline.commands.findings import Finding, State
from pipeline.encoders.pretrained import load_tokenizer
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.encoder_files import find_encoder
from pipeline.experiment.launch import processes_of

_GB = 1e9
_UNPACKED = 4  # times the size of gzipped text
_DISK_PER_TEXT = 2  # documents and tokens together, times the unpacked text
_DISK_PER_WEIGHTS = 6  # encoder, classifier, a checkpoint with the optimizer's state
_MEMORY_PER_WEIGHTS = 5  # weights, gradient, two moments, activations
_BASE_GB = 3  # a training on CPU: what glibc keeps between micro-batches of different sizes counts


def machine_findings(config: PipelineConfig, raw_paths: Sequence[Path], *, profile: str) -> Iterator[Finding]:
    """Look at the machine.

    Args:
        config: of the experiment.
        raw_paths: raw files that exist; their sizes say how much room the experiment takes.
        profile: where stages are to run, as for ``icd run``.

    Raises:
        UserError: if there is no such profile.
    """
    executor = executor_of(profile)
    yield from _package_findings({executor} - {"local"})
    encoder, weights = _encoder_finding(config)
    yield encoder
    yield from _launch_findings(config, executor)
    if executor != "local":
        yield from executor_findings(executor)
    yield _memory_finding(config, executor, weights)
    yield _disk_finding(config, raw_paths, weights)
    if config.tracking.enabled and not _can_be_written(config.tracking.dir):
        found = f"{config.tracking.dir} cannot be written"
        yield Finding("wrong", "MLflow", found, "set tracking.dir to a folder of yours, or tracking.enabled=false")


def _package_findings(extras: set[str]) -> Iterator[Finding]:
    """Installed versions against the ranges that this package asks for."""
    try:
        required = importlib.metadata.requires(PACKAGE) or []
        python = str(importlib.metadata.metadata(PACKAGE)["Requires-Python"])
    except importlib.metadata.PackageNotFoundError:
        yield Finding("warning", "packages", f"{PACKAGE} itself is not installed", "pip install --editable .")
        return
    version = platform.python_version()
    if not SpecifierSet(python).contains(version, prereleases=True):
        yield Finding("wrong", "Python", f"{version}, needed is {python}", "make the environment with another one")
    n_right, is_right = 0, True
    for requirement in map(Requirement, required):
        environments = [{"extra": extra} for extra in ("", *sorted(extras))]
        if requirement.marker and not any(requirement.marker.evaluate(one) for one in environments):
            continue
        found = installed(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            n_right += 1
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        advice = f"pip install --constraint constraints.txt '{wanted}'"
        is_right = False
        yield Finding("wrong", "packages", f"{wanted} is needed, found {found or 'none'}", advice)
    if is_right:
        yield Finding("ok", "packages", f"Python {version}; {n_right} packages in the ranges asked for")


def _encoder_finding(config: PipelineConfig) -> tuple[Finding, int]:
    """Whether the encoder and its tokenizer are there; bytes of its weights, which are not loaded."""
    model, folder = config.encoder.model, None
    try:
        folder = find_encoder(model)
        load_tokenizer(folder)
    except UserError as error:
        if config.allow_downloads and folder is None and not Path(model).is_dir():
            return Finding("warning", "encoder", f"{model} is not on this machine and will be fetched"), 0
        return Finding("wrong", "encoder", str(error)), 0
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return Finding("ok", "encoder", f"{model}, {weights / 1e6:,.0f} MB of weights"), weights


def _launch_findings(config: PipelineConfig, executor: str) -> Iterator[Finding]:
    """GPUs of this machine or of the scheduler, and whether the launch file fits them."""
    path = config.compute.accelerate_config
    try:
        n_processes = processes_of(path)
    except UserError as error:
        yield Finding("wrong", "launch", str(error))
        return
    if path is not None:
        yield Finding("ok", "launch", f"{path.name}: {n_processes} processes")
    if executor == "local":
        yield from _device_findings(config, n_processes)
    elif config.compute.n_gpus != n_processes and (config.compute.n_gpus or path):
        found = f"compute.n_gpus asks for {config.compute.n_gpus} GPUs, a training starts {n_processes} processes"
        yield Finding("warning", "launch", found, "make both equal (compute.accelerate_config)")


def _device_findings(config: PipelineConfig, n_processes: int) -> Iterator[Finding]:
    """What trainings on this machine compute with."""
    import torch

    from pipeline.encoders.precision import has_bf16

    n_found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    stages = (config.train_encoder, config.train_classifier, config.predict)
    if any(stage.mixed_precision == "bf16" for stage in stages) and not has_bf16("cuda" if n_found else "cpu"):
        yield Finding("ok", "precision", "no bf16 arithmetic here: float32 is used where bf16 is asked for")
    if not n_found:
        yield _cpu_finding(is_asked=config.compute.n_gpus > 0 or n_processes > 1, n_processes=n_processes)
    elif n_processes > n_found:
        advice = f"num_processes: {n_found} in {config.compute.accelerate_config}"
        yield Finding("wrong", "GPU", f"{n_found}, but the launch file starts {n_processes} processes", advice)
    elif n_processes < n_found:
        found = f"{n_found}, of which {n_processes} will be used"
        yield Finding("warning", "GPU", found, "set compute.accelerate_config to a launch file of configs/accelerate")
    else:
        yield Finding("ok", "GPU", f"{n_found}, {torch.cuda.get_device_name(0)}")


def _cpu_finding(*, is_asked: bool, n_processes: int) -> Finding:
    advice = "expect long trainings" if is_asked else ""
    if shutil.which("nvidia-smi"):
        is_asked, advice = True, "this torch has no CUDA or none that fits the driver; install a build that has"
    found = f"none: {n_processes} process{'es' * (n_processes > 1)} on the CPU"
    return Finding("warning" if is_asked else "ok", "GPU", found, advice)


def _memory_finding(config: PipelineConfig, executor: str, weights: int) -> Finding:
    needed = _BASE_GB + _MEMORY_PER_WEIGHTS * weights / _GB
    asked = config.compute.mem_mb / 1e3
    if executor != "local":
        state: State = "ok" if asked >= needed else "warning"
        advice = "" if state == "ok" else f"set compute.mem_mb to {needed * 1e3:,.0f} or more"
        return Finding(state, "memory", f"{asked:.1f} GB asked of the scheduler, about {needed:.1f} needed", advice)
    free = psutil.virtual_memory().available / _GB
    advice = "" if free >= needed else "end other programs, or lower micro_batch_tokens"
    return Finding(
        "ok" if free >= needed else "warning", "memory", f"{free:.1f} GB free, about {needed:.1f} needed", advice
    )


def _disk_finding(config: PipelineConfig, raw_paths: Sequence[Path], weights: int) -> Finding:
    place = _nearest(config.work_dir)
    if not _can_be_written(place):
        return Finding("wrong", "disk", f"{place} cannot be written", "set work_dir to a folder of yours")
    text = sum(path.stat().st_size * (_UNPACKED if path.suffix == ".gz" else 1) for path in raw_paths)
    needed = 1 + (_DISK_PER_TEXT * text + _DISK_PER_WEIGHTS * weights) / _GB
    free = shutil.disk_usage(place).free / _GB
    found = f"{free:.1f} GB free for {config.work_dir}, about {needed:.1f} needed"
    return (
        Finding("ok", "disk", found)
        if free >= needed
        else Finding("wrong", "disk", found, "free space, or set work_dir")
    )


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _can_be_written(folder: Path) -> bool:
    place = _nearest(folder)
    return place.is_dir() and os.access(place, os.W_OK)
