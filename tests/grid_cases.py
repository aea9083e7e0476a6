"""What the stages of a grid's member leave, by hand, and a small grid that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.experiment import grid
from pipeline.files import write_json
from pipeline.icd.labels import LabelSpace

GOLD = {"a": ["none:1", "none:2"], "b": ["none:1"], "c": ["none:3"], "d": ["none:2"]}


def finish(
    member: grid.Member,
    labels: list[str],
    coded: dict[str, tuple[str, list[float]]],
    gold: dict[str, list[str]] = GOLD,
    *,
    trained_on: Sequence[str] | None = None,
    patients: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Leave what the stages of a member leave: codes with a probability of one half or more are predicted.

    Two documents of split train have each label of ``trained_on``, which are those of the label space if it is None.
    A document that is not in ``patients`` is of a patient of its own.
    """
    folder = member.config.experiment_dir
    folder.mkdir(parents=True)
    LabelSpace(tuple(labels), (None,) * len(labels), (2,) * len(labels)).save(folder / "label_space.json")
    train = {f"train-{label}-{n}": [label] for label in (trained_on or labels) for n in range(2)}
    all_documents = gold | train
    documents = {
        "document_id": list(all_documents), "patient_id": [patients.get(one, one) for one in all_documents],
        "labels": list(all_documents.values()),
        "principal": pa.nulls(len(all_documents), pa.string()),
    }  # fmt: skip
    pq.write_table(pa.table(documents), folder / "documents.parquet")
    split_of = dict.fromkeys(train, "train") | {name: split for name, (split, _) in coded.items()}
    splits = {"document_id": list(split_of), "split": list(split_of.values())}
    pq.write_table(pa.table(splits), folder / "splits.parquet")
    probabilities = pa.array([row for _, row in coded.values()], type=pa.list_(pa.float32(), len(labels)))
    predicted = [[index for index, value in enumerate(row) if value >= 0.5] for _, row in coded.values()]
    columns = {
        "document_id": list(coded), "split": [split for split, _ in coded.values()], "probabilities": probabilities,
        "predicted": pa.array(predicted, type=pa.list_(pa.int32())),
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "predictions.parquet")


def write_study(folder: Path, notes: Sequence[Mapping[str, Any]], sections: dict[str, Any]) -> dict[str, Any]:
    """Write notes and the config of a grid over them, study.yaml; give the config."""
    (folder / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes), encoding="utf-8")
    config = sections | {
        "experiment": "study",
        "work_dir": str(folder / "work"),
        "data": {"recipe": "table", "raw": str(folder / "notes.jsonl")} | sections.get("data", {}),
        "train_encoder": {"loss": "none"},
    }
    write_json(folder / "study.yaml", config)
    return config


def run_study(folder: Path, *more: str) -> str:
    """What `icd run study.yaml` says; it has to end well."""
    command = [sys.executable, "-m", "pipeline", "run", "study.yaml", *more]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr
