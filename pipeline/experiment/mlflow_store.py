"""The MLflow store: SQLite in ``tracking.dir`` unless ``MLFLOW_TRACKING_URI`` names a server.

It is created once under a lock, since processes that create it at the same time break it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from pipeline.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_STORE_LOCK = ".store.lock"
_USER_INFO = re.compile(r"(?<=://)(?:[^\s/:@]+:\S*@|[^\s/@]*@)")  # a password may hold / and @
_USER_QUERY = re.compile(r"([?&](?:user|password|passwd|pwd|token)=)[^&\s]*", re.IGNORECASE)
_EXPERIMENT = "icd-contrast"
_VIEW_KEY = "icd"
_VIEW_COLUMNS = (
    "metrics.`micro_f1`", "metrics.`macro_f1`", "metrics.`map`", "metrics.`precision_at_5`", "params.`data.recipe`",
    "params.`encoder.model`", "params.`train_encoder.loss`", "params.`train_classifier.head`", "params.`seed`",
)  # fmt: skip


def tracking_uri(tracking_dir: Path) -> str:
    """Where runs are stored: ``MLFLOW_TRACKING_URI``, else SQLite in the folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{tracking_dir.resolve()}/mlflow.db"


def without_password(text: str) -> str:
    """A message about a store without the user and password that a URI in it may name.

    Example:
        >>> without_password("postgresql://icd:secret@host/runs: no answer")
        'postgresql://host/runs: no answer'
    """
    return _USER_QUERY.sub(r"\1...", _USER_INFO.sub("", text))


def has_store(tracking_dir: Path) -> bool:
    """Whether runs were tracked there, or a server is named that has them."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (tracking_dir / "mlflow.db").is_file()


def open_store(tracking_dir: Path) -> MlflowClient:
    """Give a client of the store, created if needed (under a lock)."""
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # its bars fill logs, too
    tracking_dir.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(tracking_dir / _STORE_LOCK):
        client = MlflowClient(tracking_uri(tracking_dir))
        client.search_experiments(max_results=1)  # creates and migrates the database
    return client


def check_store(tracking_dir: Path) -> MlflowClient:
    """Open the store for a user, before anything runs.

    Raises:
        UserError: if it cannot be opened, or created and written.
    """
    try:
        return open_store(tracking_dir)
    except Exception as error:  # of the file system, SQLAlchemy or MLflow
        where = without_password(os.environ.get("MLFLOW_TRACKING_URI") or str(tracking_dir))
        reason = without_password(str(error).strip().partition("\n")[0])[:200]
        raise UserError(
            f"{where}: the store of MLflow cannot be opened ({type(error).__name__}: {reason}); set tracking.dir to a "
            "folder that can be written, or tracking.enabled=false."
        ) from error


def experiment_id(client: MlflowClient, tracking_dir: Path) -> str:
    """The MLflow experiment that collects all runs of this project."""
    with filelock.FileLock(tracking_dir / _STORE_LOCK):
        known = client.get_experiment_by_name(_EXPERIMENT)
        if known is not None:
            if known.lifecycle_stage == "deleted":  # on the page; its name stays taken
                client.restore_experiment(known.experiment_id)
            return str(known.experiment_id)
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        location = (tracking_dir / "artifacts").resolve().as_uri() if local else None
        created = str(client.create_experiment(_EXPERIMENT, artifact_location=location))
    # What the page itself stores when a view is shared: here, scores and settings as columns of the run list.
    view = {"selectedColumns": list(_VIEW_COLUMNS), "orderByKey": "attributes.start_time", "orderByAsc": False}
    client.set_experiment_tag(created, f"mlflow.sharedViewState.{_VIEW_KEY}", json.dumps(view))
    return created


def page_path(client: MlflowClient) -> str:
    """Path of the run list in the MLflow page, with scores and settings as columns."""
    known = client.get_experiment_by_name(_EXPERIMENT)
    return f"#/experiments/{known.experiment_id}/runs?viewStateShareKey={_VIEW_KEY}" if known else ""
