"""Figures of a training: what was lost, how fast, and what the contrastive loss saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from pipeline.reports.drawing import BLUE, CYCLE, GRAY, LINES, as_svg, drawing, percent_axis, pretty_name, thin


def training_figure(history: pd.DataFrame) -> str:
    """Loss and learning rate by step for each training stage, and validation scores by epoch.

    Args:
        history: columns stage, step, epoch, loss, learning_rate, and any ``val_<score>``; a row has the
            loss of a step or the scores of an epoch, the rest is missing.
    """
    stages = list(dict.fromkeys(history.loc[history["loss"].notna(), "stage"]))
    score_names = [name for name in history.columns if name.startswith("val_") and history[name].notna().any()]
    n_columns = len(stages) + bool(score_names)
    with drawing(max(5.2, 3.4 * n_columns), 3.0) as figure:
        grid = figure.add_gridspec(2, n_columns, height_ratios=(3, 1))
        for column, stage in enumerate(stages):
            rows = history[(history["stage"] == stage) & history["loss"].notna()]
            top, bottom = (figure.add_subplot(grid[row, column]) for row in (0, 1))
            _draw_loss(top, bottom, rows, title=f"Loss, {stage.replace('_', ' ')}")
        if score_names:
            scored = history.dropna(subset=score_names, how="all")
            _draw_validation(figure.add_subplot(grid[:, -1]), scored, score_names)
        return as_svg(figure, "training", "Loss and learning rate by step, validation scores by epoch")


def _draw_loss(top: Axes, bottom: Axes, rows: pd.DataFrame, *, title: str) -> None:
    steps, losses = thin(rows["step"].to_numpy(), rows["loss"].to_numpy())
    top.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1)
    window = max(1, len(losses) // 12)
    top.plot(steps, pd.Series(losses).rolling(window, center=True, min_periods=1).mean(), color=BLUE)
    top.set_title(title)
    top.set_ylabel("loss")
    top.tick_params(labelbottom=False)
    steps, rates = thin(rows["step"].to_numpy(), rows["learning_rate"].to_numpy())
    bottom.plot(steps, rates, color=GRAY)
    bottom.set_xlabel("step")
    bottom.set_ylabel("learning\nrate")
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    bottom.yaxis.set_major_locator(MaxNLocator(2))
    bottom.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    top.sharex(bottom)


def _draw_validation(axes: Axes, rows: pd.DataFrame, score_names: Sequence[str]) -> None:
    for index, name in enumerate(score_names):
        line = LINES[index % len(LINES)]
        label = pretty_name(name.removeprefix("val_"))
        axes.plot(rows["epoch"], rows[name], line, color=CYCLE[index % 6], marker="o", markersize=3, label=label)
    axes.set_title("Validation")
    axes.set_xlabel("epoch")
    percent_axis(axes.yaxis)
    axes.set_ylabel("score (%)")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylim(0)
    axes.legend(loc="lower right")


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
    with drawing(9.6, 3.0) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(3, 2, 2))
        for index, (column, label) in enumerate(names.items()):
            x, y = thin(rows["step"].to_numpy(), rows[column].to_numpy())
            left.plot(x, np.where(y > 0, y, np.nan), LINES[index % 4], color=CYCLE[index], label=label)
        left.set_yscale("log")
        left.yaxis.set_minor_formatter(NullFormatter())
        percent_axis(left.yaxis)
        left.set_title("Pairs of documents in a batch")
        left.set_ylabel("share of pairs (%)")
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, fontsize=7)
        x, y = thin(rows["step"].to_numpy(), rows["mean_k"].to_numpy())
        middle.plot(x, y, color=BLUE)
        middle.set_ylim(0)
        middle.set_title("Mean K of positives")
        middle.set_ylabel("K (0 to 1)")
        _draw_partners(right, rows)
        for axes in (left, middle, right):
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return as_svg(figure, "relations", "Relations between label sets in training batches")


def _draw_partners(axes: Axes, rows: pd.DataFrame) -> None:
    lines = {"partner_share": "in the batch", "partner_share_with_queue": "batch or queue"}
    drawn = [name for name in lines if name in rows and rows[name].notna().any()]
    for index, name in enumerate(drawn):
        x, y = thin(rows["step"].to_numpy(), rows[name].to_numpy())
        axes.plot(x, y, LINES[index], color=CYCLE[index], label=lines[name])
    axes.set_ylim(0, 1)
    percent_axis(axes.yaxis)
    axes.set_title("Labels with a partner")
    axes.set_ylabel("share of labels (%)")
    if len(drawn) > 1:
        axes.legend(fontsize=7)
