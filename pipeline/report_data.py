"""Gather what the stages wrote into the content of the report; no text of a document."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from pipeline.artifacts import need, read_json, read_manifest
from pipeline.coded import CodedSplit, load_coded_split
from pipeline.config import STAGE_SECTIONS
from pipeline.curves import threshold_curve
from pipeline.metrics import label_metrics_table, metrics_by_frequency_band
from pipeline.report import ReportContent

_TRAININGS = {"train_encoder": "encoder", "train_classifier": "classifier"}


def report_content(
    experiment_dir: Path,
    coded: CodedSplit,
    *,
    experiment: str,
    split: str,
    scores: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    coders: pd.DataFrame | None,
) -> ReportContent:
    """Everything the report shows, from what the stages wrote; no text of a document."""
    label_space = coded.label_space
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
