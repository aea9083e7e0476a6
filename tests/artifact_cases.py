"""Stages that write in this process and in others, and what is left in the folder."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pipeline.experiment.artifacts import STAGE_INPUTS, writing
from pipeline.experiment.config import PipelineConfig

# What a subprocess runs first: the config of the test, and a stage that writes its two outputs.
PRELUDE = """
import os, resource, signal, sys, time
from pathlib import Path
from pipeline.experiment import artifacts
from pipeline.experiment.config import PipelineConfig

config = PipelineConfig(experiment="small", work_dir=Path(sys.argv[1]))

def write_split(content):
    with artifacts.writing(config, "split") as output:
        (output.dir / "splits.parquet").write_text(content)
        (output.dir / "label_space.json").write_text(content)
"""


@contextlib.contextmanager
def process(code: str, work_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own; ended with the test."""
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(work_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def run(code: str, work_dir: Path) -> tuple[int, str]:
    """Exit status and output of a Python process that runs to its end."""
    with process(code, work_dir) as started:
        output, errors = started.communicate(timeout=60)
        return started.returncode, output + errors


def write_split(config: PipelineConfig, content: str) -> None:
    with writing(config, "split") as output:
        (output.dir / "splits.parquet").write_text(content)
        (output.dir / "label_space.json").write_text(content)


def contents(config: PipelineConfig) -> dict[str, str]:
    """Every file of the experiment but locks, by name."""
    paths = [path for path in config.experiment_dir.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    return {path.relative_to(config.experiment_dir).as_posix(): path.read_text() for path in paths}


def ingested(config: PipelineConfig) -> PipelineConfig:
    """The config of an experiment in which ingest was run, as far as stage split can tell."""
    config.experiment_dir.mkdir(parents=True)
    for name in STAGE_INPUTS["split"]:
        (config.experiment_dir / name).write_text(name)
    return config
