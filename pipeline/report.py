"""The report of an experiment: one HTML file for a coding department, complete in itself.

The first screen answers how good, how sure, and compared with what. The page asks for nothing from any
network, shows numbers, codes and settings only, and escapes every value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.figures import (
    SystemScore,
    frequency_figure,
    precision_recall_figure,
    systems_figure,
    threshold_figure,
)
from pipeline.page import render_page, write_page
from pipeline.report_tables import (
    FEW_DOCUMENTS,
    HISTORY_COLUMNS,
    as_table,
    flat_settings,
    group_scores,
    percent,
    seen_labels,
    short,
    training_summary,
)
from pipeline.training_figures import relations_figure, training_figure

MAX_LABEL_ROWS = 3_000

_HEADLINE = {
    "micro_f1": "right and found codes in balance, every code in every document counting the same",
    "macro_f1": "the same by code, then averaged: rare codes count as much as frequent ones",
    "map": "how far up the true codes stand in the model's ranking, whatever the threshold",
    "precision_at_5": "share of true codes among the five most probable ones",
    "exact_match": "share of documents with exactly the right set of codes",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report that its author adds; the text of a table's cells is escaped.

    Attributes:
        title: heading.
        text: a paragraph.
        table: rows, the first ``MAX_TABLE_ROWS`` of which are shown.
        svg: from ``pipeline.figures``; goes into the page as it is.
    """

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    svg: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything a report shows. Nothing may hold text of a document.

    Attributes:
        experiment: its name.
        created: when, as it shall be printed; given by the caller, so equal content gives equal bytes.
        metrics: ``metrics.evaluate_predictions`` of the evaluated split.
        intervals: name -> (low, high), ``metrics.bootstrap_intervals``.
        label_table: ``metrics.label_metrics_table``.
        frequency_bands: ``metrics.metrics_by_frequency_band``.
        split_counts: one row a split; column ``split`` first, then counts.
        threshold_curves: split -> ``metrics.threshold_curve``, the evaluated split first.
        split: which split was evaluated.
        threshold: the one in use for all codes; None where each code has its own.
        threshold_note: how thresholds were fitted, and on what.
        history: rows of training with columns stage, step, epoch, loss, learning_rate,
            documents_per_second, ``val_<score>``, ``share_r1`` to ``share_r5``, mean_k; missing where a row
            has none.
        baselines: other systems on the same documents: name, then scores (micro_f1, macro_f1, ...).
        published: results of others on other documents, to be read with care: same columns.
        coder_comparison: ``metrics.coder_comparison``, where several people coded the documents.
        coder_note: how the gold standard came about, shown beside it.
        settings: the resolved config.
        stage_seconds: stage -> wall-clock time in seconds.
        facts: what identifies the run: dataset, digest, code version, machine.
        notes: what a reader should know, each a sentence or two.
        sections: further parts, shown before the settings.
    """

    experiment: str
    created: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    label_table: pd.DataFrame
    frequency_bands: pd.DataFrame
    split_counts: pd.DataFrame
    threshold_curves: Mapping[str, pd.DataFrame]
    split: str = "test"
    threshold: float | None = None
    threshold_note: str = "fitted on split val"
    history: pd.DataFrame | None = None
    baselines: pd.DataFrame | None = None
    published: pd.DataFrame | None = None
    coder_comparison: pd.DataFrame | None = None
    coder_note: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sections: Sequence[Section] = ()


def write_report(path: Path, report: ReportContent) -> None:
    """Write the report whole or not at all.

    Args:
        path: of the HTML file; its folder must exist.
        report: what it shows.
    """
    write_page(path, render_report(report))


def render_report(report: ReportContent) -> str:
    """The report as HTML; equal content gives equal text."""
    seen = seen_labels(report.label_table)
    return render_page(
        "report.html.j2",
        report=report,
        metrics=report.metrics,
        overall=[(name, score) for name, score in report.metrics.items() if "/" not in name],
        headline=[(name, text) for name, text in _HEADLINE.items() if name in report.metrics],
        readings=_readings(report),
        figures={name: Markup(svg) for name, svg in _figures(report).items()},
        label_rows=seen.head(MAX_LABEL_ROWS).to_dict("records"),
        n_seen=len(seen),
        few_documents=FEW_DOCUMENTS,
        coders=as_table(report.coder_comparison),
        baselines=as_table(report.baselines),
        published=as_table(report.published),
        bands=as_table(report.frequency_bands),
        splits=as_table(report.split_counts),
        groups=as_table(group_scores(report.metrics)),
        training=as_table(training_summary(report.history)),
        sections=[
            {
                "title": one.title,
                "text": one.text,
                "table": as_table(one.table),
                "svg": Markup(one.svg) if one.svg else None,
            }
            for one in report.sections
        ],
        settings=flat_settings(report.settings),
    )


def _systems(report: ReportContent) -> list[SystemScore]:
    """The model, then what it is compared with on the same documents, by micro-F1."""
    low, high = report.intervals.get("micro_f1", (None, None))
    systems = [SystemScore("This model", "model", report.metrics["micro_f1"], low, high)]
    if report.baselines is not None:
        names = report.baselines["name"].map(short)
        systems += [
            SystemScore(name, "baseline", float(score))
            for name, score in zip(names, report.baselines["micro_f1"], strict=True)
        ]
    if report.coder_comparison is not None:
        for row in report.coder_comparison.to_dict("records"):
            if row["kind"] != "model vs gold":
                first = "This model" if row["first"] == "model" else short(row["first"])
                systems.append(SystemScore(f"{first} – {short(row['second'])}", row["kind"], row["micro_f1"]))
    return systems


def _readings(report: ReportContent) -> list[str]:
    """What the comparison says, in sentences."""
    score = report.metrics["micro_f1"]
    sentences = []
    if report.baselines is not None and len(report.baselines):
        best = report.baselines.sort_values("micro_f1").iloc[-1]
        points = 100 * (score - best["micro_f1"])
        sentences.append(
            f"The best other system on these documents, {short(best['name'])}, has a micro-F1 of "
            f"{percent(best['micro_f1'])} %; the model is {abs(points):.1f} points "
            f"{'above' if points >= 0 else 'below'} it."
        )
    if report.coder_comparison is not None and len(report.coder_comparison):
        means = report.coder_comparison.groupby("kind")["micro_f1"].mean()
        if {"coder vs coder", "model vs coder"} <= set(means.index):
            sentences.append(
                f"Two human coders agree with each other at a micro-F1 of {percent(means['coder vs coder'])} % on "
                f"average; the model agrees with a coder at {percent(means['model vs coder'])} %."
            )
    return sentences


def _figures(report: ReportContent) -> dict[str, str]:
    metrics = report.metrics
    in_use = {"in use": (metrics["micro_recall"], metrics["micro_precision"])}
    evaluated = {split: curve for split, curve in report.threshold_curves.items() if split == report.split}
    figures = {"frequency": frequency_figure(report.frequency_bands)}
    systems = _systems(report)
    if len(systems) > 1:
        figures["systems"] = systems_figure(systems, score_name="Micro-F1")
    if evaluated:
        figures["precision_recall"] = precision_recall_figure(evaluated, in_use)
    if report.threshold_curves:
        figures["threshold"] = threshold_figure(report.threshold_curves, chosen=report.threshold)
    if report.history is not None:
        history = report.history.reindex(columns=[*dict.fromkeys((*HISTORY_COLUMNS, *report.history.columns))])
        if history["loss"].notna().any():
            figures["training"] = training_figure(history)
        if "share_r1" in history and history["share_r1"].notna().any():
            first = history.loc[history["share_r1"].notna(), "stage"].iloc[0]
            figures["relations"] = relations_figure(history[history["stage"] == first])
    return figures
