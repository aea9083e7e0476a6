"""Settings: every shipped config loads, every setting reruns the stages that read it."""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from pipeline import errors
from pipeline.errors import UserError
from pipeline.experiment.config import (
    STAGE_SECTIONS,
    PipelineConfig,
    Stage,
    gpus_of,
    stage_settings,
    view_for_stage,
)
from pipeline.experiment.config_files import load_config, validate_config
from pipeline.experiment.settings import Section
from pipeline.experiment.training_settings import ContrastiveLossName
from pipeline.losses import build_contrastive_loss

MakeConfig = Callable[..., PipelineConfig]


def test_text_of_documents_stays_out_of_the_store(tmp_path: Path, make_config: MakeConfig) -> None:
    for work_dir in (tmp_path / "mlruns", tmp_path / "mlruns" / "work", tmp_path / "work" / ".." / "mlruns"):
        with pytest.raises(UserError, match=r"work_dir .*, which never goes into tracking\.dir"):
            make_config(work_dir=work_dir, tracking={"dir": tmp_path / "mlruns"})


def test_a_name_of_an_experiment_fits_a_file_system(make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="experiment: String should have at most 200 characters"):
        make_config(experiment="a" * 201)


CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
STAGES: tuple[Stage, ...] = typing.get_args(Stage)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_is_named_after_its_experiment(path: Path) -> None:
    assert load_config(path).experiment == path.stem


def test_there_are_shipped_configs() -> None:
    assert {"demo", "cmc2007"} <= {path.stem for path in CONFIGS}


def test_settings_cannot_be_changed_later() -> None:
    config = PipelineConfig(experiment="a")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


def test_a_user_error_is_a_value_error_of_one_type() -> None:
    assert errors.UserError is UserError
    assert issubclass(UserError, ValueError)


