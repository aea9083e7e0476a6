"""Division of documents into train, val and test: by patient, seeded or by date, whatever the order of documents."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from pipeline.errors import UserError
from pipeline.notes.stratification import stratify

SPLITS = ("train", "val", "test")

LabelSets = Sequence[Sequence[str]]


def assign_splits(
    patient_ids: Sequence[str], *, val: float, test: float, seed: int, label_sets: LabelSets | None = None
) -> list[str]:
    """Split documents so that no patient is in two splits and each split has its share of patients.

    Args:
        patient_ids: patient of each document.
        val: share of patients for split val.
        test: share of patients for split test.
        seed: of what is left to chance.
        label_sets: labels of each document; patients are dealt out so that every split gets its share of every label
            (:func:`pipeline.notes.stratification.stratify`, on all labels that a patient's documents have). None: by
            chance.

    Returns:
        The split of each document, in their order.

    Raises:
        UserError: if there are too few patients for a split that was asked for.
    """
    patients, patient_of = np.unique(np.asarray(patient_ids, dtype=object), return_inverse=True)
    n_train, n_val, n_test = _sizes(len(patients), val, test)
    parts = _deal(patient_of, label_sets, [n_val, n_test, n_train], seed)
    return [("val", "test", "train")[part] for part in parts[patient_of]]


def temporal_splits(
    patient_ids: Sequence[str], dates: Sequence[datetime.date | None], *, val: float, test: float
) -> list[str | None]:
    """Split documents by date, so that a model is tried on what came after it, as it will be used.

    Patients are ordered by their latest document: the first ones are train, the next val, the last test. Of a patient
    of val only documents count that are not earlier than the last one of train, of test those not earlier than the
    last one of val; the patient's others are in no split. Patients of one date are ordered by their ids.

    Args:
        patient_ids: patient of each document.
        dates: of each document.
        val: share of patients for split val.
        test: share of patients for split test.

    Returns:
        The split of each document, in their order; None for documents that are in none.

    Raises:
        UserError: if a document has no date, or there are too few patients for a split that was asked for.
    """
    n_undated = sum(date is None for date in dates)
    if n_undated:
        raise UserError(
            f"{n_undated} of {len(dates)} documents have no date, which split.method = temporal needs; name the column "
            "in data.options.date (recipe 'table'), or leave these documents out."
        )
    days = np.array(dates, dtype="datetime64[D]")
    latest = pd.Series(days).groupby(np.asarray(patient_ids, dtype=object)).max()
    latest = latest.sort_index().sort_values(kind="stable")
    sizes = _sizes(len(latest), val, test)
    part_of = dict(zip(latest.index, np.repeat(np.arange(len(SPLITS)), sizes).tolist(), strict=True))
    ends = np.cumsum(sizes)
    # A split begins with the last day of the one before; without val, test begins with that of train.
    first_days = [days.min(), *(latest.iloc[end - 1].to_datetime64() for end in ends[:-1])]
    parts = [part_of[patient] for patient in patient_ids]
    return [SPLITS[part] if day >= first_days[part] else None for part, day in zip(parts, days, strict=True)]


def _sizes(n_patients: int, val: float, test: float) -> tuple[int, int, int]:
    """Patients of train, val and test."""
    n_val, n_test = round(val * n_patients), round(test * n_patients)
    n_train = n_patients - n_val - n_test
    if (val and not n_val) or (test and not n_test) or n_train <= 0:
        shares = f"split.val = {val}" + (f" and split.test = {test}" if test else "")
        raise UserError(
            f"{n_patients} patients are too few for {shares}: a split would be empty. Give more data or larger shares."
        )
    return n_train, n_val, n_test


def assign_folds(
    patient_ids: Sequence[str], *, n_folds: int, seed: int, label_sets: LabelSets | None = None
) -> list[int]:
    """Divide documents into folds of equal numbers of patients, so that no patient is in two.

    Args:
        patient_ids: patient of each document.
        n_folds: how many, 2 or more.
        seed: of what is left to chance.
        label_sets: as for :func:`assign_splits`.

    Returns:
        The fold of each document, 0 to n_folds - 1.

    Raises:
        UserError: if there are fewer patients than folds.
    """
    patients, patient_of = np.unique(np.asarray(patient_ids, dtype=object), return_inverse=True)
    if len(patients) < n_folds:
        raise UserError(f"{len(patients)} patients are too few for split.n_folds = {n_folds}; lower it.")
    sizes = [len(patients) // n_folds + (fold < len(patients) % n_folds) for fold in range(n_folds)]
    return [int(fold) for fold in _deal(patient_of, label_sets, sizes, seed)[patient_of]]


def file_order_folds(patient_ids: Sequence[str], *, n_folds: int, seed: int) -> list[int]:
    """The folds of scikit-learn's ``KFold(n_folds, shuffle=True, random_state=seed)`` over documents as they come.

    For comparison with numbers of others. Unlike every other division here it depends on the order of documents.

    Args:
        patient_ids: patient of each document, in the order of the file.
        n_folds: how many, 2 or more.
        seed: ``random_state``.

    Returns:
        The fold of each document, 0 to n_folds - 1.

    Raises:
        UserError: if there are fewer documents than folds, or a patient would be in two folds.
    """
    from sklearn.model_selection import KFold

    if len(patient_ids) < n_folds:
        raise UserError(f"{len(patient_ids)} documents are too few for split.n_folds = {n_folds}; lower it.")
    folds = np.empty(len(patient_ids), dtype=np.int64)
    for fold, (_, test) in enumerate(KFold(n_folds, shuffle=True, random_state=seed).split(folds)):
        folds[test] = fold
    n_each = pd.Series(folds).groupby(np.asarray(patient_ids, dtype=object)).nunique()
    shared = n_each[n_each > 1]
    if len(shared):
        first = list(patient_ids).index(shared.index[0]) + 1
        raise UserError(
            f"{len(shared)} patients would be in more than one fold (first: that of document {first} of the file), so "
            "scores on test would be too good; split.fold_method = file_order is for data with one document a patient. "
            "Set split.fold_method: stratified."
        )
    return folds.tolist()


def splits_of_fold(
    folds: Sequence[int],
    fold: int,
    patient_ids: Sequence[str],
    *,
    val: float,
    seed: int,
    label_sets: LabelSets | None = None,
) -> list[str]:
    """One fold as split test; of the others, a share of patients as val and the rest as train.

    Args:
        folds: fold of each document; no patient in two.
        fold: the one that is split test.
        patient_ids: patient of each document.
        val: share of the other folds' patients for split val.
        seed: of what is left to chance.
        label_sets: as for :func:`assign_splits`.

    Returns:
        The split of each document, in their order.

    Raises:
        UserError: if there are too few patients for split val.
    """
    others = [place for place, its_fold in enumerate(folds) if its_fold != fold]
    dealt = assign_splits(
        [patient_ids[place] for place in others],
        val=val,
        test=0.0,
        seed=seed,
        label_sets=None if label_sets is None else [label_sets[place] for place in others],
    )
    splits = ["test"] * len(folds)
    for place, split in zip(others, dealt, strict=True):
        splits[place] = split
    return splits


def _deal(
    patient_of: NDArray[np.int64], label_sets: LabelSets | None, sizes: Sequence[int], seed: int
) -> NDArray[np.int64]:
    """Part of each patient."""
    n_patients = sum(sizes)
    if label_sets is not None:
        return stratify(_labels_of_patients(patient_of, n_patients, label_sets), sizes, seed=seed)
    parts = np.empty(n_patients, dtype=np.int64)
    parts[np.random.default_rng(seed).permutation(n_patients)] = np.repeat(np.arange(len(sizes)), sizes)
    return parts


def _labels_of_patients(patient_of: NDArray[np.int64], n_patients: int, label_sets: LabelSets) -> sparse.csr_array:
    """All labels that a patient's documents have, bool, shape (n_patients, n_labels); columns sorted by label."""
    flat = np.array([label for labels in label_sets for label in labels], dtype=object)
    columns, names = pd.factorize(flat, sort=True)
    rows = np.repeat(patient_of, [len(labels) for labels in label_sets])
    ones = np.ones(len(flat), dtype=bool)
    return sparse.csr_array((ones, (rows, columns)), shape=(n_patients, len(names)))  # twice the same is one


def check_given_splits(frame: pd.DataFrame) -> pd.DataFrame:
    """Take the split that came with the data; documents without one are left out.

    Args:
        frame: columns document_id, patient_id, given_split.

    Returns:
        Columns document_id, split.

    Raises:
        UserError: if a split has another name, a patient is in two splits, or train or val or test is empty.
    """
    given = frame.dropna(subset=["given_split"])
    unknown = sorted(set(given["given_split"]) - set(SPLITS))
    if unknown:
        raise UserError(
            f"the given split has names other than {', '.join(SPLITS)} (first: {str(unknown[0])[:16]!r}); rename them "
            "in the data, or set split.use_given: false."
        )
    n_splits = given.groupby("patient_id")["given_split"].nunique()
    shared = n_splits[n_splits > 1]
    if len(shared):
        first = given.loc[given["patient_id"] == shared.index[0], "document_id"].iloc[0]
        raise UserError(
            f"{len(shared)} patients are in more than one given split (first: that of document {first}), so scores on"
            " test would be too good. Mend the split, or set split.use_given: false."
        )
    empty = sorted(set(SPLITS) - set(given["given_split"]))
    if empty:
        raise UserError(f"the given split has no document in {', '.join(empty)}; set split.use_given: false.")
    return given[["document_id", "given_split"]].rename(columns={"given_split": "split"})
