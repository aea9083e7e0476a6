"""Figures of scores: small tables in, one SVG element out (see ``drawing``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.evaluation.paired import PairedDifference
from pipeline.reports.drawing import (
    BLUE,
    CYCLE,
    GRAY,
    GREEN,
    LINES,
    ORANGE,
    VERMILION,
    as_svg,
    drawing,
    percent_axis,
    percent_square,
    pretty_name,
    thin,
)


@dataclass(frozen=True)
class SystemScore:
    """One row of ``systems_figure``.

    Attributes:
        name: who was scored, such as "This model".
        group: rows of one group share a color, such as "model" or "coder".
        score: in [0, 1].
        low: end of its interval, if known.
        high: end of its interval, if known.
    """

    name: str
    group: str
    score: float
    low: float | None = None
    high: float | None = None


def systems_figure(
    systems: Sequence[SystemScore], *, score_name: str, intervals: str = "95 % intervals where known"
) -> str:
    """Scores of several systems as dots with intervals, the first one on top.

    Args:
        systems: at least one.
        score_name: what the scores are, such as "Micro-F1".
        intervals: what ``low`` and ``high`` are, for the label of the figure.
    """
    with drawing(8.2, 0.9 + 0.3 * len(systems)) as figure:
        axes = figure.subplots()
        groups = list(dict.fromkeys(system.group for system in systems))
        for row, system in enumerate(systems):
            color = CYCLE[groups.index(system.group) % len(CYCLE)]
            if system.low is not None and system.high is not None:
                axes.plot([system.low, system.high], [row, row], color=color, linewidth=3, alpha=0.35)
            axes.plot(system.score, row, marker="o", markersize=6, color=color)
            axes.annotate(
                f"{100 * system.score:.1f}", (system.score, row), (0, 6), textcoords="offset points", ha="center",
                fontsize=7.5, color=color,
            )  # fmt: skip
        axes.axvline(systems[0].score, color=GRAY, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(systems)), [system.name for system in systems])
        axes.set_ylim(len(systems) - 0.4, -0.8)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)
        percent_axis(axes.xaxis)
        axes.set_xlabel(f"{score_name} (%)")
        return as_svg(figure, "systems", f"{score_name} of each system, with {intervals}")


def precision_recall_figure(
    curves: Mapping[str, pd.DataFrame], points: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """Micro-precision against micro-recall as the threshold moves, over lines of equal F1.

    Args:
        curves: name -> ``metrics.threshold_curve``.
        points: name -> (recall, precision) of single answers, such as the chosen threshold or a coder.
    """
    with drawing(4.4, 3.6) as figure:
        axes = figure.subplots()
        recall = np.linspace(0.01, 1, 200)
        for f1 in (0.2, 0.4, 0.6, 0.8):
            inside = recall > f1 / (2 - f1)
            axes.plot(recall[inside], (f1 * recall / (2 * recall - f1))[inside], color="#D1D5DB", linewidth=0.8)
            axes.annotate(f"F1 {100 * f1:.0f}", (1, f1 / (2 - f1)), (2, 0), textcoords="offset points",
                          fontsize=7, color=GRAY, va="center")  # fmt: skip
        for index, (name, curve) in enumerate(curves.items()):
            # Thresholds above every probability predict nothing: no precision to speak of.
            shown = curve[curve["n_predicted"] > 0]
            x, y = thin(shown["micro_recall"].to_numpy(), shown["micro_precision"].to_numpy())
            axes.plot(x, y, LINES[index % len(LINES)], color=CYCLE[index % 6], label=name)
        for index, (name, (x_point, y_point)) in enumerate((points or {}).items()):
            marker, color = "oDs^v<>"[index % 7], CYCLE[(len(curves) + index) % 6]
            axes.plot(x_point, y_point, marker, color=color, markersize=6, markeredgecolor="white", label=name)
        percent_square(axes)
        axes.set_xlabel("recall: share of the true codes that is found (%)")
        axes.set_ylabel("precision: share of the\nproposed codes that is right (%)")
        axes.legend(loc="lower left")
        return as_svg(figure, "precision-recall", "Micro-precision against micro-recall at every threshold")


def threshold_figure(curves: Mapping[str, pd.DataFrame], *, chosen: float | None) -> str:
    """Micro-F1 and macro-F1 against one threshold for all codes.

    Args:
        curves: split -> ``metrics.threshold_curve``; the first is drawn solid, the second dashed.
        chosen: the threshold in use, if it is one for all codes.
    """
    with drawing(4.4, 3.6) as figure:
        axes = figure.subplots()
        for index, (name, curve) in enumerate(curves.items()):
            for score, color in (("micro_f1", BLUE), ("macro_f1", VERMILION)):
                x, y = thin(curve["threshold"].to_numpy(), curve[score].to_numpy())
                axes.plot(x, y, LINES[index % len(LINES)], color=color, label=f"{pretty_name(score)}, {name}")
        if chosen is not None:
            axes.axvline(chosen, color=GRAY, linewidth=1, linestyle=":")
            axes.annotate(f"in use: {chosen:.3f}", (chosen, 1.0), (3, -1), textcoords="offset points", va="top",
                          xycoords=("data", "axes fraction"), fontsize=7.5, color=GRAY)  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(0)
        axes.set_xlabel("threshold (probability)")
        axes.set_ylabel("F1 (%)")
        percent_axis(axes.yaxis)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        return as_svg(figure, "threshold", "F1 against the threshold")


def frequency_figure(bands: pd.DataFrame) -> str:
    """Micro-F1 and macro-F1 of the codes of each band of training frequency.

    Args:
        bands: ``metrics.metrics_by_frequency_band``; bands of which no label occurs are left out.
    """
    shown = bands[bands["n_labels_present"] > 0].reset_index(drop=True)
    with drawing(8.2, 2.9) as figure:
        axes = figure.subplots()
        places = np.arange(len(shown))
        for shift, score, color in ((-0.2, "micro_f1", BLUE), (0.2, "macro_f1", ORANGE)):
            bars = axes.bar(places + shift, shown[score], width=0.38, color=color, label=pretty_name(score))
            axes.bar_label(bars, [f"{100 * value:.0f}" for value in shown[score]], fontsize=7.5, padding=1)
        counts = zip(shown["band"], shown["n_labels_present"], shown["n_true"], strict=True)
        axes.set_xticks(places, [f"{band}\n{present:,} codes, {true:,} uses" for band, present, true in counts])
        axes.set_ylim(0, max(0.1, 1.12 * float(shown[["micro_f1", "macro_f1"]].to_numpy().max(initial=0))))
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("training documents with the code; below: codes present in this split and how often")
        axes.set_ylabel("F1 (%)")
        percent_axis(axes.yaxis)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above the axes: bars may reach anywhere
        return as_svg(figure, "frequency", "F1 by how often a code occurs in training")


def difference_figure(differences: Mapping[str, PairedDifference], *, name_a: str, name_b: str) -> str:
    """How much higher one system scores than another, score by score, beside the line of no difference.

    Args:
        differences: name of a score -> how much higher it is; at least one.
        name_a: of the system that is better to the right.
        name_b: of the other.
    """
    with drawing(8.2, 1.1 + 0.3 * len(differences)) as figure:
        axes = figure.subplots()
        for row, one in enumerate(differences.values()):
            color = GRAY if not one.is_apart else BLUE if one.difference > 0 else VERMILION
            axes.plot([one.low, one.high], [row, row], color=color, linewidth=3, alpha=0.35)
            axes.plot(one.difference, row, marker="o", markersize=6, color=color)
        axes.axvline(0, color=GRAY, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(differences)), [pretty_name(score) for score in differences])
        axes.set_ylim(len(differences) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)
        percent_axis(axes.xaxis)
        axes.set_xlabel(f"difference in points; right of 0: {name_a} is better, left: {name_b}")
        return as_svg(figure, "differences", "Differences of two systems with 95 % intervals")


def reliability_figure(tables: Mapping[str, pd.DataFrame]) -> str:
    """Share of the codes that are true among those of about one probability, beside that probability.

    Args:
        tables: name -> ``curves.reliability_table``; empty bins are left out.
    """
    with drawing(4.4, 3.6) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.9, linestyle=":", label="as they should be")
        for index, (name, table) in enumerate(tables.items()):
            shown = table[table["n_cells"] > 0]
            x, y, color = shown["mean_probability"], shown["share_true"], CYCLE[index % 6]
            axes.vlines(x, shown["share_low"], shown["share_high"], color=color, linewidth=3, alpha=0.3)
            axes.plot(x, y, LINES[index % 4], color=color, marker="o", markersize=4, label=name)
        percent_square(axes)
        axes.set_xlabel("probability the model gives (%)")
        axes.set_ylabel("share that is true (%)")
        axes.legend(loc="upper left")
        return as_svg(figure, "reliability", "Share of true codes against the probability given to them")


def coverage_figure(curve: pd.DataFrame, *, target: float, chosen: float | None) -> str:
    """How good the surest documents are, as more of them are taken without a human.

    Args:
        curve: columns ``coverage``, ``precision``, ``recall``, ``exact_match``; ``selective.selective_curve``.
        target: precision that is asked for.
        chosen: coverage at the confidence in use, if there is one.
    """
    with drawing(4.4, 3.6) as figure:
        axes = figure.subplots()
        lines = (("precision", BLUE, "-"), ("recall", ORANGE, "--"), ("exact_match", GREEN, "-."))
        for name, color, line in lines:
            x, y = thin(curve["coverage"].to_numpy(), curve[name].to_numpy())
            axes.plot(x, y, line, color=color, label=pretty_name(name))
        axes.axhline(target, color=GRAY, linewidth=0.9, linestyle=":")
        if chosen is not None:
            axes.axvline(chosen, color=GRAY, linewidth=0.9, linestyle=":")
        percent_square(axes)
        axes.set_xlabel("documents taken without a human, surest first (%)")
        axes.set_ylabel("score of these documents (%)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
        return as_svg(figure, "coverage", "Scores of the surest documents against their share")
