"""The running average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.training.averaging import WeightAverage


def trained(values: list[float], decay: float) -> tuple[nn.Parameter, WeightAverage]:
    """A weight that takes these values one after the other, from 0 on."""
    weight = nn.Parameter(torch.zeros(()))
    average = WeightAverage([weight], decay)
    for value in values:
        weight.data.fill_(value)
        average.update()
    return weight, average


def test_it_is_the_recursion_of_its_definition() -> None:
    """Decay 0.5 from the ninth step on; before, n / (n + 9): 1/10, 2/11."""
    weight, average = trained([1.0, 2.0], decay=0.5)
    expected = (2 / 11) * (9 / 10) + (9 / 11) * 2
    with average.in_place():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 2.0


def test_it_comes_close_to_weights_that_stay_and_smooths_those_that_swing() -> None:
    weight, average = trained([(-1.0) ** step + 3 for step in range(400)], decay=0.99)
    average.swap()
    assert weight.item() == pytest.approx(3, abs=0.02)


def test_an_error_within_leaves_the_weights_as_they_were() -> None:
    weight, average = trained([5.0], decay=0.9)
    with pytest.raises(RuntimeError), average.in_place():
        raise RuntimeError
    assert weight.item() == 5.0


def test_a_frozen_weight_is_left_alone() -> None:
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    average = WeightAverage([frozen], 0.9)
    frozen.data.fill_(7)
    average.update()
    with average.in_place():
        assert frozen.tolist() == [7, 7, 7]


def test_its_state_goes_on_where_it_was_saved() -> None:
    _, whole = trained([1.0, 4.0, 9.0], decay=0.9)
    _, first = trained([1.0, 4.0], decay=0.9)
    weight = nn.Parameter(torch.zeros(()))
    second = WeightAverage([weight], 0.9)
    second.load_state_dict(first.state_dict())
    weight.data.fill_(9.0)
    second.update()
    assert torch.equal(second.state_dict()["averages"][0], whole.state_dict()["averages"][0])
