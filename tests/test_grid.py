"""A grid: what it expands to, which stages its members share, and how it runs."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from grid_cases import run_study, write_study
from safetensors.numpy import load_file, save_file

from pipeline.commands import dag
from pipeline.errors import UserError
from pipeline.experiment import grid
from pipeline.experiment.artifacts import STAGE_INPUTS, share_outputs, writing
from pipeline.experiment.config import STAGE_SECTIONS, PipelineConfig
from pipeline.experiment.config_files import load_config
from pipeline.experiment.manifests import read_manifest
from pipeline.files import write_json

MakeConfig = Callable[..., PipelineConfig]
VARIANTS = {
    "none": {"train_encoder.loss": "none"},
    "sd": {"train_encoder.loss": "sd", "train_encoder.temperature": [0.1, 0.5]},
}


def test_a_config_without_a_grid_is_its_own_only_member(make_config: MakeConfig) -> None:
    config = make_config()
    assert [(one.folder, one.config) for one in grid.expand(config)] == [("", config)]


def test_members_are_every_variant_value_and_seed_with_their_settings(make_config: MakeConfig) -> None:
    config = make_config(grid={"variants": VARIANTS, "seeds": [3, 4]})
    members = grid.expand(config)
    assert [one.folder for one in members] == [
        "members/none_seed-3/", "members/none_seed-4/",
        "members/sd_temperature-0.1_seed-3/", "members/sd_temperature-0.1_seed-4/",
        "members/sd_temperature-0.5_seed-3/", "members/sd_temperature-0.5_seed-4/",
    ]  # fmt: skip
    last = members[-1]
    assert (last.variant, last.choice, last.seed) == ("sd", "train_encoder.temperature=0.5", 4)
    assert (last.config.train_encoder.temperature, last.config.seed) == (0.5, 4)
    assert last.config.experiment_dir == config.experiment_dir / "members" / "sd_temperature-0.5_seed-4"
    assert last.config.grid is None


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"variants": {"a": {"train_encoder.los": "sd"}}}, r"grid\.variants\.a:\n.*did you mean 'loss'"),
        ({"variants": {"a": {"train_encoder.loss": "sdd"}}}, r"grid\.variants\.a:"),
        ({"variants": {"a": {}}, "folds": True}, r"needs split\.n_folds"),
        ({"variants": {}}, r"grid\.variants"),
        ({"variants": {"a": {}}, "reference": "b"}, "none of the variants"),
        ({"variants": {"a b": {}}}, "pattern"),
        ({"variants": {"a+b": {}}}, "pattern"),
        ({"variants": {"a": {}}, "seeds": [1, 1]}, r"2 members would lie in members/a_seed-1/"),
        ({"variants": {"a": {"encoder.model.x": 1}}}, r"grid\.variants\.a\.encoder\.model\.x: 'model' is a single"),
        ({"variants": {"a": {"seed": 1}}}, r"grid\.variants\.a\.seed: a variant cannot set seed; .* grid\.seeds"),
        ({"variants": {"a": {"experiment": "b"}}}, r"a\.experiment: a variant cannot set experiment"),
        ({"variants": {"a": {"work_dir": "b"}}}, r"a\.work_dir: a variant cannot set work_dir"),
        ({"variants": {"a": {"tracking.enabled": True}}}, r"a\.tracking\.enabled: a variant cannot set tracking; "),
        ({"variants": {"a": {"tracking": {"enabled": True}}}}, r"a\.tracking: a variant cannot set tracking; "),
        (
            {"variants": {"a": {"label_space.top_k": [1, 9]}}},
            r"a: documents, their split and label_space cannot be chosen on split val, which they change",
        ),
        ({"variants": {"a": {"split.seed": [0, 1, 2]}}}, r"a: documents, their split .* a list in a list"),
        ({"variants": {"a": {"data.options": [{}, {"code_kinds": ["diagnoses"]}]}}}, r"a: documents, their split"),
        (
            {"variants": {"a": {}, "b": {"label_space.level": "chapter"}}},
            r"label_space\.level must be the same for all",
        ),
        ({"variants": {"a": {"compute.n_gpus": 1}}}, r"a\.compute\.n_gpus: a variant cannot set compute; "),
    ],
)
def test_a_grid_that_cannot_be_is_refused(make_config: MakeConfig, section: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        grid.expand(make_config(grid=section))


def test_a_grid_without_seeds_takes_that_of_its_config(make_config: MakeConfig) -> None:
    for seed in (0, 5):
        (member,) = grid.expand(make_config(seed=seed, grid={"variants": {"a": {}}}))
        assert (member.folder, member.seed, member.config.seed) == (f"members/a_seed-{seed}/", seed, seed)
    members = grid.expand(make_config(seed=5, grid={"variants": {"a": {}}, "seeds": [1, 2]}))
    assert [one.config.seed for one in members] == [1, 2]


@pytest.mark.parametrize("settings", [{"split.fold": 1}, {"split": {"n_folds": 2, "fold": 1}}])
def test_a_variant_may_take_a_fold_only_where_the_grid_does_not_take_all(
    make_config: MakeConfig, settings: dict[str, Any]
) -> None:
    (member,) = grid.expand(make_config(split={"n_folds": 2}, grid={"variants": {"a": settings}}))
    assert member.config.split.fold == 1
    with pytest.raises(UserError, match=r"a\.split[.fold]*: a variant cannot set split\.fold; grid\.folds makes"):
        grid.expand(make_config(split={"n_folds": 2}, grid={"variants": {"a": settings}, "folds": True}))


def test_a_choice_on_validation_is_refused_where_split_val_is_not_predicted(make_config: MakeConfig) -> None:
    """Before anything is trained; where nothing is chosen, also of a list of one value, val is not needed."""
    with pytest.raises(UserError, match=r"grid\.variants\.sd: the best of 2 settings is chosen on split val.*add val"):
        grid.expand(make_config(predict={"splits": ["test"]}, grid={"variants": VARIANTS}))
    one_each = {"sd": {"train_encoder.temperature": [0.1]}, "none": {"train_encoder.loss": "none"}}
    assert len(grid.expand(make_config(predict={"splits": ["test"]}, grid={"variants": one_each}))) == 2


@pytest.mark.parametrize(
    ("sections", "values", "message"),
    [
        ({"evaluate": {"split": "val"}}, {"train_classifier.patience": [1, 2]}, r"evaluate\.split is val, too"),
        ({}, {"train_classifier.threshold": ["global", "per_label"]}, "make each rule a variant of its own"),
    ],
)
def test_what_split_val_cannot_choose_fairly_is_refused(
    make_config: MakeConfig, sections: dict[str, Any], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        grid.expand(make_config(**sections, grid={"variants": {"a": values}}))


def test_members_share_a_stage_exactly_where_nothing_up_to_it_differs(make_config: MakeConfig) -> None:
    """The seed is read by trainings and the bootstrap, the temperature by train_encoder: before it all are equal."""
    members = grid.expand(make_config(grid={"variants": VARIANTS, "seeds": [3, 4]}))
    first = members[0].folder
    for stage in ("ingest", "split", "tokenize"):
        assert grid.shared_stages(members, stage) == {one.folder: first for one in members[1:]}  # type: ignore[arg-type]
    for stage in ("train_encoder", "train_classifier", "predict", "evaluate"):
        assert grid.shared_stages(members, stage) == {}  # type: ignore[arg-type]


def test_shared_outputs_are_whole_and_survive_a_new_run_of_their_source(make_config: MakeConfig) -> None:
    source, target = make_config(experiment="a"), make_config(experiment="b")
    source.experiment_dir.mkdir(parents=True)
    for name in STAGE_INPUTS["tokenize"]:
        (source.experiment_dir / name).write_text(name)
    for text in ("first", "second"):
        with writing(source, "tokenize") as output:
            (output.dir / "tokens").mkdir()
            (output.dir / "tokens" / "data.txt").write_text(text)
        if text == "first":
            share_outputs(source.experiment_dir, target.experiment_dir, "tokenize")
    assert (target.experiment_dir / "tokens" / "data.txt").read_text() == "first"
    assert (source.experiment_dir / "tokens" / "data.txt").read_text() == "second"
    assert read_manifest(target.experiment_dir, "tokenize") is not None
    assert dag.stale_stages(target) == []


def test_a_mistake_that_shows_in_the_table_of_a_grid_is_told_like_that_of_a_stage(make_config: MakeConfig) -> None:
    config = make_config(grid={"variants": VARIANTS})
    members = grid.expand(config)
    for folder, name in ((config.experiment_dir, "grid"), (members[1].config.experiment_dir, "split")):
        (folder / "logs").mkdir(parents=True)
        write_json(folder / "logs" / f"{name}.failure.json", {"stage": name, "message": "m"})
        (folder / "logs" / f"{name}.traceback.txt").touch()
    found = [(one["folder"], one["stage"]) for one in dag.failures(config, members)]
    assert found == [(members[1].folder, "split"), ("", "grid")]
    assert [path.name for path in dag.tracebacks(config, members)] == ["grid.traceback.txt", "split.traceback.txt"]
    dag.clear_failures(config, members)
    assert (dag.failures(config, members), dag.tracebacks(config, members)) == ([], [])


def test_a_grid_is_asked_of_snakemake_member_by_member(make_config: MakeConfig) -> None:
    config = make_config(grid={"variants": VARIANTS})
    members = grid.expand(config)
    told = dag.snakemake_arguments(config, members, profile="local", cores=1, until="split", dry_run=False)
    assert told[told.index("--") + 1 :] == [f"{one.folder}manifests/split.json" for one in members]
    assert told[told.index("--max-jobs-per-timespan") + 1] == "1000/10s", "else hundreds of members keep a core busy"
    assert (
        json.loads(Path(told[told.index("--configfile") + 1]).read_text())["grid"]["variants"].keys() == VARIANTS.keys()
    )


@pytest.mark.slow
def test_a_grid_runs_end_to_end_and_a_second_time_does_nothing(
    tmp_path: Path,
    tiny_encoder_dir: Path,
    small_notes: list[dict[str, Any]],
    small_sections: dict[str, Any],
    run_stages: Callable[[PipelineConfig, str], None],
) -> None:
    """Two folds: what no fold changes runs once; documents of both are pooled; the table is an artifact in MLflow.

    Stages behind split are run alone, in this process, as a user may do: Snakemake then has nothing left but the table.
    """
    from mlflow.tracking import MlflowClient

    sections = small_sections | {
        "tracking": {"dir": str(tmp_path / "mlruns")},
        "encoder": {"model": str(tmp_path / "encoder")},
        "split": {"n_folds": 2, "val": 0.2},
        "train_classifier": {"model": "lexical"},
        "grid": {"variants": {"none": {"train_encoder.loss": "none"}}, "folds": True},
    }
    shutil.copytree(tiny_encoder_dir, tmp_path / "encoder")
    write_study(tmp_path, [{name: note[name] for name in note if name != "split"} for note in small_notes], sections)
    run = partial(run_study, tmp_path)
    planned = re.findall(r"^(?:local)?rule (\w+):", run("--dry-run"), flags=re.MULTILINE)
    of_a_fold = [stage for stage in STAGE_SECTIONS if stage != "ingest"]
    assert Counter(planned) == Counter(["all", "ingest", "share_ingest", *of_a_fold, *of_a_fold, "grid"])
    first = run("--until", "split")
    assert [first.count(f"{stage}: start") for stage in ("ingest", "split", "tokenize")] == [1, 2, 0]
    assert set(statuses(tmp_path)) == {"FINISHED"}, "a run that went as far as it was asked to is no failure"
    for member in grid.expand(load_config(tmp_path / "study.yaml", [])):
        run_stages(member.config, " ".join(stage for stage in of_a_fold if stage != "split"))
    table = run()
    assert re.findall(r"(\w+): start", table) == ["grid"]
    assert re.search(r"^ *none ", table, flags=re.MULTILINE)
    assert ": start" not in run()
    row, baseline = json.loads((tmp_path / "work" / "study" / "grid.json").read_text())["rows"]
    assert (row["variant"], baseline["variant"]) == ("none", "lexical baseline")
    assert row["n_documents"] == baseline["n_documents"] == len(small_notes)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("icd-contrast").experiment_id])
    study = next(run for run in runs if run.info.run_name == "study")
    assert study.data.metrics["none/micro_f1"] == pytest.approx(row["micro_f1"])
    assert "grid.html" in {artifact.path for artifact in client.list_artifacts(study.info.run_id)}
    members = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == study.info.run_id]
    assert {run.info.run_name for run in members} == {"study/none_seed-0_fold-0", "study/none_seed-0_fold-1"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    other_weights(tmp_path / "encoder")
    planned = re.findall(r"^(?:local)?rule (\w+):", run("--dry-run"), flags=re.MULTILINE)
    assert "tokenize" in planned, "other weights under the same name are seen"
    assert "split" not in planned


def statuses(folder: Path) -> list[str]:
    """Of all runs in MLflow."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    return [
        run.info.status for run in client.search_runs([client.get_experiment_by_name("icd-contrast").experiment_id])
    ]


def other_weights(encoder: Path) -> None:
    weights = load_file(encoder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, encoder / "model.safetensors", {"format": "pt"})
