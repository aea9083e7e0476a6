"""Batches: every row once an epoch, the same global batches on one process and on many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.sampling import BatchPlan

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
