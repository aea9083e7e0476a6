"""A report with everything in it, for tests of its page and its figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.evaluation.agreement import coder_comparison
from pipeline.evaluation.coded import CodedSplit
from pipeline.evaluation.confusions import confusion_table, error_distances
from pipeline.evaluation.curves import reliability_table, threshold_curve
from pipeline.evaluation.label_counts import label_lists
from pipeline.evaluation.metrics import (
    bootstrap_intervals,
    evaluate_predictions,
    label_metrics_table,
)
from pipeline.evaluation.verdicts import add_verdicts
from pipeline.icd.labels import LabelSpace
from pipeline.reports.report_content import ReportContent
from pipeline.reports.report_data import compare_baseline, count_costs, count_label_space, take_without_human

EVIL = '<script>alert("$x$")</script>&'


def build_content(*, n_labels: int = 6, title: str = "Essential (primary) hypertension") -> ReportContent:
    generator = np.random.default_rng(0)
    truth = generator.random((40, n_labels)) < 0.3
    probabilities = (0.4 * truth + 0.6 * generator.random(truth.shape)).astype(np.float32)
    true, predicted = sparse.csr_array(truth), sparse.csr_array(probabilities > 0.5)
    train_counts = np.arange(n_labels) * 7
    names = [f"icd10cm:I{index // 10 % 100:02d}.{index % 10}" for index in range(n_labels)]
    space = LabelSpace(tuple(names), (title,) * n_labels, tuple(train_counts.tolist()))
    gold = [[names[index] for index in row] for row in label_lists(true)]
    documents = [f"d{n}" for n in range(40)]
    patients = [f"p{n // 2}" for n in range(40)]  # two documents each
    coded = CodedSplit(space, documents, patients, gold, [None] * 40, true, predicted, probabilities, 0)
    other = dataclasses.replace(coded, predicted=sparse.csr_array(probabilities > 0.7))
    curve = threshold_curve(true, probabilities)
    coders = {EVIL: true, "coder 2": predicted}
    return ReportContent(
        experiment="demo",
        created="2026-11-24 09:30",
        metrics=evaluate_predictions(
            true, predicted, probabilities, train_counts=train_counts, label_groups={"icd10cm": range(n_labels)}
        ),
        intervals=bootstrap_intervals(true, predicted, probabilities, n_resamples=20, seed=0, patients=patients),
        label_table=add_verdicts(
            label_metrics_table(
                true,
                predicted,
                labels=names,
                titles=[title] * n_labels,
                train_counts=train_counts,
                patients=patients,
            )
        ),
        reliability={"test": reliability_table(true, probabilities)},
        selective=take_without_human(coded, coded.take(np.arange(20)), target=0.8),
        confusions=confusion_table(true, predicted, labels=names, titles=[title] * n_labels),
        error_distances=error_distances(true, predicted, labels=names),
        label_space=count_label_space(coded),
        split_counts=pd.DataFrame({"split": ["train", "test"], "n_documents": [100, 40], "n_patients": [80, 20]}),
        threshold_curves={"test": curve, "val": curve},
        thresholds=(0.5, 0.5),
        history=build_history(n_steps=30),
        baseline=compare_baseline(coded, other, ks=(5, 8), n_resamples=40, seed=0),
        coder_comparison=coder_comparison(coders, true, predicted),
        settings={"seed": 0, "data": {"recipe": "synthetic", "options": {"n_documents": 40}}},
        costs=count_costs(
            {
                "ingest": {"duration_s": 1.5, "facts": {"documents": 30}, "peak_memory_mb": 321},
                "train_encoder": {"duration_s": 83.0, "facts": {}, "peak_memory_mb": 1},
            }
        ),
    )


def build_history(*, n_steps: int) -> pd.DataFrame:
    steps = pd.DataFrame({"step": np.arange(n_steps), "epoch": np.linspace(0, 3, n_steps)})
    steps["loss"] = 1 / (1 + steps["step"])
    steps["learning_rate"], steps["documents_per_second"] = 1e-5, 50.0
    shares = {f"share_r{index}": 0.2 for index in range(1, 6)}
    scores = pd.DataFrame({"stage": "train_classifier", "step": [10, 20], "epoch": [1, 2], "val_map": [0.4, 0.6]})
    partners = {"partner_share": 0.6, "partner_share_with_queue": 0.8}
    parts = [
        steps.assign(stage="train_encoder", mean_k=0.03, **shares, **partners),
        pd.DataFrame({"stage": "train_encoder", "step": [9, 19], "epoch": [1, 2], "epoch_partner_share": [0.55, 0.65]}),
        steps.assign(stage="train_classifier"),
        scores,
    ]
    return pd.concat(parts, ignore_index=True)
