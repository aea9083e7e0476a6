"""Experiments whose stages have run, as far as the DAG can see."""

from __future__ import annotations

from pathlib import Path

from pipeline.experiment import artifacts
from pipeline.experiment.config import PipelineConfig, Stage
from pipeline.experiment.config_files import validate_config


def config_in(folder: Path, **sections: object) -> PipelineConfig:
    return validate_config({"experiment": "a", "work_dir": str(folder), **sections}, source="test")


def write(config: PipelineConfig, stage: Stage) -> None:
    with artifacts.writing(config, stage) as output:
        for name in artifacts.STAGE_OUTPUTS[stage]:
            (output.dir / name).write_text(stage, encoding="utf-8")
