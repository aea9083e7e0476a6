"""What stages exchange is written whole or not at all, and its manifest says from what."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from artifact_cases import contents, ingested, write_split

from pipeline.errors import UserError
from pipeline.experiment import artifacts, sources
from pipeline.experiment.artifacts import STAGE_INPUTS, STAGE_OUTPUTS, input_signature, is_main_process, need, writing
from pipeline.experiment.config import STAGE_SECTIONS, PipelineConfig, stage_settings
from pipeline.experiment.manifests import check_predictions_are_of, manifest_path, read_manifest
from pipeline.experiment.provenance import git_commit
from pipeline.files import lock, sha256_of, write_json

MakeConfig = Callable[..., PipelineConfig]


@pytest.fixture
def config(make_config: MakeConfig) -> PipelineConfig:
    """An experiment in which ingest was run, as far as stage split can tell."""
    return ingested(make_config())


def test_every_artifact_that_a_stage_reads_is_written_by_an_earlier_one() -> None:
    written: set[str] = set()
    for stage in STAGE_SECTIONS:
        assert set(STAGE_INPUTS[stage]) <= written, stage
        assert not set(STAGE_OUTPUTS[stage]) & written, stage
        written |= set(STAGE_OUTPUTS[stage])


def test_outputs_and_manifest_appear_together_and_nothing_else_is_left(config: PipelineConfig) -> None:
    write_split(config, "new")
    left = contents(config)
    assert set(left) == {
        "documents.parquet", "titles.json", "splits.parquet", "label_space.json", "manifests/split.json",
        "manifests/.split.sha256",
    }  # fmt: skip
    assert left["splits.parquet"] == "new"
    assert {path.name for path in config.experiment_dir.iterdir()} == {
        "documents.parquet", "titles.json", "splits.parquet", "label_space.json", "manifests", ".locks",
    }  # fmt: skip


def test_outputs_come_back_where_the_new_ones_cannot_be_put_in_their_place(
    config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of the new files finds no room, as on a network drive that went away."""
    write_split(config, "old")
    before = contents(config)
    rename = Path.rename

    def fail_once(self: Path, target: Path) -> Path:
        if self.parent.name == ".writing-split" and Path(target).name == "splits.parquet":
            raise OSError("no such device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises((OSError, UserError)):
        write_split(config, "new")
    monkeypatch.undo()
    assert contents(config) == before
    write_split(config, "new")
    assert contents(config)["splits.parquet"] == "new"


def test_of_outputs_that_cannot_all_be_put_in_place_none_is(
    config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a first run nothing stays, so that no stage takes half of them for the whole."""
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.parent.name == ".writing-split" and Path(target).name == "splits.parquet":
            raise OSError("no such device")
        return rename(self, target)

    before = contents(config)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((OSError, UserError)):
        write_split(config, "new")
    assert contents(config) == before


def test_the_manifest_says_from_what_with_which_settings_and_by_which_code(config: PipelineConfig) -> None:
    with writing(config, "split", extra_inputs={"raw.csv": "ab"}) as output:
        (output.dir / "splits.parquet").write_text("s")
        (output.dir / "label_space.json").write_text("l")
        output.facts["documents"] = 3
    manifest = read_manifest(config.experiment_dir, "split")
    assert manifest is not None
    assert manifest["stage"] == "split"
    assert manifest["facts"] == {"documents": 3}
    assert manifest["settings"] == json.loads(stage_settings(config, "split"))
    assert manifest["inputs"] == {
        "raw.csv": "ab",
        "documents.parquet": hashlib.sha256(b"documents.parquet").hexdigest(),
        "titles.json": hashlib.sha256(b"titles.json").hexdigest(),
    }
    assert manifest["outputs"]["splits.parquet"] == hashlib.sha256(b"s").hexdigest()
    assert set(manifest["outputs"]) == set(STAGE_OUTPUTS["split"])
    assert {"python", "torch", "transformers", "pyarrow", "mlflow"} <= manifest["versions"].keys()
    assert manifest["duration_s"] >= 0
    assert manifest["started"].endswith("+00:00")
    assert manifest["git_commit"] == git_commit()


def test_input_digests_are_those_that_the_producer_recorded(config: PipelineConfig) -> None:
    """They are not computed again, since a MIMIC table takes a minute."""
    write_split(config, "s")
    (config.experiment_dir / "splits.parquet").write_text("changed by hand")
    with writing(config, "tokenize") as output:
        (output.dir / "tokens").mkdir()
    manifest = read_manifest(config.experiment_dir, "tokenize")
    assert manifest is not None
    assert manifest["inputs"]["splits.parquet"] == hashlib.sha256(b"s").hexdigest()


def test_a_signature_changes_with_settings_inputs_and_what_the_stage_is_made_of(
    config: PipelineConfig, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = input_signature(config, "split")
    assert input_signature(make_config(compute={"n_workers": 7}), "split") == before
    assert input_signature(make_config(tokens={"max_tokens": 7}), "split") == before
    assert input_signature(make_config(split={"seed": 1}), "split") != before
    with monkeypatch.context() as changed:
        changed.setattr(artifacts, "versions", lambda: {"torch": "another"})
        assert input_signature(config, "split") != before
    with monkeypatch.context() as changed:
        changed.setattr(artifacts, "sources_digest", lambda *_: "another")
        assert input_signature(config, "split") != before
    assert input_signature(config, "split") == before
    (config.experiment_dir / "titles.json").write_text("other")
    assert input_signature(config, "split") != before


def test_sources_are_digested_by_name_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x")
    found = []
    for names, text in ((("a.py", "b.py"), "x"), (("a.py", "b.py"), "y"), (("a.py",), "x"), (("b.py",), "x")):
        (tmp_path / "b.py").write_text(text)
        paths = [tmp_path / name for name in names]
        monkeypatch.setattr(sources, "stage_sources", lambda *_, paths=paths: paths)
        monkeypatch.setattr(sources, "PACKAGE_DIR", tmp_path / "pipeline")
        found.append(sources.sources_digest.__wrapped__("split"))
    assert len(set(found)) == 4


def test_no_manifest_means_the_stage_was_not_finished(config: PipelineConfig) -> None:
    assert read_manifest(config.experiment_dir, "split") is None


def test_an_exception_leaves_earlier_outputs_and_no_trace(config: PipelineConfig) -> None:
    write_split(config, "old")
    before = contents(config)
    with pytest.raises(ZeroDivisionError), writing(config, "split") as output:
        (output.dir / "splits.parquet").write_text("new")
        (output.dir / "label_space.json").write_text("new")
        raise ZeroDivisionError
    assert contents(config) == before
    assert not list(config.experiment_dir.glob(".writing*"))
    write_split(config, "next")
    assert contents(config)["splits.parquet"] == "next"


def test_a_stage_that_forgets_an_output_replaces_nothing(config: PipelineConfig) -> None:
    write_split(config, "old")
    before = contents(config)
    with (
        pytest.raises(RuntimeError, match=r"split did not write \['label_space.json'\]"),
        writing(config, "split") as output,
    ):
        (output.dir / "splits.parquet").write_text("new")
    assert contents(config) == before


def test_a_folder_replaces_a_folder_as_a_whole(config: PipelineConfig) -> None:
    write_split(config, "s")
    for names in (("a", "b"), ("c",)):
        with writing(config, "tokenize") as output:
            for name in names:
                (output.dir / "tokens" / "deep").mkdir(parents=True, exist_ok=True)
                (output.dir / "tokens" / "deep" / name).write_text(name)
    tokens = config.experiment_dir / "tokens"
    assert [path.name for path in tokens.rglob("*") if path.is_file()] == ["c"]
    assert sha256_of(tokens) == (read_manifest(config.experiment_dir, "tokenize") or {})["outputs"]["tokens"]


def test_only_the_main_process_of_many_writes(config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(config, "old")
    before = contents(config)
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    with lock(config.experiment_dir, "split"), writing(config, "split") as output:
        (output.dir / "splits.parquet").write_text("of rank 1")
    assert not output.dir.exists()
    assert contents(config) == before
    monkeypatch.setenv("RANK", "0")
    assert is_main_process()


def test_need_names_the_stage_to_run(config: PipelineConfig) -> None:
    assert need(config.experiment_dir, "documents.parquet").read_text() == "documents.parquet"
    with pytest.raises(UserError, match=r"label_space.json is missing; run the stage 'split' first"):
        need(config.experiment_dir, "label_space.json")


def test_manifests_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    assert manifest_path(tmp_path, "predict") == tmp_path / "manifests" / "predict.json"


def test_the_commit_has_a_plus_where_the_tree_differs_and_is_none_outside_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = git_commit()
    assert commit is None or len(commit.rstrip("+")) == 40
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert git_commit() is None


def test_code_that_is_installed_within_another_repository_has_no_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    installed = tmp_path / "venv" / "pipeline" / "provenance.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    git("init")
    git("commit", "--allow-empty", "--message", "of a hospital")
    monkeypatch.setattr("pipeline.experiment.provenance.__file__", str(installed))
    assert git_commit() is None
    git("add", "venv")
    git("commit", "--message", "their own copy")
    assert git_commit() == git("rev-parse", "HEAD")
    installed.write_text("changed")
    assert git_commit() == git("rev-parse", "HEAD") + "+"


@pytest.mark.parametrize(
    ("again", "is_refused"), [(None, False), ("ingest", True), ("split", True), ("train_classifier", True)]
)
def test_predictions_are_refused_where_an_earlier_stage_ran_again_after_them(
    tmp_path: Path, again: str | None, is_refused: bool
) -> None:
    """Of a label space of the same size columns would get the names of other codes; gold labels may be others."""
    manifests = {
        "ingest": {"inputs": {}, "outputs": {"documents.parquet": "d1"}},
        "split": {"inputs": {}, "outputs": {"label_space.json": "s1"}},
        "train_classifier": {"inputs": {"label_space.json": "s1"}, "outputs": {"classifier": "c1"}},
        "predict": {"inputs": {"classifier": "c1", "documents.parquet": "d1"}, "outputs": {}},
    }
    if again == "ingest":
        manifests["ingest"]["outputs"]["documents.parquet"] = "d2"
    if again == "split":
        manifests["split"]["outputs"]["label_space.json"] = "s2"
    if again == "train_classifier":
        manifests["train_classifier"]["outputs"]["classifier"] = "c2"
    check_predictions_are_of(tmp_path)  # a folder without manifests says nothing
    (tmp_path / "manifests").mkdir()
    for stage, content in manifests.items():
        write_json(tmp_path / "manifests" / f"{stage}.json", content)
    if is_refused:
        with pytest.raises(UserError, match="predictions are older than the documents, the label space or"):
            check_predictions_are_of(tmp_path)
    else:
        check_predictions_are_of(tmp_path)
