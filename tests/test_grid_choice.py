"""Values that the first seed of a grid chooses for all seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from grid_cases import finish, run_study, write_study

from pipeline.commands import dag
from pipeline.errors import UserError
from pipeline.experiment import grid
from pipeline.experiment.artifacts import STAGE_OUTPUTS, writing
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.config_files import load_config
from pipeline.experiment.manifests import manifest_path
from pipeline.files import write_json
from pipeline.stages import choose

MakeConfig = Callable[..., PipelineConfig]
SECTION = {
    "variants": {"none": {}, "sd": {"train_encoder.loss": "sd", "train_encoder.temperature": [0.1, 0.5]}},
    "seeds": [3, 4],
    "choose_on": "first_seed",
}


def test_only_the_first_seed_searches_and_the_others_follow_it(make_config: MakeConfig) -> None:
    """On split val temperature 0.5 ranks the one code of document b first, 0.1 second."""
    config = make_config(grid=SECTION)
    assert config.grid is not None
    members = grid.expand(config)
    searched = grid.choosing(members, config.grid)
    assert [(one.choice, one.seed) for one in searched] == [
        ("train_encoder.temperature=0.1", 3), ("train_encoder.temperature=0.5", 3),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"choice\.json is missing; 'icd run' writes it"):
        grid.read_choice(config, members)
    for member, scores in zip(searched, ([0.1, 0.9], [0.9, 0.1]), strict=True):
        finish(member, ["none:1", "none:2"], {"b": ("val", scores), "a": ("test", [0.5, 0.5])})
    choose.run(config)
    assert [one.folder for one in grid.read_choice(config, members)] == [
        "members/none_seed-3/", "members/none_seed-4/",
        "members/sd_temperature-0.5_seed-3/", "members/sd_temperature-0.5_seed-4/",
    ]  # fmt: skip


def test_every_fold_has_its_own_choice(make_config: MakeConfig) -> None:
    config = make_config(grid=SECTION | {"folds": True}, split={"n_folds": 2})
    members = grid.expand(config)
    assert config.grid is not None
    for member in grid.choosing(members, config.grid):
        is_best = (member.fold == 0) == member.choice.endswith("0.1")
        finish(member, ["none:1", "none:2"], {"b": ("val", [0.9, 0.1] if is_best else [0.1, 0.9])})
    choose.run(config)
    found = {(one.fold, one.seed, one.choice[-3:]) for one in grid.read_choice(config, members) if one.choice}
    assert found == {(0, 3, "0.1"), (0, 4, "0.1"), (1, 3, "0.5"), (1, 4, "0.5")}


@pytest.mark.parametrize("change", [{"choose_on": "each_seed"}, {"variants": {"none": {}}}])
def test_where_the_first_seed_has_nothing_to_choose_no_one_waits_for_it(
    make_config: MakeConfig, change: dict[str, Any]
) -> None:
    config = make_config(grid=SECTION | change)
    assert config.grid is not None
    assert grid.choosing(grid.expand(config), config.grid) == []
    with pytest.raises(UserError, match="the first seed has nothing to choose"):
        choose.run(config)


def test_until_a_stage_runs_what_is_known_before_the_choice(make_config: MakeConfig) -> None:
    config = make_config(grid=SECTION)
    members = grid.expand(config)
    told = dag.snakemake_arguments(config, members, profile="local", cores=1, until="split", dry_run=False)
    assert told[told.index("--") + 1 :] == [
        f"members/{name}/manifests/split.json"
        for name in ("none_seed-3", "none_seed-4", "sd_temperature-0.1_seed-3", "sd_temperature-0.5_seed-3")
    ]


def test_a_choice_of_another_grid_is_refused(make_config: MakeConfig) -> None:
    """A variant that came later would be missing in the table, without a word."""
    config = make_config(grid=SECTION)
    config.experiment_dir.mkdir(parents=True)
    grid.write_choice(config, [])
    variants = SECTION["variants"] | {"all": {"train_encoder.temperature": [0.1, 0.5]}}
    later = make_config(grid=SECTION | {"variants": variants})
    with pytest.raises(UserError, match=r"choice\.json is of a grid with other settings; 'icd run' chooses again"):
        grid.read_choice(later, grid.expand(later))


def test_what_waits_for_a_choice_is_not_forced_but_made_again_if_it_is_chosen(make_config: MakeConfig) -> None:
    """Both members were ingested with other settings than are asked for now; one of them may not be needed."""
    old, new = (make_config(grid=SECTION, data={"max_words": words}) for words in (10, 20))
    for member in grid.expand(old)[1::2]:
        with writing(member.config, "ingest") as output:
            for name in STAGE_OUTPUTS["ingest"]:
                (output.dir / name).touch()
    members = grid.expand(new)
    none, *waiting = (manifest_path(one.config.experiment_dir, "ingest") for one in members[1::2])
    for dry_run in (True, False):
        told = dag.snakemake_arguments(new, members, profile="local", cores=1, until=None, dry_run=dry_run)
        assert told[told.index("--forcerun") + 1 :] == ["members/none_seed-4/manifests/ingest.json", "--", "all"]
        assert none.exists()
        assert [one.exists() for one in waiting] == [dry_run, dry_run]


@pytest.mark.slow
def test_the_grid_trains_with_other_seeds_what_the_first_one_chose(
    tmp_path: Path,
    tiny_encoder_dir: Path,
    small_notes: list[dict[str, Any]],
    small_sections: dict[str, Any],
    run_stages: Callable[[PipelineConfig, str], None],
) -> None:
    """The first seed runs alone, in this process; Snakemake then chooses and trains one more member, not two."""
    sections = small_sections | {
        "tracking": {"enabled": False},
        "data": {"options": {"split": "split"}},
        "encoder": {"model": str(tiny_encoder_dir)},
        "grid": {
            "variants": {"one": {"train_classifier.model": ["tfidf", "lexical"]}},
            "seeds": [0, 1],
            "choose_on": "first_seed",
        },
    }
    config = write_study(tmp_path, small_notes, sections)
    run = partial(run_study, tmp_path)
    for member in grid.expand(load_config(tmp_path / "study.yaml", [])):
        if member.seed == 0:
            dag.write_snapshot(member.config)
            run_stages(member.config, "ingest split tokenize train_encoder train_classifier predict evaluate")
    told = run()
    folder = tmp_path / "work" / "study"
    (kept,) = json.loads((folder / "choice.json").read_text(encoding="utf-8"))["kept"]
    trained = sorted(path.parent.name for path in folder.glob("members/*/predictions.parquet"))
    value = kept["choice"].rpartition("=")[2]
    assert trained == sorted(["one_model-tfidf_seed-0", "one_model-lexical_seed-0", f"one_model-{value}_seed-1"])
    (row, *_) = json.loads((folder / "grid.json").read_text(encoding="utf-8"))["rows"]
    assert (row["n_seeds"], row["chosen"]) == (2, f"{kept['choice']} (1x)")
    assert re.findall(r"(train_classifier|choose|grid): start", told) == ["choose", "train_classifier", "grid"]
    assert "by the first seed for all seeds" in (folder / "grid.html").read_text(encoding="utf-8")
    assert ": start" not in run(), "a second run has nothing to do"
    config["grid"]["seeds"] = [0, 1, 2]
    write_json(tmp_path / "study.yaml", config)
    planned = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", run("--dry-run"), flags=re.MULTILINE)
    assert "choose" in planned, "the choice is of another grid"
    assert "train_classifier" not in planned, "what is needed is known after the choice"
