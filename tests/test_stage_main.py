"""A stage as a process: switches that libraries read early, a folder that cannot be written, a head that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pipeline import stages
from pipeline.stages import stage_main

CONFIG = "experiment: small\nwork_dir: work\ntracking: {enabled: false}\n"


def start(code: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A Python process in a folder that holds small.yaml."""
    (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")
    outer = {name: value for name, value in os.environ.items() if name not in ("ICD_HEAD", "RANK", "HF_HUB_OFFLINE")}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), "--config", "small.yaml", *arguments],
        cwd=folder, env=outer | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


STAGE = """
    from pipeline.stages import stage_main

    def run(config, tracked):
        {body}

    stage_main("predict", run)
"""


def test_a_stage_logs_start_and_end_to_the_terminal_and_to_its_file(tmp_path: Path) -> None:
    code = STAGE.format(body='import logging; logging.getLogger("x").info("%d documents", 3)')
    status, output, errors = finish(start(code, tmp_path))
    assert (status, output) == (0, "")
    log = (tmp_path / "work" / "small" / "logs" / "predict.log").read_text(encoding="utf-8")
    assert log == errors
    assert [line.split(" ", 2)[2].partition(" in ")[0] for line in log.splitlines()] == [
        "predict: start", "3 documents", "predict: done",
    ]  # fmt: skip


@pytest.mark.parametrize("names_work_dir", [True, False])
def test_a_work_folder_that_cannot_be_made_is_one_line_and_exit_2(tmp_path: Path, names_work_dir: bool) -> None:
    blocked = tmp_path / ("file" if names_work_dir else "work")
    blocked.write_text("not a folder")
    overrides = ("--set", "work_dir=file/below") if names_work_dir else ()
    status, _, errors = finish(start(STAGE.format(body="pass"), tmp_path, *overrides))
    assert status == 2
    assert errors.startswith("error: work_dir ")
    assert len(errors.splitlines()) == 1


def test_overrides_reach_the_stage(tmp_path: Path) -> None:
    code = STAGE.format(body="print(config.predict.splits)")
    status, output, _ = finish(start(code, tmp_path, "--set", "predict.splits=[test]", "--set", "work_dir=w"))
    assert (status, output) == (0, "('test',)\n")
    assert (tmp_path / "w" / "small" / "logs" / "predict.log").exists()


SWITCHES = """
    import socket
    import datasets, transformers, huggingface_hub  # as a stage imports them, before its config is known
    from pipeline.experiment.encoder_files import find_encoder
    from pipeline.errors import UserError
    from pipeline.stages import stage_main

    tried = []

    def note(*arguments, **_):
        tried.append(arguments)
        raise OSError("no network here")

    socket.socket.connect = socket.getaddrinfo = note

    def run(config, tracked):
        print(datasets.config.HF_DATASETS_CACHE)
        try:
            find_encoder("nobody/nothing", allow_downloads=config.allow_downloads)
        except UserError:
            print("network" if tried else "no network")

    stage_main("predict", run)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("allow", "shell", "expected"), [("false", "0", "no network"), ("true", "1", "network")])
def test_the_config_and_not_a_users_shell_decides_about_the_network(
    tmp_path: Path, allow: str, shell: str, expected: str
) -> None:
    process = start(SWITCHES, tmp_path, "--set", f"allow_downloads={allow}", HF_HUB_OFFLINE=shell)
    status, output, errors = finish(process)
    assert status == 0, errors
    assert output.splitlines() == [str(tmp_path / "work" / "small" / ".cache" / "datasets"), expected]


BARS = """
    import datasets  # as a stage imports it, before its environment is prepared
    from pipeline.stages import stage_main

    def run(config, tracked):
        datasets.Dataset.from_dict({"a": [1, 2]}).map(lambda row: row, desc="counted")

    stage_main("predict", run)
