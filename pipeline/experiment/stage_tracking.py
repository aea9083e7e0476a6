"""MLflow: one child run per stage of an experiment; numbers and settings, never text of a document."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.experiment.artifacts import ARTIFACTS, ENCODER, is_main_process
from pipeline.experiment.config import STAGE_SECTIONS, PipelineConfig, Stage
from pipeline.experiment.manifests import read_manifest
from pipeline.experiment.mlflow_store import open_store
from pipeline.experiment.provenance import git_commit
from pipeline.experiment.tracking import finish_parent_run, log_params, start_parent_run, tracked_settings, warned

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_MAX_BATCH = 500


class StageRun:
    """The child run of one stage. Every call is without effect where tracking is off.

    Metrics are sent in batches, since a database write per step would slow training down.
    """

    def __init__(self, client: MlflowClient | None, run_id: str, parent_id: str) -> None:
        self._client, self._run_id, self._parent_id = client, run_id, parent_id
        self._waiting: list[Any] = []

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0, also_parent: bool = False) -> None:
        """Log numbers; ``also_parent`` shows them in the list of experiments too."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._waiting += batch
        with warned("MLflow did not take metrics"):
            if also_parent:
                self._client.log_batch(self._parent_id, metrics=batch)
            if len(self._waiting) >= _MAX_BATCH:
                self.flush()

    def log_dataset(self, name: str, digest: str, counts: Mapping[str, int]) -> None:
        """Log which data the stage read: a digest and counts, never a row."""
        if self._client is None:
            return
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, digest[:36], "local", "{}", profile=json.dumps(dict(counts)))
        tags = [InputTag("mlflow.data.context", "pipeline")]
        with warned("MLflow did not take the name of the data"):
            for run_id in (self._run_id, self._parent_id):
                self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])

    def log_report(self, path: Path) -> None:
        """Attach a report that holds no text of documents to both runs."""
        if self._client is not None:
            with warned(f"MLflow did not take {path.name}"):
                for run_id in (self._run_id, self._parent_id):
                    self._client.log_artifact(run_id, str(path))

    def log_model(self, folder: Path, *, loader: Path, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Keep a copy of a trained model, which MLflow loads and serves by running ``loader``; nothing is pickled.

        Args:
            folder: of the classifier; ``loader`` finds it as the artifact "classifier".
            loader: file with an ``mlflow.pyfunc.PythonModel``.
            inputs: MLflow type of each column that the model reads.
            outputs: and of each that it gives.
        """
        if self._client is None:
            return
        import mlflow
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema

        mlflow.set_tracking_uri(self._client.tracking_uri)
        read, given = (Schema([ColSpec(kind, name) for name, kind in columns.items()]) for columns in (inputs, outputs))
        with warned("MLflow did not take the model"), warnings.catch_warnings():
            # about an example of the input, which would be text of a document
            warnings.filterwarnings("ignore", message=".*An input example was not provided", category=UserWarning)
            Model.log(
                artifact_path=None,
                name="classifier",
                flavor=mlflow.pyfunc,
                run_id=self._run_id,
                python_model=str(loader),
                artifacts={"classifier": str(folder)},
                signature=ModelSignature(read, given),
                pip_requirements=[f"icd-contrast=={importlib.metadata.version('icd-contrast')}"],
            )

    def flush(self) -> None:
        """Send the metrics that wait."""
        while self._client is not None and self._waiting:
            self._client.log_batch(self._run_id, metrics=self._waiting[:_MAX_BATCH])
            self._waiting = self._waiting[_MAX_BATCH:]


@contextlib.contextmanager
def stage_run(config: PipelineConfig, stage: Stage) -> Iterator[StageRun]:
    """Track one stage as a child of the experiment's run; in a distributed stage the main process does.

    Args:
        config: whole config of the experiment, not a stage's view of it.
        stage: which one.
    """
    if not (config.tracking.enabled and is_main_process()):
        yield StageRun(None, "", "")
        return
    parent_id = str(start_parent_run(config))
    client = open_store(config.tracking.dir)
    child = client.create_run(
        client.get_run(parent_id).info.experiment_id,
        run_name=f"{config.experiment}/{stage}",
        tags={
            "mlflow.parentRunId": parent_id,
            "icd.stage": stage,
            "icd.code_version": git_commit() or "unknown",
        },
    )
    run_id = child.info.run_id
    log_params(
        client,
        run_id,
        {k: v for k, v in tracked_settings(config).items() if k.split(".")[0] in STAGE_SECTIONS[stage]},
    )
    run = StageRun(client, run_id, parent_id)
    try:
        yield run
    except BaseException:
        with warned("MLflow did not take the end of a failed stage"):
            run.flush()
            _close(client, config, run_id, succeeded=False)
        raise
    with warned("MLflow did not take the end of the stage"):
        manifest = read_manifest(config.experiment_dir, stage)
        if manifest:
            run.log_metrics({"duration_s": manifest["duration_s"]})
            for name, digest in _digests(manifest).items():
                client.set_tag(run_id, f"sha256.{name}", digest)
        run.flush()
        _close(client, config, run_id, succeeded=True)


def _close(client: MlflowClient, config: PipelineConfig, run_id: str, *, succeeded: bool) -> None:
    """Close a stage's run, and the parent's too where the stage runs alone and no head will."""
    client.set_terminated(run_id, status="FINISHED" if succeeded else "FAILED")
    if "ICD_HEAD" not in os.environ:
        finish_parent_run(config, succeeded=succeeded)


def _digests(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Digests to show: of each artifact, and one of all raw files, whose names may be any and very many."""
    digests = {**manifest["inputs"], **manifest["outputs"]}
    raw = {name: digests.pop(name) for name in sorted(digests.keys() - ARTIFACTS - {ENCODER})}
    if raw:
        digests["raw"] = hashlib.sha256(json.dumps(raw).encode()).hexdigest()
    return digests
