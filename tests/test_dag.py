from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from dag_cases import config_in, write

from pipeline.__main__ import _print_summary, _report_failure
from pipeline.commands import dag
from pipeline.errors import UserError
from pipeline.experiment import artifacts
from pipeline.experiment.config import STAGE_SECTIONS, PipelineConfig, Stage
from pipeline.experiment.grid import expand
from pipeline.experiment.manifests import manifest_path
from pipeline.experiment.sources import PACKAGE_DIR, module_sources, sources_digest, stage_sources, state_of
from pipeline.files import write_json
from pipeline.stages import run_stage

TRAININGS: set[Stage] = {"train_encoder", "train_classifier"}


def sources(stage: Stage, recipe: str = "table") -> set[str]:
    return {path.relative_to(PACKAGE_DIR.parent).as_posix() for path in stage_sources(stage, recipe)}


@pytest.mark.parametrize("stage", STAGE_SECTIONS)
def test_every_source_of_a_stage_is_a_file_and_what_all_stages_run_is_among_them(stage: Stage) -> None:
    assert all(path.is_file() for path in stage_sources(stage, "table"))
    others = {f"pipeline/stages/{other}.py" for other in STAGE_SECTIONS if other != stage}
    assert sources(stage) >= {
        "pipeline/__init__.py",
        "pipeline/experiment/config.py",
        "pipeline/experiment/artifacts.py",
        "pipeline/stages/__init__.py",
        f"pipeline/stages/{stage}.py",
    }
    assert not sources(stage) & (
        others | {"pipeline/__main__.py", "pipeline/commands/dag.py", "pipeline/coding/proposals.py"}
    )


@pytest.mark.parametrize(
    ("source", "stages"),
    [
        ("pipeline/reports/report.py", {"evaluate"}),
        ("pipeline/reports/templates/report.html.j2", {"evaluate"}),
        ("pipeline/evaluation/icd_metric.py", set()),
        ("data_recipes/table.py", {"ingest"}),
        ("data_recipes/_raw/csv_rows.py", {"ingest"}),
        ("pipeline/notes/documents.py", {"ingest", "train_classifier", "predict"}),
        ("pipeline/lexical/tfidf.py", {"train_classifier", "predict"}),
        ("pipeline/lexical/lexicon/synonyms.tsv", {"train_classifier", "predict"}),
        ("pipeline/coding/ensemble_fitting.py", {"train_classifier"}),
        ("pipeline/notes/splits.py", {"split"}),
        ("pipeline/encoders/encoder.py", {"tokenize", "train_encoder", "train_classifier", "predict"}),
        ("pipeline/evaluation/metrics.py", {"evaluate"}),
        ("pipeline/evaluation/cells.py", {"train_classifier", "predict", "evaluate"}),
        ("pipeline/evaluation/ranking.py", {"train_classifier", "evaluate"}),
        ("pipeline/notes/context.py", {"tokenize", "train_encoder", "train_classifier", "predict"}),
        ("pipeline/training/sampling.py", TRAININGS),
        ("pipeline/training/loop.py", TRAININGS),
        ("pipeline/losses/weights.py", TRAININGS),
        ("pipeline/coding/classifier.py", {"train_encoder", "train_classifier", "predict"}),
        ("pipeline/training/validation.py", {"train_classifier"}),
    ],
)
def test_a_source_file_belongs_to_exactly_the_stages_that_use_it(source: str, stages: set[Stage]) -> None:
    assert {stage for stage in STAGE_SECTIONS if source in sources(stage)} == stages


def test_a_stage_asks_a_scheduler_for_cpus_where_snakemake_has_no_cores(tmp_path: Path) -> None:
    """As on Slurm, where --cores is not given; a dry run would have one core."""
    config = config_in(tmp_path)
    config.experiment_dir.mkdir(parents=True)
    told = dag.snakemake_arguments(config, expand(config), profile="slurm", cores=None, until="ingest", dry_run=False)
    assert "all" not in told[: told.index("--")], "why a scheduler refused a job is told by Snakemake alone"
    command = [sys.executable, "-m", "snakemake", *told[: told.index("--")], "--summary"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "manifests/ingest.json" in result.stdout


def test_the_page_of_a_grid_depends_on_its_template_and_on_the_rooms_it_passes() -> None:
    found = {path.relative_to(PACKAGE_DIR.parent).as_posix() for path in module_sources("pipeline.stages.grid")}
    assert {"pipeline/reports/templates/grid.html.j2", "pipeline/reports/__init__.py", "pipeline/__init__.py"} <= found


def test_ingest_uses_the_recipe_of_the_experiment_and_no_other() -> None:
    recipes = {
        f"data_recipes/{name}.py"
        for name in ("cmc2007", "_mimic/mimic3", "_mimic/mimic4", "mimic4_icd10", "synthetic", "table")
    }
    assert sources("ingest", "cmc2007") & recipes == {"data_recipes/cmc2007.py"}
    assert sources("ingest", "synthetic") & recipes == {
        f"data_recipes/{name}.py" for name in ("synthetic", "_mimic/mimic3", "_mimic/mimic4")
    }


def test_a_run_that_ended_early_says_how_to_go_on_and_a_bug_where_it_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_in(tmp_path)
    assert _report_failure(config, expand(config)) == 1
    assert "by Ctrl-C, a kill or a lack of memory" in capsys.readouterr().err
    logs = config.experiment_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "split.traceback.txt").touch()
    assert _report_failure(config, expand(config)) == 1
    assert f"a bug or a fault of the machine, see {logs / 'split.traceback.txt'}" in capsys.readouterr().err


