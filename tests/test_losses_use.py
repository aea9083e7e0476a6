"""Contrastive losses: other PyTorch features, statistics of a batch, misuse."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from loss_cases import vectors
from torch import Tensor, nn

from pipeline.experiment.loss_settings import SETTINGS_OF_LOSS, loss_arguments
from pipeline.losses import (
    AllLoss,
    AnyLoss,
    AsymmetricLoss,
    DistributionBalancedLoss,
    IntraLabelLoss,
    MultiLabelPrototypeLoss,
    ProbMCLLoss,
    SimilarityDissimilarityLoss,
    SparseLabels,
    build_contrastive_loss,
    build_head_loss,
    relation_statistics,
)

# Use under other PyTorch features


# torch.compile itself reads .grad of what the uncompiled loss is given.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", ["sd", "msc", "mulsupcon"])
def test_losses_and_their_gradients_are_the_same_under_torch_compile(name: str) -> None:
    """The model's forward and backward are graphs of AOTAutograd, as with 'inductor'; the losses run beside them as is.

    They ask torch.compile to leave them out (``torch.compiler.disable`` in ``pipeline.losses.batch``).
    """
    torch.manual_seed(0)
    model, loss = nn.Linear(8, 4), build_contrastive_loss(name, n_labels=3, dim=4)
    z, labels = vectors(6).detach(), torch.eye(6)[:, :3] + torch.eye(6)[:, 3:]
    learned = [*model.parameters(), *loss.parameters()]

    def step(inputs: Tensor) -> Tensor:
        value: Tensor = loss(model(inputs), labels)
        return value

    values = [step(z), torch.compile(step, backend="aot_eager")(z)]
    torch.testing.assert_close(values[1], values[0])
    expected, compiled = (torch.autograd.grad(value, learned) for value in values)
    assert all(gradient.any() for gradient in expected)
    torch.testing.assert_close(compiled, expected)


def test_prototypes_are_in_the_state_dict_and_can_start_from_titles() -> None:
    loss = MultiLabelPrototypeLoss(3, 2)
    loss.load_prototypes(torch.eye(3)[:, :2])
    assert torch.equal(loss.state_dict()["prototypes"], torch.eye(3)[:, :2])
    with pytest.raises(ValueError, match=r"must have shape \(3, 2\)"):
        loss.load_prototypes(torch.eye(3))


# Statistics


def test_relation_statistics_by_hand() -> None:
    """Sets {0,1}, {0,1}, {0}, {1,2}, {3}, {}; 30 ordered pairs.

    R2: A-B both ways (2). Of A to C: C inside A (R4), the other way R5; same for B: R4 2, R5 2. A-D, B-D overlap,
    both ways: R3 4. All else R1: 30 - 10 = 20. K: 2 * 1 + 2 * 1/2 (R4) + 2 * 1/2 (R5) + 4 * 1/4 = 5 over 10.
    Documents A to D have positives. Of 8 label occurrences 2 (in D and {3}) have no partner.
    """
    statistics = relation_statistics([[0, 1], [0, 1], [0], [1, 2], [3], []])
    assert statistics == pytest.approx(
        {
            "share_r1": 20 / 30,
            "share_r2": 2 / 30,
            "share_r3": 4 / 30,
            "share_r4": 2 / 30,
            "share_r5": 2 / 30,
            "mean_k": 0.5,
            "anchors_with_positives": 4 / 6,
            "partner_share": 6 / 8,
        }
    )


@pytest.mark.parametrize("sets", [[], [[]], [[0]]])
def test_relation_statistics_without_pairs_are_zero(sets: list[list[int]]) -> None:
    assert not any(relation_statistics(sets).values())


# Misuse


def test_unknown_loss_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"must be one of .*'mulsupcon'.*Got 'supcon' instead"):
        build_contrastive_loss("supcon")


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperature_must_be_positive(temperature: float) -> None:
    for build_one in (AllLoss, AnyLoss, IntraLabelLoss):
        with pytest.raises(ValueError, match="must be greater than 0"):
            build_one(temperature=temperature)


@pytest.mark.parametrize("name", ["any", "mulsupcon", "sd_per_label", "msc", "icl", "jspcl"])
def test_weight_in_log_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="log"):
        build_contrastive_loss(name, weight_in="log", n_labels=3, dim=2)


def test_weight_in_log_needs_normalisation_by_positives() -> None:
    with pytest.raises(ValueError, match="normalise='positives'"):
        SimilarityDissimilarityLoss(weight_in="log", normalise="weights")


@pytest.mark.parametrize("name", ["any", "mulsupcon", "sd_per_label", "msc", "icl", "jspcl", "probmcl"])
def test_a_normalisation_that_the_loss_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*normalise='weights'|{name}.*'weights'"):
        build_contrastive_loss(name, normalise="weights", n_labels=3, dim=2)


def test_settings_of_a_loss_reach_it_and_others_have_none() -> None:
    z = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    loss = build_contrastive_loss("msc", n_labels=3, dim=2, settings={"alpha": 0.5, "document_share": 0.1})
    expected = MultiLabelPrototypeLoss(3, 2, temperature=0.1, alpha=0.5, document_share=0.1)
    expected.load_prototypes(loss.prototypes)
    labels = [[0], [0, 1], [2], [1, 2]]
    assert loss(z, labels) == expected(z, labels)
    assert build_contrastive_loss("probmcl", dim=2, settings={"threshold": 0.9}).threshold == 0.9
    head = build_head_loss("asl", train_counts=[1, 1], n_documents=2, settings={"gamma_neg": 1})
    targets = torch.tensor([[1.0, 0.0]])
    assert head(z[:1], targets) == AsymmetricLoss(gamma_neg=1)(z[:1], targets)
    for build_one in (
        lambda: build_contrastive_loss("sd", settings={"alpha": 1}),
        lambda: build_head_loss("bce", train_counts=[1], n_documents=2, settings={"gamma": 1}),
    ):
        with pytest.raises(ValueError, match="has no settings of its own"):
            build_one()


def test_settings_in_a_config_are_those_of_the_class_with_its_defaults() -> None:
    classes = {
        "msc": MultiLabelPrototypeLoss, "probmcl": ProbMCLLoss,
        "asl": AsymmetricLoss, "distribution_balanced": DistributionBalancedLoss,
    }  # fmt: skip
    assert set(classes) == set(SETTINGS_OF_LOSS)
    for name, its_class in classes.items():
        defaults = {
            one.name: one.default
            for one in inspect.signature(its_class).parameters.values()
            if one.default is not one.empty and one.name not in ("temperature", "reduction")
        }
        assert SETTINGS_OF_LOSS[name]().model_dump() == defaults


@pytest.mark.parametrize(
    ("loss", "given", "expected"),
    [
        ("asl", {"margin": "1e-2"}, {"margin": 0.01}),
        ("probmcl", {"n_components": 4.0}, {"n_components": 4}),
        ("sd", {}, {}),
    ],
)
def test_settings_reach_a_loss_as_numbers_whatever_yaml_made_of_them(
    loss: str, given: dict[str, Any], expected: dict[str, float]
) -> None:
    found = loss_arguments(loss, given)
    assert found == expected
    assert [type(one) for one in found.values()] == [type(one) for one in expected.values()]


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="'normalise'"):
        SimilarityDissimilarityLoss(normalise="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'factors'"):
        SimilarityDissimilarityLoss(factors="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["msc", "sd_prototypes", "probmcl"])
def test_losses_with_parameters_need_their_sizes(name: str) -> None:
    with pytest.raises(ValueError, match="needs n_labels and dim"):
        build_contrastive_loss(name)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0], [1]], "describe 2 documents, but there are 3"),
        ([[0], [1], [7]], r"Label ids must be in \[0, 5\). Got ids from 0 to 7"),
        ([[0], [1], [-1]], "Got ids from -1 to 1"),
        (torch.tensor([0, 1, 1]), r"must have shape \(n_documents, n_labels\)"),
        (torch.full((3, 5), 0.5), "must be 0 or 1"),
        (torch.ones(3, 4), "space of 4 labels, but the loss was built for 5"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnyLoss(n_labels=5)(vectors(3), labels)


def test_projections_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(n_documents, dim\)"):
        AnyLoss()(torch.ones(2, 3, 4), [[0], [0]])
    with pytest.raises(TypeError, match="float"):
        AnyLoss()(torch.ones(2, 3, dtype=torch.int64), [[0], [0]])


def test_groups_and_queue_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"integers of shape \(2,\)"):
        AnyLoss()(vectors(2), [[0], [0]], group_ids=torch.tensor([1]))
    with pytest.raises(ValueError, match="must be given together"):
        AnyLoss()(vectors(2), [[0], [0]], extra_projections=vectors(1))
    with pytest.raises(ValueError, match="have dim 3, but projections have 8"):
        AnyLoss()(vectors(2), [[0], [0]], extra_projections=vectors(1, 3), extra_labels=[[0]])
    queue = {"extra_projections": vectors(1), "extra_labels": [[0]], "extra_group_ids": torch.tensor([1])}
    with pytest.raises(ValueError, match="extra_group_ids need group_ids"):
        AnyLoss()(vectors(2), [[0], [0]], **queue)
    AnyLoss()(vectors(2), [[0], [0]], group_ids=torch.tensor([0, 1]), **queue)


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], []])
def test_sparse_labels_refuse_offsets_that_do_not_describe_the_indices(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        SparseLabels(torch.tensor([0, 1, 2]), torch.tensor(offsets, dtype=torch.int64), 3)
