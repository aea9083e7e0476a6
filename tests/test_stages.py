from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import files
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import validate_config
from pipeline.experiment.manifests import manifest_path
from pipeline.experiment.stage_tracking import StageRun
from pipeline.stages import ingest, prepare_environment, run_stage


def config_in(folder: Path) -> PipelineConfig:
    raw = {"experiment": "a", "work_dir": str(folder), "tracking": {"enabled": False}}
    return validate_config(raw, source="test")


@pytest.mark.parametrize(
    ("error", "status", "is_noted"),
    [(None, 0, False), (UserError("mend it"), 2, True), (KeyError("bug"), 1, False), (KeyboardInterrupt(), 130, False)],
)
def test_a_stage_exits_by_the_kind_of_its_error_and_notes_a_users_mistake(
    tmp_path: Path, error: BaseException | None, status: int, is_noted: bool
) -> None:
    config = config_in(tmp_path)
    logs = config.experiment_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "predict.failure.json").write_text("of an earlier run", encoding="utf-8")

    def run(config: PipelineConfig, tracked: StageRun) -> None:
        if error is not None:
            raise error

    assert run_stage(config, "predict", run) == status
    assert (logs / "predict.failure.json").exists() == is_noted
    if is_noted:
        noted = files.read_json(logs / "predict.failure.json")
        assert noted == {"stage": "predict", "message": "mend it"}


def test_a_stage_that_reads_an_undeclared_section_fails_as_a_bug(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert run_stage(config, "predict", lambda config, tracked: print(config.seed)) == 1  # noqa: T201


def test_a_bug_is_logged_by_type_and_place_and_its_message_stays_below_the_work_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages of libraries quote values; the marker stands for a patient's text, here in both errors of a chain."""

    def run(config: PipelineConfig, tracked: StageRun) -> None:
        try:
            int("Xqzvcanary")
        except ValueError as error:
            raise RuntimeError("bad row: Xqzvcanary") from error

    config = config_in(tmp_path)
    with caplog.at_level(logging.INFO):
        assert run_stage(config, "evaluate", run) == 1
    assert "this is a bug or a fault of the machine" in caplog.text
    for expected in ("RuntimeError at ", "ValueError at ", f"{Path(__file__).name}:", " in run"):
        assert expected in caplog.text
    assert "Xqzvcanary" not in caplog.text
    whole = config.experiment_dir / "logs" / "evaluate.traceback.txt"
    assert str(whole) in caplog.text
    assert whole.read_text(encoding="utf-8").count("Xqzvcanary") >= 2
    assert run_stage(config, "evaluate", lambda config, tracked: None) == 0
    assert not whole.exists(), "a later run that ends well takes it away"


def test_raw_files_of_one_name_in_two_folders_both_have_their_digest(tmp_path: Path) -> None:
    raw, titles = tmp_path / "raw" / "a.csv", tmp_path / "titles" / "a.csv"
    for path, text in ((raw, "document_id,text,codes\nd1,Cough,R05\n"), (titles, "code,title\nR05,Cough\n")):
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
    for given in (raw, raw.parent):
        data = {"recipe": "table", "raw": given, "options": {"titles_path": str(titles)}}
        config = validate_config(config_in(tmp_path).model_dump() | {"data": data}, source="test")
        assert run_stage(config, "ingest", ingest.run) == 0
        manifest = files.read_json(manifest_path(config.experiment_dir, "ingest"))
        digests = {"a.csv": files.sha256_of(raw), "../titles/a.csv": files.sha256_of(titles)}
        assert manifest["inputs"] == digests


def test_a_full_disk_in_a_stage_is_a_users_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run(config: PipelineConfig, tracked: StageRun) -> None:
        raise OSError(28, "No space left on device")

    config = config_in(tmp_path)
    assert run_stage(config, "split", run) == 2
    assert "the disk is full" in caplog.text
    assert "Traceback" not in caplog.text


def test_caches_that_may_hold_text_lie_in_the_work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")
    for module in ("datasets.config", "huggingface_hub.constants"):  # whose values are those of other tests too
        monkeypatch.delitem(sys.modules, module, raising=False)
    prepare_environment(config_in(tmp_path))
    assert os.environ["HF_DATASETS_CACHE"] == str(tmp_path / "a" / ".cache" / "datasets")
    assert os.environ["HF_MODULES_CACHE"].startswith(str(tmp_path / "a"))
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "absent.yaml"], "error: absent.yaml: no such config file"),
        (["--config", "a.yaml", "--set", "sed=1"], "sed: unknown key; did you mean 'seed'?"),
        (["--config", "a.yaml"], "documents.parquet is missing; run the stage 'ingest' first."),
    ],
)
def test_a_users_mistake_ends_a_stage_with_exit_2_and_no_traceback(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    (tmp_path / "a.yaml").write_text("experiment: a\ntracking: {enabled: false}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pipeline.stages.split", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    if "--set" not in arguments and "a.yaml" in arguments:
        noted = files.read_json(tmp_path / "work" / "a" / "logs" / "split.failure.json")
        assert expected in noted["message"]
        assert expected in (tmp_path / "work" / "a" / "logs" / "split.log").read_text()
