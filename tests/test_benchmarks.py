"""Benchmarks start, and those that need no data run on the smallest of sizes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import embeddings
from pipeline.label_counts import label_matrix

FOLDER = Path(embeddings.__file__).parent
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_can_be_imported_and_has_a_command_line(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").main)
    assert f"python -m benchmarks.{name}" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_prediction_is_measured_against_the_plain_loop(tmp_path: Path) -> None:
    from benchmarks.predict import save_model, write_notes

    save_model(tmp_path / "model", "linear", 50)
    write_notes(tmp_path / "notes.jsonl", 4, "short")
    command = [sys.executable, "-m", "benchmarks.predict", "--folder", str(tmp_path), "--threads", "1", "--way"]
    for way in ("plain loop", "icd predict"):
        done = subprocess.run([*command, way], capture_output=True, text=True, check=True)
        assert '"seconds"' in done.stdout


def test_relations_to_an_anchor_by_hand() -> None:
    labels = label_matrix([[0, 1], [0, 1], [0], [0, 1, 2], [1, 3], [3]], 4)
    assert embeddings.relations_to(0, labels).tolist() == [2, 2, 4, 5, 3, 1]
    assert np.bincount(embeddings.relations_to(5, labels), minlength=6)[1] == 4
