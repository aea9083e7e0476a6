"""MLflow: one parent run per experiment, one child run per stage; numbers and settings, never text of a document."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import ARTIFACTS, ENCODER, git_commit, is_main_process, read_manifest
from pipeline.config import STAGE_SECTIONS, PipelineConfig, Stage
from pipeline.errors import UserError, describe_bug
from pipeline.files import read_json, write_json
from pipeline.mlflow_store import experiment_id, open_store, tracking_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

_MAX_VALUE_CHARS = 250
_MAX_BATCH = 500
_MAX_PARAMS = 100  # MLflow refuses more at a time
_NOT_PARAMETERS = {"work_dir", "tracking", "compute", "grid"}


def start_parent_run(config: PipelineConfig, *, is_head: bool = False) -> str | None:
    """Start the parent run of an experiment, or go on with it where nothing in the config changed.

    Args:
        config: of the experiment.
        is_head: said by the head of a run, which alone knows that no other is alive: runs that a killed one left
            open are closed.

    Returns:
        The run id, also written to ``mlflow.json`` of the experiment folder; None where tracking is off.
    """
    note = config.experiment_dir / "mlflow.json"
    if not config.tracking.enabled:
        if is_head:  # the folder is no longer that of the run that was noted
            note.unlink(missing_ok=True)
        return None
    settings = tracked_settings(config)
    client = open_store(config.tracking.dir)
    known = read_json(note) if note.exists() else None
    if known and is_head:
        _close_left_over(client, known["run_id"])
    if known and known["settings"] == settings and _is_alive(client, known["run_id"]):
        run_id = str(known["run_id"])
        client.update_run(run_id, status="RUNNING")
        return run_id
    name, tags = config.experiment, {"icd.code_version": git_commit() or "unknown"}
    if (grid_dir := config.tracking.grid_dir) is not None:
        name = f"{grid_dir.name}/{name}"
        if (grid_note := grid_dir / "mlflow.json").exists():
            tags["mlflow.parentRunId"] = read_json(grid_note)["run_id"]
    run = client.create_run(
        experiment_id(client, config.tracking.dir),
        run_name=name,
        tags=tags
        | {
            "icd.experiment": config.experiment,
            "icd.experiment_dir": str(config.experiment_dir),
        },
    )
    _log_params(client, run.info.run_id, settings)
    config.experiment_dir.mkdir(parents=True, exist_ok=True)
    write_json(note, {"run_id": run.info.run_id, "settings": settings})
    return str(run.info.run_id)


def log_grid(config: PipelineConfig, rows: Sequence[Mapping[str, Any]], tables: Sequence[Path]) -> None:
    """Attach the tables of a grid to its run, with the scores of every variant as metrics.

    They are written by then, so whatever fails here is a warning.
    """
    note = config.experiment_dir / "mlflow.json"
    if not (config.tracking.enabled and note.exists()):
        return
    try:
        client, run_id = open_store(config.tracking.dir), read_json(note)["run_id"]
        for table in tables:
            client.log_artifact(run_id, str(table))
        for row in rows:
            for name in ("micro_f1", "macro_f1", "map"):
                client.log_metric(run_id, f"{row['variant']}/{name}", row[name])
    except Exception as error:  # noqa: BLE001 - of the store, a disk, a network
        logger.warning("the table of the grid is written, but MLflow did not take it: %s", describe_bug(error))


def _close_left_over(client: MlflowClient, parent_id: str) -> None:
    if not _is_alive(client, parent_id):
        return
    parent = client.get_run(parent_id)
    children = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent_id}'")
    for run in [parent, *children]:
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, status="KILLED")


def finish_parent_run(config: PipelineConfig, *, succeeded: bool) -> None:
    """Close the parent run of an experiment."""
    note = config.experiment_dir / "mlflow.json"
    if config.tracking.enabled and note.exists():
        client = open_store(config.tracking.dir)
        client.set_terminated(read_json(note)["run_id"], status="FINISHED" if succeeded else "FAILED")


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
        with _warned("metrics"):
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
        for run_id in (self._run_id, self._parent_id):
            self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])

    def log_report(self, path: Path) -> None:
        """Attach a report that holds no text of documents to both runs."""
        if self._client is not None:
            with _warned(path.name):
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
        with (
            _warned("the model"),
            warnings.catch_warnings(),
        ):  # about an example of the input, which would be text of a document
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
    _log_params(
        client,
        run_id,
        {k: v for k, v in tracked_settings(config).items() if k.split(".")[0] in STAGE_SECTIONS[stage]},
    )
    run = StageRun(client, run_id, parent_id)
    try:
        yield run
    except BaseException:
        with _warned("the end of a failed stage"):
            run.flush()
            _close(client, config, run_id, succeeded=False)
        raise
    with _warned("the end of the stage"):
        manifest = read_manifest(config.experiment_dir, stage)
        if manifest:
            run.log_metrics({"duration_s": manifest["duration_s"]})
            for name, digest in _digests(manifest).items():
                client.set_tag(run_id, f"sha256.{name}", digest)
        run.flush()
        _close(client, config, run_id, succeeded=True)


@contextlib.contextmanager
def _warned(what: str) -> Iterator[None]:
    """Turn a fault of the store into a warning: outputs may be in place, and a stage that fails counts as not run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of the store, a disk, a network
        logger.warning("MLflow did not take %s: %s", what, describe_bug(error))


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


