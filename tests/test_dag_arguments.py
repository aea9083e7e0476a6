"""What Snakemake is told of stages that are stale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dag_cases import config_in, write

from pipeline.commands import dag
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import validate_config
from pipeline.experiment.grid import expand


def with_stale_split(folder: Path) -> PipelineConfig:
    """The config of an experiment whose stage split ran with another seed."""
    for stage in ("ingest", "split"):
        write(config_in(folder), stage)
    return config_in(folder, split={"seed": 1})


def test_a_stale_stage_behind_the_last_one_asked_for_is_left_alone(tmp_path: Path) -> None:
    """Snakemake makes what it is forced to make, also where it was not asked for."""
    config = with_stale_split(tmp_path)
    told = dag.snakemake_arguments(config, expand(config), profile="local", cores=1, until="ingest", dry_run=False)
    assert "--forcerun" not in told
    assert told[-1] == "manifests/ingest.json"


def test_a_stale_stage_that_is_the_last_one_asked_for_is_made_again(tmp_path: Path) -> None:
    config = with_stale_split(tmp_path)
    told = dag.snakemake_arguments(config, expand(config), profile="local", cores=1, until="split", dry_run=False)
    assert told[told.index("--forcerun") + 1 :] == ["manifests/split.json", "--", "manifests/split.json"]


def test_snakemake_is_told_what_is_stale_and_reads_the_config_asked_for(tmp_path: Path) -> None:
    config = with_stale_split(tmp_path)
    told = dag.snakemake_arguments(config, expand(config), profile="local", cores=3, until="predict", dry_run=True)
    assert told[told.index("--forcerun") + 1 :] == ["manifests/split.json", "--", "manifests/predict.json"]
    assert told[told.index("--cores") + 1] == "3"
    assert "--dry-run" in told
    request = json.loads(Path(told[told.index("--configfile") + 1]).read_text(encoding="utf-8"))
    assert validate_config(request, source="test") == config
    with pytest.raises(UserError, match="no such profile; known: local, slurm, or a folder"):
        dag.snakemake_arguments(config, expand(config), profile="lsf", cores=None, until=None, dry_run=False)
