"""What stages exchange survives kill -9, full disks and a second process."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from artifact_cases import contents, ingested, process, run, write_split

from pipeline.errors import UserError
from pipeline.experiment.artifacts import STAGE_INPUTS, STAGE_OUTPUTS
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.manifests import read_manifest
from pipeline.files import lock


@pytest.fixture
def config(make_config: Callable[..., PipelineConfig]) -> PipelineConfig:
    """An experiment in which ingest was run, as far as stage split can tell."""
    return ingested(make_config())


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


@pytest.mark.parametrize("n_renames", range(8))
def test_kill_9_between_two_renames_never_leaves_old_beside_new(config: PipelineConfig, n_renames: int) -> None:
    """Two renames take manifest and mark away, two the old outputs; two put new ones in place, two those of the new."""
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
    manifest = read_manifest(config.experiment_dir, "split")
    assert (manifest is None) == (n_renames > 0), "a manifest speaks of outputs that are not there"
    assert manifest is None or found == {"old"}
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
    assert f"UserError: {config.experiment_dir}, or the folder for temporary files: the disk is full or" in output
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
