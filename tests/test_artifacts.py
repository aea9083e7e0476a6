"""What stages exchange is written whole or not at all: exceptions, kill -9, full disks, two processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest

from pipeline.artifacts import (
    STAGE_INPUTS,
    STAGE_OUTPUTS,
    git_commit,
    input_signature,
    is_main_process,
    manifest_path,
    need,
    read_manifest,
    writing,
)
from pipeline.config import STAGE_SECTIONS, PipelineConfig, stage_settings
from pipeline.errors import UserError
from pipeline.files import lock, sha256_of

MakeConfig = Callable[..., PipelineConfig]

# What a subprocess runs first: the config of the test, and a stage that writes its two outputs.
PRELUDE = """
import os, resource, signal, sys, time
from pathlib import Path
from pipeline import artifacts
from pipeline.config import PipelineConfig

config = PipelineConfig(experiment="small", work_dir=Path(sys.argv[1]))

def write_split(content):
    with artifacts.writing(config, "split") as output:
        (output.dir / "splits.parquet").write_text(content)
        (output.dir / "label_space.json").write_text(content)
"""


@contextlib.contextmanager
def process(code: str, work_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own; ended with the test."""
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(work_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def run(code: str, work_dir: Path) -> tuple[int, str]:
    """Exit status and output of a Python process that runs to its end."""
    with process(code, work_dir) as started:
        output, errors = started.communicate(timeout=60)
        return started.returncode, output + errors


def write_split(config: PipelineConfig, content: str) -> None:
    with writing(config, "split") as output:
        (output.dir / "splits.parquet").write_text(content)
        (output.dir / "label_space.json").write_text(content)


def contents(config: PipelineConfig) -> dict[str, str]:
    """Every file of the experiment but locks, by name."""
    paths = [path for path in config.experiment_dir.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    return {path.relative_to(config.experiment_dir).as_posix(): path.read_text() for path in paths}


@pytest.fixture
def config(make_config: MakeConfig) -> PipelineConfig:
    """An experiment in which ingest was run, as far as stage split can tell."""
    config = make_config()
    config.experiment_dir.mkdir(parents=True)
    for name in STAGE_INPUTS["split"]:
        (config.experiment_dir / name).write_text(name)
    return config


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
    }  # fmt: skip
    assert left["splits.parquet"] == "new"
    assert {path.name for path in config.experiment_dir.iterdir()} == {
        "documents.parquet", "titles.json", "splits.parquet", "label_space.json", "manifests", ".locks",
    }  # fmt: skip


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


def test_a_signature_changes_with_settings_and_inputs_only(config: PipelineConfig, make_config: MakeConfig) -> None:
    before = input_signature(config, "split")
    assert input_signature(make_config(compute={"n_workers": 7}), "split") == before
    assert input_signature(make_config(tokens={"max_tokens": 7}), "split") == before
    assert input_signature(make_config(split={"seed": 1}), "split") != before
    (config.experiment_dir / "titles.json").write_text("other")
    assert input_signature(config, "split") != before


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


def test_kill_9_while_writing_leaves_nothing_that_looks_finished(config: PipelineConfig) -> None:
    write_split(config, "old")
    before = contents(config)
    code = """
    with artifacts.writing(config, "split") as output:
        (output.dir / "splits.parquet").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    status, _ = run(code, config.work_dir)
    assert status == -signal.SIGKILL
    after = contents(config)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {".writing-split/splits.parquet"}
    write_split(config, "next")
    assert contents(config).keys() == before.keys()


@pytest.mark.parametrize("n_renames", range(5))
def test_kill_9_between_two_renames_never_leaves_old_beside_new(config: PipelineConfig, n_renames: int) -> None:
    """Two outputs: two renames take the old ones away, two put the new ones in place, the fifth brings the manifest."""
    write_split(config, "old")
    code = f"""
    rename, n_left = Path.rename, {n_renames}

    def rename_or_die(self, target):
        global n_left
        if n_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        n_left -= 1
        return rename(self, target)

    Path.rename = rename_or_die
    write_split("new")
    """
    status, _ = run(code, config.work_dir)
    assert status == -signal.SIGKILL
    names = STAGE_OUTPUTS["split"]
    found = {path.read_text() for name in names if (path := config.experiment_dir / name).exists()}
    assert len(found) <= 1, "old and new outputs stand side by side"
    assert read_manifest(config.experiment_dir, "split") is None, "a manifest speaks of outputs that are not there"
    write_split(config, "next")
    assert {contents(config)[name] for name in names} == {"next"}
    assert not list(config.experiment_dir.glob(".writing*"))


def test_a_lock_excludes_a_second_process_and_kill_9_frees_it(config: PipelineConfig) -> None:
    code = """
    with artifacts.writing(config, "split"):
        print("ready", flush=True)
        time.sleep(60)
    """
    with process(code, config.work_dir) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(UserError, match=rf"'split' is running already \(process {holder.pid} on "):
            write_split(config, "second")
        with lock(config.experiment_dir, "tokenize"):
            pass  # another stage is free to run
        holder.kill()
        holder.wait()
        write_split(config, "second")
    assert contents(config)["splits.parquet"] == "second"


def test_a_killed_stage_whose_workers_live_on_holds_no_lock(config: PipelineConfig) -> None:
    """Workers that datasets forks inherit every open file, the lock's among them."""
    code = """
    import multiprocessing
    with artifacts.writing(config, "split"):
        def work():
            print(os.getpid(), flush=True)  # by the worker: from here on it has let go of what it inherited
            time.sleep(60)
        multiprocessing.get_context("fork").Process(target=work).start()
        time.sleep(60)
    """
    with process(code, config.work_dir) as holder:
        assert holder.stdout is not None
        worker = int(holder.stdout.readline())
        try:
            holder.kill()
            holder.wait()
            os.kill(worker, 0)  # it is still there
            write_split(config, "next")
        finally:
            os.kill(worker, signal.SIGKILL)
    assert contents(config)["splits.parquet"] == "next"


def test_the_lock_is_freed_by_an_exception_and_tells_another_lock_apart(config: PipelineConfig) -> None:
    with pytest.raises(filelock.Timeout), lock(config.experiment_dir, "split"):
        raise filelock.Timeout("a lock of MLflow")
    with lock(config.experiment_dir, "split"):
        pass


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


FILL = """
    import pyarrow, pyarrow.parquet
    try:
        with artifacts.writing(config, "split") as output:
            {body}
    except artifacts.UserError as error:
        print("UserError:", error)
"""
BODIES = {
    "text": '(output.dir / "splits.parquet").write_text("x" * 2_000_000)',
    "parquet": 'table = pyarrow.table({"a": [os.urandom(9) for _ in range(200_000)]}); '
    'pyarrow.parquet.write_table(table, output.dir / "a")',
    "safetensors": 'import numpy, safetensors.numpy as s; s.save_file({"a": numpy.zeros(500_000)}, output.dir / "a")',
    "tokenizer": 'from tokenizers import Tokenizer, models as m; '
    'Tokenizer(m.WordLevel({str(i): i for i in range(99_999)}, "1")).save(str(output.dir / "a"))',
    "manifest": '[(output.dir / name).write_text("new") for name in artifacts.STAGE_OUTPUTS["split"]]; '
    'output.facts["x"] = "y" * 2_000_000',
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
def test_a_full_disk_is_a_user_error_whoever_meets_it_and_costs_no_earlier_output(
    config: PipelineConfig, kind: str
) -> None:
    write_split(config, "old")
    before = contents(config)
    limit = """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    """
    status, output = run(textwrap.dedent(limit) + textwrap.dedent(FILL.format(body=BODIES[kind])), config.work_dir)
    assert status == 0, output
    assert f"UserError: {config.experiment_dir}: the disk is full or a limit on file size was hit" in output
    assert contents(config) == before
    assert not list(config.experiment_dir.rglob(".*.json.*")), "a half-written file is left"
    write_split(config, "next")


def test_a_disk_that_is_really_full_is_a_user_error(tmp_path: Path) -> None:
    mount_dir = tmp_path / "disk"
    mount_dir.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mount_dir)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        config = PipelineConfig(experiment="small", work_dir=mount_dir)
        config.experiment_dir.mkdir()
        for name in STAGE_INPUTS["split"]:
            (config.experiment_dir / name).write_text(name)
        write_split(config, "old")
        before = contents(config)
        status, output = run(FILL.format(body=BODIES["parquet"]), mount_dir)
        assert status == 0, output
        assert "the disk is full" in output
        assert contents(config) == before
        (mount_dir / "ballast").write_bytes(b"x" * 100_000)
        write_split(config, "next")
    finally:
        subprocess.run(["umount", str(mount_dir)], check=True)


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
