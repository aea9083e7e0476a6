"""The page of a grid: scores of every variant, differences to the reference, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.evaluation.grid_results import COMPARED, HEADLINE
from pipeline.evaluation.patients import few_patients_note
from pipeline.experiment.settings import Grid
from pipeline.files import read_json
from pipeline.reports.drawing import pretty_name
from pipeline.reports.figures import SystemScore, systems_figure
from pipeline.reports.page import render_page, write_page


def write_grid_report(
    path: Path, experiment: str, rows: Sequence[Mapping[str, Any]], grid: Grid, *, split: str
) -> None:
    """Write one HTML file that needs no network and holds no text of a document.

    Args:
        path: to write.
        experiment: name of the grid.
        rows: of :func:`pipeline.evaluation.grid_results.as_rows`.
        grid: what was varied.
        split: that was scored.
    """
    page = render_page(
        "grid.html.j2",
        experiment=experiment,
        rows=rows,
        headline=HEADLINE,
        compared=COMPARED,
        grid=grid,
        split=split,
        few_patients=few_patients_note(int(rows[0]["n_documents"]), rows[0]["n_patients"]),
        reference=grid.reference or rows[0]["variant"],
        others=[row for row in rows if not row["is_comparable"]],
        bands=_bands(rows),
        figures={name: Markup(_figure(rows, name)) for name in COMPARED},
    )
    write_page(path, page)


def _bands(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and key of each frequency band of which labels occur."""
    keys = [
        key.removesuffix("/n_labels") for key in rows[0] if key.startswith("train_count_") and key.endswith("/n_labels")
    ]
    return [
        (key.removeprefix("train_count_").replace("over_", "> ").replace("_", "-"), key)
        for key in keys
        if rows[0][f"{key}/n_labels_present"]
    ]


def _figure(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """One mark a variant, with the paired interval of its difference laid around its score."""
    systems = []
    for row in rows:
        low = high = None
        if f"{name}_low" in row:
            moved = row[name] - row[f"{name}_difference"]
            low, high = moved + row[f"{name}_low"], moved + row[f"{name}_high"]
        systems.append(SystemScore(row["variant"], "variant", row[name], low, high))
    intervals = "95 % intervals of paired differences to the reference"
    return systems_figure(systems, score_name=pretty_name(name), intervals=intervals)


def text_table(path: Path) -> str:
    """Read grid.json; give its headline as lines for a terminal."""
    rows = read_json(path)["rows"]
    width = max(len(row["variant"]) for row in rows)
    lines = [f"{'variant':<{width}}  " + "  ".join(f"{name:>18}" for name in HEADLINE)]
    for row in rows:
        cells = [
            f"{row[name]:.3f}" + (f" ± {row[f'{name}_sd']:.3f}" if f"{name}_sd" in row else "") for name in HEADLINE
        ]
        lines.append(f"{row['variant']:<{width}}  " + "  ".join(f"{cell:>18}" for cell in cells))
    others = [row["variant"] for row in rows if not row.get("is_comparable", True)]
    if others:
        lines.append(f"tested on other documents, and so not comparable: {', '.join(others)}")
    return "\n".join(lines)
