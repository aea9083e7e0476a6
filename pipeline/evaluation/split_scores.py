"""Scores of what a system said of a split: at every level of the code tree, with intervals, beside human coders."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import UserError
from pipeline.evaluation.agreement import coder_comparison
from pipeline.evaluation.coded import CodedSplit, diagnosis_ids, principal_ids, raise_split
from pipeline.evaluation.curves import expected_calibration_error, reliability_table
from pipeline.evaluation.label_counts import label_lists, label_matrix
from pipeline.evaluation.metrics import (
    band_key,
    bootstrap_intervals,
    evaluate_predictions,
    frequency_bands,
    principal_diagnosis_scores,
)
from pipeline.experiment.artifacts import need
from pipeline.icd.codes import LEVELS, parse_label
from pipeline.icd.labels import LabelSpace

logger = logging.getLogger(__name__)

LabelGroups: TypeAlias = Mapping[str, Sequence[int]]
"""Name -> label ids."""


def score(
    coded: CodedSplit,
    *,
    ks: Sequence[int],
    n_resamples: int,
    seed: int,
    train_label_sets: Sequence[Sequence[str]] = (),
    label_groups: LabelGroups = MappingProxyType({}),
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Scores and bootstrap intervals of a split at its own level, and, under ``category/`` and ``chapter/``, above.

    Args:
        coded: what to score.
        ks: cut-offs of precision and recall.
        n_resamples: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
        train_label_sets: of split train, for the bands of the levels above.
        label_groups: label ids by name, scored by themselves as well, under ``<name>/``.

    Returns:
        Scores and intervals by name. ``micro_f1_all_given`` counts gold labels outside the label space as missed;
        the other scores leave them out. ``calibration_error`` is over all cells, nearly all of which are obviously
        false; ``calibration_error_from_10_percent`` over those with a probability of 0.1 or more.
    """
    how: dict[str, Any] = {"ks": ks, "n_resamples": n_resamples, "seed": seed}
    scores, intervals = _score_level(coded, label_groups, **how)
    n_given = scores["n_true"] + coded.n_outside
    scores["n_true_outside_label_space"] = coded.n_outside
    scores["micro_f1_all_given"] = 2 * scores["n_true_positive"] / max(scores["n_predicted"] + n_given, 1)
    reliability = reliability_table(coded.true, coded.probabilities)
    scores["calibration_error"] = expected_calibration_error(reliability)
    scores["calibration_error_from_10_percent"] = expected_calibration_error(reliability, lowest=0.1)
    for level in LEVELS:
        raised = raise_split(coded, level, train_label_sets)
        if raised is not None:
            found = _score_level(raised, {}, **how)
            scores |= {f"{level}/{name}": value for name, value in found[0].items()}
            intervals |= {f"{level}/{name}": ends for name, ends in found[1].items()}
    return scores, intervals


def find_label_groups(label_space: LabelSpace, patterns: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Label ids of each group.

    Args:
        label_space: where to look.
        patterns: by name of the group, labels or patterns with ``*``, ``?`` and ``[...]``.

    Raises:
        UserError: if a group has no label at all; a pattern without any is warned of.
    """
    groups: dict[str, list[int]] = {}
    for name, wanted in patterns.items():
        found: set[int] = set()
        for pattern in wanted:
            ids = [
                index
                for index, label in enumerate(label_space.labels)
                if label == pattern or fnmatch.fnmatchcase(label, pattern)
            ]
            if not ids:  # a code that no training document has, or a slip
                logger.warning("evaluate.label_groups: %r of %r matches no label", pattern, name)
            found.update(ids)
        if not found:
            raise UserError(
                f"evaluate.label_groups: {name!r} matches none of the {len(label_space)} labels, which look like "
                f"{label_space.labels[0]!r}."
            )
        groups[name] = sorted(found)
    return groups


def _score_level(
    coded: CodedSplit,
    label_groups: LabelGroups,
    *,
    ks: Sequence[int],
    n_resamples: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    label_space = coded.label_space
    alone = {**_code_systems(label_space), **label_groups}
    scores = evaluate_predictions(
        coded.true,
        coded.predicted,
        coded.probabilities,
        train_counts=label_space.train_counts,
        label_groups=alone,
        ks=ks,
    )
    if any(coded.principals):
        scores |= principal_diagnosis_scores(
            principal_ids(coded), coded.predicted, coded.probabilities, diagnoses=diagnosis_ids(label_space)
        )
    groups = band_groups(label_space) | {name: np.asarray(labels) for name, labels in alone.items()}
    intervals = bootstrap_intervals(
        coded.true,
        coded.predicted,
        coded.probabilities,
        n_resamples=n_resamples,
        seed=seed,
        patients=coded.patients,
        ks=ks,
        label_groups=groups,
    )
    return scores, intervals


def band_groups(label_space: LabelSpace) -> dict[str, NDArray[np.int64]]:
    """Label ids by band of training frequency, under the names that scores of bands have; no empty band."""
    bands = frequency_bands(label_space.train_counts)
    return {band_key(band): labels for band, labels in bands.items() if labels.size}


def _code_systems(label_space: LabelSpace) -> dict[str, list[int]]:
    """Label ids by code system, where there are several."""
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(label_space.labels):
        groups.setdefault(parse_label(label)[0], []).append(index)
    return groups if len(groups) > 1 else {}


def compare_coders(experiment_dir: Path, coded: CodedSplit) -> pd.DataFrame | None:
    """Put model and human coders side by side, where the data has coders; codes outside the label space count.

    A document that a coder has no row for was not given to that coder: it is left out of the coder's comparisons.
    """
    annotators = pq.read_table(need(experiment_dir, "annotators.parquet"))
    annotators = annotators.filter(pc.is_in(annotators["document_id"], pa.array(coded.document_ids))).to_pandas()
    if annotators.empty:
        return None
    space = coded.label_space
    beyond = {label for labels in [*coded.gold, *annotators["labels"]] for label in space.raised(labels)}
    names = [*space.labels, *sorted(beyond - set(space.labels))]
    union = LabelSpace(tuple(names), (None,) * len(names), (0,) * len(names), space.level)

    def matrix(label_sets: Iterable[Iterable[str]]) -> sparse.csr_array:
        return label_matrix([union.encode(labels)[0] for labels in label_sets], len(names))

    given = {
        name: dict(zip(rows["document_id"], rows["labels"], strict=True))
        for name, rows in annotators.groupby("annotator")
    }
    return coder_comparison(
        {name: matrix(labels.get(one, ()) for one in coded.document_ids) for name, labels in given.items()},
        matrix(coded.gold),
        label_matrix(label_lists(coded.predicted), len(names)),  # the union begins with the label space
        has_coded={name: np.array([one in labels for one in coded.document_ids]) for name, labels in given.items()},
        n_labels_of_model=len(space),
    )
