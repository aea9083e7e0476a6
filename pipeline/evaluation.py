"""Gather what the stages wrote into scores and the content of the report."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

from pipeline.artifacts import need, read_json, read_manifest
from pipeline.codes import parse_label
from pipeline.config import STAGE_SECTIONS
from pipeline.errors import UserError
from pipeline.icd_metric import IcdCodingMetric
from pipeline.label_counts import label_lists, label_matrix
from pipeline.labels import LabelSpace
from pipeline.metrics import (
    bootstrap_intervals,
    coder_comparison,
    label_metrics_table,
    metrics_by_frequency_band,
    threshold_curve,
)
from pipeline.report import ReportContent

logger = logging.getLogger(__name__)

_TRAININGS = {"train_encoder": "encoder", "train_classifier": "classifier"}


@dataclass(frozen=True)
class CodedSplit:
    """Gold and predicted labels of one split.

    Attributes:
        document_ids: in the order of the rows below.
        true: (n_documents, n_labels) bool CSR, labels of the label space.
        predicted: the same shape.
        probabilities: the same shape, float32.
        n_outside: gold labels that lie outside the label space, over all documents.
    """

    document_ids: list[str]
    true: sparse.csr_array
    predicted: sparse.csr_array
    probabilities: np.ndarray
    n_outside: int


def load_coded_split(experiment_dir: Path, split: str, label_space: LabelSpace) -> CodedSplit | None:
    """Join predictions and gold labels of a split by document; None where no document of it was coded.

    Raises:
        UserError: if the predictions are for another label space, or a document has no gold labels.
    """
    table = pq.read_table(need(experiment_dir, "predictions.parquet"), filters=[("split", "==", split)])
    if not len(table):
        return None
    n_labels = len(label_space)
    if table.schema.field("probabilities").type.list_size != n_labels:
        raise UserError(f"{experiment_dir}: predictions and label space differ; run the stage 'predict' again.")
    document_ids = table["document_id"].to_pylist()
    gold = gold_labels(experiment_dir, document_ids)
    encoded = [label_space.encode(gold[document_id]) for document_id in document_ids]
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return CodedSplit(
        document_ids,
        label_matrix([ids for ids, _ in encoded], n_labels),
        label_matrix(table["predicted"].to_pylist(), n_labels),
        flat.reshape(-1, n_labels),
        sum(n for _, n in encoded),
    )


def gold_labels(experiment_dir: Path, document_ids: Sequence[str]) -> dict[str, list[str]]:
    """Labels of documents as ingested.

    Raises:
        UserError: if one is missing.
    """
    documents = pq.read_table(need(experiment_dir, "documents.parquet"), columns=["document_id", "labels"])
    documents = documents.filter(pc.is_in(documents["document_id"], pa.array(document_ids)))
    gold = dict(zip(documents["document_id"].to_pylist(), documents["labels"].to_pylist(), strict=True))
    missing = [document_id for document_id in document_ids if document_id not in gold]
    if missing:
        raise UserError(
            f"{experiment_dir}: {len(missing)} coded documents are not in documents.parquet (first: {missing[0]}); "
            "run the stages again from 'tokenize' on."
        )
    return gold


def score(
    coded: CodedSplit, label_space: LabelSpace, *, ks: Sequence[int], n_resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Scores and bootstrap intervals of a split, computed by the evaluate metric on label-id lists.

    ``micro_f1_all_given`` counts gold labels outside the label space as missed; the other scores leave them out.
    """
    metric = IcdCodingMetric(n_labels=len(label_space))
    scores: dict[str, float] = metric.compute(
        predictions=label_lists(coded.predicted),
        references=label_lists(coded.true),
        probabilities=coded.probabilities,
        train_counts=np.asarray(label_space.train_counts),
        label_groups=_code_systems(label_space),
        ks=tuple(ks),
    )
    n_given = scores["n_true"] + coded.n_outside
    scores["n_true_outside_label_space"] = coded.n_outside
    scores["micro_f1_all_given"] = 2 * scores["n_true_positive"] / max(scores["n_predicted"] + n_given, 1)
    intervals = bootstrap_intervals(
        coded.true, coded.predicted, coded.probabilities, n_resamples=n_resamples, seed=seed
    )
    return scores, intervals


def _code_systems(label_space: LabelSpace) -> dict[str, list[int]]:
    """Label ids by code system, where there are several."""
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(label_space.labels):
        groups.setdefault(parse_label(label)[0], []).append(index)
    return groups if len(groups) > 1 else {}


