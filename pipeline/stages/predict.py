"""Stage predict: classifier/, held_out.parquet, tokens/, documents.parquet -> (baseline_)predictions.parquet.

The baseline is what TF-IDF alone says of the same documents; an empty table where no baseline was trained. Documents of
split val get what was said of them before the model learned from them (:mod:`pipeline.coding.held_out`).

Run alone:
    python -m pipeline.stages.predict --config configs/demo.yaml
New documents are coded with ``icd predict``.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.coding.classifier import Classifier
from pipeline.coding.code_files import text_digest
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.evidence import Explainer
from pipeline.coding.faithfulness import FaithfulnessSample
from pipeline.coding.held_out import HeldOutVal, probability_column
from pipeline.coding.tally import Tally, cut_at
from pipeline.encoders.kernels import keep_few_kernels
from pipeline.encoders.precision import default_device
from pipeline.encoders.tokens import select_rows
from pipeline.errors import UserError
from pipeline.evaluation.label_counts import label_lists
from pipeline.evaluation.thresholds import apply_thresholds
from pipeline.experiment.artifacts import need, writing
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.stage_tracking import StageRun
from pipeline.notes.documents import values_of
from pipeline.notes.spans import LabelSpans, Span
from pipeline.stages import stage_main

logger = logging.getLogger(__name__)


# Without the section: offsets only.
_SPAN_TYPE = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("score", pa.float32()), ("source", pa.string())])
_SPAN_NAMES = [_SPAN_TYPE.field(place).name for place in range(_SPAN_TYPE.num_fields)]


def prediction_schema(n_labels: int) -> pa.Schema:
    """Columns of predictions.parquet.

    Probabilities of all labels in order; the label ids predicted; and for each of these, where predict.evidence is on
    (else null), the spans it rests on: character offsets in the text of documents.parquet, score and source. With
    evidence, the digest of that text tells whether a text is the one that was coded.
    """
    return pa.schema(
        [
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("probabilities", pa.list_(pa.float32(), n_labels), nullable=False),
            pa.field("predicted", pa.list_(pa.int32()), nullable=False),
            pa.field("evidence", pa.list_(pa.list_(_SPAN_TYPE))),
            pa.field("text_digest", pa.string()),
        ]
    )


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Code the documents of the chosen splits, by the model and by the lexical baseline beside it."""
    keep_few_kernels()
    if config.compute.n_threads:
        torch.set_num_threads(config.compute.n_threads)
    model = CodingModel.load(need(config.experiment_dir, "classifier"))
    model = model.to(default_device(), config.predict.mixed_precision)
    max_tokens = config.predict.micro_batch_tokens
    held_out = HeldOutVal(need(config.experiment_dir, "held_out.parquet"), len(model.label_space))
    tokens = datasets.load_from_disk(str(need(config.experiment_dir, "tokens")))
    rows = select_rows(tokens, *config.predict.splits)
    if not rows:
        raise UserError(f"no document is in predict.splits = {', '.join(config.predict.splits)}.")
    schema = prediction_schema(len(model.label_space))
    columns = tokens.select_columns(["document_id", "split"])
    document_ids = columns["document_id"]
    wanted = [document_ids[row] for row in rows]
    documents_path = need(config.experiment_dir, "documents.parquet")
    texts = values_of(documents_path, "text", wanted)
    again = values_of(documents_path, "text", wanted)  # for evidence; nothing is read where none is asked for
    started = time.perf_counter()
    n_predicted, first = 0, 0
    explainer = Explainer.of_model(model, max_tokens=max_tokens) if config.predict.evidence else None
    sample = FaithfulnessSample(len(rows))
    with (
        writing(config, "predict") as output,
        pq.ParquetWriter(output.dir / "predictions.parquet", schema, compression="zstd") as writer,
        pq.ParquetWriter(output.dir / "baseline_predictions.parquet", schema, compression="zstd") as baseline_writer,
    ):
        for coded in model.code_rows(tokens, rows, texts, max_tokens=max_tokens):
            block = columns[rows[first : first + len(coded.probabilities)]]
            probabilities, baseline = held_out.put_into(block["document_id"], coded)
            predicted = apply_thresholds(probabilities, model.thresholds)
            n_predicted += predicted.nnz
            spans = None
            if explainer is not None:
                label_ids = label_lists(predicted)
                block_rows = rows[first : first + len(probabilities)]
                block_texts = list(itertools.islice(again, len(block_rows)))
                block["text_digest"] = [text_digest(text) for text in block_texts]
                spans = explainer.explain_rows(tokens, block_rows, label_ids, block_texts)
                sample.add(first, label_ids, spans, block_texts)
            first += len(probabilities)
            writer.write_table(_table(block, probabilities, predicted, spans, schema))
            if baseline is not None and model.baseline_thresholds is not None:
                of_baseline = apply_thresholds(baseline, model.baseline_thresholds)
                baseline_writer.write_table(_table(block, baseline, of_baseline, None, schema))
        speed = len(rows) / (time.perf_counter() - started)
        output.facts |= {"documents": len(rows), "predicted": n_predicted, "baseline": model.has_baseline}
        output.facts |= {"precision": model.neural.precision} if model.neural else {}
        faithfulness = {} if explainer is None else sample.measure(model, max_tokens=max_tokens)
        output.facts |= faithfulness
    logger.info("%d documents, %d codes predicted, %.1f documents/s", len(rows), n_predicted, speed)
    _warn_of_cut(model.neural, tokens.select(rows))
    tracked.log_metrics({"n_documents": len(rows), "n_predicted": n_predicted, "documents_per_second": speed})
    tracked.log_metrics(faithfulness)


def _warn_of_cut(model: Classifier | None, tokens: datasets.Dataset) -> None:
    if model is None:
        return
    cut = Tally()
    for document_id, n_tokens_cut in zip(tokens["document_id"][:], tokens["n_tokens_cut"][:], strict=True):
        cut.count(document_id, n_tokens_cut > 0)
    cut.warn(cut_at(model), len(tokens))


def _span_row(span: Span) -> dict[str, Any]:
    return {name: getattr(span, name) for name in _SPAN_NAMES}


def _table(
    block: dict[str, list[str]],
    probabilities: np.ndarray,
    predicted: object,
    spans: Sequence[LabelSpans] | None,
    schema: pa.Schema,
) -> pa.Table:
    evidence: list[Any] = [None] * len(probabilities)
    if spans is not None:
        evidence = [[[_span_row(span) for span in one] for one in each] for each in spans]
    lists = pa.ListArray.from_arrays(
        pa.array(predicted.indptr, type=pa.int32()),  # type: ignore[attr-defined]
        pa.array(predicted.indices, type=pa.int32()),  # type: ignore[attr-defined]
    )
    columns = [
        pa.array(block["document_id"]),
        pa.array(block["split"]),
        probability_column(probabilities),
        lists,
        pa.array(evidence, type=schema.field("evidence").type),
        pa.array(block.get("text_digest", [None] * len(probabilities)), type=pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


if __name__ == "__main__":
    stage_main("predict", run)
