"""The recipes of MIMIC as a user runs them: by their configs, up to the split; and golden cases of both versions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from data_recipes import synthetic
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import load_config
from pipeline.files import read_json
from pipeline.icd.labels import LabelSpace
from pipeline.stages import ingest, run_stage, split

ROOT = Path(__file__).parents[1]
RECIPES = (
    "mimic3_full", "mimic3_50", "mimic3_clean", "mimic4_icd9", "mimic4_icd10", "mimic4_icd9_nguyen",
    "mimic4_icd10_nguyen",
)  # fmt: skip
OF_TEN = ("mimic3_clean", "mimic4_icd9", "mimic4_icd10")
N_DOCUMENTS = 120


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A synthetic raw folder of each version."""
    folder = tmp_path_factory.mktemp("raw")
    for shape in ("mimic3", "mimic4"):
        options = {"shape": shape, "n_documents": N_DOCUMENTS, "n_codes": 200}
        synthetic.make_raw(folder / shape, synthetic.Options.model_validate(options))
    return {shape: folder / shape for shape in ("mimic3", "mimic4")}


def run_until_split(work_dir: Path, recipe: str, raw: Path, *settings: str) -> PipelineConfig:
    overrides = (f"work_dir={work_dir}", f"data.raw={raw}", "tracking.enabled=false", *settings)
    config = load_config(ROOT / "configs" / f"{recipe}.yaml", overrides)
    assert run_stage(config, "ingest", ingest.run) == 0
    assert run_stage(config, "split", split.run) == 0
    return config


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_up_to_the_split_with_the_labels_it_promises(
    tmp_path: Path, raw: dict[str, Path], recipe: str
) -> None:
    config = run_until_split(tmp_path, recipe, raw[recipe[:6]])
    documents = pq.read_table(config.experiment_dir / "documents.parquet")
    counts = Counter(label for labels in documents["labels"].to_pylist() for label in labels)
    space = LabelSpace.load(config.experiment_dir / "label_space.json")
    expected = {label for label, n in counts.items() if n >= (10 if recipe in OF_TEN else 1)}
    assert set(space.labels) == expected
    systems = {label.split(":")[0] for label in counts}
    assert systems == ({"icd10cm", "icd10pcs"} if "icd10" in recipe else {"icd9cm", "icd9pcs"})
    report = read_json(config.experiment_dir / "ingest_report.json")
    assert {check["verdict"] for check in report["published"].values()} == {"other size", "not counted"}
    if recipe == "mimic3_50":
        assert len(counts) == 50
    if recipe.startswith("mimic3"):
        assert len(documents) == N_DOCUMENTS
    if recipe in OF_TEN:
        assert report["counts"]["labels_of_10_documents"] == len(expected)


def test_a_published_split_decides_who_is_in_which_split(tmp_path: Path, raw: dict[str, Path]) -> None:
    """Of three patients in four all documents get a split, those of every fourth none."""
    without = run_until_split(tmp_path / "without", "mimic3_full", raw["mimic3"])
    documents = pq.read_table(without.experiment_dir / "documents.parquet", columns=["document_id", "patient_id"])
    patients = list(dict.fromkeys(documents["patient_id"].to_pylist()))
    names = dict(zip(patients, ["train", "val", "test", None] * len(patients), strict=False))
    given = {
        document_id: names[patient_id]
        for document_id, patient_id in zip(*(column.to_pylist() for column in documents.columns), strict=True)
        if names[patient_id] is not None
    }
    path = tmp_path / "splits.feather"
    table = pyarrow.table({"_id": [int(one) for one in given], "split": list(given.values())})
    pyarrow.feather.write_feather(table, path)
    config = run_until_split(tmp_path / "with", "mimic3_full", raw["mimic3"], f"data.options.splits_path={path}")
    splits = pq.read_table(config.experiment_dir / "splits.parquet")
    assert dict(zip(splits["document_id"].to_pylist(), splits["split"].to_pylist(), strict=True)) == given
    counts = read_json(config.experiment_dir / "ingest_report.json")["counts"]
    assert counts["documents_without_given_split"] == len(documents) - len(given)
    assert counts["documents_given_val"] == list(given.values()).count("val")


@pytest.mark.parametrize(("case", "recipe"), [("mimic3", "mimic3_full"), ("mimic4", "mimic4_icd10")])
def test_golden_case(tmp_path: Path, case: str, recipe: str) -> None:
    """tests/golden/CASE holds raw files and what must come of them, written by hand from the rules of the recipe."""
    folder = ROOT / "tests/golden" / case
    overrides = (f"work_dir={tmp_path}", f"data.raw={folder}", "tracking.enabled=false")
    config = load_config(ROOT / "configs" / f"{recipe}.yaml", overrides)
    assert run_stage(config, "ingest", ingest.run) == 0
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    assert pq.read_table(config.experiment_dir / "documents.parquet").to_pylist() == expected["documents"]
    assert read_json(config.experiment_dir / "titles.json") == expected["titles"]
    report = read_json(config.experiment_dir / "ingest_report.json")
    assert {name: report[name] for name in ("counts", "dropped", "changed")} == {
        name: expected[name] for name in ("counts", "dropped", "changed")
    }


def test_text_is_cleaned_masked_and_cut_as_the_config_says(tmp_path: Path) -> None:
    """By hand: the first document begins "Admission Date:  [**2101-1-30**]", then 'He said "I feel well"'."""
    folder = ROOT / "tests/golden/mimic3"
    settings = ("data.cleaning=edin", "data.placeholder=deid", "data.max_words=6")
    reads = ("tokens.context=false", "train_classifier.model=neural")
    overrides = (f"work_dir={tmp_path}", f"data.raw={folder}", "tracking.enabled=false", *settings, *reads)
    config = load_config(ROOT / "configs/mimic3_full.yaml", overrides)
    assert run_stage(config, "ingest", ingest.run) == 0
    texts = pq.read_table(config.experiment_dir / "documents.parquet")["text"].to_pylist()
    assert texts == ["admission date deid he said i", "first part second part as row"]
