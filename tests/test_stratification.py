"""Iterative stratification: as the paper defines it, with exact sizes, better matched than chance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from pipeline.notes.stratification import label_match, stratify


def label_matrix(label_sets: list[set[int]], n_labels: int) -> sparse.csr_array:
    dense = np.zeros((len(label_sets), n_labels), dtype=bool)
    for row, labels in enumerate(label_sets):
        dense[row, list(labels)] = True
    return sparse.csr_array(dense)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[set[int]], int, list[int]]:
    """Label sets of some items, number of labels, sizes of parts (some may be 0)."""
    n_labels = draw(st.integers(1, 5))
    label_sets = draw(st.lists(st.sets(st.integers(0, n_labels - 1)), min_size=1, max_size=14))
    cuts = sorted(draw(st.lists(st.integers(0, len(label_sets)), min_size=1, max_size=3)))
    return label_sets, n_labels, np.diff([0, *cuts, len(label_sets)]).tolist()


def by_the_paper(label_sets: list[set[int]], n_labels: int, sizes: list[int], seed: int) -> list[int]:
    """Algorithm 1 of Sechidis et al. (2011) with fractions and sets, and full parts closed.

    What it leaves to chance (which of equally rare labels, which item of a label first, which of equal parts) is
    drawn here as there: a shuffled order of items, one of labels, a number for equal parts.
    """
    rng = np.random.default_rng(seed)
    item_order = rng.permutation(len(label_sets)).tolist()
    label_order = rng.permutation(n_labels).tolist()
    shares = [Fraction(size, len(label_sets)) for size in sizes]
    desired = list(sizes)
    desired_of = {label: [share * sum(label in one for one in label_sets) for share in shares] for label in label_order}
    left = list(item_order)
    parts = [-1] * len(label_sets)

    def place(item: int, wanted: list[Fraction]) -> None:
        parts_left = [part for part in range(len(sizes)) if desired[part] > 0]
        parts_left = [part for part in parts_left if wanted[part] == max(wanted[one] for one in parts_left)]
        parts_left = [part for part in parts_left if desired[part] == max(desired[one] for one in parts_left)]
        part = parts_left[0] if len(parts_left) == 1 else parts_left[int(rng.integers(len(parts_left)))]
        parts[item] = part
        left.remove(item)
        desired[part] -= 1
        for label in label_sets[item]:
            desired_of[label][part] -= 1

    while any(label_sets[item] for item in left):
        n_left = {label: sum(label in label_sets[item] for item in left) for label in label_order}
        rarest = min((label for label in label_order if n_left[label]), key=lambda label: n_left[label])
        for item in [item for item in left if rarest in label_sets[item]]:
            place(item, desired_of[rarest])
    for item in list(left):
        place(item, [Fraction(0)] * len(sizes))
    return parts


@given(problems(), st.integers(0, 5))
def test_it_is_the_algorithm_of_the_paper(problem: tuple[list[set[int]], int, list[int]], seed: int) -> None:
    label_sets, n_labels, sizes = problem
    found = stratify(label_matrix(label_sets, n_labels), sizes, seed=seed)
    assert found.tolist() == by_the_paper(label_sets, n_labels, sizes, seed)


@given(problems(), st.integers(0, 5))
def test_every_part_has_exactly_its_size(problem: tuple[list[set[int]], int, list[int]], seed: int) -> None:
    label_sets, n_labels, sizes = problem
    parts = stratify(label_matrix(label_sets, n_labels), sizes, seed=seed)
    assert np.bincount(parts, minlength=len(sizes)).tolist() == sizes


def test_a_label_alone_is_divided_as_exactly_as_can_be() -> None:
    """20 of 100 items have the label; parts of 75, 15 and 10 items are to get 15, 3 and 2 of them."""
    labels = sparse.csr_array((np.arange(100) % 5 == 0).reshape(-1, 1))
    for seed in range(5):
        parts = stratify(labels, [75, 15, 10], seed=seed)
        assert np.bincount(parts[::5]).tolist() == [15, 3, 2]


def test_labels_match_better_than_by_chance() -> None:
    """Summed over splits and 5 corpora of 1,000 items and 60 Zipf labels; the least of 5 chances does not reach it."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = sparse.csr_array(rng.random((1000, 60)) < 0.6 / np.arange(1, 61))
        parts = stratify(labels, [750, 150, 100], seed=seed)
        in_order = np.repeat([0, 1, 2], [750, 150, 100])
        by_chance = [rng.permutation(in_order) for _ in range(5)]

        def difference(parts: np.ndarray, labels: sparse.csr_array = labels) -> float:
            return sum(found["share_difference"] for found in label_match(labels, list(parts.astype(str))).values())

        assert difference(parts) < 0.5 * min(difference(one) for one in by_chance)


def test_label_match_by_hand() -> None:
    """Label a: 3 of 4 documents, label b: 1 of 4, label c: none.

    train has 2 documents, a in both, b in none: (|1 - 3/4| + |0 - 1/4| + 0) / 3 = 1/6; b is absent. test: a in 1 of 2,
    b in 1 of 2: (1/4 + 1/4 + 0) / 3 = 1/6. Label c, which no document has, is absent nowhere.
    """
    labels = label_matrix([{0}, {0}, {0, 1}, set()], 3)
    match = label_match(labels, ["train", "train", "test", "test"])
    assert match["train"] == {"share_difference": pytest.approx(1 / 6), "n_labels_absent": 1}
    assert match["test"] == {"share_difference": pytest.approx(1 / 6), "n_labels_absent": 0}


@pytest.mark.parametrize("sizes", [[1, 1], [4, -1], [2, 2]])
def test_sizes_that_do_not_add_up_are_a_bug_of_the_caller(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="add up to 3 items"):
        stratify(label_matrix([{0}, set(), {0}], 1), sizes, seed=0)
