"""A grid: what it expands to, which stages its members share, and its table against scores worked out by hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from pipeline import dag, grid
from pipeline.artifacts import STAGE_INPUTS, read_manifest, share_outputs, writing
from pipeline.config import STAGE_SECTIONS, PipelineConfig
from pipeline.config_files import load_config
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.grid_report import write_grid_report
from pipeline.grid_results import as_rows, collect, text_table
from pipeline.labels import LabelSpace

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


GOLD = {"a": ["none:1", "none:2"], "b": ["none:1"], "c": ["none:3"], "d": ["none:2"]}


def finish(
    member: grid.Member,
    labels: list[str],
    coded: dict[str, tuple[str, list[float]]],
    gold: dict[str, list[str]] = GOLD,
) -> None:
    """Leave what the stages of a member leave: codes with a probability of one half or more are predicted."""
    folder = member.config.experiment_dir
    folder.mkdir(parents=True)
    LabelSpace(tuple(labels), (None,) * len(labels), (2,) * len(labels)).save(folder / "label_space.json")
    pq.write_table(pa.table({"document_id": list(gold), "labels": list(gold.values())}), folder / "documents.parquet")
    probabilities = pa.array([row for _, row in coded.values()], type=pa.list_(pa.float32(), len(labels)))
    predicted = [[index for index, value in enumerate(row) if value >= 0.5] for _, row in coded.values()]
    columns = {
        "document_id": list(coded), "split": [split for split, _ in coded.values()], "probabilities": probabilities,
        "predicted": pa.array(predicted, type=pa.list_(pa.int32())),
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "predictions.parquet")


def test_of_several_settings_the_best_on_validation_is_kept_whatever_test_says(make_config: MakeConfig) -> None:
    """Temperature 0.1 finds the code of validation document b and nothing of test document a; 0.5 the reverse.

    Kept is 0.1, with micro-F1 0 on test; none has 1, so the difference is -1 in every bootstrap sample.
    """
    members = grid.expand(make_config(grid={"variants": VARIANTS}))
    labels = ["none:1", "none:2"]
    right, wrong = (
        {"b": ("val", [0.9, 0.1]), "a": ("test", [0.1, 0.1])},
        {"b": ("val", [0.1, 0.9]), "a": ("test", [0.9, 0.9])},
    )
    for member, coded in zip(members, (wrong, right, wrong), strict=True):
        finish(member, labels, coded)
    results = collect(members, choose_by="map", n_resamples=10, seed=0)
    none, sd = as_rows(results, reference=None)
    assert (none["micro_f1"], sd["micro_f1"]) == (1.0, 0.0)
    assert sd["chosen"] == "train_encoder.temperature=0.1 (1x)"
    assert [sd[f"micro_f1_{name}"] for name in ("difference", "low", "high")] == [-1.0, -1.0, -1.0]
    assert "micro_f1_difference" not in none


def test_variants_with_other_labels_for_the_same_documents_are_not_subtracted(make_config: MakeConfig) -> None:
    """As with data.options.code_kinds: the second has one code less to find of document a, so its F1 is no gain."""
    members = grid.expand(make_config(grid={"variants": {"all": {}, "fewer": {"data.options": {}}}}))
    for member, gold in zip(members, (GOLD, GOLD | {"a": ["none:1"]}), strict=True):
        finish(member, ["none:1", "none:2"], {"a": ("test", [0.9, 0.1])}, gold)
    rows = as_rows(collect(members, choose_by="map", n_resamples=5, seed=0), reference=None)
    assert [row["micro_f1"] for row in rows] == [pytest.approx(2 / 3), 1.0]
    assert not [name for row in rows for name in row if name.endswith("_difference")]


def test_folds_are_pooled_in_the_label_space_of_all_of_them(make_config: MakeConfig) -> None:
    """Fold 0 knows codes 1 and 2 and codes a rightly, b with 2; fold 1 knows 1 and 3, codes c rightly, d with 1.

    Over the four documents: found 1 and 2 of a, 3 of c: 3; given 5, predicted 3 + 1 + 1 = 5: F1 = 6/10. Code 2 of d,
    which fold 1 could not know, is missed and not left out.
    """
    config = make_config(grid={"variants": {"one": {}}})
    (member,) = grid.expand(config)
    members = []
    for fold, (labels, coded) in enumerate(
        [
            (["none:1", "none:2"], {"a": ("test", [0.9, 0.8]), "b": ("test", [0.2, 0.7])}),
            (["none:1", "none:3"], {"c": ("test", [0.1, 0.8]), "d": ("test", [0.6, 0.1])}),
        ]
    ):
        raw = member.config.model_copy(update={"experiment": f"fold-{fold}"})
        one = grid.Member(f"members/fold-{fold}/", "one", "", 0, fold, raw)
        finish(one, labels, coded)  # type: ignore[arg-type]
        members.append(one)
    (row,) = as_rows(collect(members, choose_by="map", n_resamples=0, seed=0), reference=None)
    assert row["micro_f1"] == pytest.approx(0.6)
    assert (row["n_documents"], row["n_labels"], row["n_true"]) == (4, 3, 5)


def test_means_and_deviations_are_over_seeds_and_the_page_shows_them(make_config: MakeConfig, tmp_path: Path) -> None:
    """F1 is 1 with one seed and 0 with the other: mean 0.5, standard deviation 1/sqrt(2)."""
    config = make_config(grid={"variants": {"one": {}}, "seeds": [0, 1]})
    members = grid.expand(config)
    for member, probability in zip(members, (0.9, 0.1), strict=True):
        finish(member, ["none:1"], {"b": ("test", [probability])})
    rows = as_rows(collect(members, choose_by="map", n_resamples=5, seed=0), reference=None)
    assert rows[0]["micro_f1"] == 0.5
    assert rows[0]["micro_f1_sd"] == pytest.approx(0.5**0.5)
    assert config.grid is not None
    write_grid_report(tmp_path / "grid.html", "study", rows, config.grid)
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "0.500 <small>± 0.707</small>" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    write_json(tmp_path / "grid.json", {"rows": rows})
    assert "0.500 ± 0.707" in text_table(tmp_path / "grid.json")


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

    with (tmp_path / "notes.jsonl").open("w", encoding="utf-8") as file:
        for note in small_notes:
            file.write(json.dumps({name: value for name, value in note.items() if name != "split"}) + "\n")
    config = small_sections | {
        "experiment": "study",
        "work_dir": str(tmp_path / "work"),
        "tracking": {"dir": str(tmp_path / "mlruns")},
        "data": {"recipe": "table", "raw": str(tmp_path / "notes.jsonl")},
        "encoder": {"model": str(tmp_path / "encoder")},
        "split": {"n_folds": 2, "val": 0.2},
        "train_encoder": {"loss": "none"},
        "train_classifier": {"model": "lexical"},
        "grid": {"variants": {"none": {"train_encoder.loss": "none"}}, "folds": True},
    }
    shutil.copytree(tiny_encoder_dir, tmp_path / "encoder")
    (tmp_path / "study.yaml").write_text(json.dumps(config), encoding="utf-8")

    def run(*more: str) -> str:
        command = [sys.executable, "-m", "pipeline", "run", "study.yaml", *more]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    planned = re.findall(r"^(?:local)?rule (\w+):", run("--dry-run"), flags=re.MULTILINE)
    of_a_fold = [stage for stage in STAGE_SECTIONS if stage != "ingest"]
    assert Counter(planned) == Counter(["all", "ingest", "share_ingest", *of_a_fold, *of_a_fold, "grid"])
    first = run("--until", "split")
    assert [first.count(f"{stage}: start") for stage in ("ingest", "split", "tokenize")] == [1, 2, 0]
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


def other_weights(encoder: Path) -> None:
    weights = load_file(encoder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, encoder / "model.safetensors", {"format": "pt"})
