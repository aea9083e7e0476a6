"""Near misses: a code that was missed where a relative of it in the code tree was proposed instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.errors import UserError
from pipeline.evaluation.label_counts import Counts, LabelMatrix, as_label_matrices, count_by_label, shared_labels
from pipeline.icd.codes import at_level, parse_label

CATEGORY, CHAPTER = "same category", "same chapter"


def confusion_table(
    true: LabelMatrix,
    predicted: LabelMatrix,
    *,
    labels: Sequence[str],
    titles: Sequence[str],
    max_rows: int = 30,
) -> pd.DataFrame:
    """Pairs of a missed code and a wrongly proposed one of the same category or chapter, most frequent first.

    A document with several of either counts for each of their pairs. Categories come before chapters where both
    are equally frequent.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        labels: n_labels; those of system "none" have no tree and are in no pair.
        titles: n_labels.
        max_rows: pairs given.

    Returns:
        ``missed``, ``missed_title``, ``proposed``, ``proposed_title``, ``relation`` ("same category" or "same
        chapter"), ``n_documents`` and ``share_of_missed`` (of the documents in which the code was missed).

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes differ.
    """
    missed, false = _errors(true, predicted)
    pairs = sparse.coo_array(missed.astype(np.int32).T @ false.astype(np.int32))
    categories, chapters = _groups(labels, "category"), _groups(labels, "chapter")
    first, second, n = pairs.row, pairs.col, pairs.data
    is_category = categories[first] == categories[second]
    is_kept = (is_category | (chapters[first] == chapters[second])) & (categories[first] >= 0)
    first, second, n, is_category = (one[is_kept] for one in (first, second, n, is_category))
    order = np.lexsort((second, first, ~is_category, -n))[:max_rows]
    n_missed = count_by_label(missed)
    return pd.DataFrame(
        {
            "missed": [labels[index] for index in first[order]],
            "missed_title": [titles[index] for index in first[order]],
            "proposed": [labels[index] for index in second[order]],
            "proposed_title": [titles[index] for index in second[order]],
            "relation": np.where(is_category[order], CATEGORY, CHAPTER),
            "n_documents": n[order].astype(np.int64),
            "share_of_missed": n[order] / np.maximum(1, n_missed[first[order]]),
        }
    )


def _errors(true: LabelMatrix, predicted: LabelMatrix) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Cells that were missed, and cells that were wrongly proposed."""
    true, predicted = as_label_matrices("true", true, "predicted", predicted)
    found = shared_labels(true, predicted).astype(np.int8)
    missed, false = (sparse.csr_array(one.astype(np.int8) - found) for one in (true, predicted))
    for one in (missed, false):
        one.eliminate_zeros()
    return missed.astype(np.bool_), false.astype(np.bool_)


def _groups(labels: Sequence[str], level: str) -> Counts:
    """A number for each label's ancestor; -1 for labels without a tree."""
    above = [_ancestor(one, "category" if level == "category" else "chapter") for one in labels]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(above))}
    return np.array(
        [-1 if parse_label(label)[0] == "none" else numbers[name] for label, name in zip(labels, above, strict=True)]
    )


def _ancestor(label: str, level: Literal["category", "chapter"]) -> str:
    """Where it stands in the tree; a label of a space of chapters stands for itself."""
    try:
        return at_level(label, level)
    except UserError:
        return label


def error_distances(true: LabelMatrix, predicted: LabelMatrix, *, labels: Sequence[str]) -> Mapping[str, float]:
    """How far off wrongly proposed codes are: shares with a missed code of the same category, or chapter only.

    Args:
        true: bool CSR, shape (n_documents, n_labels).
        predicted: the same shape.
        labels: n_labels.

    Returns:
        ``n_false``, and shares of it: ``same_category``, ``same_chapter`` (but not category), ``elsewhere``; all 0
        where nothing was wrong.

    Raises:
        TypeError: if a matrix is not a CSR matrix of bool.
        ValueError: if shapes differ.
    """
    missed, false = _errors(true, predicted)
    n_false = int(false.nnz)
    near = []
    for level in ("category", "chapter"):
        groups = _groups(labels, level)
        keys = [_keys(one, groups) for one in (false, missed)]
        near.append(int(np.isin(keys[0], keys[1][keys[1] >= 0]).sum()))
    in_category, in_chapter = near[0], max(near)
    shares = {"same_category": in_category, "same_chapter": in_chapter - in_category, "elsewhere": n_false - in_chapter}
    return {"n_false": float(n_false)} | {name: n / max(1, n_false) for name, n in shares.items()}


def _keys(cells: sparse.csr_array, groups: Counts) -> Counts:
    """One number for the document and the group of each cell; -1 for labels without a tree."""
    rows = np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr))
    found = groups[cells.indices]
    return np.where(found < 0, -1, rows * (groups.max(initial=0) + 1) + found)
