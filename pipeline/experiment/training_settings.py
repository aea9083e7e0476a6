"""The sections of a config that trainings read: losses, optimization, the classifier."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from pipeline.experiment.loss_settings import loss_arguments
from pipeline.experiment.settings import Fraction, PositiveInt, Precision, Section

ContrastiveLossName = Literal[
    "none", "all", "any", "mulsupcon", "sd", "sd_similarity", "sd_dissimilarity", "sd_symmetric", "jaccard", "overlap",
    "slcl", "jscl", "sd_idf", "sd_mulsupcon", "sd_per_label", "msc", "probmcl", "sd_prototypes",
]  # fmt: skip
JointLossName = Literal[ContrastiveLossName, "icl", "jspcl"]
"""Beside a classifier there are logits (JSPCL) and what its labels read in a document (ICL)."""
_WITHOUT_PROJECTIONS = ("icl", "jspcl")
_LOG_WEIGHTED = ("sd", "sd_similarity", "sd_dissimilarity", "sd_symmetric", "sd_idf")
_NORMALISED = (*_LOG_WEIGHTED, "sd_mulsupcon", "sd_prototypes")
HeadLossName = Literal["bce", "asl", "distribution_balanced", "zlpr"]
ModelKind = Literal["neural", "tfidf", "lexical", "ensemble"]
WITH_ENCODER: tuple[ModelKind, ...] = ("neural", "ensemble")
WITH_TFIDF: tuple[ModelKind, ...] = ("tfidf", "lexical", "ensemble")
WITH_TITLES: tuple[ModelKind, ...] = ("lexical", "ensemble")
ThresholdRule = Literal["global", "per_band", "per_label", "prevalence"]

T = TypeVar("T")


class Contrastive(Section):
    """A contrastive loss by name; see docs/losses.md."""

    loss: JointLossName = Field("sd", description="'none', or a loss that docs/losses.md describes")
    temperature: Annotated[float, Field(gt=0, le=10)] = Field(0.1, description="divides cosine similarities")
    normalise: Literal["positives", "weights"] = Field(
        "positives", description="divide by |P| (label rows in sd_mulsupcon) or by the sum of weights"
    )
    weight_in: Literal["loss", "log"] = Field(
        "loss", description="where SD's factor stands; 'log' has the gradient of any"
    )
    loss_settings: dict[str, Any] = Field(default_factory=dict, description="what this loss alone has; docs/losses.md")
    projection_dim: PositiveInt = Field(128, description="width of what the loss sees")
    partner_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="how often a drawn document brings one that shares its rarest label into the batch"
    )
    queue_size: Annotated[int, Field(ge=0)] = Field(
        0, description="documents of earlier steps that the loss sees as further samples; 0: none"
    )
    momentum: Fraction | None = Field(
        None, description="queue the projections of a copy of the encoder that keeps this share of itself a step"
    )

    @model_validator(mode="after")
    def _log_only_for_sd(self) -> Self:
        if self.weight_in == "log" and (self.normalise != "positives" or self.loss not in _LOG_WEIGHTED):
            raise ValueError(f"weight_in 'log' is for {', '.join(_LOG_WEIGHTED)} with normalise 'positives'")
        return self

    @model_validator(mode="after")
    def _normalises_as_the_loss_can(self) -> Self:
        if self.normalise != "positives" and self.loss not in _NORMALISED:
            raise ValueError(f"normalise {self.normalise!r} is for {', '.join(_NORMALISED)}, not for {self.loss!r}")
        return self

    @model_validator(mode="after")
    def _knows_its_settings(self) -> Self:
        loss_arguments(self.loss, self.loss_settings)
        return self

    @model_validator(mode="after")
    def _is_of_some_use(self) -> Self:
        """A grid over what nothing reads would compare trainings that are one and the same."""
        if self.loss == "none" and (self.queue_size or self.partner_probability):
            raise ValueError("queue_size and partner_probability serve a contrastive loss, but loss is 'none'")
        return self

    @model_validator(mode="after")
    def _queue_fits_loss(self) -> Self:
        if self.queue_size and self.loss in ("probmcl", *_WITHOUT_PROJECTIONS):
            raise ValueError(f"queue_size must be 0 for loss {self.loss!r}, which has no queue; see docs/losses.md")
        if self.momentum is not None and not self.queue_size:
            raise ValueError("momentum is for queued projections: set queue_size, or momentum to null")
        return self


class Training(Section):
    """What both trainings share."""

    n_epochs: Annotated[int, Field(ge=0)] = Field(10, description="passes over split train")
    global_batch_size: Annotated[int, Field(ge=1)] = Field(32, description="documents a step, over all processes")
    micro_batch_tokens: PositiveInt = Field(
        2048, description="tokens (padding included) that go through the encoder at a time, one document at least"
    )
    gradient_cache: bool = Field(
        False,
        description="recompute micro-batches of a contrastive loss in backward: memory flat in the batch; a classifier "
        "without one goes backward after each micro-batch anyway",
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    warmup: Fraction = Field(0.1, description="share of steps with rising learning rate")
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Fraction | None = Field(
        None,
        description="of a running average of the weights, which is scored and kept: the share it keeps in a step, "
        "n / (n + 9) in step n where that is less",
    )
    mixed_precision: Precision = Field("no", description="'no' is float32")


def _with_queue_for(section: T, contrastive: Contrastive, global_batch_size: int) -> T:
    if 0 < contrastive.queue_size < global_batch_size:
        raise ValueError(
            f"queue_size must be 0 or at least global_batch_size, which is {global_batch_size}; "
            f"got {contrastive.queue_size}"
        )
    return section


class TrainEncoder(Training, Contrastive):
    """Contrastive fine-tuning of the encoder."""

    loss: ContrastiveLossName = Field("sd", description="'none', or a loss that docs/losses.md describes")
    n_epochs: Annotated[int, Field(ge=0)] = 3
    global_batch_size: Annotated[int, Field(ge=2)] = Field(
        64, description="documents a step, over all processes: the more, the more anchors have positives"
    )
    head_learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="rate of projection head and label prototypes; null: learning_rate"
    )

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        return _with_queue_for(self, self, self.global_batch_size)


class Joint(Contrastive):
    """A contrastive term beside the classification loss."""

    loss: JointLossName = Field("none", description="'none', or a loss that docs/losses.md describes")
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
        description="folds of train and val to fit titles, calibration and thresholds on; 0, and more than 20 million "
        "(document, code) pairs: train, then val, streamed",
    )

    @model_validator(mode="after")
    def _has_folds_or_none(self) -> Self:
        if self.n_folds == 1:
            raise ValueError("n_folds must be 0 or at least 2: one fold leaves nothing to fit on")
        return self


class TrainClassifier(Training):
    """The classifier: encoder and head trained on codes, a lexical model, or both together."""

    ema_decay: Fraction | None = Field(
        0.99,
        description="of a running average of the weights, which is scored and kept: the share it keeps in a step, "
        "n / (n + 9) in step n where that is less",
    )
    model: ModelKind = Field(
        "ensemble", description="'lexical' is 'tfidf' with titles of codes, 'ensemble' is 'neural' and 'lexical'"
    )
    baseline: bool = Field(
        True,
        description="fit TF-IDF beside model 'neural', for the report; other models have it anyway",
    )
    threshold: ThresholdRule = Field(
        "per_band",
        description="'per_band': by training frequency; 'per_label' is shrunk to the global one; see decisions/0004",
    )
    lexical: Lexical = Field(default_factory=Lexical)
    head: Literal["label_attention", "laat", "linear"] = Field(
        "label_attention",
        description="attention of labels over tokens, that of LAAT, or one layer over the pooled embedding",
    )
    head_learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        1e-3, description="rate of all that is not the encoder"
    )
    head_dropout: Fraction = 0.1
    title_init: bool = Field(
        True, description="start label attention from the encoded code titles, or those near by in the code tree"
    )
    loss: HeadLossName = "bce"
    loss_settings: dict[str, Any] = Field(default_factory=dict, description="what this loss alone has; docs/losses.md")
    freeze_encoder: bool = False
    group_by_length: bool | None = Field(
        None, description="steps of documents about as long: less padding, faster; null: unless partners are brought"
    )
    joint: Joint = Field(default_factory=Joint)
    patience: PositiveInt = Field(3, description="epochs without a better validation score before stopping")
    select_by: Literal["map", "micro_f1", "macro_f1"] = Field("micro_f1", description="validation score to choose by")

    @model_validator(mode="after")
    def _knows_its_settings(self) -> Self:
        loss_arguments(self.loss, self.loss_settings)
        return self

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        return _with_queue_for(self, self.joint, self.global_batch_size)

    @model_validator(mode="after")
    def _has_what_icl_sees(self) -> Self:
        if self.joint.loss == "icl" and self.head == "linear":
            raise ValueError("joint.loss 'icl' contrasts what labels read in documents: it needs label attention")
        return self

    @property
    def has_encoder(self) -> bool:
        """Whether the model has a neural part."""
        return self.model in WITH_ENCODER

    @property
    def groups_by_length(self) -> bool:
        """Whether a step holds documents about as long."""
        return not self.joint.partner_probability if self.group_by_length is None else self.group_by_length

    @model_validator(mode="after")
    def _trains_what_the_joint_loss_moves(self) -> Self:
        if self.freeze_encoder and self.joint.loss not in ("none", *_WITHOUT_PROJECTIONS):
            raise ValueError(
                f"joint.loss {self.joint.loss!r} moves the encoder, which freeze_encoder leaves as it is; set one of "
                "them otherwise"
            )
        return self

    @model_validator(mode="after")
    def _has_one_order(self) -> Self:
        if self.group_by_length and self.joint.partner_probability:
            raise ValueError("group_by_length and joint.partner_probability exclude each other: both order documents")
        return self
