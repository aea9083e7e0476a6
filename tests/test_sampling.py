"""Batches: every row once an epoch, the same global batches on one process and on many."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_training import made_up_tokens

from pipeline.errors import UserError
from pipeline.experiment.settings import Compute, Encoding
from pipeline.experiment.training_settings import TrainClassifier
from pipeline.training.loading import build_loader
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


@given(ROWS, st.integers(1, 9), st.integers(0, 3), st.data())
def test_steps_of_similar_length_hold_every_row_once_and_differ_from_epoch_to_epoch(
    rows: list[int], global_batch_size: int, epoch: int, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 50), min_size=len(rows), max_size=len(rows)))
    plan = BatchPlan(rows, global_batch_size, seed=2, lengths=lengths)
    batches = plan.global_batches(epoch)
    assert sorted(np.concatenate(batches).tolist()) == sorted(rows)
    plain = BatchPlan(rows, global_batch_size, seed=2).global_batches(epoch)
    assert sorted(map(len, batches)) == sorted(map(len, plain))
    length_of = dict(zip(rows, lengths, strict=True))
    found = [[length_of[int(row)] for row in batch] for batch in batches]
    if len(batches) <= 16:  # one pool: no two steps overlap in their lengths
        ordered = sorted(found, key=lambda one: (min(one), max(one)))
        assert all(max(one) <= min(other) for one, other in itertools.pairwise(ordered))


def test_steps_of_similar_length_leave_less_padding_and_come_in_no_order_of_length() -> None:
    """Lengths up to a hundred, 40 steps of 8, padded to the longest of each: 44 % are padding without, 6 % with."""
    lengths = np.random.default_rng(0).integers(1, 101, size=320)
    shares, means = [], []
    for given_lengths in (None, lengths.tolist()):
        batches = BatchPlan(range(320), 8, seed=0, lengths=given_lengths).global_batches(0)
        shares.append(lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches))
        means = [lengths[batch].mean() for batch in batches]
    assert shares[0] < 0.62
    assert shares[1] > 0.93
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4
    plan = BatchPlan(range(320), 8, seed=0, lengths=lengths.tolist())
    first, second = (plan.global_batches(epoch) for epoch in (0, 1))
    assert {frozenset(one.tolist()) for one in first} != {frozenset(one.tolist()) for one in second}


def test_lengths_are_those_of_the_rows_asked_for() -> None:
    tokens = made_up_tokens(12)
    rows, chunks = [3, 7, 1], Encoding(chunk_tokens=16)
    tokenizer = SimpleNamespace(cls_token_id=2, sep_token_id=3, pad_token_id=0)
    for asked in (True, False):
        loader = build_loader(
            tokens, rows, tokenizer, TrainClassifier(), chunks, seed=0, compute=Compute(), group_by_length=asked
        )
        assert loader.plan.lengths == ([len(tokens[row]["input_ids"]) for row in rows] if asked else None)


@pytest.mark.parametrize(
    ("settings", "groups"),
    [
        ({}, True),
        ({"group_by_length": False}, False),
        ({"joint": {"loss": "sd", "partner_probability": 0.5}}, False),
        ({"joint": {"loss": "sd"}}, True),
    ],
)
def test_steps_are_of_one_length_unless_partners_are_brought(settings: dict[str, Any], groups: bool) -> None:
    assert TrainClassifier(**settings).groups_by_length is groups


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
