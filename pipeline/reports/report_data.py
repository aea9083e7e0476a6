"""Gather what the stages wrote into the content of the report; no text of a document."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.evaluation.coded import CodedSplit, load_coded_split
from pipeline.evaluation.confusions import confusion_table, error_distances
from pipeline.evaluation.curves import reliability_table, threshold_curve
from pipeline.evaluation.metrics import (
    bootstrap_intervals,
    evaluate_predictions,
    label_metrics_table,
)
from pipeline.evaluation.paired import paired_differences
from pipeline.evaluation.patients import few_patients_note
from pipeline.evaluation.selective import Taken, choose_confidence, code_curve, independent_taken, selective_curve, take
from pipeline.evaluation.split_scores import LabelGroups, band_groups
from pipeline.evaluation.verdicts import add_verdicts
from pipeline.experiment.artifacts import need
from pipeline.experiment.config import STAGE_SECTIONS
from pipeline.experiment.manifests import read_manifest
from pipeline.files import read_json
from pipeline.icd.codes import parse_label
from pipeline.reports.report_content import Baseline, ReportContent, Selective

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
    baseline: Baseline | None = None,
    target_precision: float = 0.95,
    label_groups: Sequence[str] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> ReportContent:
    """Everything the report shows, from what the stages wrote and the settings of this one; no text of a document."""
    label_space = coded.label_space
    manifests = {stage: read_manifest(experiment_dir, stage) for stage in STAGE_SECTIONS if stage != "evaluate"}
    known = {stage: manifest for stage, manifest in manifests.items() if manifest is not None}
    validation = coded if split == "val" else load_coded_split(experiment_dir, "val", label_space)
    shown = {split: coded} | ({} if validation is None else {"val": validation})
    titles = [title or "" for title in label_space.titles]
    table = label_metrics_table(
        coded.true,
        coded.predicted,
        labels=label_space.labels,
        titles=titles,
        train_counts=label_space.train_counts,
        patients=coded.patients,
    )
    report = read_json(need(experiment_dir, "ingest_report.json"))
    return ReportContent(
        experiment=experiment,
        label_groups=label_groups,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=scores,
        intervals=intervals,
        baseline=baseline,
        label_table=add_verdicts(table),
        split_counts=count_splits(experiment_dir),
        label_space=count_label_space(coded),
        threshold_curves={name: threshold_curve(one.true, one.probabilities) for name, one in shown.items()},
        reliability={name: reliability_table(one.true, one.probabilities) for name, one in shown.items()},
        selective=None if validation is None else take_without_human(coded, validation, target=target_precision),
        confusions=confusion_table(coded.true, coded.predicted, labels=label_space.labels, titles=titles),
        error_distances=error_distances(coded.true, coded.predicted, labels=label_space.labels),
        split=split,
        thresholds=tuple(known["train_classifier"]["facts"]["threshold_range"]),
        threshold_note=_threshold_note(known["train_classifier"]["facts"]),
        history=training_history(experiment_dir),
        coder_comparison=coders,
        coder_note=_CODER_NOTE if coders is not None else "",
        settings={name: value for one in known.values() for name, value in one["settings"].items()} | dict(settings),
        costs=count_costs(known),
        facts={
            "data": f"{known['ingest']['settings']['data']['recipe']}, "
            f"sha256 {known['ingest']['outputs']['documents.parquet'][:12]}",
            "code": short_commit(known["train_classifier"]["git_commit"]),
        },
        notes=_notes(scores, report, coded),
    )


def short_commit(commit: str | None) -> str:
    """Twelve characters of a commit, and the ``+`` of a modified tree."""
    return "unknown" if commit is None else commit[:12] + "+" * commit.endswith("+")


_RULES = {
    "global": "one for all codes: that of the highest micro-F1, pulled to half of this F1",
    "per_band": "one for all codes about as frequent in training, pulled to half of their F1",
    "per_label": "each code has its own, pulled to the common one",
    "prevalence": "each code is proposed as often as it is given in training",
}
_FITTED_ON = {
    "neural": "split val",
    "ensemble": "split val; those of codes with fewer than three training documents, on held-out documents",
}


def _threshold_note(facts: Mapping[str, Any]) -> str:
    """How thresholds were fitted, and on what, from what the stage train_classifier noted."""
    return f"{_RULES[facts['threshold_rule']]}; fitted on {_FITTED_ON.get(facts['model'], 'held-out documents')}"


def take_without_human(coded: CodedSplit, validation: CodedSplit, *, target: float) -> Selective:
    """Choose on split val how sure is sure enough, and see what that takes on the evaluated split."""
    curve, documents, documents_on_val = _take("documents", selective_curve, (coded, validation), target)
    _, codes, codes_on_val = _take("codes", code_curve, (coded, validation), target)
    return Selective(
        target=target,
        curve=curve,
        documents=documents,
        codes=codes,
        documents_on_val=documents_on_val,
        codes_on_val=codes_on_val,
    )


def _take(
    kind: str, curve_of: Callable[..., pd.DataFrame], splits: tuple[CodedSplit, CodedSplit], target: float
) -> tuple[pd.DataFrame, Taken, Taken]:
    """Curve of the first split, what is taken of it, and what of the second, by which is chosen."""
    here, on_val = (curve_of(one.true, one.predicted, one.probabilities) for one in splits)
    confidence = choose_confidence(on_val, target=target)

    def taken(curve: pd.DataFrame, one: CodedSplit) -> Taken:
        answers = (one.true, one.predicted, one.probabilities, one.patients)
        return take(curve, confidence, kind=kind, n_independent=independent_taken(*answers, confidence, kind=kind))

    return here, taken(here, splits[0]), taken(on_val, splits[1])


def without_human(report: ReportContent) -> dict[str, Any] | None:
    """What can be taken without a human, as numbers for metrics.json."""
    if report.selective is None:
        return None
    names = ("documents", "codes", "documents_on_val", "codes_on_val")
    return {"target_precision": report.selective.target} | {
        name: asdict(getattr(report.selective, name)) for name in names
    }


def compare_baseline(
    coded: CodedSplit,
    baseline: CodedSplit,
    *,
    ks: Sequence[int],
    n_resamples: int,
    seed: int,
    label_groups: LabelGroups = MappingProxyType({}),
) -> Baseline:
    """The lexical baseline on the same documents, and how far the model is above it, also by band and group."""
    ks = sorted({*ks, 5, 8})
    groups = band_groups(coded.label_space) | {name: np.asarray(labels) for name, labels in label_groups.items()}
    options: dict[str, Any] = {
        "n_resamples": n_resamples,
        "seed": seed,
        "patients": coded.patients,
        "ks": ks,
        "label_groups": groups,
    }
    answers = (coded.predicted, coded.probabilities, baseline.predicted, baseline.probabilities)
    return Baseline(
        name="lexical baseline",
        metrics=evaluate_predictions(
            coded.true,
            baseline.predicted,
            baseline.probabilities,
            train_counts=coded.label_space.train_counts,
            ks=ks,
            label_groups=label_groups,
        ),
        intervals=bootstrap_intervals(coded.true, baseline.predicted, baseline.probabilities, **options),
        differences=paired_differences(coded.true, *answers, **options) if n_resamples else {},
    )


_CODER_NOTE = (
    "Where the gold standard is the majority of these coders, each coder against gold looks better than the coder "
    "is; coder against coder is the honest agreement. Codes outside the model's label space count in this table; "
    "“Micro-F1 in label space” leaves them out, as the model's own scores do, and is the figure to set beside them. A "
    "document that was not given to a coder is left out of that coder's rows."
)


def _notes(scores: Mapping[str, float], ingest_report: Mapping[str, Any], coded: CodedSplit) -> list[str]:
    few = few_patients_note(len(coded.patients), len(set(coded.patients)))
    notes = [few] if few else []
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
    """One row a split: documents, patients, labels; first and last year where documents have a date."""
    documents = pq.read_table(
        need(experiment_dir, "documents.parquet"), columns=["document_id", "patient_id", "labels"]
    ).to_pandas()
    frame = documents.merge(pq.read_table(need(experiment_dir, "splits.parquet")).to_pandas(), on="document_id")
    frame["n_labels"] = frame["labels"].map(len)
    manifest = read_manifest(experiment_dir, "split")
    years = manifest["facts"]["years"] if manifest else {}
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
        if years:
            rows[-1]["years"] = " to ".join(map(str, years.get(split, ())))
    return pd.DataFrame(rows)


def count_label_space(coded: CodedSplit) -> pd.DataFrame:
    """One row a code system: its codes, how many are rare or without title, and what lies outside on this split."""
    space = coded.label_space
    outside = Counter(
        parse_label(label)[0] for labels in coded.gold for label in space.raised(labels) - set(space.labels)
    )
    frame = pd.DataFrame(
        {
            "code_system": [parse_label(label)[0] for label in space.labels],
            "n_train": space.train_counts,
            "has_title": [title is not None for title in space.titles],
            "n_true": np.asarray(coded.true.sum(axis=0)).ravel(),
        }
    )
    rows = []
    for system, part in frame.groupby("code_system"):
        rows.append(
            {
                "code_system": system,
                "n_labels": len(part),
                "with_title": int(part["has_title"].sum()),
                "in_10_training_documents_or_fewer": int((part["n_train"] <= 10).sum()),
                "median_of_training_documents": float(part["n_train"].median()),
                "n_labels_present": int((part["n_true"] > 0).sum()),
                "n_true": int(part["n_true"].sum()),
                "given_but_outside": outside[str(system)],  # type: ignore[index]
            }
        )
    return pd.DataFrame(rows)


def count_costs(manifests: Mapping[Any, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a stage: wall-clock time; documents a second and memory where its manifest has them."""
    rows = []
    for stage, manifest in manifests.items():
        seconds, n_documents = manifest["duration_s"], manifest["facts"].get("documents")
        is_count = isinstance(n_documents, int) and seconds > 0
        rows.append(
            {
                "stage": stage,
                "seconds": seconds,
                "documents_per_second": n_documents / seconds if is_count else None,
                "peak_memory_mb": manifest["peak_memory_mb"],
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
