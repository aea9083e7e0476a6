"""Batches: every row once an epoch, the same global batches on one process and on many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.training.sampling import BatchPlan, Partners

ROWS = st.lists(st.integers(0, 10_000), min_size=1, max_size=60, unique=True)


@given(ROWS, st.integers(1, 70), st.integers(0, 5), st.integers(0, 3))
def test_every_row_comes_once_an_epoch_in_batches_of_nearly_one_size(
    rows: list[int], global_batch_size: int, seed: int, epoch: int
) -> None:
    plan = BatchPlan(rows, global_batch_size, seed)
    batches = plan.global_batches(epoch)
    sizes = [len(batch) for batch in batches]
    assert sorted(np.concatenate(batches).tolist()) == sorted(rows)
    assert len(batches) == plan.n_steps
    assert max(sizes) <= global_batch_size
    assert max(sizes) - min(sizes) <= 1


@given(ROWS.filter(lambda rows: len(rows) >= 6), st.integers(6, 20), st.integers(1, 3), st.integers(0, 3))
def test_processes_share_out_the_batches_of_one_process(
    rows: list[int], global_batch_size: int, n_processes: int, epoch: int
) -> None:
    plan = BatchPlan(rows, global_batch_size, seed=1)
    whole = plan.global_batches(epoch)
    parts = [plan.local_batches(epoch, rank=rank, n_processes=n_processes) for rank in range(n_processes)]
    for step, expected in enumerate(whole):
        together = np.concatenate([part[step][0] for part in parts])
        assert together.tolist() == expected.tolist()
        assert {part[step][1] for part in parts} == {len(expected)}
        assert all(len(part[step][0]) for part in parts)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(BatchPlan(range(100), 8, seed).global_batches(epoch)).tolist()  # type: ignore[no-any-return]

    assert all(order(0, epoch) != list(range(100)) for epoch in range(3)), "no epoch is left unshuffled"
    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert order(0, 1) != order(1, 0)


def test_batches_hold_different_documents_from_epoch_to_epoch() -> None:
    """Shuffling whole batches alone would show a contrastive loss the same pairs for ever."""
    plan = BatchPlan(range(64), 8, seed=0)
    first, second = ([frozenset(batch.tolist()) for batch in plan.global_batches(epoch)] for epoch in (0, 1))
    assert not set(first) & set(second)


def test_a_step_of_fewer_documents_than_processes_is_refused() -> None:
    """10 documents in steps of at most 4 make steps of 4, 3 and 3."""
    plan = BatchPlan(range(10), 4, seed=0)
    assert len(plan.local_batches(0, rank=2, n_processes=3)) == 3
    with pytest.raises(UserError, match="a step has 3 documents, fewer than the 4 processes; raise global_batch_size"):
        plan.local_batches(0, rank=0, n_processes=4)


def test_no_document_to_learn_from_is_a_user_error() -> None:
    with pytest.raises(UserError, match="split train has no document"):
        BatchPlan([], 4, seed=0).local_batches(0, rank=0, n_processes=1)


def label_sets(n_documents: int, seed: int) -> list[list[int]]:
    """One to four of 40 labels each, some frequent and most of them rare."""
    chance = np.random.default_rng(seed)
    share = 1 / np.arange(1, 41)
    sizes = chance.integers(1, 5, size=n_documents)
    return [chance.choice(40, size=size, replace=False, p=share / share.sum()).tolist() for size in sizes]


@given(st.integers(1, 70), st.integers(1, 20), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 3))
def test_with_partners_every_row_still_comes_once_an_epoch(
    n_documents: int, global_batch_size: int, probability: float, epoch: int
) -> None:
    rows = list(range(100, 100 + n_documents))
    plan = BatchPlan(rows, global_batch_size, 0, Partners(probability, label_sets(n_documents, epoch)))
    batches = plan.global_batches(epoch)
    plain = BatchPlan(rows, global_batch_size, 0).global_batches(epoch)
    assert sorted(np.concatenate(batches).tolist()) == rows
    assert [len(batch) for batch in batches] == [len(batch) for batch in plain]
    if probability == 0:
        assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in plain]
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in plan.global_batches(epoch)]


@given(st.integers(4, 60), st.integers(2, 12), st.integers(0, 3))
def test_partners_are_brought_as_a_slow_walk_over_the_shuffle_brings_them(
    n_documents: int, global_batch_size: int, epoch: int
) -> None:
    """At probability 1, by the definition: look through the shuffle from its start for every document drawn."""
    sets = label_sets(n_documents, seed=epoch)
    plan = BatchPlan(range(n_documents), global_batch_size, 7, Partners(1.0, sets))
    left = np.concatenate(BatchPlan(range(n_documents), global_batch_size, 7).global_batches(epoch)).tolist()

    def rarity(label: int) -> tuple[int, int]:
        return sum(label in one for one in sets), label

    def bring(document: int, batch: list[int]) -> list[int]:
        for label in sorted(sets[document], key=rarity):
            if any(label in sets[other] for other in batch):
                return []
            carriers = [other for other in left if label in sets[other]]
            if carriers:
                return carriers[:1]
        return []

    for actual in plan.global_batches(epoch):
        expected: list[int] = []
        while len(expected) < len(actual):
            document = left.pop(0)
            partners = bring(document, expected) if len(expected) + 1 < len(actual) else []
            for partner in partners:
                left.remove(partner)
            expected += [document, *partners]
        assert actual.tolist() == expected


def test_two_carriers_of_a_rare_label_meet_in_every_epoch() -> None:
    """40 documents share label 0; labels 1 to 20 have two carriers each, d and d + 20. Batches of 4 hold two pairs."""
    sets = [[0, 1 + document % 20] for document in range(40)]
    plan = BatchPlan(range(40), 4, 0, Partners(1.0, sets))
    for epoch in range(3):
        for batch in plan.global_batches(epoch):
            assert sorted((batch % 20).tolist())[::2] == sorted((batch % 20).tolist())[1::2]
    met = [len(set((batch % 20).tolist())) < 4 for batch in BatchPlan(range(40), 4, 0).global_batches(0)]
    assert sum(met) < 5, "by chance only few do"


def test_probability_is_the_share_of_drawn_documents_that_bring_a_partner() -> None:
    """1,000 pairs with a label of their own: a pair stands together if the one drawn first brings the other."""
    sets = [[document % 1000] for document in range(2000)]

    def n_together(probability: float) -> int:
        batches = BatchPlan(range(2000), 50, 0, Partners(probability, sets)).global_batches(0)
        return sum(len(batch) - len(set((batch % 1000).tolist())) for batch in batches)

    assert n_together(1.0) >= 975  # a batch of 50 ends with a single document only if one slot is left
    assert 400 < n_together(0.5) < 600
    assert n_together(0.0) < 50
