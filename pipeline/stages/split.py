"""Stage split: documents.parquet -> splits.parquet, label_space.json.

Run alone:
    python -m pipeline.stages.split --config configs/demo.yaml
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.evaluation.label_counts import label_matrix
from pipeline.experiment.artifacts import need, writing
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.settings import SplitSettings
from pipeline.experiment.stage_tracking import StageRun
from pipeline.files import read_json
from pipeline.icd.labels import LabelSpace
from pipeline.notes.splits import (
    SPLITS,
    assign_folds,
    assign_splits,
    check_given_splits,
    file_order_folds,
    splits_of_fold,
    temporal_splits,
)
from pipeline.notes.stratification import label_match
from pipeline.stages import stage_main

logger = logging.getLogger(__name__)

_MANY_OF_ONE, _LARGE_SHARE = 10, 0.05  # documents of one patient, by number and by share


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Divide documents by patient and fit the label space on split train."""
    columns = ["document_id", "patient_id", "labels", "given_split", "date"]
    documents = pq.read_table(need(config.experiment_dir, "documents.parquet"), columns=columns).to_pandas()
    splits = _chosen_splits(documents, config.split)
    if config.scored_split not in set(splits["split"]):
        raise UserError(
            f"evaluate.split is {config.scored_split!r}, but no document is in it: split.{config.scored_split} is 0, "
            f"and the data bring no split of their own. Raise split.{config.scored_split}, or set evaluate.split: val."
        )
    with_split = documents.merge(splits, on="document_id")
    label_space = LabelSpace.fit(
        with_split["labels"][with_split["split"] == "train"],
        level=config.label_space.level,
        min_documents=config.label_space.min_documents,
        top_k=config.label_space.top_k,
        counted_label_sets=with_split["labels"] if config.label_space.count_over == "all" else None,
        titles=read_json(need(config.experiment_dir, "titles.json")),
    )
    encoded = [label_space.encode(labels) for labels in with_split["labels"]]
    outside = sum(n for (_, n), split in zip(encoded, with_split["split"], strict=True) if split == "test")
    match = label_match(label_matrix([ids for ids, _ in encoded], len(label_space)), with_split["split"].tolist())
    years = _years(with_split)
    with writing(config, "split") as output:
        splits.to_parquet(output.dir / "splits.parquet", index=False)
        label_space.save(output.dir / "label_space.json")
        counts = {name: int((splits["split"] == name).sum()) for name in SPLITS}
        output.facts |= {
            "documents": counts,
            "labels": len(label_space),
            "test_labels_outside": outside,
            "label_match": match,
            "years": years,
        }
    logger.info("documents: %s; %d labels", ", ".join(f"{name} {n}" for name, n in counts.items()), len(label_space))
    _warn_of_one_patient(with_split["patient_id"])
    for name, found in match.items():
        logger.info("%s: label shares differ by %.2g on average, %d labels absent", name, *found.values())
    for name, (first, last) in years.items():
        logger.info("%s: %d to %d", name, first, last)
    if outside:
        logger.warning("%d label occurrences of split test lie outside the label space", outside)
    tracked.log_metrics({f"n_documents_{name}": n for name, n in counts.items()} | {"n_labels": len(label_space)})
    tracked.log_metrics({f"{score}_{name}": value for name, found in match.items() for score, value in found.items()})


def _warn_of_one_patient(patient_ids: pd.Series) -> None:
    """An id such as 'unknown' would join many patients, in one split and in intervals over patients."""
    most = int(patient_ids.value_counts().iloc[0])
    if most > max(_MANY_OF_ONE, _LARGE_SHARE * len(patient_ids)):
        logger.warning(
            "one patient_id has %d of the %d documents; if it stands for 'not known', give each patient an id",
            most, len(patient_ids),
        )  # fmt: skip


def _chosen_splits(documents: pd.DataFrame, settings: SplitSettings) -> pd.DataFrame:
    """The documents that are in a split, columns ``document_id`` and ``split``: that of the data, or our own."""
    if settings.use_given and documents["given_split"].notna().any():
        _refuse_own_ways(settings)
        given = check_given_splits(documents)
        n_in_none = len(documents) - len(given)
        logger.info("the split that came with the data is used; %d documents are in none", n_in_none)
        return given
    split = np.array(_own_splits(documents, settings), dtype=object)
    splits = documents[["document_id"]].assign(split=split).dropna(subset=["split"])
    if n_early := len(documents) - len(splits):
        logger.info("temporal: %d documents of patients of val and test are too early for them and left out", n_early)
    return splits


def _own_splits(documents: pd.DataFrame, settings: SplitSettings) -> Sequence[str | None]:
    """The split of each document, as the settings ask for; None for one that is in none."""
    seed, patient_ids = settings.seed, documents["patient_id"].tolist()
    label_sets: list[Sequence[str]] = documents["labels"].tolist()
    if settings.method == "temporal":
        return temporal_splits(patient_ids, documents["date"].tolist(), val=settings.val, test=settings.test)
    matched = label_sets if settings.method == "stratified" else None
    if settings.n_folds is None:
        return assign_splits(patient_ids, val=settings.val, test=settings.test, seed=seed, label_sets=matched)
    if settings.fold_method == "file_order":
        folds = file_order_folds(patient_ids, n_folds=settings.n_folds, seed=seed)
    else:
        folds = assign_folds(patient_ids, n_folds=settings.n_folds, seed=seed, label_sets=label_sets)
    return splits_of_fold(folds, settings.fold, patient_ids, val=settings.val, seed=seed, label_sets=matched)


def _years(documents: pd.DataFrame) -> dict[str, list[int]]:
    """First and last year of each split that has documents with a date; more would be the day of one patient."""
    dated = documents.dropna(subset=["date"])
    return {str(split): [part.min().year, part.max().year] for split, part in dated.groupby("split")["date"]}


def _refuse_own_ways(settings: SplitSettings) -> None:
    if settings.n_folds is None and settings.method != "temporal":
        return
    way = "method is 'temporal'" if settings.n_folds is None else f"n_folds is {settings.n_folds}"
    raise UserError(
        f"split.{way}, but the data come with a split of their own; set split.use_given: false, or take the split that "
        "is there and leave this setting out."
    )


if __name__ == "__main__":
    stage_main("split", run)
