"""Runs of a tracked experiment, as MLflow gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.mlflow_store import tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

MakeConfig = Callable[..., PipelineConfig]


def client_of(config: PipelineConfig) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri(config.tracking.dir))


def run_of(config: PipelineConfig, run_id: str | None) -> Run:
    assert run_id is not None
    return client_of(config).get_run(run_id)


def children_of(config: PipelineConfig, parent_id: str | None) -> list[Run]:
    """Runs of stages, the first one first."""
    parent = run_of(config, parent_id)
    found = client_of(config).search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent_id}'", order_by=["attributes.start_time ASC"]
    )
    return list(found)
