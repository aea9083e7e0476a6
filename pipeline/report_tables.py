"""Tables of the report: what is shown of a data frame, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.drawing import pretty_name

MAX_TABLE_ROWS = 200
MAX_CHARS = 160
FEW_DOCUMENTS = 10
"""A code with fewer true documents in the split is marked: its scores say little."""

HISTORY_COLUMNS = ("stage", "step", "epoch", "loss", "learning_rate", "documents_per_second")
_SCORE_WORDS = {"f1", "precision", "recall", "map", "match", "jaccard", "auc"}


def percent(value: float) -> str:
    """A score in [0, 1] in percent, with one decimal.

    Example:
        >>> percent(0.8734), percent(float("nan"))
        ('87.3', '–')
    """
    return "–" if pd.isna(value) else f"{100 * value:.1f}"


def points(difference: float) -> str:
    """A difference of two scores in percentage points, with its sign.

    Example:
        >>> points(0.0213), points(-0.5), points(0.0)
        ('+2.1', '−50.0', '0.0')
    """
    text = f"{abs(100 * difference):.1f}"
    return text if text == "0.0" else ("+" if difference > 0 else "−") + text


def p_value(value: float) -> str:
    """A p-value as papers write it.

    Example:
        >>> p_value(0.0004), p_value(0.0312), p_value(0.5)
        ('< 0.001', '0.031', '0.50')
    """
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Wall-clock time as people say it.

    Example:
        >>> duration(3.21), duration(83), duration(7384)
        ('3.2 s', '1 min 23 s', '2 h 3 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds:.1f} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def short(value: object) -> str:
    """A value as text of at most ``MAX_CHARS`` characters; nothing for a missing one."""
    is_missing = value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))
    text = "" if is_missing else str(value)
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"


def as_table(frame: pd.DataFrame | None) -> dict[str, Any] | None:
    """Headings and cells as text, scores in percent; None for a table without rows."""
    if frame is None or frame.empty:
        return None
    shown = frame.head(MAX_TABLE_ROWS)
    columns = [[_cell(str(name), value) for value in shown[name]] for name in frame.columns]
    headings = [pretty_name(str(name)) + (" (%)" if _is_score(str(name)) else "") for name in frame.columns]
    is_number = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns]
    return {
        "headings": list(zip(headings, is_number, strict=True)),
        "rows": [list(zip(row, is_number, strict=True)) for row in zip(*columns, strict=True)],
        "n_left_out": len(frame) - len(shown),
    }


def _is_score(name: str) -> bool:
    return not name.startswith("n_") and not _SCORE_WORDS.isdisjoint(name.split("_"))


def _cell(name: str, value: Any) -> str:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return short(value)
    number = float(value)
    if _is_score(name) or np.isnan(number):
        return percent(number)
    return f"{number:,.0f}" if number.is_integer() else f"{number:,.4g}"


def seen_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Labels that were true or predicted somewhere, the most frequent first."""
    seen = table[(table["n_true"] > 0) | (table["n_predicted"] > 0)]
    seen = seen.sort_values(["n_true", "n_predicted", "label"], ascending=[False, False, True])
    # An undefined score is a dash, not a zero, where a reader judges a single code.
    return seen.assign(
        title=seen["title"].map(short),
        precision=seen["precision"].where(seen["n_predicted"] > 0),
        recall=seen["recall"].where(seen["n_true"] > 0),
        few=seen["n_true"] < FEW_DOCUMENTS,
    )


def group_scores(metrics: Mapping[str, float]) -> pd.DataFrame:
    """Scores by group of labels ("icd10cm/micro_f1"), one row a group; bands have a table of their own."""
    rows: dict[str, dict[str, float]] = {}
    for name, score in metrics.items():
        group, slash, rest = name.partition("/")
        if slash and not group.startswith("train_count_"):
            rows.setdefault(group, {"group": group})[rest] = score  # type: ignore[dict-item]
    shown = ("group", "n_labels_present", "n_true", "micro_precision", "micro_recall", "micro_f1", "macro_f1", "map")
    frame = pd.DataFrame(list(rows.values()))
    return frame[[name for name in shown if name in frame.columns]]


def flat_settings(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of settings as flat rows, single values first."""
    single = [(name, short(value)) for name, value in settings.items() if not isinstance(value, Mapping)]
    parts = [(name, list(_flat("", value))) for name, value in settings.items() if isinstance(value, Mapping) and value]
    return ([("general", single)] if single else []) + parts


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", short(value)


def training_summary(history: pd.DataFrame | None) -> pd.DataFrame | None:
    """One row a training stage: how long it trained, how far the loss came, how fast it went."""
    if history is None or history.empty:
        return None
    rows = []
    for stage, part in history.reindex(columns=HISTORY_COLUMNS).groupby("stage", sort=False):
        losses = part["loss"].dropna()
        rows.append(
            {
                "stage": str(stage).replace("_", " "),
                "steps": part["step"].max(),
                "epochs": part["epoch"].max(),
                "first_loss": losses.iloc[0] if len(losses) else np.nan,
                "last_loss": losses.iloc[-1] if len(losses) else np.nan,
                "documents_per_second": part["documents_per_second"].median(),
            }
        )
    return pd.DataFrame(rows)
