"""The stage split: the method asked for, folds, dates, and how labels match."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest
from split_cases import Corpus, day, made_corpus

from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig, view_for_stage
from pipeline.experiment.manifests import read_manifest
from pipeline.experiment.stage_tracking import stage_run
from pipeline.files import write_json
from pipeline.notes.documents import Document, write_documents
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.splits import (
    SPLITS,
    assign_splits,
    file_order_folds,
)
from pipeline.stages.split import run


def split_stage(
    make_config: Callable[..., PipelineConfig],
    corpus: Corpus,
    *,
    given_split: Any = None,
    dates: Sequence[datetime.date] = (),
    **sections: Any,
) -> PipelineConfig:
    """Run the stage on a documents table made of patients and labels."""
    config = make_config(data={"recipe": "table"}, **sections)
    documents = [
        Document(
            f"d{number}",
            patient,
            "text",
            [f"none:{label}" for label in labels or ["none"]],
            given_split,
            dates[number] if dates else None,
        )
        for number, (patient, labels) in enumerate(corpus)
    ]
    config.experiment_dir.mkdir(parents=True)
    paths = [config.experiment_dir / name for name in ("documents.parquet", "annotators.parquet")]
    write_documents(documents, *paths, IngestReport())
    write_json(config.experiment_dir / "titles.json", {})
    with stage_run(config, "split") as tracked:
        run(view_for_stage(config, "split"), tracked)
    return config


def splits_of(config: PipelineConfig) -> list[str]:
    table = pd.read_parquet(config.experiment_dir / "splits.parquet")
    assert table["document_id"].tolist() == [f"d{number}" for number in range(len(table))]
    return table["split"].tolist()


@pytest.mark.parametrize("method", ["stratified", "random"])
def test_the_stage_splits_by_the_method_asked_for_and_reports_how_labels_match(
    make_config: Callable[..., PipelineConfig], method: str
) -> None:
    corpus = made_corpus(1)
    config = split_stage(make_config, corpus, split={"method": method, "seed": 3})
    label_sets = [labels or ["none"] for _, labels in corpus] if method == "stratified" else None
    expected = assign_splits([one for one, _ in corpus], val=0.1, test=0.15, seed=3, label_sets=label_sets)
    assert splits_of(config) == expected
    manifest = read_manifest(config.experiment_dir, "split")
    assert manifest is not None
    match = manifest["facts"]["label_match"]
    assert set(match) == set(SPLITS)
    rows = [labels or ["none"] for (_, labels), split in zip(corpus, expected, strict=True) if split == "val"]
    assert match["val"]["n_labels_absent"] == 7 - len({label for labels in rows for label in labels})


def test_the_stage_takes_one_fold_as_test_and_val_from_the_rest(make_config: Callable[..., PipelineConfig]) -> None:
    corpus = [(str(number), ["a"]) for number in range(20)]
    config = split_stage(make_config, corpus, split={"n_folds": 4, "fold": 2, "fold_method": "file_order", "val": 0.2})
    folds = file_order_folds([one for one, _ in corpus], n_folds=4, seed=0)
    splits = splits_of(config)
    assert [split == "test" for split in splits] == [fold == 2 for fold in folds]
    assert splits.count("val") == 3


@pytest.mark.parametrize(("n_of_one", "is_told"), [(10, False), (11, True)])
def test_a_patient_of_very_many_documents_is_told(
    make_config: Callable[..., PipelineConfig], caplog: pytest.LogCaptureFixture, n_of_one: int, is_told: bool
) -> None:
    corpus = [(str(number), ["a"]) for number in range(60)] + [("unknown", ["a"])] * n_of_one
    split_stage(make_config, corpus)
    assert (f"one patient_id has {n_of_one} of the {60 + n_of_one} documents" in caplog.text) == is_told


def test_the_stage_splits_by_date_and_says_which_years(make_config: Callable[..., PipelineConfig]) -> None:
    corpus = [(str(number), ["a"]) for number in range(20)]
    dates = [day(20 * (19 - number)) for number in range(20)]
    config = split_stage(make_config, corpus, dates=dates, split={"method": "temporal", "val": 0.2, "test": 0.3})
    assert splits_of(config) == ["test"] * 6 + ["val"] * 4 + ["train"] * 10
    manifest = read_manifest(config.experiment_dir, "split")
    assert manifest is not None
    assert manifest["facts"]["years"] == {"train": [2020, 2020], "val": [2020, 2020], "test": [2020, 2021]}


def test_a_temporal_split_leaves_early_documents_out_and_refuses_a_given_one(
    make_config: Callable[..., PipelineConfig],
) -> None:
    corpus = [(str(number), ["a"]) for number in range(9)] + [("8", ["a"])]
    dates = [day(number) for number in range(9)] + [day(2)]
    config = split_stage(make_config, corpus, dates=dates, split={"method": "temporal", "val": 0.2, "test": 0.2})
    assert splits_of(config) == ["train"] * 5 + ["val"] * 2 + ["test"] * 2
    with pytest.raises(UserError, match=r"split.method is 'temporal', but the data come with a split of their own"):
        split_stage(make_config, corpus, dates=dates, given_split="train", split={"method": "temporal"}, experiment="b")


def test_a_split_that_is_to_be_scored_and_has_no_document_is_refused_before_anything_is_trained(
    make_config: Callable[..., PipelineConfig],
) -> None:
    with pytest.raises(UserError, match=r"evaluate.split is 'test', but no document is in it: split.test is 0"):
        split_stage(make_config, made_corpus(0), split={"test": 0})
    config = split_stage(make_config, made_corpus(0), split={"test": 0}, evaluate={"split": "val"}, experiment="b")
    assert set(splits_of(config)) == {"train", "val"}


def test_folds_of_data_with_a_split_of_their_own_are_refused(make_config: Callable[..., PipelineConfig]) -> None:
    with pytest.raises(UserError, match=r"split.n_folds is 3, but the data come with a split of their own"):
        split_stage(make_config, made_corpus(0), given_split="train", split={"n_folds": 3})
