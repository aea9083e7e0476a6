"""A grid: many experiments from one config, each in a folder of its own, equal stages run once."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.errors import UserError
from pipeline.experiment.artifacts import share_outputs, stages_up_to
from pipeline.experiment.config import PipelineConfig, Stage, stage_settings
from pipeline.experiment.config_files import put_setting, validate_config
from pipeline.experiment.settings import Grid
from pipeline.files import read_json, write_json

MEMBERS_DIR = "members"
CHOICE = "choice.json"
_SAME_FOR_ALL = {
    "seed": "list seeds in grid.seeds",
    "experiment": "a member is named after its variant",
    "work_dir": "members lie in the folder of their grid",
    "tracking": "set it for the whole grid",
    "compute": "set it for the whole grid: it changes no result, and members share stages",
}
_WITH_FOLDS = {"split.fold": "grid.folds makes a member of every fold; name other settings of split one by one"}


@dataclass(frozen=True)
class Member:
    """One experiment of a grid.

    Attributes:
        folder: where its artifacts lie, relative to the grid's folder, with a slash; "" for a config without a grid.
        variant: name of its row in the table.
        choice: "section.key=value", ... of what is chosen on validation, or "".
        seed: of its training.
        fold: its fold, or None.
        config: what its stages run with.
    """

    folder: str
    variant: str
    choice: str
    seed: int
    fold: int | None
    config: PipelineConfig


def expand(config: PipelineConfig) -> list[Member]:
    """All experiments of a config: its members, or the config itself where it has no grid.

    Raises:
        UserError: if a variant names a setting that does not exist, has a wrong value or is not its own, or folds are
            asked for without ``split.n_folds``, or two members would share a folder, or values are to be chosen on
            split val, which is not predicted, or is scored itself, or which fitted them.
    """
    grid = config.grid
    if grid is None:
        return [Member("", config.experiment, "", config.seed, None, config)]
    n_folds = config.split.n_folds
    if grid.folds and n_folds is None:
        raise UserError("grid.folds needs split.n_folds, the number of folds.")
    folds: Sequence[int | None] = range(n_folds) if grid.folds and n_folds else [None]
    members = []
    for variant, settings in grid.variants.items():
        _refuse_same_for_all(variant, settings, _SAME_FOR_ALL | (_WITH_FOLDS if grid.folds else {}))
        for chosen in _choices(settings):
            searched = {key: value for key, value in chosen.items() if isinstance(settings[key], list)}
            for seed, fold in itertools.product(grid.seeds or [config.seed], folds):
                members.append(_member(config, variant, chosen, searched, seed=seed, fold=fold))
    folder, n = Counter(member.folder for member in members).most_common(1)[0]
    if n > 1:
        raise UserError(f"grid: {n} members would lie in {folder}; give variants other names, and each seed once.")
    _refuse_choice_on_wrong_val(members)
    _refuse_other_truths(members)
    return members


def _refuse_same_for_all(variant: str, settings: Mapping[str, Any], same_for_all: Mapping[str, str]) -> None:
    for key, (same, instead) in itertools.product(settings, same_for_all.items()):
        if f"{key}.".startswith(f"{same}.") or same.startswith(f"{key}."):
            raise UserError(f"grid.variants.{variant}.{key}: a variant cannot set {same}; {instead}.")


def _refuse_choice_on_wrong_val(members: Sequence[Member]) -> None:
    n_candidates = Counter((member.variant, member.seed, member.fold) for member in members)
    for member in members:
        n = n_candidates[member.variant, member.seed, member.fold]
        if n == 1:
            continue
        where = f"grid.variants.{member.variant}: the best of {n} settings is chosen on split val, but "
        if "val" not in member.config.predict.splits:
            raise UserError(f"{where}predict.splits is {list(member.config.predict.splits)}; add val to it.")
        if member.config.evaluate.split == "val":
            raise UserError(f"{where}evaluate.split is val, too: the best would be scored on what chose it.")
        if "train_classifier.threshold=" in member.choice:
            raise UserError(
                f"{where}thresholds are fitted on it, so the rule that fits closest looks best; make each rule a "
                "variant of its own."
            )


def _refuse_other_truths(members: Sequence[Member]) -> None:
    if len({member.config.label_space.level for member in members}) > 1:
        raise UserError(
            "grid: label_space.level must be the same for all; codes and chapters have no scores in common."
        )
    truths: dict[tuple[str, int, int | None], set[str]] = {}
    for member in members:
        truths.setdefault((member.variant, member.seed, member.fold), set()).add(_truth(member.config))
    for (variant, *_), several in truths.items():
        if len(several) > 1:
            raise UserError(
                f"grid.variants.{variant}: documents, their split and label_space cannot be chosen on split val, which "
                "they change: the easiest looks best; make each value a variant of its own. (A list offers values to "
                "choose from; a setting that is a list is given as a list in a list.)"
            )


def _truth(config: PipelineConfig) -> str:
    """All settings that say which documents of split val have which labels."""
    data = config.data.model_dump(mode="json", exclude={"cleaning", "placeholder", "max_words"})
    others = (one.model_dump(mode="json") for one in (config.split, config.label_space))
    return json.dumps([data, *others], sort_keys=True)


def _choices(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that lists offer."""
    offered = [value if isinstance(value, list) else [value] for value in settings.values()]
    for values in itertools.product(*offered):
        yield dict(zip(settings, values, strict=True))


