"""The report of an experiment: one HTML file for a coding department, complete in itself.

The first screen answers how good, how sure, and compared with what. The page asks for nothing from any
network, shows numbers, codes and settings only, and escapes every value.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from pipeline.evaluation.metrics import bands_of_scores
from pipeline.evaluation.verdicts import count_verdicts
from pipeline.reports.figures import (
    SystemScore,
    coverage_figure,
    frequency_figure,
    precision_recall_figure,
    reliability_figure,
    systems_figure,
    threshold_figure,
)
from pipeline.reports.page import render_page, write_page
from pipeline.reports.report_content import Baseline, ReportContent
from pipeline.reports.report_tables import (
    HISTORY_COLUMNS,
    as_table,
    band_keys,
    band_table,
    flat_settings,
    group_scores,
    level_scores,
    p_value,
    percent,
    points,
    seen_labels,
    short,
    training_summary,
)
from pipeline.reports.training_figures import relations_figure, training_figure

MAX_LABEL_ROWS = 3_000

_HEADLINE = {
    "micro_f1": "right and found codes in balance; every code in every document counts the same",
    "macro_f1": "the same by code, then averaged over the codes present here: rare ones count as much as frequent ones",
    "micro_precision": "share of the proposed codes that is right",
    "micro_recall": "share of the given codes, of those that the model can assign, that is found",
    "exact_match": "share of documents with exactly the right set of codes",
    "map": "how far up the true codes stand in the ranking, whatever the threshold",
    "precision_at_5": "share of true codes among the five most probable ones",
}


def write_report(path: Path, report: ReportContent) -> None:
    """Write the report whole or not at all.

    Args:
        path: of the HTML file; its folder must exist.
        report: what it shows.
    """
    write_page(path, render_report(report))


def render_report(report: ReportContent) -> str:
    """The report as HTML; equal content gives equal text."""
    seen, bands = seen_labels(report.label_table), bands_of_scores(report.metrics)
    return render_page(
        "report.html.j2",
        report=report,
        metrics=report.metrics,
        overall=[(name, score) for name, score in report.metrics.items() if "/" not in name],
        headline=[(name, text) for name, text in _HEADLINE.items() if name in report.metrics],
        coder_ranges=_coder_ranges(report.coder_comparison),
        readings=_readings(report),
        figures={name: Markup(svg) for name, svg in _figures(report).items()},
        label_rows=seen.head(MAX_LABEL_ROWS).to_dict("records"),
        n_seen=len(seen),
        verdicts=count_verdicts(report.label_table).to_dict("records"),
        confusions=as_table(_near_misses(report.confusions)),
        coders=as_table(report.coder_comparison),
        bands=as_table(band_table(bands, report.intervals)),
        bands_beside=None if report.baseline is None else as_table(_groups(report, band_keys(bands))),
        levels=as_table(level_scores(report.metrics, without=report.label_groups)),
        groups=as_table(_groups(report, {name: name for name in report.label_groups})),
        splits=as_table(report.split_counts),
        one_each=_has_a_patient_each(report.split_counts),
        label_space=as_table(report.label_space),
        costs=[] if report.costs is None else report.costs.to_dict("records"),
        training=as_table(training_summary(report.history)),
        settings=flat_settings(report.settings),
    )


def _has_a_patient_each(splits: pd.DataFrame) -> bool:
    """Whether every document is of a patient of its own, as where the data name no patients."""
    return bool((splits["n_patients"] == splits["n_documents"]).all())


def _coder_ranges(comparison: pd.DataFrame | None) -> dict[str, str]:
    """Lowest and highest score of a human coder against the gold standard, for what both are scored by."""
    if comparison is None:
        return {}
    rows = comparison[comparison["kind"] == "coder vs gold"]
    column = "micro_f1_in_label_space"  # exact match of coders counts codes outside the space, too
    if not len(rows) or column not in rows:
        return {}
    return {"micro_f1": f"{percent(rows[column].min())}–{percent(rows[column].max())}"}


def _near_misses(confusions: pd.DataFrame | None) -> pd.DataFrame | None:
    """Codes with their titles in one cell each."""
    if confusions is None or confusions.empty:
        return None
    # As text also where there is no row, of which pandas would make numbers.
    columns = confusions.astype(dict.fromkeys(("missed", "missed_title", "proposed", "proposed_title"), "str"))
    both = {name: columns[name] + " " + columns[f"{name}_title"] for name in ("missed", "proposed")}
    rest = confusions[["relation", "n_documents", "share_of_missed"]]
    return pd.DataFrame({"missed": both["missed"], "proposed instead": both["proposed"]}).join(rest)


def _groups(report: ReportContent, groups: Mapping[str, str]) -> pd.DataFrame:
    baseline = report.baseline
    of_baseline = {} if baseline is None else {"baseline": baseline.metrics, "differences": baseline.differences}
    return group_scores(report.metrics, groups, **of_baseline)  # type: ignore[arg-type]


def _systems(report: ReportContent) -> list[SystemScore]:
    """The model, then what it is compared with on the same documents, by micro-F1."""
    low, high = report.intervals.get("micro_f1", (None, None))
    systems = [SystemScore("This model", "model", report.metrics["micro_f1"], low, high)]
    if report.baseline is not None:
        ends = report.baseline.intervals.get("micro_f1", (None, None))
        systems.append(SystemScore(short(report.baseline.name), "baseline", report.baseline.metrics["micro_f1"], *ends))
    if report.coder_comparison is not None:
        for row in report.coder_comparison.to_dict("records"):
            if row["kind"] != "model vs gold":
                first = "This model" if row["first"] == "model" else short(row["first"])
                score = row.get("micro_f1_in_label_space", row["micro_f1"])
                systems.append(SystemScore(f"{first} – {short(row['second'])}", row["kind"], score))
    return systems


def _readings(report: ReportContent) -> list[str]:
    """What the comparison says, in sentences."""
    sentences = [] if report.baseline is None else [_baseline_reading(report.baseline)]
    if report.coder_comparison is not None and len(report.coder_comparison):
        # The same codes as for the model's own scores, where that is known.
        score = next(one for one in ("micro_f1_in_label_space", "micro_f1") if one in report.coder_comparison)
        means = report.coder_comparison.groupby("kind")[score].mean()
        if {"coder vs coder", "model vs coder"} <= set(means.index):
            sentences.append(
                f"Two human coders agree with each other at a micro-F1 of {percent(means['coder vs coder'])} % on "
                f"average; the model agrees with a coder at {percent(means['model vs coder'])} %."
            )
    return sentences


def _baseline_reading(baseline: Baseline) -> str:
    found = baseline.differences.get("micro_f1")
    if found is None:
        return f"{baseline.name} has a micro-F1 of {percent(baseline.metrics['micro_f1'])} % on these documents."
    numbers = f"95 % interval {points(found.low)} to {points(found.high)}, p {p_value(found.p_value)}"
    if not found.is_apart:
        return (
            f"These documents cannot tell the model and the {baseline.name} apart: micro-F1 differs by "
            f"{points(found.difference)} points ({numbers})."
        )
    return (
        f"The model is {abs(100 * found.difference):.1f} points of micro-F1 "
        f"{'above' if found.difference > 0 else 'below'} the {baseline.name} ({numbers})."
    )


def _figures(report: ReportContent) -> dict[str, str]:
    metrics = report.metrics
    in_use = {"in use": (metrics["micro_recall"], metrics["micro_precision"])}
    evaluated = {split: curve for split, curve in report.threshold_curves.items() if split == report.split}
    figures = {"frequency": frequency_figure(bands_of_scores(report.metrics))}
    systems = _systems(report)
    if len(systems) > 1:
        figures["systems"] = systems_figure(systems, score_name="Micro-F1")
    if evaluated:
        figures["precision_recall"] = precision_recall_figure(evaluated, in_use)
    if report.threshold_curves:
        lowest, highest = report.thresholds
        figures["threshold"] = threshold_figure(report.threshold_curves, chosen=lowest if lowest == highest else None)
    if report.reliability:
        figures["reliability"] = reliability_figure(report.reliability)
    if report.selective is not None and len(report.selective.curve):
        taken = report.selective.documents
        figures["coverage"] = coverage_figure(
            report.selective.curve,
            target=report.selective.target,
            chosen=taken.coverage if taken.n_taken else None,
        )
    if report.history is not None:
        history = report.history.reindex(columns=[*dict.fromkeys((*HISTORY_COLUMNS, *report.history.columns))])
        if history["loss"].notna().any():
            figures["training"] = training_figure(history)
        if "share_r1" in history and history["share_r1"].notna().any():
            first = history.loc[history["share_r1"].notna(), "stage"].iloc[0]
            figures["relations"] = relations_figure(history[history["stage"] == first])
    return figures
