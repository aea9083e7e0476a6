"""Stages of the pipeline: thin scripts that read files and write files.

``stage_main`` is what they share: command line, logging, tracking, and one clear line for a user's mistake.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import UserError, describe_bug
from pipeline.experiment.artifacts import check_inputs_are_of, is_main_process
from pipeline.experiment.config import PipelineConfig, Stage, trains_network, view_for_stage
from pipeline.experiment.config_files import load_config
from pipeline.experiment.stage_tracking import StageRun, stage_run
from pipeline.files import guarded_io, private_folder, write_json

logger = logging.getLogger(__name__)

USER_ERROR = 2
_PARENT_POLL_S = 1.0
_PR_SET_PDEATHSIG = 1
_TRUE = ("1", "ON", "YES", "TRUE")  # as datasets reads its variables

StageFunction = Callable[[PipelineConfig, StageRun], None]


def stage_main(stage: Stage, run: StageFunction) -> None:
    """Run a stage as a script: parse, track, run, and exit 0, 1 (a bug) or 2 (a user's mistake)."""
    config = _read_config(stage)
    _die_with_parent()
    _launch_processes(config, stage)
    prepare_environment(config)
    _log_to(config, stage)
    sys.exit(run_stage(config, stage, run))


def script_main(name: str, run: Callable[[PipelineConfig], None]) -> None:
    """Run a script that is no stage of an experiment, with the same command line, log and exit status."""
    config = _read_config(name)
    _die_with_parent()
    _log_to(config, name)
    sys.exit(_run_guarded(config, name, lambda: run(config)))


def run_stage(config: PipelineConfig, stage: Stage, run: StageFunction) -> int:
    """Run a stage within its tracked run; give the exit status."""

    def tracked() -> None:
        check_inputs_are_of(config, stage)
        with stage_run(config, stage) as run_of_stage:
            run(view_for_stage(config, stage), run_of_stage)

    return _run_guarded(config, stage, tracked)


def _run_guarded(config: PipelineConfig, stage: str, function: Callable[[], None]) -> int:
    failure_path = config.experiment_dir / "logs" / f"{stage}.failure.json"
    traceback_path = config.experiment_dir / "logs" / f"{stage}.traceback.txt"
    failure_path.unlink(missing_ok=True)
    traceback_path.unlink(missing_ok=True)
    logger.info("%s: start", stage)
    started = time.perf_counter()
    try:
        with guarded_io(config.experiment_dir):
            function()
    except UserError as error:
        logger.error("%s", error)
        _note_failure(failure_path, stage, str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        logger.error("%s: interrupted", stage)
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort
        _note_bug(traceback_path, stage, error)
        return 1
    logger.info("%s: done in %.1f s", stage, time.perf_counter() - started)
    return 0


def prepare_environment(config: PipelineConfig) -> None:
    """Point caches that may hold patient text into the work folder; lift the hub switch where allowed."""
    os.environ["HF_DATASETS_CACHE"] = str(config.experiment_dir / ".cache" / "datasets")
    os.environ["HF_MODULES_CACHE"] = str(config.experiment_dir / ".cache" / "modules")
    hides_bars = (
        not sys.stderr.isatty() and os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1").upper() in _TRUE
    )
    if config.allow_downloads:
        os.environ["HF_HUB_OFFLINE"] = "0"
    # A stage imports these libraries before its config is known; by then they have read the variables.
    if (loaded := sys.modules.get("datasets.config")) is not None:
        loaded.HF_DATASETS_CACHE = Path(os.environ["HF_DATASETS_CACHE"])  # type: ignore[attr-defined]
    if (hub := sys.modules.get("huggingface_hub.constants")) is not None:
        hub.HF_HUB_OFFLINE = not config.allow_downloads  # type: ignore[attr-defined]
    if hides_bars and (loaded := sys.modules.get("datasets")) is not None:
        loaded.disable_progress_bars()


def _read_config(name: str) -> PipelineConfig:
    arguments = _parse(name)
    try:
        config = load_config(arguments.config, arguments.set)
        if config.grid is not None and name not in ("choose", "grid"):
            raise UserError(
                f"{arguments.config} has a grid; a stage alone takes a member's config.json, or `icd run` all."
            )
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(USER_ERROR)
    return config


def _parse(stage: str) -> argparse.Namespace:
    module = sys.modules["__main__"]
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.stages.{stage}", description=(module.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the experiment")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="section.key=value",
        help="override one setting (repeatable)",
    )
    return parser.parse_args()


def _log_to(config: PipelineConfig, name: str) -> None:
    """Log to the terminal and to a file of the experiment."""
    path = config.experiment_dir / "logs" / f"{name}.log"
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    try:
        private_folder(config.experiment_dir)
        path.parent.mkdir(exist_ok=True)
        if is_main_process():
            handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
    except (OSError, UserError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        sys.stderr.write(f"error: work_dir {config.work_dir} cannot be written: {reason}.\n")
        sys.exit(USER_ERROR)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=handlers,
    )
    for chatty in ("accelerate", "alembic", "datasets", "fsspec", "httpx", "matplotlib", "mlflow", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _note_failure(path: Path, stage: str, message: str) -> None:
    """Leave a user's mistake where ``icd run`` finds it; on a full disk the log line must do."""
    try:
        write_json(path, {"stage": stage, "message": message})
    except OSError:
        logger.error("%s could not be written", path)


def _note_bug(path: Path, stage: str, error: Exception) -> None:
    """Log type and place of an exception; its message, which may quote a document, only goes below the work folder."""
    where = f"the whole traceback, which may quote documents, is in {path}"
    if is_main_process():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        except OSError:
            where = f"{path} could not be written"
    logger.error("%s failed: this is a bug or a fault of the machine; %s\n%s", stage, where, describe_bug(error))


def _launch_processes(config: PipelineConfig, stage: Stage) -> None:
    """Become ``accelerate launch`` where the config has a launch file, unless launched by it already."""
    launch_path = config.compute.accelerate_config
    if launch_path is not None and trains_network(config, stage) and "RANK" not in os.environ:
        import torch

        if not torch.cuda.is_available():
            # Without it accelerate starts one process on a machine without GPUs, whatever the file says.
            os.environ["ACCELERATE_USE_CPU"] = "true"
        _end_with_parent_after_exec()
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_path)]
        os.execv(sys.executable, [*launch, "-m", f"pipeline.stages.{stage}", *sys.argv[1:]])


def _end_with_parent_after_exec() -> None:
    """Have the kernel end this process with its parent, where it can (Linux): the watching thread ends with exec."""
    if "ICD_HEAD" in os.environ and hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _die_with_parent() -> None:
    """End this process when the head that started it is gone, so that a killed run leaves no stage behind."""
    if "ICD_HEAD" not in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