def _member(
    config: PipelineConfig,
    variant: str,
    settings: Mapping[str, Any],
    searched: Mapping[str, Any],
    *,
    seed: int,
    fold: int | None,
) -> Member:
    """One member; ``searched`` are those of its settings of which the grid offers several values."""
    choice = ", ".join(f"{key}={value}" for key, value in searched.items())
    parts = [variant, *(f"{key.rpartition('.')[2]}-{value}" for key, value in searched.items()), f"seed-{seed}"]
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", "_".join(parts + ([] if fold is None else [f"fold-{fold}"])))
    raw = config.model_dump(mode="json", exclude={"grid"})
    raw["experiment"], raw["work_dir"] = name, str(config.experiment_dir / MEMBERS_DIR)
    raw["tracking"] |= {"grid_dir": str(config.experiment_dir), "log_models": False}
    source = f"grid.variants.{variant}"
    own = dict(settings) | {"seed": seed} | ({} if fold is None else {"split.fold": fold})
    for key, value in own.items():
        put_setting(raw, key, value, source=f"{source}.{key}")
    resolved = validate_config(raw, source=source)
    return Member(f"{MEMBERS_DIR}/{name}/", variant, choice, seed, fold, resolved)


def choosing(members: Sequence[Member], grid: Grid | None) -> list[Member]:
    """Members whose validation scores say which others are needed: those of the first seed where it chooses for all.

    Returns:
        Of variants that offer values, the members with the first seed; none where every seed chooses for itself.
    """
    return [member for member in _searched(members, grid) if member.seed == members[0].seed]


def waiting_for_choice(members: Sequence[Member], grid: Grid | None) -> list[Member]:
    """Members of which the first seed still has to choose those that are needed."""
    return [member for member in _searched(members, grid) if member.seed != members[0].seed]


def _searched(members: Sequence[Member], grid: Grid | None) -> list[Member]:
    """Members of variants that offer values, where the first seed chooses among these for all."""
    if grid is None or grid.choose_on == "each_seed":
        return []
    return [member for member in members if member.choice]


def write_choice(config: PipelineConfig, kept: Sequence[Member]) -> None:
    """Note what the first seed keeps, and of which grid."""
    rows = [{"variant": one.variant, "fold": one.fold, "choice": one.choice} for one in kept]
    write_json(config.experiment_dir / CHOICE, {"grid": _as_json(config), "kept": rows})


def _as_json(config: PipelineConfig) -> Any:
    return config.model_dump(mode="json", include={"grid"})["grid"]


def read_choice(config: PipelineConfig, members: Sequence[Member]) -> list[Member]:
    """Members of the table, once the first seed has chosen.

    Args:
        config: of the grid.
        members: all that it expands to.

    Returns:
        Those without a choice, and of the others, for every fold, those with the values that the first seed kept.

    Raises:
        UserError: if it has not chosen yet, or chose of another grid than this.
    """
    path = config.experiment_dir / CHOICE
    if not path.exists():
        raise UserError(f"{path} is missing; 'icd run' writes it once the members with the first seed are done.")
    choice = read_json(path)
    if choice["grid"] != _as_json(config):
        raise UserError(f"{path} is of a grid with other settings; 'icd run' chooses again.")
    kept = {(one["variant"], one["fold"], one["choice"]) for one in choice["kept"]}
    return [one for one in members if not one.choice or (one.variant, one.fold, one.choice) in kept]


def shared_stages(members: Sequence[Member], stage: Stage) -> dict[str, str]:
    """Which members take a stage's outputs from another one, because nothing before it differs.

    Returns:
        Folder of a member -> folder of the member that runs the stage; members that run it are not in it.
    """
    runs: dict[str, str] = {}
    shared = {}
    history = stages_up_to(stage)
    for member in members:
        settings = json.dumps([stage_settings(member.config, one) for one in history])
        first = runs.setdefault(settings, member.folder)
        if first != member.folder:
            shared[member.folder] = first
    return shared


def main(argv: Sequence[str]) -> int:
    """Share a stage's outputs: SOURCE_DIR TARGET_DIR STAGE."""
    source, target, stage = argv
    share_outputs(Path(source), Path(target), cast(Stage, stage))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
