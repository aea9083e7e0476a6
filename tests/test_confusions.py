"""Near misses: pairs by hand, and against a loop over documents."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.confusions import confusion_table, error_distances
from pipeline.evaluation.label_counts import label_matrix
from pipeline.icd.codes import at_level

LABELS = ("icd10cm:E11.65", "icd10cm:E11.9", "icd10cm:E78.5", "icd10cm:I10", "none:a", "none:b")
TITLES = [label[-3:] for label in LABELS]


def test_pairs_by_hand() -> None:
    """d0 and d1: E11.9 missed, E11.65 proposed: one category. d2: E11.9 missed, E78.5 and I10 proposed: one chapter,
    and nothing in common. d3: labels without a tree. E11.9 is missed in three documents, two of them for E11.65.
    """
    true = label_matrix([[1], [1, 3], [1], [4]], 6)
    predicted = label_matrix([[0], [0, 3], [2, 3], [5]], 6)
    table = confusion_table(true, predicted, labels=LABELS, titles=TITLES)
    columns = ["missed", "proposed", "relation", "n_documents"]
    assert table[columns].to_numpy().tolist() == [
        [LABELS[1], LABELS[0], "same category", 2],
        [LABELS[1], LABELS[2], "same chapter", 1],
    ]
    assert table["share_of_missed"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert table["missed_title"].tolist() == ["1.9", "1.9"]
    distances = error_distances(true, predicted, labels=LABELS)
    assert distances == {"n_false": 5, "same_category": 2 / 5, "same_chapter": 1 / 5, "elsewhere": 2 / 5}
    assert len(confusion_table(true, predicted, labels=LABELS, titles=TITLES, max_rows=1)) == 1


def test_labels_that_are_chapters_have_no_category_and_are_near_to_none() -> None:
    chapters = tuple(at_level(label, "chapter") for label in ("icd10cm:E11.9", "icd10cm:I10", "icd9cm:401.9"))
    true, predicted = label_matrix([[0], [2]], 3), label_matrix([[1], [2]], 3)
    assert confusion_table(true, predicted, labels=chapters, titles=chapters).empty
    assert error_distances(true, predicted, labels=chapters) == {
        "n_false": 1, "same_category": 0, "same_chapter": 0, "elsewhere": 1,
    }  # fmt: skip


def test_a_perfect_answer_has_no_near_miss() -> None:
    true = label_matrix([[0, 3], []], 6)
    assert confusion_table(true, true, labels=LABELS, titles=TITLES).empty
    assert error_distances(true, true, labels=LABELS)["n_false"] == 0


@given(hnp.arrays(bool, (2, 4, 6)))
def test_pairs_and_distances_equal_a_loop_over_documents(cells: NDArray[np.bool_]) -> None:
    pairs: Counter[tuple[str, str]] = Counter()
    near: Counter[str] = Counter()
    for given_labels, proposed in zip(cells[0], cells[1], strict=True):
        missed = [label for label, is_in in zip(LABELS, given_labels & ~proposed, strict=True) if is_in]
        for false in (label for label, is_in in zip(LABELS, proposed & ~given_labels, strict=True) if is_in):
            levels: set[str] = set()
            for other in missed:
                shared = {
                    level for level in ("category", "chapter") if at_level(false, level) == at_level(other, level)
                }
                if shared and "none" not in false:
                    pairs[other, false] += 1
                    levels |= shared
            near["category" if "category" in levels else "chapter" if levels else "elsewhere"] += 1
    true, predicted = (sparse.csr_array(one) for one in cells)
    table = confusion_table(true, predicted, labels=LABELS, titles=TITLES)
    found = {(row.missed, row.proposed): row.n_documents for row in table.itertuples(index=False)}
    assert found == dict(pairs)
    distances = error_distances(true, predicted, labels=LABELS)
    assert distances["n_false"] == near.total()
    for name, key in (("same_category", "category"), ("same_chapter", "chapter"), ("elsewhere", "elsewhere")):
        assert distances[name] == pytest.approx(near[key] / max(1, near.total()))
