"""MLflow: the parent run of an experiment; :mod:`pipeline.experiment.stage_tracking` has the runs of its stages."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, describe_bug
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.mlflow_store import (
    check_store,
    experiment_id,
    has_store,
    open_store,
    tracking_uri,
    without_password,
)
from pipeline.experiment.provenance import git_commit
from pipeline.files import read_json, write_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

_MAX_VALUE_CHARS = 250
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
    settings, code = tracked_settings(config), git_commit() or "unknown"
    client = open_store(config.tracking.dir)
    known = read_json(note) if note.exists() else None
    if known and is_head:
        _close_left_over(client, known["run_id"])
    if known and _is_of(known, config) and _is_alive(client, known["run_id"]):
        run_id = str(known["run_id"])
        client.update_run(run_id, status="RUNNING")
        client.set_tag(run_id, "icd.code_version", code)  # of what runs now
        return run_id
    name, tags = config.experiment, {"icd.code_version": code}
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
    log_params(client, run.info.run_id, settings)
    config.experiment_dir.mkdir(parents=True, exist_ok=True)
    write_json(note, {"run_id": run.info.run_id, "settings": settings, "grid": _grid_of(config)})
    return str(run.info.run_id)


def _grid_of(config: PipelineConfig) -> Any:
    return config.grid.model_dump(mode="json") if config.grid else None


def _is_of(note: Mapping[str, Any], config: PipelineConfig) -> bool:
    """Whether a noted run is of this config, and of this grid."""
    return bool(note["settings"] == tracked_settings(config) and note.get("grid") == _grid_of(config))


def log_grid(config: PipelineConfig, rows: Sequence[Mapping[str, Any]], tables: Sequence[Path]) -> None:
    """Attach the tables of a grid to its run, with the scores of every variant as metrics.

    They are written by then, so whatever fails here is a warning.
    """
    note = config.experiment_dir / "mlflow.json"
    if not (config.tracking.enabled and note.exists()):
        return
    with warned("the table of the grid is written, but MLflow did not take it"):
        client, run_id = open_store(config.tracking.dir), read_json(note)["run_id"]
        for table in tables:
            client.log_artifact(run_id, str(table))
        log_rows(client, run_id, rows)


def log_rows(client: MlflowClient, run_id: str, rows: Sequence[Mapping[Any, Any]]) -> None:
    """Log the scores of every row of a table as metrics, named after its ``variant``."""
    for row in rows:
        for name in ("micro_f1", "macro_f1", "map"):
            client.log_metric(run_id, f"{row['variant']}/{name}", row[name])


@contextlib.contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn a fault of the store into a warning: outputs may be in place, and a stage that fails counts as not run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of the store, a disk, a network
        logger.warning("%s: %s", what, describe_bug(error))


def _close_left_over(client: MlflowClient, parent_id: str) -> None:
    """Close a run and all below it: members of a grid, and their stages."""
    if not _is_alive(client, parent_id):
        return
    run = client.get_run(parent_id)
    if run.info.status == "RUNNING":
        client.set_terminated(parent_id, status="KILLED")
    for child in client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{parent_id}'"):
        _close_left_over(client, child.info.run_id)


def finish_parent_run(config: PipelineConfig, *, succeeded: bool) -> None:
    """Close the parent run of an experiment, unless the run that was noted is of other settings."""
    note = config.experiment_dir / "mlflow.json"
    if config.tracking.enabled and note.exists() and _is_of(known := read_json(note), config):
        client = open_store(config.tracking.dir)
        client.set_terminated(known["run_id"], status="FINISHED" if succeeded else "FAILED")


def experiment_dir_of_run(tracking_dir: Path, run_id: str) -> Path:
    """The work folder of a run, parent or stage, if it still holds what that run wrote.

    Raises:
        UserError: if the store has no such run, or its folder is gone or holds another run by now.
    """
    from mlflow.exceptions import MlflowException

    if not has_store(tracking_dir):
        raise UserError(f"run {run_id}: there is no MLflow store in {tracking_dir}; name the run's work folder.")
    client = check_store(tracking_dir)
    try:
        run = client.get_run(run_id)
        if "icd.stage" in run.data.tags:
            run = client.get_run(run.data.tags["mlflow.parentRunId"])
    except MlflowException:
        store = without_password(tracking_uri(tracking_dir))
        raise UserError(f"run {run_id}: {store} has no such run; see 'icd ui'.") from None
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


def log_params(client: MlflowClient, run_id: str, settings: Mapping[str, str]) -> None:
    """Log settings of a run, as many at a time as MLflow takes."""
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in settings.items()]
    for start in range(0, len(params), _MAX_PARAMS):
        client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])
