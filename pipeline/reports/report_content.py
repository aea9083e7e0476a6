"""What a report shows: numbers, codes and settings, never text of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pipeline.evaluation.paired import PairedDifference
from pipeline.evaluation.selective import Taken


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A system on the same documents that a user would pick instead of the model.

    Attributes:
        name: what it is.
        metrics: ``metrics.evaluate_predictions``.
        intervals: ``metrics.bootstrap_intervals``.
        differences: ``paired.paired_differences``, model minus baseline; empty where nothing was drawn.
    """

    name: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    differences: Mapping[str, PairedDifference]


@dataclass(frozen=True, kw_only=True)
class Selective:
    """What can be taken without a human.

    Attributes:
        target: precision asked for.
        curve: ``selective.selective_curve`` of the evaluated split.
        documents: whole documents, at the confidence chosen on split val.
        codes: single codes, the same.
        documents_on_val: what the confidence took where it was chosen.
        codes_on_val: the same for single codes.
    """

    target: float
    curve: pd.DataFrame
    documents: Taken
    codes: Taken
    documents_on_val: Taken
    codes_on_val: Taken


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything a report shows. Nothing may hold text of a document.

    Attributes:
        experiment: its name.
        created: when, as it shall be printed; given by the caller, so equal content gives equal bytes.
        metrics: ``metrics.evaluate_predictions`` of the evaluated split, with its bands of training frequency.
        intervals: name -> (low, high), ``metrics.bootstrap_intervals``.
        label_table: ``metrics.label_metrics_table`` with the columns of ``verdicts.add_verdicts``.
        split_counts: one row a split; column ``split`` first, then counts.
        threshold_curves: split -> ``metrics.threshold_curve``, the evaluated split first.
        split: which split was evaluated.
        thresholds: lowest and highest of those in use.
        threshold_note: how thresholds were fitted, and on what.
        history: rows of training with columns stage, step, epoch, loss, learning_rate,
            documents_per_second, ``val_<score>``, ``share_r1`` to ``share_r5``, mean_k; missing where a row
            has none.
        baseline: the lexical baseline on the same documents.
        reliability: split -> ``curves.reliability_table``, the evaluated split first.
        selective: what can be taken without a human.
        confusions: ``confusions.confusion_table``.
        error_distances: ``confusions.error_distances``.
        label_space: one row a code system.
        coder_comparison: ``metrics.coder_comparison``, where several people coded the documents.
        coder_note: how the gold standard came about, shown beside it.
        settings: the resolved config.
        costs: one row a stage: stage, seconds, and where known documents_per_second and peak_memory_mb.
        facts: what identifies the run: dataset, digest, code version, machine.
        label_groups: names of groups of labels that were scored by themselves.
        notes: what a reader should know, each a sentence or two.
    """

    experiment: str
    created: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    label_table: pd.DataFrame
    split_counts: pd.DataFrame
    threshold_curves: Mapping[str, pd.DataFrame]
    split: str = "test"
    thresholds: tuple[float, float] = (0.5, 0.5)
    threshold_note: str = "fitted on split val"
    history: pd.DataFrame | None = None
    baseline: Baseline | None = None
    reliability: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    selective: Selective | None = None
    confusions: pd.DataFrame | None = None
    error_distances: Mapping[str, float] = field(default_factory=dict)
    label_space: pd.DataFrame | None = None
    coder_comparison: pd.DataFrame | None = None
    coder_note: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    costs: pd.DataFrame | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    label_groups: Sequence[str] = ()
    notes: Sequence[str] = ()
