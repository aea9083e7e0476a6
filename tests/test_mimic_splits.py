"""Published split files: kinds of files, names of splits, and files that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from data_recipes import load_recipe, mimic4_icd10, synthetic
from data_recipes._mimic.splits import PublishedSplits
from pipeline.errors import UserError
from pipeline.notes.documents import write_documents
from pipeline.notes.ingest_report import IngestReport


def write(
    path: Path, ids: Sequence[object], names: Sequence[object], columns: tuple[str, str] = ("_id", "split")
) -> Path:
    table = pa.table(dict(zip(columns, (pa.array(ids), pa.array(names)), strict=True)))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path)
    else:
        rows = [",".join(columns), *(f"{one},{name}" for one, name in zip(ids, names, strict=True))]
        path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("name", ["s.feather", "s.parquet", "s.csv"])
def test_every_kind_of_file_gives_splits_by_document_id(tmp_path: Path, name: str) -> None:
    report = IngestReport()
    splits = PublishedSplits(write(tmp_path / name, [100, 200, 300], ["train", "val", "test"]), report)
    assert [splits.of(one) for one in ("100", "200", "300", "400")] == ["train", "val", "test", None]
    splits.check(1.0)
    assert report.counts == {"documents_without_given_split": 1}
    assert report.as_dict()["dropped"] == {}


def test_other_names_of_the_same_splits_are_understood(tmp_path: Path) -> None:
    names = ["Train", "dev", "valid", "validation ", "TEST", "training", "testing"]
    splits = PublishedSplits(write(tmp_path / "s.csv", list(range(7)), names), IngestReport())
    assert [splits.of(str(one)) for one in range(7)] == ["train", "val", "val", "val", "test", "train", "test"]


@pytest.mark.parametrize("name", ["S.CSV", "s.parquet"])
def test_ids_that_pandas_read_and_wrote_again_are_whole(tmp_path: Path, name: str) -> None:
    splits = PublishedSplits(write(tmp_path / name, ["100.0", "200.0"], ["train", "val"]), IngestReport())
    assert [splits.of(one) for one in ("100", "200")] == ["train", "val"]


def test_a_column_of_lists_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s\.parquet: not a readable"):
        PublishedSplits(write(tmp_path / "s.parquet", [[1], [2]], ["train", "val"]), IngestReport())


def test_without_a_file_no_document_has_a_split_and_nothing_is_counted() -> None:
    report = IngestReport()
    splits = PublishedSplits(None, report)
    assert splits.of("100") is None
    splits.check(1.0)
    assert not report.counts


def test_ids_without_document_are_counted_and_refused_where_they_are_too_many(tmp_path: Path) -> None:
    """Of four ids three are found: enough for a share of 0.75, too few for one above."""
    report = IngestReport()
    splits = PublishedSplits(write(tmp_path / "s.feather", [1, 2, 3, 4], ["train"] * 4), report)
    for document_id in ("1", "2", "3", "9"):
        splits.of(document_id)
    splits.check(0.75)
    assert report.as_dict()["examples"]["split_id_without_document"] == ["4"]
    with pytest.raises(UserError, match=r"of its 4 ids only 3 are documents here.*min_split_match"):
        splits.check(0.76)


@pytest.mark.parametrize(
    ("ids", "names", "problem"),
    [
        ([1, 2], ["train", "holdout"], "row 2: unknown split; expected one of train"),
        ([1, 2], ["train", None], "row 2: unknown split; expected"),
        ([1.5, 2.0], ["train", "val"], "row 1: _id is no whole number"),
        ([1, None], ["train", "val"], "row 2: _id is no whole number"),
        (["x1", "2"], ["train", "val"], "row 1: _id is no whole number"),
        ([1, 1], ["train", "val"], "row 2: id 1 is in two splits"),
        (pa.array([], pa.int64()), pa.array([], pa.string()), "no rows"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(tmp_path: Path, ids: Any, names: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        PublishedSplits(write(tmp_path / "s.parquet", ids, names), IngestReport())


@pytest.mark.parametrize("name", ["s.feather", "s.parquet", "s.csv"])
def test_missing_columns_and_files_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(UserError, match="no such file"):
        PublishedSplits(path, IngestReport())
    with pytest.raises(UserError, match="hadm_id"):
        PublishedSplits(write(path, [1], ["train"], columns=("hadm_id", "split")), IngestReport())
    path.write_bytes(b"\0\1 no table")
    with pytest.raises(UserError, match=name):
        PublishedSplits(path, IngestReport())


@pytest.mark.parametrize("recipe_name", ["mimic3_full", "mimic4_icd10"])
def test_documents_get_the_split_of_the_file_and_those_in_none_go_without(tmp_path: Path, recipe_name: str) -> None:
    recipe, shape = load_recipe(recipe_name), recipe_name[:6]
    raw = tmp_path / "raw"
    synthetic.make_raw(raw, synthetic.Options.model_validate({"shape": shape, "n_documents": 12}))

    def documents(**options: Any) -> tuple[dict[str, str | None], dict[str, int]]:
        report = IngestReport(recipe.PUBLISHED)
        found = list(recipe.read(raw, recipe.Options(**options), report, tmp_path / "scratch"))
        write_documents(found, tmp_path / "d.parquet", tmp_path / "a.parquet", report)
        return {one.document_id: one.given_split for one in found}, dict(report.counts)

    without, _ = documents()
    ids = [int(one) for one in without]
    names = ["train", "val", "test"] * len(ids)
    path = write(tmp_path / "s.feather", ids[1:], names[: len(ids) - 1])
    given, counts = documents(splits_path=path)
    assert list(given.values()) == [None, *names[: len(ids) - 1]]
    assert counts["documents_given_train"] == names[: len(ids) - 1].count("train")
    assert counts["documents_without_given_split"] == 1
    assert path in recipe.raw_files(raw, recipe.Options(splits_path=path))
    with pytest.raises(UserError, match="split of another data set"):
        documents(splits_path=write(tmp_path / "other.feather", [1, 2, 3], ["train", "val", "test"]))


def test_a_relative_path_in_the_options_of_a_config_starts_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages run in the work folder, so that is settled when the config is read."""
    from pipeline.experiment.settings import Data

    monkeypatch.chdir(tmp_path)
    data = Data.model_validate(
        {"recipe": "mimic4_icd10", "options": {"splits_path": "s.feather", "on_bad_row": "skip"}}
    )
    assert data.options == {"splits_path": str(tmp_path / "s.feather"), "on_bad_row": "skip"}
    assert Data.model_validate(data.model_dump()).options == data.options
    assert mimic4_icd10.Options(**data.options).splits_path == tmp_path / "s.feather"
