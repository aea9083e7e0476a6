"""Two finished runs on the same documents: which one is better, how sure that is, and on which codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.errors import UserError
from pipeline.evaluation.coded import CodedSplit, load_coded_split
from pipeline.evaluation.metrics import evaluate_predictions, metrics_by_frequency_band
from pipeline.evaluation.paired import PairedDifference, label_wins, paired_differences
from pipeline.evaluation.patients import few_patients_note
from pipeline.experiment.artifacts import need
from pipeline.experiment.grid import MEMBERS_DIR
from pipeline.experiment.tracking import experiment_dir_of_run
from pipeline.files import guarded_io, read_json
from pipeline.icd.labels import LabelSpace
from pipeline.reports.figures import difference_figure
from pipeline.reports.page import caveat_of_split, render_page, write_page
from pipeline.reports.report_tables import as_table, p_value, points, short

KS = (5, 8, 15)
SHOWN = ("micro_f1", "macro_f1", "macro_f1_all_codes", "macro_f1_caml", "map", "precision_at_5", "precision_at_8",
         "precision_at_15", "exact_match", "jaccard")  # fmt: skip
_MAX_ROWS = 3_000


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same documents and labels.

    Attributes:
        name_a: of run A.
        name_b: of run B.
        split: which documents.
        n_documents: how many.
        n_labels: of the label space.
        n_resamples: draws behind intervals and p-values.
        scores_a: ``metrics.evaluate_predictions``.
        scores_b: the same of run B.
        differences: ``paired.paired_differences``, A minus B.
        bands: one row a band of training frequency, scores of both.
        wins: ``paired.label_wins``.
        few_patients: ``patients.few_patients_note``.
    """

    name_a: str
    name_b: str
    split: str
    n_documents: int
    n_labels: int
    n_resamples: int
    scores_a: dict[str, float]
    scores_b: dict[str, float]
    differences: dict[str, PairedDifference]
    bands: pd.DataFrame
    wins: pd.DataFrame
    few_patients: str | None = None


def find_run(run: str, tracking_dir: Path) -> Path:
    """The work folder of a run that is named by that folder or by its MLflow run id.

    Raises:
        UserError: if it is neither, or the folder holds another run by now.
    """
    folder = Path(run)
    if (folder / MEMBERS_DIR).is_dir():
        raise UserError(f"{run} is a grid; its table is {folder / 'grid.html'}. Name one of {folder / MEMBERS_DIR}/.")
    if folder.is_dir():
        return folder
    if len(run) == 32 and set(run) <= set("0123456789abcdef"):
        return experiment_dir_of_run(tracking_dir, run)
    raise UserError(f"{run!r} is neither a work folder of an experiment, such as work/demo, nor an MLflow run id.")


