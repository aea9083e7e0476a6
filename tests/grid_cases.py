"""What the stages of a grid's member leave, by hand."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.experiment import grid
from pipeline.icd.labels import LabelSpace

GOLD = {"a": ["none:1", "none:2"], "b": ["none:1"], "c": ["none:3"], "d": ["none:2"]}


def finish(
    member: grid.Member,
    labels: list[str],
    coded: dict[str, tuple[str, list[float]]],
    gold: dict[str, list[str]] = GOLD,
) -> None:
    """Leave what the stages of a member leave: codes with a probability of one half or more are predicted."""
    folder = member.config.experiment_dir
    folder.mkdir(parents=True)
    LabelSpace(tuple(labels), (None,) * len(labels), (2,) * len(labels)).save(folder / "label_space.json")
    documents = {"document_id": list(gold), "patient_id": list(gold), "labels": list(gold.values())}
    pq.write_table(pa.table(documents), folder / "documents.parquet")
    probabilities = pa.array([row for _, row in coded.values()], type=pa.list_(pa.float32(), len(labels)))
    predicted = [[index for index, value in enumerate(row) if value >= 0.5] for _, row in coded.values()]
    columns = {
        "document_id": list(coded), "split": [split for split, _ in coded.values()], "probabilities": probabilities,
        "predicted": pa.array(predicted, type=pa.list_(pa.int32())),
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