def experiment_dir_of_run(tracking_dir: Path, run_id: str) -> Path:
    """The work folder of a run, parent or stage, if it still holds what that run wrote.

    Raises:
        UserError: if the store has no such run, or its folder is gone or holds another run by now.
    """
    from mlflow.exceptions import MlflowException

    if not (os.environ.get("MLFLOW_TRACKING_URI") or (tracking_dir / "mlflow.db").exists()):
        raise UserError(f"run {run_id}: there is no MLflow store in {tracking_dir}; name the run's work folder.")
    client = open_store(tracking_dir)
    try:
        run = client.get_run(run_id)
        if "icd.stage" in run.data.tags:
            run = client.get_run(run.data.tags["mlflow.parentRunId"])
    except MlflowException:
        raise UserError(f"run {run_id}: {tracking_uri(tracking_dir)} has no such run; see 'icd ui'.") from None
    folder = run.data.tags.get("icd.experiment_dir")
    if folder is None or not (Path(folder) / "mlflow.json").exists():
        raise UserError(f"run {run_id}: its work folder is not known or gone; name the folder itself.")
    held = read_json(Path(folder) / "mlflow.json")["run_id"]
    if held != run.info.run_id:
        raise UserError(f"run {run_id}: {folder} holds a later run by now ({held}); run its config again elsewhere.")
    return Path(folder)


def _is_alive(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def tracked_settings(config: PipelineConfig) -> dict[str, str]:
    """Settings as flat 'section.key' -> value; of a long list every item by itself.

    Raises:
        UserError: if a value is long or has several lines, since it could be text.
    """
    flat: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list) and len(str(value)) > _MAX_VALUE_CHARS:
            for place, inner in enumerate(value):
                walk(f"{prefix}.{place}", inner)
        else:
            flat[prefix] = str(value)

    walk("", config.model_dump(mode="json", exclude=_NOT_PARAMETERS))
    for name, value in flat.items():
        if len(value) > _MAX_VALUE_CHARS or "\n" in value:
            raise UserError(
                f"{name} has {len(value)} characters or several lines; only settings of one line and at most "
                f"{_MAX_VALUE_CHARS} characters are tracked, never text. Shorten it or set tracking.enabled: false."
            )
    return flat


def _log_params(client: MlflowClient, run_id: str, settings: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in settings.items()]
    for start in range(0, len(params), _MAX_PARAMS):
        client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])