def compare_runs(dir_a: Path, dir_b: Path, *, n_resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare two experiments on the split that both evaluated.

    Args:
        dir_a: work folder of run A.
        dir_b: work folder of run B.
        n_resamples: of the bootstrap and of the permutation test.
        seed: of both.

    Raises:
        UserError: if one is not finished, or they were scored on other splits, documents, gold labels or label
            spaces.
    """
    split, other_split = (read_json(need(one, "metrics.json"))["split"] for one in (dir_a, dir_b))
    if split != other_split:
        raise UserError(f"{dir_a} was evaluated on split {split}, {dir_b} on {other_split}; evaluate both on the same.")
    spaces = [LabelSpace.load(need(one, "label_space.json")) for one in (dir_a, dir_b)]
    _check_label_spaces(spaces[0], spaces[1], dir_a, dir_b)
    a, b = (_load(one, split, space) for one, space in zip((dir_a, dir_b), spaces, strict=True))
    b = _same_documents(a, b, split, dir_a, dir_b)
    name_a, name_b = _names(dir_a, dir_b)
    return compare_coded(a, b, name_a=name_a, name_b=name_b, split=split, n_resamples=n_resamples, seed=seed)


def compare_coded(
    a: CodedSplit, b: CodedSplit, *, name_a: str, name_b: str, split: str, n_resamples: int, seed: int
) -> Comparison:
    """Compare what two systems said of the same documents, given in the same order."""
    space = a.label_space
    scores = [evaluate_predictions(one.true, one.predicted, one.probabilities, ks=KS) for one in (a, b)]
    answers = (a.predicted, a.probabilities, b.predicted, b.probabilities)
    differences = paired_differences(a.true, *answers, n_resamples=n_resamples, seed=seed, patients=a.patients, ks=KS)
    return Comparison(
        name_a,
        name_b,
        split,
        len(a.document_ids),
        len(space),
        n_resamples,
        scores[0],
        scores[1],
        {name: differences[name] for name in SHOWN},
        _compare_bands(a, b),
        label_wins(
            a.true,
            a.predicted,
            b.predicted,
            labels=space.labels,
            titles=[title or "" for title in space.titles],
            train_counts=space.train_counts,
            patients=a.patients,
        ),
        few_patients_note(len(a.patients), len(set(a.patients))),
    )


def _compare_bands(a: CodedSplit, b: CodedSplit) -> pd.DataFrame:
    """Scores of both by training frequency (as counted for run A); bands without codes here are left out."""
    counts = a.label_space.train_counts
    tables = [metrics_by_frequency_band(a.true, one.predicted, counts, one.probabilities) for one in (a, b)]
    table = tables[0][["band", "n_labels_present", "n_true"]].copy()
    for score in ("micro_f1", "macro_f1", "map"):
        table[f"{score}_a"], table[f"{score}_b"] = tables[0][score], tables[1][score]
    return table[table["n_true"] > 0].rename(columns={"band": "training_documents"})


def _load(folder: Path, split: str, space: LabelSpace) -> CodedSplit:
    coded = load_coded_split(folder, split, space)
    if coded is None:
        raise UserError(f"{folder}: no document of split {split} was coded; run the stage 'predict' again.")
    return coded


def _check_label_spaces(a: LabelSpace, b: LabelSpace, dir_a: Path, dir_b: Path) -> None:
    if a.labels == b.labels and a.level == b.level:
        return
    only_a, only_b = sorted(set(a.labels) - set(b.labels)), sorted(set(b.labels) - set(a.labels))
    raise UserError(
        f"the runs have different label spaces: {dir_a} has {len(a)} codes at level {a.level}, {dir_b} has {len(b)} at "
        f"level {b.level}; {_some(only_a, 'only in the first')}, {_some(only_b, 'only in the second')}. Scores over "
        "different codes cannot be compared; train both with the same data, split and label_space settings."
    )


def _same_documents(a: CodedSplit, b: CodedSplit, split: str, dir_a: Path, dir_b: Path) -> CodedSplit:
    """Run B in the order of run A."""
    ordered = b.in_order_of(a.document_ids)
    if ordered is None:
        in_a, in_b = set(a.document_ids), set(b.document_ids)
        only_a, only_b = sorted(in_a - in_b), sorted(in_b - in_a)
        raise UserError(
            f"the runs coded different documents of split {split}: {dir_a} has {len(a.document_ids)}, {dir_b} has "
            f"{len(in_b)}; {_some(only_a, 'only in the first')}, {_some(only_b, 'only in the second')}. Paired tests "
            "need the same documents; use the same data and split settings for both."
        )
    differs = np.unique((a.true.astype(np.int8) - ordered.true.astype(np.int8)).nonzero()[0])
    if differs.size:
        raise UserError(
            f"the gold labels of {differs.size} documents differ between {dir_a} and {dir_b} (first: "
            f"{a.document_ids[int(differs[0])]}); ingest both from the same raw data."
        )
    return ordered


def _some(names: list[str], where: str) -> str:
    return f"{len(names)} {where}" + (f" (such as {short(names[0])})" if names else "")


def _names(dir_a: Path, dir_b: Path) -> tuple[str, str]:
    """Names of two folders, with as much of their paths as tells them apart."""
    parts_a, parts_b = dir_a.resolve().parts, dir_b.resolve().parts
    n_parts = 1
    while parts_a[-n_parts:] == parts_b[-n_parts:] and n_parts < max(len(parts_a), len(parts_b)):
        n_parts += 1
    return "/".join(parts_a[-n_parts:]), "/".join(parts_b[-n_parts:])


def verdict(comparison: Comparison) -> str:
    """What micro-F1 says, in a sentence, and whether too few patients or a split that is not held out say it."""
    return " ".join(filter(None, (_verdict(comparison), comparison.few_patients, caveat_of_split(comparison.split))))


def _verdict(comparison: Comparison) -> str:
    one = comparison.differences["micro_f1"]
    numbers = f"95 % interval {points(one.low)} to {points(one.high)}, p {p_value(one.p_value)}"
    if not one.is_apart:
        return (
            f"These {comparison.n_documents:,} documents cannot tell the two apart: micro-F1 differs by "
            f"{points(one.difference)} points ({numbers})."
        )
    better, worse = f"A ({comparison.name_a})", f"B ({comparison.name_b})"
    if one.difference < 0:
        better, worse = worse, better
    by = points(abs(one.difference)).removeprefix("+")
    return f"{better} is better than {worse} by {by} points of micro-F1 (A − B: {numbers})."


def wins_reading(comparison: Comparison) -> str:
    """Who wins on how many codes, in a sentence."""
    counts = comparison.wins["winner"].value_counts()
    n_a, n_b = int(counts.get("A", 0)), int(counts.get("B", 0))
    n_open = len(comparison.wins) - n_a - n_b
    return (
        f"Of {len(comparison.wins):,} codes that occur in the gold standard or in either system's predictions, A is "
        f"better on {n_a:,}, B on {n_b:,}; on the other {n_open:,} the two cannot be told apart."
    )


def score_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row a score: score, a, b, difference, low, high, p_value."""
    return [
        {"score": name, "a": comparison.scores_a[name], "b": comparison.scores_b[name], **one._asdict()}
        for name, one in comparison.differences.items()
    ]


def render_comparison(comparison: Comparison) -> str:
    """The comparison as one HTML page, complete in itself."""
    wins = comparison.wins
    has_winner = wins["winner"] != ""
    rows = pd.concat([wins[has_winner], wins[~has_winner]]).head(_MAX_ROWS)
    return render_page(
        "compare.html.j2",
        name_a=comparison.name_a,
        name_b=comparison.name_b,
        split=comparison.split,
        n_documents=comparison.n_documents,
        n_labels=comparison.n_labels,
        n_resamples=comparison.n_resamples,
        verdict=verdict(comparison),
        scores=score_rows(comparison),
        difference_figure=Markup(
            difference_figure(comparison.differences, name_a=comparison.name_a, name_b=comparison.name_b)
        ),
        bands=as_table(comparison.bands),
        wins_reading=wins_reading(comparison),
        rows=rows.assign(title=rows["title"].map(short)).to_dict("records"),
        n_seen=len(wins),
    )


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the page whole or not at all; its folder must exist.

    Raises:
        UserError: if it cannot be written there.
    """
    html = render_comparison(comparison)
    with guarded_io(path.parent):
        write_page(path, html)
