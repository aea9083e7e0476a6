"""Figures of the report: small tables in, one SVG element out, the same bytes for the same numbers.

Every function gives an ``<svg>`` that can stand in an HTML page: no XML header, no address of any kind, text
as text (it can be searched and takes the font of the page), ids that no other figure of the page has.
Colors are Okabe and Ito's, which people with color-blindness can tell apart; line styles differ as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GRAY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#6B7280",
)  # fmt: skip
_CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_LINES = ("-", "--", "-.", ":")
_MAX_POINTS = 300
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.edgecolor": "#9CA3AF",
    "axes.grid": True,
    "axes.labelcolor": "#374151",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "grid.color": "#E5E7EB",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "icd-contrast",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "xtick.color": "#374151",
    "ytick.color": "#374151",
}


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


def systems_figure(systems: Sequence[SystemScore], *, score_name: str) -> str:
    """Scores of several systems as dots with intervals, the first one on top.

    Args:
        systems: at least one.
        score_name: what the scores are, such as "Micro-F1".
    """
    with _drawing(8.2, 0.9 + 0.3 * len(systems)) as figure:
        axes = figure.subplots()
        groups = list(dict.fromkeys(system.group for system in systems))
        for row, system in enumerate(systems):
            color = _CYCLE[groups.index(system.group) % len(_CYCLE)]
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
        _percent(axes.xaxis)
        axes.set_xlabel(f"{score_name} (%)")
        return _svg(figure, "systems", f"{score_name} of each system, with 95 % intervals where known")


def training_figure(history: pd.DataFrame) -> str:
    """Loss and learning rate by step for each training stage, and validation scores by epoch.

    Args:
        history: columns stage, step, epoch, loss, learning_rate, and any ``val_<score>``; a row has the
            loss of a step or the scores of an epoch, the rest is missing.
    """
    stages = list(dict.fromkeys(history.loc[history["loss"].notna(), "stage"]))
    score_names = [name for name in history.columns if name.startswith("val_") and history[name].notna().any()]
    n_columns = len(stages) + bool(score_names)
    with _drawing(max(5.2, 3.4 * n_columns), 3.0) as figure:
        grid = figure.add_gridspec(2, n_columns, height_ratios=(3, 1))
        for column, stage in enumerate(stages):
            rows = history[(history["stage"] == stage) & history["loss"].notna()]
            top, bottom = (figure.add_subplot(grid[row, column]) for row in (0, 1))
            _draw_loss(top, bottom, rows, title=f"Loss, {stage.replace('_', ' ')}")
        if score_names:
            scored = history.dropna(subset=score_names, how="all")
            _draw_validation(figure.add_subplot(grid[:, -1]), scored, score_names)
        return _svg(figure, "training", "Loss and learning rate by step, validation scores by epoch")


def _draw_loss(top: Axes, bottom: Axes, rows: pd.DataFrame, *, title: str) -> None:
    steps, losses = _thin(rows["step"].to_numpy(), rows["loss"].to_numpy())
    top.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1)
    window = max(1, len(losses) // 12)
    top.plot(steps, pd.Series(losses).rolling(window, center=True, min_periods=1).mean(), color=BLUE)
    top.set_title(title)
    top.set_ylabel("loss")
    top.tick_params(labelbottom=False)
    steps, rates = _thin(rows["step"].to_numpy(), rows["learning_rate"].to_numpy())
    bottom.plot(steps, rates, color=GRAY)
    bottom.set_xlabel("step")
    bottom.set_ylabel("learning\nrate")
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    bottom.yaxis.set_major_locator(MaxNLocator(2))
    bottom.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    top.sharex(bottom)


def _draw_validation(axes: Axes, rows: pd.DataFrame, score_names: Sequence[str]) -> None:
    for index, name in enumerate(score_names):
        line = _LINES[index % len(_LINES)]
        label = pretty_name(name.removeprefix("val_"))
        axes.plot(rows["epoch"], rows[name], line, color=_CYCLE[index % 6], marker="o", markersize=3, label=label)
    axes.set_title("Validation")
    axes.set_xlabel("epoch")
    _percent(axes.yaxis)
    axes.set_ylabel("score (%)")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylim(0)
    axes.legend(loc="lower right")


def precision_recall_figure(
    curves: Mapping[str, pd.DataFrame], points: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """Micro-precision against micro-recall as the threshold moves, over lines of equal F1.

    Args:
        curves: name -> ``metrics.threshold_curve``.
        points: name -> (recall, precision) of single answers, such as the chosen threshold or a coder.
    """
    with _drawing(4.4, 3.6) as figure:
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
            x, y = _thin(shown["micro_recall"].to_numpy(), shown["micro_precision"].to_numpy())
            axes.plot(x, y, _LINES[index % len(_LINES)], color=_CYCLE[index % 6], label=name)
        for index, (name, (x_point, y_point)) in enumerate((points or {}).items()):
            marker, color = "oDs^v<>"[index % 7], _CYCLE[(len(curves) + index) % 6]
            axes.plot(x_point, y_point, marker, color=color, markersize=6, markeredgecolor="white", label=name)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall: share of the true codes that is found (%)")
        axes.set_ylabel("precision: share of the\nproposed codes that is right (%)")
        _percent(axes.xaxis)
        _percent(axes.yaxis)
        axes.legend(loc="lower left")
        return _svg(figure, "precision-recall", "Micro-precision against micro-recall at every threshold")


def threshold_figure(curves: Mapping[str, pd.DataFrame], *, chosen: float | None) -> str:
    """Micro-F1 and macro-F1 against one threshold for all codes.

    Args:
        curves: split -> ``metrics.threshold_curve``; the first is drawn solid, the second dashed.
        chosen: the threshold in use, if it is one for all codes.
    """
    with _drawing(4.4, 3.6) as figure:
        axes = figure.subplots()
        for index, (name, curve) in enumerate(curves.items()):
            for score, color in (("micro_f1", BLUE), ("macro_f1", VERMILION)):
                x, y = _thin(curve["threshold"].to_numpy(), curve[score].to_numpy())
                axes.plot(x, y, _LINES[index % len(_LINES)], color=color, label=f"{pretty_name(score)}, {name}")
        if chosen is not None:
            axes.axvline(chosen, color=GRAY, linewidth=1, linestyle=":")
            axes.annotate(f"in use: {chosen:.3f}", (chosen, 1.0), (3, -1), textcoords="offset points", va="top",
                          xycoords=("data", "axes fraction"), fontsize=7.5, color=GRAY)  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(0)
        axes.set_xlabel("threshold (probability)")
        axes.set_ylabel("F1 (%)")
        _percent(axes.yaxis)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        return _svg(figure, "threshold", "F1 against the threshold")


def frequency_figure(bands: pd.DataFrame) -> str:
    """Micro-F1 and macro-F1 of the codes of each band of training frequency.

    Args:
        bands: ``metrics.metrics_by_frequency_band``; bands without labels are left out.
    """
    shown = bands[bands["n_labels"] > 0].reset_index(drop=True)
    with _drawing(8.2, 2.9) as figure:
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
        _percent(axes.yaxis)
        axes.legend(loc="upper left", ncols=2)
        return _svg(figure, "frequency", "F1 by how often a code occurs in training")


def relations_figure(history: pd.DataFrame) -> str:
    """Relations between the label sets of a training batch, mean weight of its positive pairs, labels with a partner.

    Args:
        history: columns stage, step, ``share_r1`` to ``share_r5`` (shares of all pairs, in [0, 1]), ``mean_k`` and
            ``partner_share`` (of label occurrences); ``partner_share_with_queue`` where there was a queue. Rows
            without them are left out.
    """
    names = {
        "share_r1": "R1 nothing shared", "share_r2": "R2 equal", "share_r3": "R3 overlap",
        "share_r4": "R4 sample inside anchor", "share_r5": "R5 anchor inside sample",
    }  # fmt: skip
    rows = history.dropna(subset=["share_r1"])
    with _drawing(9.6, 3.0) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(3, 2, 2))
        for index, (column, label) in enumerate(names.items()):
            x, y = _thin(rows["step"].to_numpy(), rows[column].to_numpy())
            left.plot(x, np.where(y > 0, y, np.nan), _LINES[index % 4], color=_CYCLE[index], label=label)
        left.set_yscale("log")
        left.yaxis.set_minor_formatter(NullFormatter())
        _percent(left.yaxis)
        left.set_title("Pairs of documents in a batch")
        left.set_ylabel("share of pairs (%)")
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, fontsize=7)
        x, y = _thin(rows["step"].to_numpy(), rows["mean_k"].to_numpy())
        middle.plot(x, y, color=BLUE)
        middle.set_ylim(0)
        middle.set_title("Mean K of positives")
        middle.set_ylabel("K (0 to 1)")
        _draw_partners(right, rows)
        for axes in (left, middle, right):
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return _svg(figure, "relations", "Relations between label sets in training batches")


def _draw_partners(axes: Axes, rows: pd.DataFrame) -> None:
    lines = {"partner_share": "in the batch", "partner_share_with_queue": "batch or queue"}
    drawn = [name for name in lines if name in rows and rows[name].notna().any()]
    for index, name in enumerate(drawn):
        x, y = _thin(rows["step"].to_numpy(), rows[name].to_numpy())
        axes.plot(x, y, _LINES[index], color=_CYCLE[index], label=lines[name])
    axes.set_ylim(0, 1)
    _percent(axes.yaxis)
    axes.set_title("Labels with a partner")
    axes.set_ylabel("share of labels (%)")
    if len(drawn) > 1:
        axes.legend(fontsize=7)


def pretty_name(name: str) -> str:
    """A score's or column's name as people write it.

    Example:
        >>> pretty_name("micro_f1"), pretty_name("precision_at_5"), pretty_name("n_true")
        ('Micro-F1', 'Precision@5', 'True')
    """
    fixed = {
        "map": "MAP", "micro_f1": "Micro-F1", "macro_f1": "Macro-F1", "micro_precision": "Micro-precision",
        "micro_recall": "Micro-recall", "macro_f1_all_codes": "Macro-F1, all codes",
        "macro_f1_caml": "Macro-F1, CAML's definition", "macro_f1_either": "Macro-F1, codes of either",
        "micro_roc_auc": "Micro-ROC-AUC", "macro_roc_auc": "Macro-ROC-AUC", "f1": "F1",
        "r_precision": "R-precision", "exact_match": "Exact match",
    }  # fmt: skip
    if name in fixed:
        return fixed[name]
    words = name.removeprefix("n_").replace("_at_", "@").replace("_", " ")
    return words[:1].upper() + words[1:]


@contextmanager
def _drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, drawn in the style of the report; no window, no global figure."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def _percent(axis: mpl.axis.Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}"))


def _thin(x: NDArray[np.generic], y: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of neighboring points, so that a long run does not make a large file."""
    points = np.stack([x, y]).astype(np.float64)
    if points.shape[1] <= _MAX_POINTS:
        return points[0], points[1]
    blocks = np.array_split(points, _MAX_POINTS, axis=1)
    means = np.stack([block.mean(axis=1) for block in blocks], axis=1)
    return means[0], means[1]


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as one <svg> element; ``name`` goes before its ids, ``description`` is read aloud."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # The style element would apply to the whole page; the root's own attributes do the same.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", svg, count=3)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    label = f'<svg role="img" aria-label="{escape(description)}" stroke-linejoin="round" '
    return re.sub(r"\n\s*", "\n", svg.replace("<svg ", label, 1)).strip()
