"""Stage predict: classifier/, tokens/, documents.parquet -> predictions.parquet, baseline_predictions.parquet.

The second is what TF-IDF alone says of the same documents; an empty table where no baseline was trained.

Run alone:
    python -m pipeline.stages.predict --config configs/demo.yaml
New documents are coded with ``icd predict``.
"""

from __future__ import annotations

import logging
import time

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.artifacts import need, writing
from pipeline.config import PipelineConfig
from pipeline.documents import values_of
from pipeline.ensemble import CodingModel
from pipeline.errors import UserError
from pipeline.stages import stage_main
from pipeline.thresholds import apply_thresholds
from pipeline.tokens import select_rows
from pipeline.tracking import StageRun

logger = logging.getLogger(__name__)


def prediction_schema(n_labels: int) -> pa.Schema:
    """Columns of predictions.parquet: probabilities of all labels in order, and the label ids predicted."""
    return pa.schema(
        [
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("probabilities", pa.list_(pa.float32(), n_labels), nullable=False),
            pa.field("predicted", pa.list_(pa.int32()), nullable=False),
        ]
    )


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Code the documents of the chosen splits, by the model and by the lexical baseline beside it."""
    if config.compute.n_threads:
        torch.set_num_threads(config.compute.n_threads)
    model = CodingModel.load(need(config.experiment_dir, "classifier"))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    tokens = datasets.load_from_disk(str(need(config.experiment_dir, "tokens")))
    rows = select_rows(tokens, *config.predict.splits)
    if not rows:
        raise UserError(f"no document is in predict.splits = {', '.join(config.predict.splits)}.")
    schema = prediction_schema(len(model.label_space))
    columns = tokens.select_columns(["document_id", "split"])
    document_ids = columns["document_id"]
    texts = values_of(need(config.experiment_dir, "documents.parquet"), "text", [document_ids[row] for row in rows])
    started = time.perf_counter()
    n_predicted, first = 0, 0
    with (
        writing(config, "predict") as output,
        pq.ParquetWriter(output.dir / "predictions.parquet", schema, compression="zstd") as writer,
        pq.ParquetWriter(output.dir / "baseline_predictions.parquet", schema, compression="zstd") as baseline_writer,
    ):
        for probabilities, baseline in model.code_rows(
            tokens,
            rows,
            texts,
            max_tokens=config.predict.micro_batch_tokens,
            mixed_precision=config.predict.mixed_precision,
        ):
            block = columns[rows[first : first + len(probabilities)]]
            first += len(probabilities)
            predicted = apply_thresholds(probabilities, model.thresholds)
            n_predicted += predicted.nnz
            writer.write_table(_table(block, probabilities, predicted, schema))
            if baseline is not None and model.baseline_thresholds is not None:
                of_baseline = apply_thresholds(baseline, model.baseline_thresholds)
                baseline_writer.write_table(_table(block, baseline, of_baseline, schema))
        output.facts |= {"documents": len(rows), "predicted": n_predicted, "baseline": model.has_baseline}
    speed = len(rows) / (time.perf_counter() - started)
    logger.info("%d documents, %d codes predicted, %.1f documents/s", len(rows), n_predicted, speed)
    tracked.log_metrics({"n_documents": len(rows), "n_predicted": n_predicted, "documents_per_second": speed})


def _table(block: dict[str, list[str]], probabilities: np.ndarray, predicted: object, schema: pa.Schema) -> pa.Table:
    flat = pa.array(probabilities.reshape(-1), type=pa.float32())
    lists = pa.ListArray.from_arrays(
        pa.array(predicted.indptr, type=pa.int32()),  # type: ignore[attr-defined]
        pa.array(predicted.indices, type=pa.int32()),  # type: ignore[attr-defined]
    )
    columns = [
        pa.array(block["document_id"]),
        pa.array(block["split"]),
        pa.FixedSizeListArray.from_arrays(flat, probabilities.shape[1]),
        lists,
    ]
    return pa.Table.from_arrays(columns, schema=schema)


if __name__ == "__main__":
    stage_main("predict", run)
