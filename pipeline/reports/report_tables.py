"""Tables of the report: what is shown of a data frame, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation.metrics import band_key
from pipeline.reports.drawing import pretty_name

Differences = Mapping[str, Sequence[float]]

MAX_TABLE_ROWS = 200
MAX_CHARS = 160
NOT_SHARES = {"coverage_error": "labels"}
"""Scores that are no shares, and their unit."""

HISTORY_COLUMNS = (
    "stage", "step", "epoch", "loss", "learning_rate", "documents_per_second", "loading_share", "epoch_partner_share"
)  # fmt: skip
_SCORE_WORDS = {"f1", "precision", "recall", "map", "match", "jaccard", "auc", "share", "accuracy"}


def percent(value: float) -> str:
    """A score in [0, 1] in percent, with one decimal.

    Example:
        >>> percent(0.8734), percent(float("nan"))
        ('87.3', '–')
    """
    return "–" if pd.isna(value) else f"{100 * value:.1f}"


def at_least(probability: float) -> str:
    """A probability in percent with as many decimals as set it apart from 100.

    Example:
        >>> at_least(0.873), at_least(0.99996), at_least(1.0)
        ('87.3', '99.996', '100.0')
    """
    n_decimals = 1
    while probability < 1 and float(f"{100 * probability:.{n_decimals}f}") >= 100:
        n_decimals += 1
    return f"{100 * probability:.{n_decimals}f}"


def percent_or_dash(value: float | None) -> str:
    """As ``percent``, for what may be missing."""
    return "–" if value is None else percent(value)


def number_or_nothing(value: float | None) -> str:
    """A number as it stands in a table; nothing where it is missing.

    Example:
        >>> number_or_nothing(1234.5), number_or_nothing(0.234), number_or_nothing(None)
        ('1,234', '0.234', '')
    """
    if value is None or np.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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
    is_number = [pd.api.types.is_numeric_dtype(frame[name]) or "95 %" in str(name) for name in frame.columns]
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
    )


def written(name: str, score: float) -> str:
    """A score with its unit.

    Example:
        >>> written("micro_f1", 0.5), written("n_true", 1200.0), written("coverage_error", 3.14)
        ('50.0 %', '1,200', '3.1 labels')
    """
    if name.startswith("n_"):
        return f"{score:,.0f}"
    return f"{score:.1f} {NOT_SHARES[name]}" if name in NOT_SHARES else f"{percent(score)} %"


_SHOWN = (
    "n_labels", "n_labels_present", "n_true", "micro_precision", "micro_recall", "micro_f1", "macro_f1",
    "macro_f1_all_codes", "macro_f1_caml", "map", "precision_at_5", "exact_match", "jaccard", "principal_accuracy",
)  # fmt: skip
_OF_ALL_DOCUMENTS = {"precision_at_5", "exact_match", "jaccard"}  # most of which may have no code of a system
_LEVELS = {"category": "categories", "chapter": "chapters"}


def level_scores(metrics: Mapping[str, float], without: Sequence[str] = ()) -> pd.DataFrame:
    """One row a score; columns: all codes, each code system alone, and the levels above that were scored.

    Args:
        metrics: scores of the model.
        without: groups that stand elsewhere.
    """
    groups = dict.fromkeys(name.partition("/")[0] for name in metrics if "/" in name)
    others = {*_LEVELS, *without}
    systems = [name for name in groups if not name.startswith("train_count_") and name not in others]
    columns = {"all codes": ""} | {f"only {name}": f"{name}/" for name in systems}
    columns |= {title: f"{level}/" for level, title in _LEVELS.items() if level in groups}
    rows = []
    for name in _SHOWN:
        found = {
            title: None if prefix[:-1] in systems and name in _OF_ALL_DOCUMENTS else metrics.get(prefix + name)
            for title, prefix in columns.items()
        }
        if found["all codes"] is not None:
            texts = {title: "" if one is None else written(name, one) for title, one in found.items()}
            rows.append({"score": pretty_name(name)} | texts)
    return pd.DataFrame(rows)


def band_table(bands: pd.DataFrame, intervals: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """Scores by training frequency with the intervals of micro-F1 and macro-F1; bands without labels left out.

    Of a band of which no label occurs nothing is known: its scores are dashes.
    """
    shown = bands[bands["n_labels"] > 0]
    scores = ["micro_precision", "micro_recall", "micro_f1", "macro_f1"]
    scores += [name for name in ("map", "macro_roc_auc") if name in shown]
    table = shown[["band", "n_labels", "n_labels_present", "n_true", *scores]].rename(
        columns={"band": "training_documents"}
    )
    table[scores] = table[scores].where(table["n_labels_present"] > 0)
    for score in ("micro_f1", "macro_f1"):
        ends = [intervals.get(f"{band_key(band)}/{score}") for band in table["training_documents"]]
        written_ends = ["" if one is None else f"{percent(one[0])}–{percent(one[1])}" for one in ends]
        table.insert(list(table.columns).index(score) + 1, f"95 % CI, {pretty_name(score)}", written_ends)
    return table


def group_scores(
    metrics: Mapping[str, float],
    groups: Mapping[str, str],
    baseline: Mapping[str, float] | None = None,
    differences: Differences = MappingProxyType({}),
) -> pd.DataFrame:
    """One row a group of labels: its scores, each F1 beside that of a baseline with the paired difference.

    Args:
        metrics: scores of the model, ``<key>/<score>`` among them.
        groups: key of each group by the name to be shown.
        baseline: the same scores of the baseline.
        differences: by name of the score: difference, low and high end of its interval first.
    """
    rows = []
    for group, key in groups.items():
        row: dict[str, Any] = {"group": group} | {name: metrics[f"{key}/{name}"] for name in ("n_labels", "n_true")}
        for score in ("micro_f1", "macro_f1"):
            name = pretty_name(score)
            row[name] = percent(metrics[f"{key}/{score}"])
            if baseline is not None:
                row[f"{name}, lexical baseline"] = percent(baseline[f"{key}/{score}"])
            if f"{key}/{score}" in differences:
                difference, low, high = (points(value) for value in differences[f"{key}/{score}"][:3])
                row[f"Difference, {name}"] = f"{difference} ({low} to {high})"
        rows.append(row | {"map": metrics[f"{key}/map"]})
    return pd.DataFrame(rows)


def band_keys(bands: pd.DataFrame) -> dict[str, str]:
    """Key of the scores of each band of which labels occur, by the name of the band."""
    return {band: band_key(band) for band in bands.loc[bands["n_labels_present"] > 0, "band"]}


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
    """One row a training stage: length, how far the loss came, speed, waiting for data, labels with a partner."""
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
                "share_of_time_loading": part["loading_share"].mean(),
                "share_of_labels_with_partner": part["epoch_partner_share"].mean(),
            }
        )
    return pd.DataFrame(rows).dropna(axis="columns", how="all")
