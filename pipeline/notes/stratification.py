"""Iterative stratification: parts whose labels are spread as they are over the whole, rare labels first.

Sechidis, Tsoumakas, Vlahavas (2011), "On the stratification of multi-label data", Algorithm 1, which Szymański and
Kajdanowicz (2017) call order 1. It is written here because no kept library does it at this size: the package
iterative-stratification wants a dense matrix and sums it once for every label (2.4 GB, thousands of times, for 300,000
documents and 8,000 labels); scikit-multilearn, slower still, is no longer kept. With sparse labels it takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.label_counts import LabelMatrix


def stratify(labels: LabelMatrix, sizes: Sequence[int], *, seed: int) -> NDArray[np.int64]:
    """Deal items out to parts of given sizes so that every part gets its share of every label.

    The label with the fewest items left comes first; each of its items goes to the part that still wants most of that
    label, among equals to the one with most room, then by chance. Items without labels fill up what is left.
    One difference from the paper: a part that has reached its size takes no more, so sizes are met exactly, whereas
    the paper's parts grow beyond theirs where many labels are rare.

    Args:
        labels: which item has which label, bool, shape (n_items, n_labels).
        sizes: items that each part gets, 0 or more; they add up to n_items.
        seed: of what is left to chance: the order among equals.

    Returns:
        Part of each item, int64, shape (n_items,).

    Raises:
        ValueError: if the sizes do not add up.

    Example:
        >>> labels = sparse.csr_array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
        >>> parts = stratify(labels, [2, 2], seed=0)
        >>> sorted(parts[:2].tolist()), sorted(parts[2:].tolist())
        ([0, 1], [0, 1])
    """
    n_items, n_labels = labels.shape
    if sum(sizes) != n_items or min(sizes) < 0:
        raise ValueError(f"sizes must be 0 or more and add up to {n_items} items, got {list(sizes)}.")
    rng = np.random.default_rng(seed)
    items = rng.permutation(n_items)
    shuffled = sparse.csr_array(labels)[items][:, rng.permutation(n_labels)]
    parts = np.empty(n_items, dtype=np.int64)
    parts[items] = _Deal(sparse.csr_array(shuffled), sizes, rng).run()
    return parts


class _Deal:
    """Items on their way to parts; the order of rows and columns decides among equals.

    Attributes:
        wanted: what each part still wants of each label, times n_items, so that integers compare exactly;
            shape (n_labels, n_parts).
    """

    def __init__(self, labels: sparse.csr_array, sizes: Sequence[int], rng: np.random.Generator) -> None:
        self._rng = rng
        self._n_items = labels.shape[0]
        self._offsets, self._labels = labels.indptr, labels.indices
        self._by_label = labels.tocsc()
        self._by_label.sort_indices()
        self._n_left = np.diff(self._by_label.indptr).astype(np.int64)  # (n_labels,)
        self._room = list(sizes)
        self.wanted = np.outer(self._n_left, np.asarray(sizes, dtype=np.int64))
        self._parts = np.full(self._n_items, -1, dtype=np.int64)

    def run(self) -> NDArray[np.int64]:
        """Place all items; give the part of each."""
        many = self._n_items + 1
        while (rarest := np.where(self._n_left > 0, self._n_left, many)).size and rarest.min() < many:
            label = int(rarest.argmin())
            for item in self._items_of(label):
                self._place(int(item), self._best_part(self.wanted[label].tolist()))
        for item in np.flatnonzero(self._parts < 0):
            self._place(int(item), self._best_part([0] * len(self._room)))
        return self._parts

    def _items_of(self, label: int) -> NDArray[np.int64]:
        start, end = self._by_label.indptr[label : label + 2]
        items = self._by_label.indices[start:end].astype(np.int64)
        return items[self._parts[items] < 0]

    def _best_part(self, wanted: list[int]) -> int:
        open_parts = [part for part, room in enumerate(self._room) if room]
        best = max((wanted[part], self._room[part]) for part in open_parts)
        equals = [part for part in open_parts if (wanted[part], self._room[part]) == best]
        return equals[0] if len(equals) == 1 else equals[int(self._rng.integers(len(equals)))]

    def _place(self, item: int, part: int) -> None:
        labels = self._labels[self._offsets[item] : self._offsets[item + 1]]
        self._parts[item] = part
        self._room[part] -= 1
        self._n_left[labels] -= 1
        self.wanted[labels, part] -= self._n_items


def label_match(labels: LabelMatrix, splits: Sequence[str]) -> dict[str, dict[str, float]]:
    r"""How far the labels of each split are from those of all documents.

    Args:
        labels: which document has which label, bool, shape (n_documents, n_labels).
        splits: split of each document.

    Returns:
        For each split ``share_difference``: the mean over labels of \|p - q\|, where p is the share of the split's
        documents that have the label and q that of all documents, in [0, 1]; and ``n_labels_absent``: labels that
        some document has, but none of the split.

    Example:
        >>> labels = sparse.csr_array([[1, 0], [1, 1], [1, 0], [1, 1]], dtype=bool)
        >>> label_match(labels, ["train", "train", "train", "test"])["test"]
        {'share_difference': 0.25, 'n_labels_absent': 0}
    """
    names = np.asarray(splits, dtype=object)
    n_all = labels.sum(axis=0, dtype=np.int64)
    match: dict[str, dict[str, float]] = {}
    for name in sorted(set(splits)):
        is_in = names == name
        n_here = sparse.csr_array(labels)[is_in].sum(axis=0, dtype=np.int64)
        difference = np.abs(n_here / is_in.sum() - n_all / len(names))
        match[name] = {
            "share_difference": float(difference.mean()) if difference.size else 0.0,
            "n_labels_absent": int(((n_all > 0) & (n_here == 0)).sum()),
        }
    return match
