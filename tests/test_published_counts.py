"""Counts that authors publish: what recipes compare with is what the page of the recipes says, and adds up."""

from __future__ import annotations

from pathlib import Path

import pytest

import data_recipes

PAGE = Path(data_recipes.__file__).with_name("README.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.partition("| recipe | config |")[2].partition("\n\n")[0].splitlines()[2:]
    if (cells := [cell.strip() for cell in line.strip("|").split("|")])
}
RECIPES = [name for name in data_recipes.recipe_names() if data_recipes.load_recipe(name).PUBLISHED]
SPLITS = ("train", "val", "test")


def test_the_table_has_a_row_for_every_recipe() -> None:
    assert sorted(ROWS) == data_recipes.recipe_names()
    assert len(RECIPES) == 8


@pytest.mark.parametrize("name", RECIPES)
def test_counts_of_a_recipe_are_those_of_its_page(name: str) -> None:
    published = data_recipes.load_recipe(name).PUBLISHED
    _, _, labels, documents = ROWS[name]
    by_split = [f"{n:,}" for split in SPLITS if (n := published.get(f"documents_given_{split}"))]
    assert documents == " / ".join(by_split)
    for count in ("labels", "labels_of_10_documents"):
        if count in published:
            assert f"{published[count]:,}" in [word.rstrip(",") for word in labels.split()]
    expected = PAGE.partition("## What is the same")[2]
    for count, n in published.items():
        if "given" not in count:
            assert f"{n:,}" in expected, count


@pytest.mark.parametrize(
    ("name", "n_documents"),
    [
        ("mimic3_full", 52_722), ("mimic3_clean", 52_712), ("mimic4_icd10", 122_279), ("mimic4_icd9", 209_326),
        ("mimic4_icd10_nguyen", 122_310), ("mimic4_icd9_nguyen", 209_352),
    ],
)  # fmt: skip
def test_splits_add_up_to_the_documents_that_the_page_names(name: str, n_documents: int) -> None:
    published = data_recipes.load_recipe(name).PUBLISHED
    assert sum(published[f"documents_given_{split}"] for split in SPLITS) == n_documents
    assert f"{n_documents:,}" in PAGE
