"""MLflow: one store made once, a parent an experiment, a child a stage, and never a text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tracking_cases import MakeConfig, children_of, client_of, run_of

from pipeline.errors import UserError
from pipeline.experiment.stage_tracking import stage_run
from pipeline.experiment.tracking import finish_parent_run, log_grid, start_parent_run, tracked_settings
from pipeline.files import write_json


def test_the_parent_run_has_a_readable_name_and_every_setting_of_the_experiment(make_tracked: MakeConfig) -> None:
    config = make_tracked(seed=7, data={"options": {"icd_version": 10}}, train_classifier={"joint": {"weight": 0.5}})
    run = run_of(config, start_parent_run(config))
    assert run.info.run_name == "small"
    assert run.data.tags["icd.experiment"] == "small"
    assert run.data.tags["icd.code_version"]
    assert run.data.params["seed"] == "7"
    assert run.data.params["data.options.icd_version"] == "10"
    assert run.data.params["train_classifier.joint.weight"] == "0.5"
    assert run.data.params["train_classifier.joint.loss"] == "none"
    assert not [name for name in run.data.params if name.split(".")[0] in ("work_dir", "compute", "tracking")]
    artifacts = (config.tracking.dir / "artifacts").resolve().as_uri()
    assert str(run.info.artifact_uri).startswith(artifacts)


def test_the_parent_goes_on_while_settings_are_equal_and_is_new_when_one_changes(make_tracked: MakeConfig) -> None:
    first = start_parent_run(make_tracked())
    assert start_parent_run(make_tracked()) == first
    assert start_parent_run(make_tracked(compute={"n_workers": 5})) == first, "how a stage runs is no setting"
    second = start_parent_run(make_tracked(seed=1))
    assert second != first
    assert start_parent_run(make_tracked(seed=1)) == second
    config = make_tracked()
    assert json.loads((config.experiment_dir / "mlflow.json").read_text())["run_id"] == second


def test_another_experiment_has_a_parent_of_its_own_in_the_same_list(make_tracked: MakeConfig) -> None:
    one, other = make_tracked(), make_tracked(experiment="other")
    first, second = run_of(one, start_parent_run(one)), run_of(other, start_parent_run(other))
    assert first.info.run_id != second.info.run_id
    assert first.info.experiment_id == second.info.experiment_id


def test_a_parent_that_was_deleted_or_lost_with_its_store_is_made_anew(
    make_tracked: MakeConfig, empty_store: Path
) -> None:
    config = make_tracked()
    first = start_parent_run(config)
    client_of(config).delete_run(str(first))
    second = start_parent_run(config)
    assert second != first
    shutil.copy(empty_store / "mlflow.db", config.tracking.dir)
    third = start_parent_run(config)
    assert third not in (first, second)
    assert run_of(config, third).info.status == "RUNNING"


@pytest.mark.parametrize(("succeeded", "status"), [(True, "FINISHED"), (False, "FAILED")])
def test_the_parent_is_closed_and_opened_again(make_tracked: MakeConfig, succeeded: bool, status: str) -> None:
    config = make_tracked()
    run_id = start_parent_run(config)
    assert run_of(config, run_id).info.status == "RUNNING"
    finish_parent_run(config, succeeded=succeeded)
    assert run_of(config, run_id).info.status == status
    assert start_parent_run(config) == run_id
    assert run_of(config, run_id).info.status == "RUNNING"


def test_a_run_of_other_settings_is_not_closed_for_these(make_tracked: MakeConfig) -> None:
    """A member that finished, whose settings in the grid are others now and which did not start again."""
    config = make_tracked()
    run_id = start_parent_run(config)
    finish_parent_run(config, succeeded=True)
    finish_parent_run(make_tracked(seed=1), succeeded=False)
    assert run_of(config, run_id).info.status == "FINISHED"


def test_another_grid_is_another_run(make_tracked: MakeConfig) -> None:
    """Else scores of variants that are gone would stand beside those of new ones."""
    one, other = ({"variants": {name: {"seed": number}}} for number, name in enumerate("ab"))
    first = start_parent_run(make_tracked(grid=one))
    assert start_parent_run(make_tracked(grid=one)) == first
    assert start_parent_run(make_tracked(grid=other)) != first


def test_a_table_of_a_grid_that_mlflow_does_not_take_is_a_warning(
    make_tracked: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """The members ran and the table is written; a failure here would make Snakemake delete it."""
    config = make_tracked()
    start_parent_run(config)
    log_grid(config, [{"variant": "a+b", "micro_f1": 0.5, "macro_f1": 0.5, "map": 0.5}], [])
    assert "the table of the grid is written, but MLflow did not take it: MlflowException at " in caplog.text
    assert [one.levelname for one in caplog.records if one.name == "pipeline.experiment.tracking"] == ["WARNING"]


def test_a_stage_is_a_child_with_the_settings_that_it_reads(
    make_tracked: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_HEAD", "1")
    config = make_tracked()
    parent_id = start_parent_run(config)
    with stage_run(config, "split"):
        pass
    with stage_run(config, "predict"):
        pass
    split, predict = children_of(config, parent_id)
    assert [split.info.run_name, predict.info.run_name] == ["small/split", "small/predict"]
    assert split.data.tags["icd.stage"] == "split"
    assert {name.split(".")[0] for name in split.data.params} == {"split", "label_space"}
    assert {name.split(".")[0] for name in predict.data.params} == {"predict"}
    assert {split.info.status, predict.info.status} == {"FINISHED"}
    assert run_of(config, parent_id).info.status == "RUNNING", "the head closes it when all stages are done"


def test_metrics_of_a_stage_are_all_there_and_headlines_stand_at_the_parent_too(make_tracked: MakeConfig) -> None:
    config = make_tracked()
    with stage_run(config, "train_encoder") as tracked:
        for step in range(700):  # more than one batch
            tracked.log_metrics({"loss": 1 / (step + 1)}, step=step)
        tracked.log_metrics({"micro_f1": 0.5}, also_parent=True)
    parent_id = start_parent_run(config)
    (child,) = children_of(config, parent_id)
    history = client_of(config).get_metric_history(child.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(step, 1 / (step + 1)) for step in range(700)]
    assert child.data.metrics["micro_f1"] == 0.5
    assert run_of(config, parent_id).data.metrics == {"micro_f1": 0.5}


def test_duration_and_digests_of_a_finished_stage_come_from_its_manifest(make_tracked: MakeConfig) -> None:
    config = make_tracked()
    raw = {f"file {number} (copy).csv": f"{number}" for number in range(2000)}
    with stage_run(config, "split"):
        (config.experiment_dir / "manifests").mkdir(parents=True)
        write_json(
            config.experiment_dir / "manifests" / "split.json",
            {"duration_s": 1.5, "inputs": raw | {"documents.parquet": "aa"}, "outputs": {"splits.parquet": "bb"}},
        )
    (child,) = children_of(config, start_parent_run(config))
    digests = {name: value for name, value in child.data.tags.items() if name.startswith("sha256.")}
    assert child.data.metrics == {"duration_s": 1.5}
    assert digests.keys() == {"sha256.documents.parquet", "sha256.splits.parquet", "sha256.raw"}
    assert digests["sha256.splits.parquet"] == "bb"
    assert len(digests["sha256.raw"]) == 64


def test_a_data_set_and_a_report_stand_at_stage_and_parent(make_tracked: MakeConfig, tmp_path: Path) -> None:
    config = make_tracked()
    (tmp_path / "report.html").write_text("<p>numbers</p>")
    with stage_run(config, "ingest") as tracked:
        tracked.log_dataset("documents", "ab" * 32, {"documents": 3})
        tracked.log_report(tmp_path / "report.html")
    parent_id = start_parent_run(config)
    for run in (run_of(config, parent_id), *children_of(config, parent_id)):
        assert run.inputs is not None
        (entry,) = run.inputs.dataset_inputs
        assert (entry.dataset.name, entry.dataset.digest) == ("documents", ("ab" * 32)[:36])
        assert json.loads(str(entry.dataset.profile)) == {"documents": 3}
        assert [one.path for one in client_of(config).list_artifacts(run.info.run_id)] == ["report.html"]
    assert list((config.tracking.dir / "artifacts").rglob("report.html"))


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_failed_stage_is_marked_failed_and_keeps_what_it_had_measured(
    make_tracked: MakeConfig, error: type[BaseException]
) -> None:
    config = make_tracked()
    with pytest.raises(error), stage_run(config, "split") as tracked:
        tracked.log_metrics({"loss": 2.0}, step=3)
        raise error
    parent_id = json.loads((config.experiment_dir / "mlflow.json").read_text())["run_id"]
    (child,) = children_of(config, parent_id)
    assert child.info.status == "FAILED"
    assert child.data.metrics == {"loss": 2.0}


def test_a_stage_that_runs_alone_closes_its_parent_since_no_head_will(make_tracked: MakeConfig) -> None:
    config = make_tracked()
    with stage_run(config, "split"):
        parent_id = json.loads((config.experiment_dir / "mlflow.json").read_text())["run_id"]
        assert run_of(config, parent_id).info.status == "RUNNING"
    assert run_of(config, parent_id).info.status == "FINISHED"
    with pytest.raises(ZeroDivisionError), stage_run(config, "split"):
        raise ZeroDivisionError
    assert run_of(config, parent_id).info.status == "FAILED"


def test_a_new_head_closes_what_a_killed_one_left_open(
    make_tracked: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_HEAD", "1")
    config = make_tracked()
    parent_id = start_parent_run(config, is_head=True)
    killed = stage_run(config, "split")
    killed.__enter__()
    with stage_run(config, "ingest"):
        pass
    changed = make_tracked(seed=1)
    assert start_parent_run(changed, is_head=True) != parent_id
    assert run_of(config, parent_id).info.status == "KILLED"
    statuses = {child.info.run_name: child.info.status for child in children_of(config, parent_id)}
    assert statuses == {"small/split": "KILLED", "small/ingest": "FINISHED"}


def test_stages_of_the_members_of_a_killed_grid_are_closed_too(
    make_tracked: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_HEAD", "1")
    study = make_tracked()
    start_parent_run(study, is_head=True)
    tracking = study.tracking.model_dump() | {"grid_dir": study.experiment_dir}
    member = make_tracked(experiment="member", tracking=tracking)
    killed = stage_run(member, "split")
    killed.__enter__()
    member_id = json.loads((member.experiment_dir / "mlflow.json").read_text())["run_id"]
    start_parent_run(make_tracked(seed=1), is_head=True)
    assert run_of(member, member_id).info.status == "KILLED"
    assert [child.info.status for child in children_of(member, member_id)] == ["KILLED"]


@pytest.mark.parametrize("value", ["x" * 251, "Patient presents\nwith cough"])
def test_a_value_that_could_be_text_is_refused_before_anything_is_written(make_tracked: MakeConfig, value: str) -> None:
    config = make_tracked(data={"options": {"note": value}})
    with pytest.raises(UserError, match=r"data.options.note has \d+ characters or several lines") as caught:
        start_parent_run(config)
    assert "cough" not in str(caught.value)
    assert not (config.experiment_dir / "mlflow.json").exists()
    assert client_of(config).get_experiment_by_name("icd-contrast") is None


def test_a_long_list_is_tracked_item_by_item(make_tracked: MakeConfig) -> None:
    labels = [f"none:{'class ' * 8}{number}" for number in range(6)]
    settings = tracked_settings(make_tracked(evaluate={"label_groups": {"top": labels, "few": ["none:a"]}}))
    assert [settings[f"evaluate.label_groups.top.{place}"] for place in range(6)] == labels
    assert settings["evaluate.label_groups.few"] == "['none:a']"


def test_a_value_of_250_characters_and_more_settings_than_mlflow_takes_at_once_are_fine(
    make_tracked: MakeConfig,
) -> None:
    options = {f"option_{number}": "x" * 250 for number in range(150)}
    config = make_tracked(data={"options": options})
    run = run_of(config, start_parent_run(config))
    assert {name for name in run.data.params if name.startswith("data.options.")} == {
        f"data.options.{name}" for name in options
    }


def test_a_store_that_fails_costs_no_stage_whose_outputs_may_be_in_place(
    make_tracked: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stage that fails counts as not run, though its outputs are new by then."""
    from mlflow.tracking import MlflowClient

    def fail(*_: object, **__: object) -> None:
        raise OSError("database is locked")

    config = make_tracked()
    with stage_run(config, "evaluate") as tracked:
        for name in ("log_batch", "log_artifact", "set_tag", "set_terminated"):
            monkeypatch.setattr(MlflowClient, name, fail)
        tracked.log_metrics({"micro_f1": 0.5}, also_parent=True)
        tracked.log_report(tmp_path / "report.html")
    for what in ("metrics", "report.html", "the end of the stage"):
        assert f"MLflow did not take {what}" in caplog.text


def test_a_run_without_tracking_takes_the_folder_from_the_run_that_was_noted(make_tracked: MakeConfig) -> None:
    config = make_tracked()
    start_parent_run(config, is_head=True)
    note = config.experiment_dir / "mlflow.json"
    untracked = config.model_copy(update={"tracking": config.tracking.model_copy(update={"enabled": False})})
    start_parent_run(untracked)
    assert note.exists(), "a stage alone asks as well, and changes nothing by asking"
    start_parent_run(untracked, is_head=True)
    assert not note.exists()
