"""Splits: by patient, whatever the order of documents; given splits are checked."""

from __future__ import annotations

import random
from collections import defaultdict

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.splits import SPLITS, assign_splits, check_given_splits

PATIENTS = st.lists(st.integers(0, 30).map(str), min_size=40, max_size=80).filter(lambda ids: len(set(ids)) >= 10)


@given(PATIENTS, st.integers(0, 2**32 - 1))
def test_no_patient_is_in_two_splits_and_shares_are_those_asked_for(patient_ids: list[str], seed: int) -> None:
    splits = assign_splits(patient_ids, val=0.1, test=0.2, seed=seed)
    of_patient = defaultdict(set)
    for patient, split in zip(patient_ids, splits, strict=True):
        of_patient[patient].add(split)
    assert all(len(found) == 1 for found in of_patient.values())
    sizes = [sum(found == {split} for found in of_patient.values()) for split in SPLITS]
    n = len(of_patient)
    assert sizes[1:] == [round(0.1 * n), round(0.2 * n)]
    assert sum(sizes) == n


@given(PATIENTS, st.integers(0, 100), st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(patient_ids: list[str], seed: int, chance: random.Random) -> None:
    first = dict(zip(patient_ids, assign_splits(patient_ids, val=0.2, test=0.2, seed=seed), strict=True))
    chance.shuffle(patient_ids)
    assert first == dict(zip(patient_ids, assign_splits(patient_ids, val=0.2, test=0.2, seed=seed), strict=True))


def test_more_documents_of_the_same_patients_change_nothing() -> None:
    patients = [str(number) for number in range(50)]
    once = assign_splits(patients, val=0.1, test=0.1, seed=3)
    assert assign_splits(patients * 2, val=0.1, test=0.1, seed=3) == once * 2


def test_another_seed_gives_another_split() -> None:
    patients = [str(number) for number in range(50)]
    assert assign_splits(patients, val=0.2, test=0.2, seed=0) != assign_splits(patients, val=0.2, test=0.2, seed=1)


def test_a_share_of_zero_leaves_a_split_out() -> None:
    splits = assign_splits([str(number) for number in range(10)], val=0.0, test=0.5, seed=0)
    assert sorted(splits) == ["test"] * 5 + ["train"] * 5


@pytest.mark.parametrize(("n_patients", "val", "test"), [(0, 0.1, 0.1), (3, 0.1, 0.5), (3, 0.5, 0.1), (2, 0.49, 0.49)])
def test_a_split_that_would_be_empty_is_refused(n_patients: int, val: float, test: float) -> None:
    """Of 2 patients, 0.49 gives one to val and one to test, and none is left for train."""
    patients = [str(number) for number in range(n_patients)] * 5
    message = rf"{n_patients} patients are too few for split.val = {val} and split.test = {test}"
    with pytest.raises(UserError, match=message):
        assign_splits(patients, val=val, test=test, seed=0)


def frame(*rows: tuple[str, str, str | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["document_id", "patient_id", "given_split"])


def test_given_splits_are_taken_and_documents_without_one_left_out() -> None:
    given_splits = frame(
        ("a", "1", "train"), ("b", "1", "train"), ("c", "2", "val"), ("d", "3", "test"), ("e", "4", None)
    )
    taken = check_given_splits(given_splits)
    assert list(taken.columns) == ["document_id", "split"]
    assert dict(zip(taken["document_id"], taken["split"], strict=True)) == {
        "a": "train", "b": "train", "c": "val", "d": "test",
    }  # fmt: skip


def test_a_patient_in_two_given_splits_is_refused_by_id() -> None:
    leaking = frame(("a", "1", "train"), ("b", "7", "train"), ("c", "7", "test"), ("d", "3", "val"))
    with pytest.raises(UserError, match=r"1 patients are in more than one given split \(first: patient 7\)"):
        check_given_splits(leaking)


def test_a_document_without_a_split_does_not_make_its_patient_leak() -> None:
    rows = frame(("a", "1", "train"), ("b", "1", None), ("c", "2", "val"), ("d", "3", "test"))
    assert len(check_given_splits(rows)) == 3


@pytest.mark.parametrize("missing", SPLITS)
def test_a_given_split_without_documents_is_refused(missing: str) -> None:
    rows = [(split, split, split) for split in SPLITS if split != missing]
    with pytest.raises(UserError, match=f"the given split has no document in {missing}"):
        check_given_splits(frame(*rows))


def test_another_name_of_a_given_split_is_refused_and_quoted_in_part_only() -> None:
    rows = frame(("a", "1", "train"), ("b", "2", "val"), ("c", "3", "test"), ("d", "4", "development of 2019"))
    with pytest.raises(UserError, match=r"names other than train, val, test \(first: 'development of 2'\)"):
        check_given_splits(rows)
