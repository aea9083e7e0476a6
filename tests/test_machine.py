"""What doctor says of the machine."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import torch

from pipeline.commands.executors import check_executor
from pipeline.commands.findings import Finding
from pipeline.commands.machine import machine_findings
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig

MakeConfig = Callable[..., PipelineConfig]


def findings_of(
    config: PipelineConfig, what: str, *, raw: tuple[Path, ...] = (), profile: str = "local"
) -> list[Finding]:
    return [one for one in machine_findings(config, raw, profile=profile) if one.what == what]


def test_the_environment_of_the_tests_is_right(make_config: MakeConfig) -> None:
    (packages,) = findings_of(make_config(), "packages")
    assert packages.state == "ok"


def test_a_package_out_of_its_range_or_absent_is_named(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["numpy>=2.0,<3", "torch>=99", "not-there>=1", 'dev-only>=1; extra == "dev"', 'plug>=2; extra == "slurm"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    packages = findings_of(make_config(), "packages")
    assert [one.state for one in packages] == ["wrong", "wrong"]
    assert packages[0].found == f"torch>=99 is needed, found {torch.__version__}"
    assert packages[1].found == "not-there>=1 is needed, found none"
    assert "pip install" in packages[1].advice
    with_plugin = findings_of(make_config(), "packages", profile="slurm")
    assert [one.found for one in with_plugin][2:] == ["plug>=2 is needed, found none"]


def test_another_python_is_named(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    (python,) = findings_of(make_config(), "Python")
    assert (python.state, python.found) == ("wrong", "3.9.1, needed is >=3.11")


def test_an_encoder_is_found_without_loading_its_weights(
    make_config: MakeConfig, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder_dir, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"no weights at all" * 1_000_000)
    config = make_config(encoder={"model": str(folder)})
    assert findings_of(config, "encoder") == [Finding("ok", "encoder", f"{folder}, 17 MB of weights")]
    (folder / "tokenizer.json").unlink()
    (found,) = findings_of(config, "encoder")
    assert found.state == "wrong"
    assert "no tokenizer files" in found.found


@pytest.mark.parametrize(("allow_downloads", "state"), [(False, "wrong"), (True, "warning")])
@pytest.mark.usefixtures("no_network")
def test_an_encoder_that_is_nowhere_is_wrong_unless_it_may_be_fetched(
    make_config: MakeConfig, allow_downloads: bool, state: str
) -> None:
    config = make_config(encoder={"model": "nobody/nothing"}, allow_downloads=allow_downloads)
    (found,) = findings_of(config, "encoder")
    assert found.state == state
    assert "nobody/nothing" in found.found


def test_an_encoder_that_cannot_be_used_is_not_said_to_be_fetched(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (found,) = findings_of(make_config(encoder={"model": str(tmp_path)}, allow_downloads=True), "encoder")
    assert found.state == "wrong"
    assert "Pickled weights are not loaded" in found.found


class _Usage(NamedTuple):
    free: float


def test_disk_needs_follow_from_raw_files_and_weights(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """500 MB gzipped are 2 GB of text, twice that is 4 GB; 6 times 91 MB of weights and 1 GB: 5.5 GB."""
    raw = tmp_path / "t.csv.gz"
    with raw.open("wb") as file:
        file.truncate(500_000_000)
    for free, state in ((6e9, "ok"), (5e9, "wrong")):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: _Usage(free))
        (disk,) = findings_of(make_config(), "disk", raw=(raw,))
        assert disk.state == state
        assert f"{free / 1e9:.1f} GB free for {tmp_path / 'work'}, about 5.5 needed" in disk.found


def test_a_work_folder_that_cannot_be_written_is_wrong(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (disk,) = findings_of(make_config(work_dir=tmp_path / "file" / "work"), "disk")
    assert (disk.state, disk.found) == ("wrong", f"{tmp_path / 'file'} cannot be written")


class _Memory(NamedTuple):
    available: float


def test_memory_is_that_of_the_machine_or_what_is_asked_of_the_scheduler(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 GB and 5 times 91 MB of weights: 3.5 GB."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: _Memory(2e9))
    config = make_config(compute={"mem_mb": 4000})
    (here,) = findings_of(config, "memory")
    assert (here.state, here.found) == ("warning", "2.0 GB free, about 3.5 needed")
    (there,) = findings_of(config, "memory", profile="slurm")
    assert (there.state, there.found) == ("ok", "4.0 GB asked of the scheduler, about 3.5 needed")
    (too_little,) = findings_of(make_config(compute={"mem_mb": 1000}), "memory", profile="slurm")
    assert too_little.state == "warning"


def launch_file(folder: Path, text: str) -> dict[str, Any]:
    (folder / "launch.yaml").write_text(text, encoding="utf-8")
    return {"accelerate_config": folder / "launch.yaml"}


@pytest.mark.parametrize(
    ("n_gpus", "n_processes", "expected"),
    [
        (0, 1, ("ok", "none: 1 process on the CPU")),
        (0, 2, ("warning", "none: 2 processes on the CPU")),
        (2, 2, ("ok", "2, a card")),
        (2, 4, ("wrong", "2, but the launch file starts 4 processes")),
        (4, 1, ("warning", "4, of which 1 will be used")),
    ],
)
def test_gpus_are_held_against_the_launch_file(
    request: pytest.FixtureRequest, tmp_path: Path, n_gpus: int, n_processes: int, expected: tuple[str, str]
) -> None:
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a card")
    monkeypatch.setattr(shutil, "which", lambda command: None)
    compute = launch_file(tmp_path, f"num_processes: {n_processes}\n") if n_processes > 1 else {}
    config = request.getfixturevalue("make_config")(compute=compute)
    (found,) = findings_of(config, "GPU")
    assert (found.state, found.found) == expected


def test_a_card_that_torch_does_not_see_is_said(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda command: "/usr/bin/nvidia-smi")
    (found,) = findings_of(make_config(), "GPU")
    assert found.state == "warning"
    assert "this torch has no CUDA" in found.advice


def test_bf16_that_this_machine_only_emulates_is_said(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(predict={"mixed_precision": "bf16"})
    for has_bf16, asked, n in ((False, config, 1), (True, config, 0), (False, make_config(), 0)):
        monkeypatch.setattr("pipeline.encoders.precision.has_bf16", lambda kind, found=has_bf16: found)
        assert len(findings_of(asked, "precision")) == n


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("num_processes: many", "num_processes is 'many'"),
        ("num_machines: 1", "num_processes is None"),
        ("- a", "num_processes is None"),
        ("{", "no readable YAML"),
        (None, "no readable YAML"),
    ],
)
def test_a_launch_file_that_cannot_be_used_is_wrong(
    make_config: MakeConfig, tmp_path: Path, text: str | None, part: str
) -> None:
    compute = {"accelerate_config": tmp_path / "absent.yaml"} if text is None else launch_file(tmp_path, text)
    (found,) = findings_of(make_config(compute=compute), "launch")
    assert found.state == "wrong"
    assert part in found.found


def test_gpus_asked_of_slurm_are_as_many_as_processes(make_config: MakeConfig, tmp_path: Path) -> None:
    compute = launch_file(tmp_path, "num_processes: 4\n") | {"n_gpus": 1}
    found = findings_of(make_config(compute=compute), "launch", profile="slurm")
    assert [one.state for one in found] == ["ok", "warning"]
    assert found[1].found == "compute.n_gpus asks for 1 GPUs, a training starts 4 processes"


def test_slurm_needs_its_plugin_and_commands(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: "/usr/bin/sbatch" if command == "sbatch" else None)
    plugin, commands = findings_of(make_config(), "slurm", profile="slurm")
    assert plugin.state == "ok"
    assert (commands.state, commands.found) == ("wrong", "no squeue on this machine")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    plugin, _ = findings_of(make_config(), "slurm", profile="slurm")
    assert (plugin.state, plugin.advice) == ("wrong", "pip install 'icd-contrast[slurm]'")


def test_a_run_is_refused_where_the_scheduler_of_its_profile_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(UserError, match="--profile slurm: no sbatch and no squeue on this machine; run on a node"):
        check_executor("slurm")
    check_executor("local")
    (tmp_path / "config.yaml").write_text("executor: local\n")
    check_executor(str(tmp_path))
    (tmp_path / "config.yaml").write_text("# jobs: 20\n")
    check_executor(str(tmp_path))
    (tmp_path / "config.yaml").write_text("executor: pbs\n")
    with pytest.raises(UserError, match="plugin snakemake_executor_plugin_pbs is not installed"):
        check_executor(str(tmp_path))


def test_an_unknown_profile_is_a_users_mistake(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="--profile pbs: no such profile; known: local, slurm, or a folder"):
        list(machine_findings(make_config(), (), profile="pbs"))
