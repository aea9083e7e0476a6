"""What all figures share: the style, the way to one SVG element, names of scores as people write them.

Every figure is an ``<svg>`` that can stand in an HTML page: no XML header, no address of any kind, text as text
(it can be searched and takes the font of the page), ids that no other figure of the page has. The same numbers
give the same bytes. Colors are Okabe and Ito's, which people with color-blindness can tell apart; line styles
differ as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GRAY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#6B7280",
)  # fmt: skip
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
LINES = ("-", "--", "-.", ":")
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


_NAMES = {
    "map": "MAP",
    "f1": "F1",
    "micro_f1": "Micro-F1",
    "micro_f1_all_given": "Micro-F1, codes outside counted as missed",
    "micro_f1_in_label_space": "Micro-F1 in label space",
    "micro_precision": "Micro-precision",
    "micro_recall": "Micro-recall",
    "macro_f1": "Macro-F1",
    "macro_f1_all_codes": "Macro-F1, all codes",
    "macro_f1_caml": "Macro-F1, CAML's definition",
    "macro_f1_either": "Macro-F1, codes of either",
    "micro_roc_auc": "Micro-ROC-AUC",
    "macro_roc_auc": "Macro-ROC-AUC",
    "r_precision": "R-precision",
    "principal_accuracy": "Principal diagnosis first",
    "principal_recall": "Principal diagnosis proposed",
    "calibration_error_from_10_percent": "Calibration error, from 10 % on",
    "n_true": "Given",
    "n_predicted": "Proposed",
    "n_true_positive": "Right",
    "n_labels": "Codes",
    "n_codes": "Codes",
    "n_labels_present": "Codes present here",
    "share_of_true": "Share of given codes",
    "peak_memory_mb": "Memory, MB",
    "documents_per_second": "Documents/s",
}


def pretty_name(name: str) -> str:
    """A score's or column's name as people write it.

    Example:
        >>> pretty_name("micro_f1"), pretty_name("precision_at_5"), pretty_name("n_true")
        ('Micro-F1', 'Precision@5', 'Given')
    """
    if name in _NAMES:
        return _NAMES[name]
    if name.endswith(("_a", "_b")):  # of two systems side by side
        return f"{pretty_name(name[:-2])}, {name[-1].upper()}"
    words = name.removeprefix("n_").replace("_at_", "@").replace("_", " ")
    return words[:1].upper() + words[1:]


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, drawn in the style of the report; no window, no global figure."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def percent_axis(axis: mpl.axis.Axis) -> None:
    """Write shares in [0, 1] as percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}"))


def percent_square(axes: Axes) -> None:
    """Both axes hold shares from 0 to 1, written as percent."""
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)


def thin(x: NDArray[np.generic], y: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of neighboring points of a curve, so that a long run does not make a large file."""
    points = np.stack([x, y]).astype(np.float64)
    if points.shape[1] <= _MAX_POINTS:
        return points[0], points[1]
    blocks = np.array_split(points, _MAX_POINTS, axis=1)
    means = np.stack([block.mean(axis=1) for block in blocks], axis=1)
    return means[0], means[1]


def as_svg(figure: Figure, name: str, description: str) -> str:
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
