"""Where runs are tracked: another store, none, one for many processes, and the page that opens on it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tracking_cases import MakeConfig, children_of, client_of, run_of

from pipeline.errors import UserError
from pipeline.experiment.mlflow_store import check_store, open_store, page_path, tracking_uri, without_password
from pipeline.experiment.stage_tracking import StageRun, stage_run
from pipeline.experiment.tracking import finish_parent_run, start_parent_run


def test_the_environment_names_another_store(
    make_tracked: MakeConfig, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_tracked()
    before = (config.tracking.dir / "mlflow.db").read_bytes()
    shutil.copy(empty_store / "mlflow.db", tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    assert tracking_uri(config.tracking.dir) == f"sqlite:///{tmp_path}/elsewhere.db"
    with stage_run(config, "split") as tracked:
        tracked.log_metrics({"n": 1})
    (child,) = children_of(config, start_parent_run(config))
    assert child.data.metrics == {"n": 1}
    assert (config.tracking.dir / "mlflow.db").read_bytes() == before


def test_a_password_of_the_store_is_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("nosuch://icd:xq@z/w@host/runs", "nosuch://xq@host/runs"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError, match="nosuch://host/runs: the store of MLflow cannot be opened") as caught:
            check_store(tmp_path)
        assert "xq" not in str(caught.value)
    assert without_password("sqlite:////home/me@x:y@z/mlflow.db") == "sqlite:////home/me@x:y@z/mlflow.db"


def test_an_empty_variable_names_no_store(make_tracked: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    config = make_tracked()
    run = run_of(config, start_parent_run(config))
    assert str(run.info.artifact_uri).startswith((config.tracking.dir / "artifacts").resolve().as_uri())


def track_everything(tracked: StageRun, path: Path) -> None:
    tracked.log_metrics({"a": 1}, also_parent=True)
    tracked.log_dataset("documents", "ab", {"documents": 1})
    tracked.log_report(path)
    tracked.flush()


def test_with_tracking_off_nothing_is_made(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(tracking={"enabled": False, "dir": tmp_path / "runs"})
    assert start_parent_run(config) is None
    with stage_run(config, "split") as tracked:
        track_everything(tracked, tmp_path / "none")
    finish_parent_run(config, succeeded=True)
    assert list(tmp_path.iterdir()) == []


def test_of_several_processes_only_the_main_one_tracks(
    make_tracked: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    config = make_tracked()
    with stage_run(config, "train_encoder") as tracked:
        track_everything(tracked, tmp_path / "none")
    assert client_of(config).get_experiment_by_name("icd-contrast") is None


def test_the_page_opens_with_scores_and_settings_as_columns(make_tracked: MakeConfig) -> None:
    config = make_tracked()
    client = open_store(config.tracking.dir)
    assert page_path(client) == ""
    run = run_of(config, start_parent_run(config))
    assert page_path(client) == f"#/experiments/{run.info.experiment_id}/runs?viewStateShareKey=icd"
    view = json.loads(client.get_experiment(run.info.experiment_id).tags["mlflow.sharedViewState.icd"])
    params = [name.removeprefix("params.`")[:-1] for name in view["selectedColumns"] if name.startswith("params.")]
    assert params
    assert set(params) <= run.data.params.keys(), "a column that no run can fill"


START_SIX = """
import multiprocessing
import sys
from pathlib import Path

import mlflow.tracking

from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.settings import Tracking
from pipeline.experiment.tracking import start_parent_run

work_dir, fork = Path(sys.argv[1]), multiprocessing.get_context("fork")
gate, run_ids = fork.Barrier(6), fork.SimpleQueue()

def start(number):
    config = PipelineConfig(experiment=f"e{number}", work_dir=work_dir, tracking=Tracking(dir=work_dir / "runs"))
    gate.wait()
    run_ids.put(start_parent_run(config))

processes = [fork.Process(target=start, args=(number,)) for number in range(6)]
for one in processes:
    one.start()
for one in processes:
    one.join()
assert [one.exitcode for one in processes] == [0] * 6
print(*(run_ids.get() for _ in processes))
"""


@pytest.mark.slow
def test_six_processes_that_start_at_once_make_one_store_and_one_list(tmp_path: Path) -> None:
    """Without the lock the database is broken for good. They are forked, so that none is late by what it imports."""
    command = [sys.executable, "-c", START_SIX, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    client = open_store(tmp_path / "runs")
    experiment = client.get_experiment_by_name("icd-contrast")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_id for run in runs} == set(result.stdout.split())
    assert len(runs) == 6


def test_a_store_that_cannot_be_opened_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"the store of MLflow cannot be opened \(NotADirectoryError.*tracking\.enabled=false"
    ):
        check_store(tmp_path / "file" / "mlruns")
    check_store(tmp_path / "mlruns")
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match="the store of MLflow cannot be opened"):
        check_store(tmp_path / "mlruns")
