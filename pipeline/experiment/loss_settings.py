"""Settings that one loss alone has, as a config's ``loss_settings`` may give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from pipeline.experiment.settings import PositiveInt, Section

_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]


class MSCSettings(Section):
    """Of ``msc``."""

    alpha: _Positive = Field(1.0, description="weight of documents beside prototypes")
    document_share: _Positive = Field(1.0, description="factor of documents in the denominator (the paper's beta)")


class ProbMCLSettings(Section):
    """Of ``probmcl``."""

    threshold: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="overlap of the labels of a positive")
    n_components: PositiveInt = Field(4, description="of the Gaussian mixture of a document")
    mixture_dim: PositiveInt = Field(16, description="dimension of the mixture")


class ASLSettings(Section):
    """Of ``asl``."""

    gamma_pos: _NotNegative = Field(0.0, description="focus of positives")
    gamma_neg: _NotNegative = Field(4.0, description="focus of negatives")
    margin: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="probability of a negative that costs nothing"
    )


class DistributionBalancedSettings(Section):
    """Of ``distribution_balanced``."""

    alpha: _NotNegative = Field(0.1, description="least weight")
    beta: _Positive = Field(10.0, description="steepness of the smoothing")
    mu: float = Field(0.9, description="centre of the smoothing; 0.05 for 18,211 labels in the paper")
    kappa: _NotNegative = Field(0.05, description="strength of the bias of rare labels")
    negative_scale: _Positive = Field(2.0, description="tolerance to negatives")
    gamma: _NotNegative = Field(2.0, description="focus")


SETTINGS_OF_LOSS: Mapping[str, type[Section]] = {
    "msc": MSCSettings,
    "probmcl": ProbMCLSettings,
    "asl": ASLSettings,
    "distribution_balanced": DistributionBalancedSettings,
}
"""By name of the loss; other losses have none."""


def loss_arguments(loss: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the settings given for a loss.

    Returns:
        The same as numbers: YAML reads 1e-2 as text.

    Raises:
        ValueError: if the loss has no such setting or a value is out of range.
    """
    model = SETTINGS_OF_LOSS.get(loss)
    if model is None:
        if given:
            raise ValueError(f"loss_settings must be empty for loss {loss!r}, which has none of its own")
        return {}
    try:
        return model.model_validate(given).model_dump(include=set(given))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}" for one in error.errors()]
        known = ", ".join(model.model_fields)
        raise ValueError(f"loss_settings of {loss!r} are {known}; {'; '.join(problems)}") from None
