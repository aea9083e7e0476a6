"""The tables of a small experiment, by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.icd.labels import LabelSpace
from pipeline.notes.documents import ANNOTATOR_SCHEMA, DOCUMENT_SCHEMA
from pipeline.stages.predict import prediction_schema

DIABETES, PRESSURE, KIDNEY, OUTSIDE = "icd10cm:E11.9", "icd10cm:I10", "icd10cm:N17.9", "icd10cm:Z99.89"
SPACE = LabelSpace((DIABETES, PRESSURE, KIDNEY), (None, None, None), (5, 9, 1))
GOLD = {"v1": [KIDNEY], "d1": [PRESSURE, OUTSIDE], "d2": [DIABETES, PRESSURE], "t1": [PRESSURE], "d3": [KIDNEY]}
PREDICTIONS = [  # not in the order of the documents, and the sets do not follow from the probabilities
    ("d3", "test", [0.2, 0.3, 0.1], []),
    ("v1", "val", [0.1, 0.1, 0.9], [2]),
    ("d2", "test", [0.3, 0.8, 0.6], [1, 2]),
    ("d1", "test", [0.1, 0.9, 0.2], [1]),
]
CODERS = [
    ("d1", "A", [PRESSURE, OUTSIDE]), ("d2", "A", [PRESSURE]), ("d3", "A", [KIDNEY]), ("v1", "A", [DIABETES]),
    ("d1", "B", [OUTSIDE]), ("d2", "B", [PRESSURE, DIABETES]),
]  # fmt: skip


def write(
    folder: Path,
    gold: dict[str, list[str]] = GOLD,
    predictions: list[tuple[str, str, list[float], list[int]]] = PREDICTIONS,
    coders: list[tuple[str, str, list[str]]] = CODERS,
    n_labels: int = 3,
) -> Path:
    """An experiment's tables, by hand."""
    documents = [
        {"document_id": one, "patient_id": "pd1" if one == "d2" else f"p{one}", "text": "a", "labels": labels}
        for one, labels in gold.items()
    ]
    pq.write_table(pa.Table.from_pylist(documents, DOCUMENT_SCHEMA), folder / "documents.parquet")
    for name, schema, rows in (
        ("predictions", prediction_schema(n_labels), predictions), ("annotators", ANNOTATOR_SCHEMA, coders)
    ):  # fmt: skip
        table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=False)) for row in rows], schema)
        pq.write_table(table, folder / f"{name}.parquet")
    return folder