"""


@pytest.mark.parametrize("is_wanted", [False, True])
def test_without_a_terminal_data_sets_draw_no_bars_unless_a_users_shell_asks(tmp_path: Path, is_wanted: bool) -> None:
    wanted = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "0"} if is_wanted else {}
    status, _, errors = finish(start(BARS, tmp_path, **wanted))
    assert status == 0, errors
    assert ("counted" in errors) == is_wanted


def test_switches_are_set_before_any_library_reads_them(tmp_path: Path) -> None:
    code = """
        import pipeline, os
        names = "HF_HUB_DISABLE_TELEMETRY MLFLOW_DISABLE_TELEMETRY DO_NOT_TRACK HF_HUB_OFFLINE".split()
        print([os.environ[name] for name in names])
    """
    assert finish(start(code, tmp_path))[1] == "['1', 'true', 'true', '1']\n"


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that waits to be collected does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


BECOMES_ANOTHER_PROGRAM = """
    import os, sys
    from pipeline.stages import _end_with_parent_after_exec

    _end_with_parent_after_exec()
    waiting = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    os.execv(sys.executable, [sys.executable, "-c", waiting])
"""


@pytest.mark.parametrize(
    "code",
    [
        STAGE.format(body="import os, time; print(os.getpid(), flush=True); time.sleep(60)"),
        pytest.param(
            BECOMES_ANOTHER_PROGRAM,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux sends the signal"),
        ),
    ],
    ids=["stage", "launcher"],
)
def test_a_stage_or_its_launcher_ends_when_the_head_that_started_it_is_killed(tmp_path: Path, code: str) -> None:
    stage = textwrap.dedent(code)
    head = f"""
        import subprocess, sys
        subprocess.run([sys.executable, "-c", {stage!r}, *sys.argv[1:]])
    """
    process = start(head, tmp_path, ICD_HEAD="1")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    try:
        assert is_alive(pid)
        process.kill()
        process.wait()
        until = time.monotonic() + 20
        while is_alive(pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert not is_alive(pid)
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def launched(monkeypatch: pytest.MonkeyPatch, folder: Path, stage: str, *settings: str) -> list[str] | None:
    """The command that a stage becomes, or None where it runs as it is."""
    (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")
    arguments = ["--config", str(folder / "small.yaml"), "--set", f"work_dir={folder}"]
    for one in settings:
        arguments += ["--set", one]
    commands: list[list[str]] = []

    def become(_: str, command: list[str]) -> None:
        commands.append(command)
        raise SystemExit(99)

    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr(stages, "prepare_environment", lambda config: None)
    monkeypatch.setattr(stages, "_log_to", lambda config, name: None)
    for name in ("ACCELERATE_USE_CPU", "ICD_HEAD"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as caught:
        stage_main(stage, lambda config, tracked: None)  # type: ignore[arg-type]
    assert caught.value.code == (99 if commands else 0)
    assert not commands or commands[0][-len(arguments) :] == arguments
    return commands[0][: -len(arguments)] if commands else None


def test_a_training_with_a_launch_file_becomes_accelerate_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    launch = f"compute.accelerate_config={tmp_path}/two.yaml"
    assert launched(monkeypatch, tmp_path, "train_encoder", launch) == [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"{tmp_path}/two.yaml",
        "-m", "pipeline.stages.train_encoder",
    ]  # fmt: skip
    assert launched(monkeypatch, tmp_path, "train_classifier", launch) is not None
    assert launched(monkeypatch, tmp_path, "predict", launch) is None
    assert launched(monkeypatch, tmp_path, "train_encoder") is None


def test_a_training_that_accelerate_started_does_not_start_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    assert launched(monkeypatch, tmp_path, "train_encoder", "compute.accelerate_config=two.yaml") is None


def test_a_stage_without_heavy_libraries_does_not_import_them_for_the_switches(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from pipeline.experiment.config import PipelineConfig
        from pipeline.stages import prepare_environment
        prepare_environment(PipelineConfig(experiment="a", work_dir=Path("work")))
        print(sorted({"torch", "datasets", "transformers", "mlflow"} & sys.modules.keys()))
    """
    assert finish(start(code, tmp_path))[1] == "[]\n"
