"""Recipes are found by name, and each offers what stage ingest asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

import data_recipes
from pipeline.errors import UserError


def test_recipes_are_found_by_name_and_options_are_checked() -> None:
    assert data_recipes.recipe_names() == [
        "cmc2007", "mimic3_50", "mimic3_clean", "mimic3_full", "mimic4_icd10", "mimic4_icd10_nguyen", "mimic4_icd9",
        "mimic4_icd9_nguyen", "synthetic", "table",
    ]  # fmt: skip
    with pytest.raises(UserError, match="no recipe 'tabel'; did you mean 'table'"):
        data_recipes.load_recipe("tabel")
    with pytest.raises(UserError, match=r"data\.options:\n  code: unknown key; did you mean 'codes'"):
        data_recipes.recipe_options(data_recipes.load_recipe("table"), {"code": "x"})
    with pytest.raises(UserError, match=r"data\.raw is not set; give a folder"):
        data_recipes.require_raw(None, "a folder")


@pytest.mark.parametrize("name", data_recipes.recipe_names())
def test_every_recipe_offers_what_ingest_asks_for(name: str, tmp_path: Path) -> None:
    recipe = data_recipes.load_recipe(name)
    options = data_recipes.recipe_options(recipe, {})
    assert all(isinstance(path, Path) for path in recipe.raw_files(tmp_path, options))
    assert callable(recipe.read)
    assert callable(recipe.read_titles)
    assert all(isinstance(n, int) for n in recipe.PUBLISHED.values())