def test_the_dag_names_as_producers_exactly_the_stages_whose_artifacts_are_read() -> None:
    producer = {name: stage for stage, names in artifacts.STAGE_OUTPUTS.items() for name in names}
    for stage, names in artifacts.STAGE_INPUTS.items():
        assert set(artifacts.PRODUCERS[stage]) == {producer[name] for name in names}


def test_a_stage_is_stale_when_its_settings_differ_or_an_output_is_gone(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert dag.stale_stages(config) == []  # never run: Snakemake knows
    for stage in ("ingest", "split"):
        write(config, stage)
    assert dag.stale_stages(config) == []
    assert dag.stale_stages(config_in(tmp_path, compute={"n_threads": 1})) == []
    assert dag.stale_stages(config_in(tmp_path, split={"seed": 1})) == ["split"]
    assert dag.stale_stages(config_in(tmp_path, data={"recipe": "table"}, split={"seed": 1})) == ["ingest", "split"]
    (config.experiment_dir / "titles.json").unlink()
    assert dag.stale_stages(config) == ["ingest"]
    (config.experiment_dir / "manifests" / "ingest.json").write_text("{half", encoding="utf-8")
    with pytest.raises(UserError, match=r"ingest\.json is damaged"):
        dag.stale_stages(config)


def test_a_stage_that_ran_alone_with_other_weights_under_the_same_name_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_in(tmp_path)
    for stage in ("ingest", "split", "tokenize"):
        write(config, stage)
    assert dag.stale_stages(config) == []
    monkeypatch.setattr("pipeline.experiment.artifacts.encoder_digest", lambda model: "of other weights")
    assert dag.stale_stages(config) == ["tokenize"]
    monkeypatch.setattr("pipeline.experiment.artifacts.encoder_digest", lambda model: "")
    assert dag.stale_stages(config) == [], "an encoder that is not here says nothing about what it made"


def test_a_stage_of_other_source_files_is_stale_whatever_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when they were edited while it ran."""
    config = config_in(tmp_path)
    for stage in ("ingest", "split"):
        write(config, stage)
    monkeypatch.setattr(dag, "sources_digest", lambda stage, recipe: "other" if stage == "split" else digest_of(stage))
    digest_of = partial(sources_digest, recipe=config.data.recipe)
    assert dag.stale_stages(config) == ["split"]


def test_raw_files_that_were_replaced_are_seen_though_they_are_older_and_those_that_went_are_not_missed(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "notes.csv"
    raw.write_text("one", encoding="utf-8")
    config = config_in(tmp_path, data={"recipe": "table", "raw": str(raw)})
    with artifacts.writing(config, "ingest") as output:
        output.facts["raw_state"] = state_of([raw])
        for name in artifacts.STAGE_OUTPUTS["ingest"]:
            (output.dir / name).touch()
    assert dag.stale_stages(config) == []
    raw.write_text("two", encoding="utf-8")
    os.utime(raw, (1000, 1000))  # as cp -p and tar leave it
    assert dag.stale_stages(config) == ["ingest"]
    raw.unlink()
    assert dag.stale_stages(config) == []


def test_outputs_under_the_manifest_of_before_are_stale(tmp_path: Path) -> None:
    """As Snakemake leaves them where a stage's process ends badly after its outputs came into place."""
    config = config_in(tmp_path)
    write(config, "ingest")
    before = manifest_path(config.experiment_dir, "ingest").read_bytes()
    write(config_in(tmp_path, data={"max_words": 3}), "ingest")
    assert dag.stale_stages(config_in(tmp_path, data={"max_words": 3})) == []
    manifest_path(config.experiment_dir, "ingest").write_bytes(before)
    assert dag.stale_stages(config) == ["ingest"]


def test_a_stage_alone_does_not_read_what_was_made_with_other_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its run would show the settings of this config and the scores of those."""
    off = {"tracking": {"enabled": False}}
    for stage in ("ingest", "split", "tokenize"):
        write(config_in(tmp_path, **off), stage)
    ran: list[PipelineConfig] = []
    changed = config_in(tmp_path, tokens={"max_tokens": 7}, **off)
    assert run_stage(changed, "tokenize", lambda config, _: ran.append(config)) == 0, "its own settings may differ"
    assert run_stage(changed, "predict", lambda config, _: ran.append(config)) == 2
    assert "stage 'tokenize' ran with other settings than this config has" in caplog.text
    assert len(ran) == 1


def test_what_is_missing_is_told_before_the_first_stage_and_only_while_it_is_needed(
    tmp_path: Path, tiny_encoder_dir: Path
) -> None:
    data = {"recipe": "table", "raw": str(tmp_path / "a.csv")}
    encoder = {"model": str(tiny_encoder_dir)}
    with pytest.raises(UserError, match=r"a\.csv: no such file or folder; data\.raw must be"):
        dag.check_sources(config_in(tmp_path, data=data, encoder=encoder))
    (tmp_path / "a.csv").touch()
    dag.check_sources(config_in(tmp_path, data=data, encoder=encoder))
    absent = config_in(tmp_path, data=data, encoder={"model": str(tmp_path / "absent")})
    with pytest.raises(UserError, match=r"encoder\.model: .*absent"):
        dag.check_sources(absent)
    (tmp_path / "a.csv").unlink()
    for stage in ("ingest", "tokenize"):
        path = manifest_path(absent.experiment_dir, stage)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": {}, "outputs": {}}))
    dag.check_sources(absent)


def test_raw_files_are_those_that_exist_and_a_wrong_option_is_refused(tmp_path: Path) -> None:
    raw = {"recipe": "table", "raw": str(tmp_path / "a.csv")}
    assert dag.raw_files(config_in(tmp_path, data=raw)) == []
    (tmp_path / "a.csv").touch()
    assert dag.raw_files(config_in(tmp_path, data=raw)) == [tmp_path / "a.csv"]
    with pytest.raises(UserError, match="did you mean 'delimiter'"):
        dag.raw_files(config_in(tmp_path, data={**raw, "options": {"delimitr": ","}}))


def test_a_manifest_that_comes_back_after_a_failure_keeps_time_and_note_and_a_new_one_its_own(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    for stage in ("ingest", "split"):
        write(config, stage)
        os.utime(manifest_path(config.experiment_dir, stage), (1000, 1000))
    metadata = config.experiment_dir / ".snakemake" / "metadata"
    metadata.mkdir(parents=True)
    notes = [metadata / base64.b64encode(f"manifests/{stage}.json".encode()).decode() for stage in ("ingest", "split")]
    for note in notes:
        note.write_text("settings of before", encoding="utf-8")
    ingest, split = (manifest_path(config.experiment_dir, stage) for stage in ("ingest", "split"))
    with pytest.raises(KeyboardInterrupt), dag.keeping_unfinished(config, expand(config)):
        ingest.write_bytes(ingest.read_bytes())  # as Snakemake puts it back
        split.write_text("{}", encoding="utf-8")
        for note in notes:  # when the job starts
            note.write_text("settings of now", encoding="utf-8")
        raise KeyboardInterrupt
    assert ingest.stat().st_mtime == 1000
    assert split.stat().st_mtime > 1000
    assert [note.read_text(encoding="utf-8") for note in notes] == ["settings of before", "settings of now"]


def test_failures_come_in_the_order_of_the_dag_and_are_forgotten(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    dag.clear_failures(config, expand(config))  # nothing there yet
    logs = config.experiment_dir / "logs"
    logs.mkdir(parents=True)
    for stage in ("split", "ingest"):
        (logs / f"{stage}.failure.json").write_text(json.dumps({"stage": stage, "message": "m"}), encoding="utf-8")
    assert [one["stage"] for one in dag.failures(config, expand(config))] == ["ingest", "split"]
    dag.clear_failures(config, expand(config))
    assert dag.failures(config, expand(config)) == []


def test_what_a_killed_head_left_is_removed_and_snakemakes_records_stay(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    for name in ("locks", "backup", "incomplete", "metadata"):
        (config.experiment_dir / ".snakemake" / name).mkdir(parents=True)
    dag.clear_after_kill(config)
    assert [path.name for path in (config.experiment_dir / ".snakemake").iterdir()] == ["metadata"]


@pytest.mark.parametrize(("n_outside", "is_told"), [(32, True), (0, False)])
def test_the_summary_tells_codes_that_the_model_cannot_assign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n_outside: int, is_told: bool
) -> None:
    config = config_in(tmp_path)
    scores = {
        "n_documents": 9, "micro_f1": 0.987, "n_true_outside_label_space": n_outside, "micro_f1_all_given": 0.703
    }  # fmt: skip
    config.experiment_dir.mkdir()
    write_json(config.experiment_dir / "metrics.json", {"split": "test", "scores": scores, "intervals": {}})
    _print_summary(config)
    printed = capsys.readouterr().out
    assert "0.987" in printed
    assert ("32 given codes are none that the model can assign; counted as missed, micro-F1 is 0.703" in printed) == (
        is_told
    )
