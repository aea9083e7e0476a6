"""The table of a grid against scores worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grid_cases import GOLD, finish

from pipeline.evaluation.grid_results import as_rows, collect
from pipeline.experiment import grid
from pipeline.experiment.config import PipelineConfig
from pipeline.files import write_json
from pipeline.reports.grid_report import text_table, write_grid_report

MakeConfig = Callable[..., PipelineConfig]
VARIANTS = {
    "none": {"train_encoder.loss": "none"},
    "sd": {"train_encoder.loss": "sd", "train_encoder.temperature": [0.1, 0.5]},
}


def test_of_several_settings_the_best_on_validation_is_kept_whatever_test_says(make_config: MakeConfig) -> None:
    """Temperature 0.1 finds the code of validation document b and nothing of test document a; 0.5 the reverse.

    Kept is 0.1, with micro-F1 0 on test; none has 1, so the difference is -1 in every bootstrap sample.
    """
    members = grid.expand(make_config(grid={"variants": VARIANTS}))
    labels = ["none:1", "none:2"]
    right, wrong = (
        {"b": ("val", [0.9, 0.1]), "a": ("test", [0.1, 0.1])},
        {"b": ("val", [0.1, 0.9]), "a": ("test", [0.9, 0.9])},
    )
    for member, coded in zip(members, (wrong, right, wrong), strict=True):
        finish(member, labels, coded)
    results = collect(members, choose_by="map", n_resamples=10, seed=0)
    none, sd = as_rows(results, reference=None)
    assert (none["micro_f1"], sd["micro_f1"]) == (1.0, 0.0)
    assert sd["chosen"] == "train_encoder.temperature=0.1 (1x)"
    assert [sd[f"micro_f1_{name}"] for name in ("difference", "low", "high")] == [-1.0, -1.0, -1.0]
    assert "micro_f1_difference" not in none


def test_variants_with_other_labels_for_the_same_documents_are_not_subtracted(make_config: MakeConfig) -> None:
    """As with data.options.code_kinds: the second has one code less to find of document a, so its F1 is no gain."""
    members = grid.expand(make_config(grid={"variants": {"all": {}, "fewer": {"data.options": {}}}}))
    for member, gold in zip(members, (GOLD, GOLD | {"a": ["none:1"]}), strict=True):
        finish(member, ["none:1", "none:2"], {"a": ("test", [0.9, 0.1])}, gold)
    rows = as_rows(collect(members, choose_by="map", n_resamples=5, seed=0), reference=None)
    assert [row["micro_f1"] for row in rows] == [pytest.approx(2 / 3), 1.0]
    assert not [name for row in rows for name in row if name.endswith("_difference")]


def test_folds_are_pooled_in_the_label_space_of_all_of_them(make_config: MakeConfig) -> None:
    """Fold 0 knows codes 1 and 2 and codes a rightly, b with 2; fold 1 knows 1 and 3, codes c rightly, d with 1.

    Over the four documents: found 1 and 2 of a, 3 of c: 3; given 5, predicted 3 + 1 + 1 = 5: F1 = 6/10. Code 2 of d,
    which fold 1 could not know, is missed and not left out.
    """
    config = make_config(grid={"variants": {"one": {}}})
    (member,) = grid.expand(config)
    members = []
    for fold, (labels, coded) in enumerate(
        [
            (["none:1", "none:2"], {"a": ("test", [0.9, 0.8]), "b": ("test", [0.2, 0.7])}),
            (["none:1", "none:3"], {"c": ("test", [0.1, 0.8]), "d": ("test", [0.6, 0.1])}),
        ]
    ):
        raw = member.config.model_copy(update={"experiment": f"fold-{fold}"})
        one = grid.Member(f"members/fold-{fold}/", "one", "", 0, fold, raw)
        finish(one, labels, coded)  # type: ignore[arg-type]
        members.append(one)
    (row,) = as_rows(collect(members, choose_by="map", n_resamples=0, seed=0), reference=None)
    assert row["micro_f1"] == pytest.approx(0.6)
    assert (row["n_documents"], row["n_labels"], row["n_true"]) == (4, 3, 5)


def test_a_code_that_no_fold_with_it_in_training_tests_is_in_the_band_of_no_training_documents(
    make_config: MakeConfig,
) -> None:
    """Only document a, of fold 0, has code 2 there; fold 1 trained on it twice, and tests c without it."""
    (member,) = grid.expand(make_config(grid={"variants": {"one": {}}}))
    members = []
    for fold, (labels, name) in enumerate([(["none:1"], "a"), (["none:2", "none:3"], "c")]):
        raw = member.config.model_copy(update={"experiment": f"fold-{fold}"})
        members.append(grid.Member(f"members/fold-{fold}/", "one", "", 0, fold, raw))
        finish(members[-1], labels, {name: ("test", [0.9] * len(labels))})
    (row,) = as_rows(collect(members, choose_by="map", n_resamples=0, seed=0), reference=None)
    assert (row["train_count_0/n_labels"], row["train_count_1_10/n_labels"]) == (1, 2)


@pytest.mark.parametrize("order", [("strict", "all"), ("all", "strict")])
def test_a_code_that_a_label_space_leaves_out_is_in_the_band_of_its_training_documents(
    make_config: MakeConfig, order: tuple[str, str]
) -> None:
    """As with label_space.min_documents in the one variant: two documents of split train have code 2 in both."""
    spaces = {"strict": ["none:1"], "all": ["none:1", "none:2"]}
    settings = {"strict": {"label_space.min_documents": 5}, "all": {}}
    members = grid.expand(make_config(grid={"variants": {name: settings[name] for name in order}}))
    for member in members:
        labels = spaces[member.variant]
        finish(member, labels, {"a": ("test", [0.9] * len(labels))}, trained_on=spaces["all"])
    rows = as_rows(collect(members, choose_by="map", n_resamples=0, seed=0), reference=None)
    assert {(row["train_count_0/n_labels"], row["train_count_1_10/n_labels"]) for row in rows} == {(0, 2)}


def test_variants_tested_on_other_documents_are_named_on_the_page_and_in_the_terminal(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(grid={"variants": {"one": {}, "other": {"data.max_documents": 3}}})
    members = grid.expand(config)
    for member, name in zip(members, "ab", strict=True):
        finish(member, ["none:1"], {name: ("test", [0.9])})
    rows = as_rows(collect(members, choose_by="map", n_resamples=5, seed=0), reference=None)
    assert config.grid is not None
    write_grid_report(tmp_path / "grid.html", "study", rows, config.grid, split="test")
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "Tested on other documents, and so not comparable with the first row: other (1 documents)." in page
    write_json(tmp_path / "grid.json", {"rows": rows})
    config = make_config(grid=config.grid.model_dump() | {"reference": "other"})
    assert config.grid is not None
    rows_beside_other = as_rows(collect(members, choose_by="map", n_resamples=5, seed=0), reference="other")
    write_grid_report(tmp_path / "grid.html", "study", rows_beside_other, config.grid, split="test")
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "not comparable with other: one (1 documents)." in page
    assert text_table(tmp_path / "grid.json").endswith("tested on other documents, and so not comparable: other")


def test_variants_whose_documents_are_of_other_patients_are_not_subtracted(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(grid={"variants": {"one": {}, "other": {"train_classifier.threshold": "global"}}})
    members = grid.expand(config)
    for member in members:
        finish(member, ["none:1"], {"a": ("test", [0.9]), "b": ("test", [0.9])})
    path = members[1].config.experiment_dir / "documents.parquet"
    table = pq.read_table(path)
    same_patient = pa.array(["p"] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index("patient_id"), "patient_id", same_patient), path)
    rows = as_rows(collect(members, choose_by="map", n_resamples=5, seed=0), reference=None)
    assert [row["n_patients"] for row in rows] == [2, 1]
    assert "micro_f1_difference" not in rows[1]
    assert config.grid is not None
    write_grid_report(tmp_path / "grid.html", "study", rows, config.grid, split="test")
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "These 2 documents are of 2 patients" in page


def test_means_and_deviations_are_over_seeds_and_the_page_shows_them(make_config: MakeConfig, tmp_path: Path) -> None:
    """F1 is 1 with one seed and 0 with the other: mean 0.5, standard deviation 1/sqrt(2)."""
    config = make_config(grid={"variants": {"one": {}}, "seeds": [0, 1]})
    members = grid.expand(config)
    for member, probability in zip(members, (0.9, 0.1), strict=True):
        finish(member, ["none:1"], {"b": ("test", [probability])})
    rows = as_rows(collect(members, choose_by="map", n_resamples=5, seed=0), reference=None)
    assert rows[0]["micro_f1"] == 0.5
    assert rows[0]["micro_f1_sd"] == pytest.approx(0.5**0.5)
    assert config.grid is not None
    write_grid_report(tmp_path / "grid.html", "study", rows, config.grid, split="test")
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "0.500 <small>± 0.707</small>" in page
    assert "1 documents of split test;" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    write_json(tmp_path / "grid.json", {"rows": rows})
    assert "0.500 ± 0.707" in text_table(tmp_path / "grid.json")


@pytest.mark.parametrize("patient_of_b", ["p", "another"])
def test_a_difference_is_of_means_over_seeds_and_its_interval_draws_patients(
    make_config: MakeConfig, patient_of_b: str
) -> None:
    """Documents a (codes 1 and 2) and b (code 1), variants one and other, seeds 0 and 1.

    One: all found with seed 0, F1 1; only 1 of b with seed 1, 2/4. Other: nothing with seed 0; 1 of both with seed 1,
    4/5. Means 3/4 and 2/5, so the difference is -0.35. Of a alone one has 1 and 0, other 0 and 2/3: -1/6; of b alone
    1 and 1, 0 and 1: -1/2. If both documents are of one patient, all samples are the whole: -0.35 throughout.
    """
    config = make_config(
        grid={"variants": {"one": {}, "other": {"train_classifier.threshold": "global"}}, "seeds": [0, 1]}
    )
    said = {
        ("one", 0): ([0.9, 0.9], [0.9, 0.1]), ("one", 1): ([0.1, 0.1], [0.9, 0.1]),
        ("other", 0): ([0.1, 0.1], [0.1, 0.1]), ("other", 1): ([0.9, 0.1], [0.9, 0.1]),
    }  # fmt: skip
    members = grid.expand(config)
    assert {(member.variant, member.seed) for member in members} == said.keys()
    for member in members:
        of_a, of_b = said[member.variant, member.seed]
        coded = {"a": ("test", of_a), "b": ("test", of_b)}
        finish(member, ["none:1", "none:2"], coded, patients={"a": "p", "b": patient_of_b})
    one, other = as_rows(collect(members, choose_by="map", n_resamples=60, seed=0), reference=None)
    assert (one["micro_f1"], other["micro_f1"]) == (pytest.approx(3 / 4), pytest.approx(2 / 5))
    assert other["micro_f1_sd"] == pytest.approx(0.8 / 2**0.5)
    assert (one["n_seeds"], one["n_patients"]) == (2, 1 if patient_of_b == "p" else 2)
    ends = [other[f"micro_f1_{name}"] for name in ("difference", "low", "high")]
    expected = [-0.35, -0.35, -0.35] if patient_of_b == "p" else [-0.35, -1 / 2, -1 / 6]
    assert ends == pytest.approx(expected)
