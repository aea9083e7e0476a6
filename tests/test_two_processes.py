"""The trainings as stages on two processes (accelerate, DDP, gloo) and on one: the same encoder and classifier.

What a single loop does on two processes is proved in test_training; here the stages launch themselves, read one
experiment and write one classifier.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from encoder_cases import without_dropout
from safetensors.torch import load_file

from pipeline.coding.classifier import Classifier
from pipeline.coding.ensemble import CodingModel
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import validate_config
from pipeline.files import read_json

pytestmark = pytest.mark.slow

# A bias on keys shifts all scores of a softmax alike: its gradient is zero, and Adam makes steps of the rounding.
NO_GRADIENT = ("key.bias",)
CONFIGS = Path(__file__).parents[1] / "configs" / "accelerate"


def run_stage_alone(stage: str, config_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"pipeline.stages.{stage}", "--config", str(config_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenized(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder_dir: Path,
    run_small: Callable[..., PipelineConfig],
    small_notes: list[dict[str, Any]],
) -> PipelineConfig:
    folder = tmp_path_factory.mktemp("two_processes")
    encoder = without_dropout(tiny_encoder_dir, folder / "plain_encoder")
    notes = [note | {"text": note["text"] + " and cough" * (index % 3)} for index, note in enumerate(small_notes)]
    # A rate at which wrong gradients would be seen: the weights move a hundred times further than is tolerated.
    batches = {"global_batch_size": 5, "micro_batch_tokens": 64, "learning_rate": 1e-3}
    return run_small(
        folder, notes, "ingest split tokenize", encoder={"model": str(encoder)},
        train_encoder={
            "n_epochs": 2, "projection_dim": 8, "partner_probability": 0.5, "queue_size": 7, "momentum": 0.5, **batches,
        },
        train_classifier={
            "n_epochs": 2, "head_dropout": 0.0, **batches,
            "joint": {"loss": "mulsupcon", "projection_dim": 8, "partner_probability": 0.5, "queue_size": 7},
        },
    )  # fmt: skip


def copied(tokenized: PipelineConfig, folder: Path, launch_path: Path | None) -> dict[str, Any]:
    """The config of a copy of all there is before the trainings."""
    shutil.copytree(tokenized.work_dir, folder / "work")
    raw: dict[str, Any] = json.loads(tokenized.model_dump_json()) | {"work_dir": str(folder / "work")}
    raw["compute"] |= {"accelerate_config": launch_path and str(launch_path)}
    return raw


def train_on_two(tokenized: PipelineConfig, folder: Path) -> Path:
    """Both trainings, each stage as a user starts it alone."""
    raw = copied(tokenized, folder, CONFIGS / "two_processes.yaml")
    (folder / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    for stage in ("train_encoder", "train_classifier"):
        result = run_stage_alone(stage, folder / "config.yaml")
        assert result.returncode == 0, result.stderr[-3000:]
        assert "process 1 of 2" in result.stderr
    return folder / "work" / "small"


def test_stages_on_two_processes_write_what_they_write_on_one(
    tokenized: PipelineConfig, tmp_path: Path, run_stages: Callable[[PipelineConfig, str], None]
) -> None:
    """24 documents in batches of 5, 5, 5, 5, 4: 3 and 2 a process, so a mean over processes alone would be wrong.

    The frozen layer is cached; val has 3 documents, 2 and 1 a process.
    """
    config = validate_config(copied(tokenized, tmp_path / "one", None), source="the test's config")
    run_stages(config, "train_encoder train_classifier")
    one, two = config.experiment_dir, train_on_two(tokenized, tmp_path / "two")
    start = load_file(Path(tokenized.encoder.model) / "model.safetensors")
    for name in ("encoder/model.safetensors", "classifier/encoder/model.safetensors", "classifier/head.safetensors"):
        expected, found = load_file(one / name), load_file(two / name)
        assert expected.keys() == found.keys()
        differences = {key: float((found[key] - value).abs().max()) for key, value in expected.items()}
        too_large = {key: one for key, one in differences.items() if one > 1e-5 and not key.endswith(NO_GRADIENT)}
        assert not too_large, name
        if "encoder" in name:
            assert any((start[key] - value).abs().max() > 1e-3 for key, value in expected.items()), "nothing learned"
    probabilities = []
    texts = ["the patient has fever and cough", "no pneumonia", "mother had diabetes " * 9]
    for folder in (one, two):
        classifier = Classifier.load(folder / "classifier")
        coded = classifier.code_texts(texts, max_tokens=64)
        probabilities.append(torch.tensor([list(of_text.probabilities) for of_text in coded]))
    torch.testing.assert_close(probabilities[0], probabilities[1], atol=1e-5, rtol=1e-4)
    thresholds = [CodingModel.load(folder / "classifier").thresholds for folder in (one, two)]
    assert thresholds[0] == pytest.approx(thresholds[1], abs=1e-5)
    for name in ("encoder", "classifier"):
        histories = [read_json(folder / name / "training_history.json") for folder in (one, two)]
        last = [[row["loss"] for row in history if "loss" in row][-1] for history in histories]
        assert last[0] == pytest.approx(last[1], abs=1e-5)
    assert not (two / "checkpoints" / "train_encoder").exists()
    assert not list(two.glob(".writing-*"))


def test_a_launch_file_for_more_processes_than_run_is_refused(tokenized: PipelineConfig, tmp_path: Path) -> None:
    """RANK is set by accelerate launch; a user who starts the stage by another launcher gets the wrong number."""
    raw = json.loads(tokenized.model_dump_json())
    raw["compute"] |= {"accelerate_config": str(CONFIGS / "two_processes.yaml")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.stages.train_encoder", "--config", str(tmp_path / "config.yaml")],
        env=os.environ | {"RANK": "0"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr[-2000:]
    assert "1 processes run, but" in result.stderr
    assert "asks for 2. Launch with" in result.stderr
    assert "Traceback" not in result.stderr