def test_a_stage_sees_only_the_sections_that_it_declares() -> None:
    config = PipelineConfig(experiment="a", seed=3)
    for stage in STAGES:
        view = view_for_stage(config, stage)
        for name in set(PipelineConfig.model_fields) - {"experiment", "work_dir", "allow_downloads", "compute"}:
            if name in STAGE_SECTIONS[stage] or name == "tracking":
                assert getattr(view, name) == getattr(config, name)
            else:
                with pytest.raises(AttributeError, match=f"stage '{stage}' reads '{name}'"):
                    getattr(view, name)
        assert view.experiment_dir == config.experiment_dir
        assert stage_settings(view, stage) == stage_settings(config, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_sections_that_its_script_reads(stage: Stage) -> None:
    """One too few is an AttributeError in the middle of a run, one too many a needless rerun."""
    script = Path(__file__).parents[1] / "pipeline" / "stages" / f"{stage}.py"
    read = {
        node.attr
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
    }
    where_and_how = {
        "experiment", "experiment_dir", "work_dir", "scored_split", "allow_downloads", "compute", "tracking",
    }  # fmt: skip
    assert read - where_and_how == set(STAGE_SECTIONS[stage])


def test_every_stage_has_its_sections() -> None:
    assert set(STAGE_SECTIONS) == set(STAGES)


@pytest.mark.parametrize(
    ("loss", "model", "expected"),
    [
        ("sd", "ensemble", {"train_encoder": 4, "train_classifier": 4, "predict": 1}),
        ("none", "neural", {"train_classifier": 4, "predict": 1}),
        ("none", "lexical", {}),
    ],
)
def test_gpus_are_for_stages_that_have_a_network_to_compute(
    make_config: MakeConfig, loss: str, model: str, expected: dict[str, int]
) -> None:
    config = make_config(train_encoder={"loss": loss}, train_classifier={"model": model}, compute={"n_gpus": 4})
    assert {stage: n for stage in STAGES if (n := gpus_of(config, stage))} == expected


def leaves(model: type[Section], prefix: str = "") -> list[tuple[str, FieldInfo]]:
    """Every single setting, with its field."""
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", field))
    return found


CONTRASTIVE = ("train_encoder", "train_classifier.joint")


def other_value(name: str, field: FieldInfo, default: Any) -> Any:
    """A valid value that is not the default."""
    special = {
        "experiment": "b",
        "predict.splits": ["train", "test"],
        "evaluate.ks": [1],
        "evaluate.split": "val",
        "data.options": {"x": 1},
        "grid": {"variants": {"a": {}}},
        "data.placeholder": "DEID",
        "encoding.cache_frozen_layers": True,
        "train_encoder.loss": "any",
        "train_encoder.ema_decay": 0.5,
        "train_classifier.joint.loss": "sd",
        "train_classifier.loss": "asl",
        "train_encoder.head_learning_rate": 0.5,
        "train_classifier.group_by_length": False,
        "train_encoder.loss_settings": {"alpha": 2.0},
        "train_classifier.joint.loss_settings": {"alpha": 2.0},
        "train_classifier.loss_settings": {"gamma_neg": 1.0},
        "evaluate.label_groups": {"b": ["icd10cm:I10"]},
        "predict.mixed_precision": "bf16",
        "encoding.attention_dropout": 0.5,
    } | dict.fromkeys([f"{one}.{last}" for one in CONTRASTIVE for last in ("partner_probability", "momentum")], 0.5)
    if name in special:
        return special[name]
    choices = [one for one in typing.get_args(field.annotation) if isinstance(one, str) and one != default]
    if choices:
        return choices[0]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1 if isinstance(default, int) else default / 2
    if default is None and Path not in typing.get_args(field.annotation):
        return 5
    return "/elsewhere" if default is None or isinstance(default, Path) else "other"


def test_every_kind_of_setting_is_met_by_the_loop_over_all_of_them() -> None:
    names = {name for name, _ in leaves(PipelineConfig)}
    assert {"seed", "data.options", "train_classifier.joint.weight", "compute.n_threads", "evaluate.ks"} <= names


@pytest.mark.parametrize(("name", "field"), leaves(PipelineConfig), ids=[name for name, _ in leaves(PipelineConfig)])
def test_a_changed_setting_reruns_exactly_the_stages_that_read_it(name: str, field: FieldInfo) -> None:
    raw: dict[str, Any] = {
        "experiment": "a",
        "encoding": {"n_frozen_layers": 1},
        "split": {"n_folds": 3},
        "train_encoder": {"queue_size": 100},  # momentum needs a queue
        "train_classifier": {"joint": {"loss": "any" if name.endswith("joint.loss") else "sd", "queue_size": 100}},
    }
    if name.endswith("loss_settings"):  # which some losses alone have
        raw["train_encoder"]["loss"] = raw["train_classifier"]["joint"]["loss"] = "msc"
        raw["train_classifier"]["loss"] = "asl"
    if name.endswith("freeze_encoder"):  # beside a joint loss that moves the encoder it is refused
        raw["train_classifier"].pop("joint")
    if name == "data.cleaning":  # cleaned text has neither sentences nor headers
        raw |= {"tokens": {"context": False}}
        raw["train_classifier"]["model"] = "neural"
    before = validate_config(raw, source="test")
    value: Any = before
    for part in name.split("."):
        value = getattr(value, part)
    *parents, last = name.split(".")
    node = raw
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = other_value(name, field, value)
    after = validate_config(raw, source="test")
    assert after != before
    changed = {stage for stage in STAGES if stage_settings(before, stage) != stage_settings(after, stage)}
    section = name.split(".", maxsplit=1)[0]
    assert changed == {stage for stage in STAGES if section in STAGE_SECTIONS[stage]}
    where_and_how = {"experiment", "work_dir", "allow_downloads", "compute", "tracking", "grid"}
    assert bool(changed) == (section not in where_and_how), "a setting that no stage reads has no effect"


@pytest.mark.parametrize("name", [one for one in typing.get_args(ContrastiveLossName) if one != "none"])
@pytest.mark.parametrize("normalise", ["positives", "weights"])
@pytest.mark.parametrize("weight_in", ["loss", "log"])
def test_a_config_takes_of_a_loss_what_the_loss_takes(name: str, normalise: str, weight_in: str) -> None:
    """The config knows the losses without importing torch; it must know them as they are."""

    def takes(build: Callable[[], object], refusal: type[Exception]) -> bool:
        try:
            build()
        except refusal:
            return False
        return True

    how: dict[str, Any] = {"normalise": normalise, "weight_in": weight_in}
    section = {"experiment": "a", "train_encoder": {"loss": name, **how}}
    in_config = takes(lambda: validate_config(section, source="test"), UserError)
    assert in_config == takes(lambda: build_contrastive_loss(name, n_labels=3, dim=2, **how), ValueError)