def compare_coders(experiment_dir: Path, coded: CodedSplit, label_space: LabelSpace) -> pd.DataFrame | None:
    """Put model and human coders side by side, where the data has coders; codes outside the label space count."""
    annotators = pq.read_table(need(experiment_dir, "annotators.parquet"))
    annotators = annotators.filter(pc.is_in(annotators["document_id"], pa.array(coded.document_ids))).to_pandas()
    if annotators.empty:
        return None
    gold = gold_labels(experiment_dir, coded.document_ids)
    beyond = {label for labels in [*gold.values(), *annotators["labels"]] for label in label_space.raised(labels)}
    names = [*label_space.labels, *sorted(beyond - set(label_space.labels))]
    union = LabelSpace(tuple(names), (None,) * len(names), (0,) * len(names), label_space.level)

    def matrix(label_sets: Mapping[str, Iterable[str]]) -> sparse.csr_array:
        return label_matrix([union.encode(label_sets.get(one, ()))[0] for one in coded.document_ids], len(names))

    coders = {
        name: matrix(dict(zip(rows["document_id"], rows["labels"], strict=True)))
        for name, rows in annotators.groupby("annotator")
    }
    predicted = label_matrix(label_lists(coded.predicted), len(names))  # the union begins with the label space
    return coder_comparison(coders, matrix(gold), predicted)


def report_content(
    experiment_dir: Path,
    coded: CodedSplit,
    label_space: LabelSpace,
    *,
    experiment: str,
    split: str,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    coders: pd.DataFrame | None,
) -> ReportContent:
    """Everything the report shows, from what the stages wrote; no text of a document."""
    manifests = {stage: read_manifest(experiment_dir, stage) for stage in STAGE_SECTIONS if stage != "evaluate"}
    known = {stage: manifest for stage, manifest in manifests.items() if manifest is not None}
    validation = coded if split == "val" else load_coded_split(experiment_dir, "val", label_space)
    curves = {split: threshold_curve(coded.true, coded.probabilities)}
    if validation is not None:
        curves["val"] = threshold_curve(validation.true, validation.probabilities)
    report = read_json(need(experiment_dir, "ingest_report.json"))
    return ReportContent(
        experiment=experiment,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=scores,
        intervals=intervals,
        label_table=label_metrics_table(
            coded.true,
            coded.predicted,
            labels=label_space.labels,
            titles=[title or "" for title in label_space.titles],
            train_counts=label_space.train_counts,
        ),
        frequency_bands=metrics_by_frequency_band(coded.true, coded.predicted, label_space.train_counts),
        split_counts=count_splits(experiment_dir),
        threshold_curves=curves,
        split=split,
        threshold=known["train_classifier"]["facts"]["threshold"],
        threshold_note="fitted on split val, highest micro-F1",
        history=training_history(experiment_dir),
        coder_comparison=coders,
        coder_note=_CODER_NOTE if coders is not None else "",
        settings={name: value for one in known.values() for name, value in one["settings"].items()},
        stage_seconds={stage: manifest["duration_s"] for stage, manifest in known.items()},
        facts={
            "data": f"{known['ingest']['settings']['data']['recipe']}, "
            f"sha256 {known['ingest']['outputs']['documents.parquet'][:12]}",
            "code": str(known["train_classifier"]["git_commit"])[:13],
        },
        notes=_notes(scores, report),
    )


_CODER_NOTE = (
    "Where the gold standard is the majority of these coders, each coder against gold looks better than the coder "
    "is; coder against coder is the honest agreement. Codes outside the model's label space count here."
)


def _notes(scores: Mapping[str, float], ingest_report: Mapping[str, Any]) -> list[str]:
    notes = []
    if scores["n_true_outside_label_space"]:
        notes.append(
            f"{scores['n_true_outside_label_space']:.0f} given codes of these documents lie outside the label space, "
            f"so the model could not find them. Counted as missed, micro-F1 is {scores['micro_f1_all_given']:.3f}."
        )
    if ingest_report["dropped"]:
        dropped = ", ".join(f"{reason.replace('_', ' ')}: {n}" for reason, n in ingest_report["dropped"].items())
        notes.append(f"Left out at ingestion: {dropped}.")
    return notes


def count_splits(experiment_dir: Path) -> pd.DataFrame:
    """One row a split: documents, patients, labels."""
    documents = pq.read_table(
        need(experiment_dir, "documents.parquet"), columns=["document_id", "patient_id", "labels"]
    ).to_pandas()
    frame = documents.merge(pq.read_table(need(experiment_dir, "splits.parquet")).to_pandas(), on="document_id")
    frame["n_labels"] = frame["labels"].map(len)
    rows = []
    for split in ("train", "val", "test"):
        part = frame[frame["split"] == split]
        rows.append(
            {
                "split": split,
                "n_documents": len(part),
                "n_patients": part["patient_id"].nunique(),
                "n_labels_given": int(part["n_labels"].sum()),
                "labels_per_document": float(part["n_labels"].mean()) if len(part) else 0.0,
                "n_labels_present": len({label for labels in part["labels"] for label in labels}),
            }
        )
    return pd.DataFrame(rows)


def training_history(experiment_dir: Path) -> pd.DataFrame | None:
    """Rows of both trainings, or None where nothing was trained."""
    frames = []
    for stage, folder in _TRAININGS.items():
        rows = read_json(need(experiment_dir, folder) / "training_history.json")
        frames.append(pd.DataFrame(rows).assign(stage=stage))
    frames = [frame for frame in frames if "step" in frame]
    return pd.concat(frames, ignore_index=True) if frames else None
