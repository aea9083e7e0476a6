"""Division of documents into train, val and test: by patient, seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.errors import UserError

SPLITS = ("train", "val", "test")


def assign_splits(patient_ids: Sequence[str], *, val: float, test: float, seed: int) -> list[str]:
    """Split documents so that no patient is in two splits.

    Patients are shuffled (by seed, from their sorted ids, so the order of documents does not matter) and dealt
    out until each split holds its share of patients.

    Args:
        patient_ids: patient of each document.
        val: share of patients for split val.
        test: share of patients for split test.
        seed: of the shuffle.

    Returns:
        The split of each document, in their order.

    Raises:
        UserError: if there are too few patients for a split that was asked for.
    """
    patients = np.unique(np.asarray(patient_ids, dtype=object))
    n_val, n_test = round(val * len(patients)), round(test * len(patients))
    if (val and not n_val) or (test and not n_test) or len(patients) <= n_val + n_test:
        raise UserError(
            f"{len(patients)} patients are too few for split.val = {val} and split.test = {test}: "
            "a split would be empty. Give more data or larger shares."
        )
    shuffled = np.random.default_rng(seed).permutation(patients)
    split_of = dict.fromkeys(shuffled[n_val + n_test :], "train")
    split_of |= dict.fromkeys(shuffled[:n_val], "val") | dict.fromkeys(shuffled[n_val : n_val + n_test], "test")
    return [split_of[patient] for patient in patient_ids]


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
        raise UserError(
            f"{len(shared)} patients are in more than one given split (first: patient {shared.index[0]}), so scores "
            "on test would be too good. Mend the split, or set split.use_given: false."
        )
    empty = sorted(set(SPLITS) - set(given["given_split"]))
    if empty:
        raise UserError(f"the given split has no document in {', '.join(empty)}; set split.use_given: false.")
    return given[["document_id", "given_split"]].rename(columns={"given_split": "split"})
