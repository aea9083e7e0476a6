"""Splits: by patient, whatever the order of documents; given splits are checked."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_cases import Corpus, day, made_corpus

from pipeline.errors import UserError
from pipeline.notes.splits import (
    SPLITS,
    assign_folds,
    assign_splits,
    check_given_splits,
    file_order_folds,
    splits_of_fold,
    temporal_splits,
)

METHODS = pytest.mark.parametrize("is_matched", [True, False], ids=["stratified", "random"])
CORPORA = st.integers(0, 2**32 - 1).map(made_corpus)
few = settings(max_examples=40)


def columns(corpus: Corpus, *, is_matched: bool) -> tuple[list[str], list[list[str]] | None]:
    return [patient for patient, _ in corpus], [labels for _, labels in corpus] if is_matched else None


def parts_of_patients(patient_ids: Sequence[str], parts: Sequence[object]) -> dict[str, set[object]]:
    of_patient = defaultdict(set)
    for patient, part in zip(patient_ids, parts, strict=True):
        of_patient[patient].add(part)
    return of_patient


@METHODS
@few
@given(CORPORA, st.integers(0, 2**32 - 1))
def test_no_patient_is_in_two_splits_and_shares_are_those_asked_for(
    is_matched: bool, corpus: Corpus, seed: int
) -> None:
    patient_ids, label_sets = columns(corpus, is_matched=is_matched)
    splits = assign_splits(patient_ids, val=0.1, test=0.2, seed=seed, label_sets=label_sets)
    of_patient = parts_of_patients(patient_ids, splits)
    assert all(len(found) == 1 for found in of_patient.values())
    sizes = [sum(found == {split} for found in of_patient.values()) for split in SPLITS]
    n = len(of_patient)
    assert sizes[1:] == [round(0.1 * n), round(0.2 * n)]
    assert sum(sizes) == n


@METHODS
@few
@given(CORPORA, st.integers(0, 100))
def test_the_order_of_documents_does_not_matter(is_matched: bool, corpus: Corpus, seed: int) -> None:
    found = []
    for _ in range(2):
        patient_ids, label_sets = columns(corpus, is_matched=is_matched)
        splits = assign_splits(patient_ids, val=0.2, test=0.2, seed=seed, label_sets=label_sets)
        folds = assign_folds(patient_ids, n_folds=3, seed=seed, label_sets=label_sets)
        found.append(parts_of_patients(patient_ids, list(zip(splits, folds, strict=True))))
        random.Random(seed).shuffle(corpus)
    assert found[0] == found[1]


@METHODS
def test_more_documents_of_the_same_patients_change_nothing(is_matched: bool) -> None:
    patients = [str(number) for number in range(50)]
    label_sets = [["a", "bc"[number % 2]] for number in range(50)] if is_matched else None
    once = assign_splits(patients, val=0.1, test=0.1, seed=3, label_sets=label_sets)
    twice = label_sets and label_sets * 2
    assert assign_splits(patients * 2, val=0.1, test=0.1, seed=3, label_sets=twice) == once * 2


@METHODS
def test_another_seed_gives_another_split(is_matched: bool) -> None:
    patients = [str(number) for number in range(50)]
    label_sets = [["ab"[number % 2]] for number in range(50)] if is_matched else None
    first, second, again = (
        assign_splits(patients, val=0.2, test=0.2, seed=seed, label_sets=label_sets) for seed in (0, 1, 0)
    )
    assert first == again != second


def test_all_labels_of_a_patient_count_wherever_they_are_written() -> None:
    """40 patients of two documents; 20 of them have label x, in the first or in the second document.

    val and test of 10 patients each are to get 5 of them each.
    """
    patients = [str(number // 2) for number in range(80)]
    label_sets = [["x"] if number % 8 in (0, 5) else [] for number in range(80)]
    splits = assign_splits(patients, val=0.25, test=0.25, seed=0, label_sets=label_sets)
    with_x = [split for split, labels in zip(splits, label_sets, strict=True) if labels]
    assert {split: with_x.count(split) for split in SPLITS} == {"train": 10, "val": 5, "test": 5}


@METHODS
def test_a_share_of_zero_leaves_a_split_out(is_matched: bool) -> None:
    label_sets = [["a"]] * 10 if is_matched else None
    splits = assign_splits([str(number) for number in range(10)], val=0.0, test=0.5, seed=0, label_sets=label_sets)
    assert sorted(splits) == ["test"] * 5 + ["train"] * 5


@pytest.mark.parametrize(("n_patients", "val", "test"), [(0, 0.1, 0.1), (3, 0.1, 0.5), (3, 0.5, 0.1), (2, 0.49, 0.49)])
def test_a_split_that_would_be_empty_is_refused(n_patients: int, val: float, test: float) -> None:
    """Of 2 patients, 0.49 gives one to val and one to test, and none is left for train."""
    patients = [str(number) for number in range(n_patients)] * 5
    message = rf"{n_patients} patients are too few for split.val = {val} and split.test = {test}"
    with pytest.raises(UserError, match=message):
        assign_splits(patients, val=val, test=test, seed=0)


@METHODS
@few
@given(CORPORA, st.integers(2, 5), st.integers(0, 100))
def test_folds_hold_every_patient_once_and_are_of_equal_size(
    is_matched: bool, corpus: Corpus, n_folds: int, seed: int
) -> None:
    patient_ids, label_sets = columns(corpus, is_matched=is_matched)
    folds = assign_folds(patient_ids, n_folds=n_folds, seed=seed, label_sets=label_sets)
    of_patient = parts_of_patients(patient_ids, folds)
    assert all(len(found) == 1 for found in of_patient.values())
    sizes = [sum(found == {fold} for found in of_patient.values()) for fold in range(n_folds)]
    assert sum(sizes) == len(of_patient)
    assert max(sizes) - min(sizes) <= 1


@few
@given(CORPORA, st.integers(0, 100))
def test_every_document_is_in_split_test_of_one_fold_only(corpus: Corpus, seed: int) -> None:
    patient_ids, label_sets = columns(corpus, is_matched=True)
    folds = assign_folds(patient_ids, n_folds=3, seed=seed, label_sets=label_sets)
    n_test = np.zeros(len(corpus), dtype=int)
    for fold in range(3):
        splits = splits_of_fold(folds, fold, patient_ids, val=0.2, seed=seed, label_sets=label_sets)
        of_patient = parts_of_patients(patient_ids, splits)
        assert all(len(found) == 1 for found in of_patient.values())
        n_others = sum(found != {"test"} for found in of_patient.values())
        assert sum(found == {"val"} for found in of_patient.values()) == round(0.2 * n_others)
        n_test += np.array(splits) == "test"
    assert (n_test == 1).all()


def test_folds_in_the_order_of_the_file_are_those_of_scikit_learn() -> None:
    from sklearn.model_selection import KFold

    patients = [f"p{number}" for number in range(23)]
    folds = file_order_folds(patients, n_folds=5, seed=7)
    for fold, (_, test) in enumerate(KFold(5, shuffle=True, random_state=7).split(patients)):
        assert [place for place, one in enumerate(folds) if one == fold] == test.tolist()


def test_folds_in_the_order_of_the_file_refuse_a_patient_who_would_be_in_two() -> None:
    patients = [f"p{number}" for number in range(20)] + ["p3"] * 6
    with pytest.raises(
        UserError, match=r"1 patients would be in more than one fold \(first: that of document 4 of the file\)"
    ):
        file_order_folds(patients, n_folds=5, seed=0)


def test_fewer_patients_than_folds_are_refused() -> None:
    with pytest.raises(UserError, match=r"3 patients are too few for split.n_folds = 4"):
        assign_folds(["a", "b", "c", "c", "c"], n_folds=4, seed=0)
    with pytest.raises(UserError, match=r"3 documents are too few for split.n_folds = 4"):
        file_order_folds(["a", "b", "c"], n_folds=4, seed=0)
    with pytest.raises(UserError, match=r"2 patients are too few for split.val = 0.1: a split would be empty"):
        splits_of_fold([0, 1, 2], 0, ["a", "b", "c"], val=0.1, seed=0)


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
    with pytest.raises(UserError, match=r"1 patients are in more than one given split \(first: that of document b\)"):
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


# By date.


def test_temporal_splits_of_five_patients_by_hand() -> None:
    """Latest documents: e 1, c 2, b 3, d 4, a 9. Of a the document of day 4 counts, that of day 0 is too early."""
    patients = ["a", "b", "c", "a", "d", "e", "a"]
    dates = [day(0), day(3), day(2), day(9), day(4), day(1), day(4)]
    found = temporal_splits(patients, dates, val=0.2, test=0.2)
    assert found == [None, "train", "train", "test", "val", "train", "test"]
    assert temporal_splits(patients, dates, val=0.0, test=0.2)[-1] == "test", "without val, behind train"


@few
@given(CORPORA, st.randoms(use_true_random=False))
def test_nothing_is_tried_on_documents_that_are_earlier_than_what_was_trained_on(
    corpus: Corpus, chance: random.Random
) -> None:
    patients = [patient for patient, _ in corpus]
    dates = [day(chance.randrange(400)) for _ in patients]
    splits = temporal_splits(patients, dates, val=0.1, test=0.2)
    kept = [(patient, split) for patient, split in zip(patients, splits, strict=True) if split]
    of_patient = parts_of_patients(*map(list, zip(*kept, strict=True)))  # type: ignore[arg-type]
    assert all(len(found) == 1 for found in of_patient.values())
    assert set(of_patient) == set(patients), "the latest document of every patient is in a split"
    days = {name: [date for date, split in zip(dates, splits, strict=True) if split == name] for name in SPLITS}
    assert max(days["train"]) <= min(days["val"])
    assert max(days["val"]) <= min(days["test"])
    order = list(range(len(patients)))
    chance.shuffle(order)
    shuffled = temporal_splits([patients[i] for i in order], [dates[i] for i in order], val=0.1, test=0.2)
    assert shuffled == [splits[i] for i in order]


def test_documents_without_a_date_are_refused_with_their_number() -> None:
    with pytest.raises(UserError, match=r"1 of 2 documents have no date.*data.options.date"):
        temporal_splits(["a", "b"], [day(0), None], val=0.5, test=0.0)
