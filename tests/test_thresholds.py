"""Thresholds: exact against brute force, and safe for labels of which little is known."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation import cells
from pipeline.evaluation.shared_threshold import expected_f1, fit_calibrated_threshold, fit_global_threshold
from pipeline.evaluation.thresholds import (
    apply_thresholds,
    fit_band_thresholds,
    fit_label_thresholds,
    fit_thresholds,
    prevalence_thresholds,
)

Bools = NDArray[np.bool_]
Probabilities = NDArray[np.float32]

VALUES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))


@st.composite
def val_splits(draw: st.DrawFn) -> tuple[Bools, Probabilities]:
    """Small splits with at least one true cell and many equal probabilities."""
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 5)))
    true = draw(hnp.arrays(bool, shape).filter(np.any))
    return true, draw(hnp.arrays(np.float32, shape, elements=VALUES))


def f1_at(true: Bools, probabilities: Probabilities, threshold: float) -> float:
    predicted = probabilities >= np.float32(threshold)
    return 2 * float((true & predicted).sum()) / max(1, int(true.sum() + predicted.sum()))


def brute_force(true: Bools, probabilities: Probabilities) -> float:
    """Highest of the best of all probabilities that occur."""
    return max(np.unique(probabilities).tolist(), key=lambda value: (f1_at(true, probabilities, value), value))


@settings(deadline=None)
@given(val_splits())
def test_global_threshold_is_the_best_of_all_probabilities(split: tuple[Bools, Probabilities]) -> None:
    true, probabilities = split
    assert fit_global_threshold(sparse.csr_array(true), probabilities) == brute_force(true, probabilities)


def test_global_threshold_by_hand() -> None:
    """F1 when the cut takes 1, 2, 3, 4 cells: 2/3, 1/2, 4/5, 2/3 (true: the first and third of four)."""
    true = sparse.csr_array(np.array([[True, False], [True, False]]))
    assert fit_global_threshold(true, np.float32([[0.9, 0.7], [0.6, 0.2]])) == pytest.approx(0.6)


def test_global_threshold_does_not_depend_on_the_size_of_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    true = sparse.csr_array(generator.random((30, 7)) < 0.3)
    probabilities = generator.random((30, 7), dtype=np.float32)
    whole = fit_global_threshold(true, probabilities), fit_label_thresholds(true, probabilities)
    monkeypatch.setattr("pipeline.evaluation.cells.CHUNK_CELLS", 40)
    assert fit_global_threshold(true, probabilities) == whole[0]
    assert np.array_equal(fit_label_thresholds(true, probabilities), whole[1])


@settings(deadline=None)
@given(val_splits())
def test_label_thresholds_without_shrinkage_are_the_best_of_each_label(
    split: tuple[Bools, Probabilities],
) -> None:
    true, probabilities = split
    found = fit_label_thresholds(sparse.csr_array(true), probabilities, shrinkage=0, min_positives=1)
    for label in range(true.shape[1]):
        has_any = true[:, label].any()
        expected = brute_force(*(a[:, label] for a in split)) if has_any else brute_force(true, probabilities)
        assert found[label] == np.float32(expected)


def test_label_with_few_positives_stays_at_the_global_threshold() -> None:
    """Label 0 has 3 true documents, label 1 has 6; only label 1 gets a threshold of its own."""
    true = np.zeros((12, 2), dtype=bool)
    true[:3, 0] = true[:6, 1] = True
    probabilities = np.where(true, [0.9, 0.4], [0.1, 0.3]).astype(np.float32)
    matrix = sparse.csr_array(true)
    global_threshold = fit_global_threshold(matrix, probabilities)
    found = fit_label_thresholds(matrix, probabilities, shrinkage=0, min_positives=6)
    assert found[0] == np.float32(global_threshold)
    assert found[1] == np.float32(0.4)


def test_shrinkage_weighs_the_own_threshold_by_the_number_of_positives() -> None:
    """Label 0 alone is best at 0.75, all together at 0.25: 8 positives, shrinkage 24: 1/4 of the way."""
    true = np.zeros((40, 2), dtype=bool)
    true[:8, 0] = true[:, 1] = True
    probabilities = np.where(true, [0.75, 0.25], [0.5, 0.0]).astype(np.float32)
    probabilities[10:, 0] = 0.0
    matrix = sparse.csr_array(true)
    assert fit_global_threshold(matrix, probabilities) == 0.25
    found = fit_label_thresholds(matrix, probabilities, shrinkage=24)
    assert found.tolist() == pytest.approx([0.25 + (0.75 - 0.25) / 4, 0.25])


@settings(deadline=None)
@given(val_splits(), st.floats(0, 100))
def test_label_thresholds_lie_between_own_and_global(split: tuple[Bools, Probabilities], shrinkage: float) -> None:
    true, probabilities = sparse.csr_array(split[0]), split[1]
    own = fit_label_thresholds(true, probabilities, shrinkage=0, min_positives=1)
    found = fit_label_thresholds(true, probabilities, shrinkage=shrinkage, min_positives=1)
    ends = np.stack([own, np.full_like(own, fit_global_threshold(true, probabilities))])
    assert (found >= ends.min(axis=0) - 1e-6).all()
    assert (found <= ends.max(axis=0) + 1e-6).all()


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=VALUES),
    st.lists(st.integers(0, 20), min_size=4, max_size=4),
)
def test_prevalence_marks_at_most_the_expected_number(probabilities: Probabilities, counts: list[int]) -> None:
    n_documents, n_labels = probabilities.shape
    thresholds = prevalence_thresholds(probabilities, train_counts=counts[:n_labels], n_train_documents=20)
    n_marked = (probabilities >= thresholds).sum(axis=0)
    n_expected = np.rint(n_documents * np.asarray(counts[:n_labels]) / 20)
    assert (n_marked <= n_expected).all()
    for label in range(n_labels):
        if np.unique(probabilities[:, label]).size == n_documents:
            assert n_marked[label] == n_expected[label]


def test_prevalence_of_a_rare_label_never_marks_every_document() -> None:
    """Expected count 10 · 1/100 = 0.1: equal probabilities everywhere, even 1, mark nothing."""
    for value in (0.0, 0.5, 1.0):
        probabilities = np.full((10, 1), value, dtype=np.float32)
        thresholds = prevalence_thresholds(probabilities, train_counts=[1], n_train_documents=100)
        assert apply_thresholds(probabilities, thresholds).nnz == 0


def test_prevalence_of_a_label_that_every_training_document_has_marks_all() -> None:
    probabilities = np.float32([[0.0], [0.4]])
    thresholds = prevalence_thresholds(probabilities, train_counts=[9], n_train_documents=9)
    assert apply_thresholds(probabilities, thresholds).nnz == 2


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=VALUES), st.data())
def test_apply_thresholds_equals_the_comparison(probabilities: Probabilities, data: st.DataObject) -> None:
    thresholds = data.draw(hnp.arrays(np.float32, probabilities.shape[1], elements=VALUES))
    assert np.array_equal(apply_thresholds(probabilities, thresholds).toarray(), probabilities >= thresholds)
    predicted = apply_thresholds(probabilities, 0.3)
    assert np.array_equal(predicted.toarray(), probabilities >= np.float32(0.3))
    assert predicted.dtype == np.bool_
    assert predicted.has_canonical_format


def test_a_document_may_be_left_without_a_label() -> None:
    predicted = apply_thresholds(np.float32([[0.1, 0.2], [0.6, 0.1]]), 0.5)
    assert np.diff(predicted.indptr).tolist() == [0, 1]


def test_a_fitted_threshold_survives_json_exactly() -> None:
    """A threshold is a probability that occurred; a rounding error would turn its own cell around."""
    probabilities = np.float32([[0.1, 1 / 3]])
    threshold = fit_global_threshold(sparse.csr_array(np.array([[False, True]])), probabilities)
    assert apply_thresholds(probabilities, float(repr(threshold))).toarray().tolist() == [[False, True]]


def test_wrong_input_is_refused() -> None:
    no_labels = sparse.csr_array(np.zeros((2, 2), dtype=bool))
    probabilities = np.zeros((2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="no threshold can be fitted"):
        fit_global_threshold(no_labels, probabilities)
    with pytest.raises(ValueError, match="at least 0"):
        fit_label_thresholds(no_labels, probabilities, shrinkage=-1)
    with pytest.raises(ValueError, match="one for each of 2 labels"):
        apply_thresholds(probabilities, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="not numbers"):
        apply_thresholds(probabilities, float("nan"))
    with pytest.raises(ValueError, match="each of 2 labels"):
        prevalence_thresholds(probabilities, train_counts=[1], n_train_documents=5)
    with pytest.raises(ValueError, match="no label can have more"):
        prevalence_thresholds(probabilities, train_counts=[6, 1], n_train_documents=5)


def test_the_threshold_of_calibrated_probabilities_is_pulled_to_half_of_its_f1() -> None:
    """Two true cells, found from 0.25 on with one false: F1 = 4/5. (2 · 0.25 + 6 · 0.4) / 8 = 0.3625.

    Expected: 2 · 1.25 / (1.625 + 2) = 20/29, of two cells. F1 of two cells, pulled to it by six: 20.8/29.
    """
    true = sparse.csr_array(np.array([[True, False], [True, False]]))
    probabilities = np.float32([[0.75, 0.5], [0.25, 0.125]])
    assert fit_calibrated_threshold(true, probabilities, shrinkage=6, f1_shrinkage=0) == pytest.approx(0.3625)
    assert fit_calibrated_threshold(true, probabilities, shrinkage=0) == fit_global_threshold(true, probabilities)
    found = fit_calibrated_threshold(true, probabilities, shrinkage=6, f1_shrinkage=6)
    assert found == pytest.approx((2 * 0.25 + 6 * (20.8 / 29) / 2) / 8)
    for shrinkages in ({"shrinkage": -1}, {"f1_shrinkage": -1}):
        with pytest.raises(ValueError, match="shrinkage must be at least 0"):
            fit_calibrated_threshold(true, probabilities, **shrinkages)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=VALUES))
def test_the_expected_f1_is_that_of_the_best_cut_of_the_sorted_probabilities(probabilities: Probabilities) -> None:
    ordered = np.sort(probabilities.ravel())[::-1].astype(np.float64)
    if ordered.sum() == 0:
        assert expected_f1(probabilities) == 0.0
    else:
        of_cut = 2 * ordered.cumsum() / (ordered.sum() + np.arange(1, ordered.size + 1))
        assert expected_f1(probabilities) == pytest.approx(of_cut.max())


def test_one_true_cell_far_down_the_list_does_not_take_the_threshold_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 rare codes on 40 documents, one true cell: its rank is chance.

    F1 of one cell at rank r is 2 / (1 + r), half of which would be predicted for hundreds of cells.
    """
    monkeypatch.setattr(cells, "CHUNK_CELLS", 70)
    draw = np.random.default_rng(0)
    probabilities = (1 / (1 + np.exp(-draw.normal(-7, 2, (40, 20))))).astype(np.float32)
    by_rank = np.argsort(-probabilities, axis=None)
    for rank in (1, 10, 100, 400):
        true = np.zeros(probabilities.shape, dtype=bool)
        true.flat[by_rank[rank - 1]] = True
        threshold = fit_calibrated_threshold(sparse.csr_array(true), probabilities)
        assert threshold == pytest.approx(expected_f1(probabilities) / 2, rel=0.25), rank
        assert (probabilities >= threshold).sum() < 10


@pytest.mark.parametrize("rule", ["global", "per_band", "per_label", "prevalence"])
def test_every_rule_gives_a_threshold_for_every_label(
    rule: Literal["global", "per_band", "per_label", "prevalence"],
) -> None:
    draw = np.random.default_rng(0)
    probabilities = draw.random((300, 4)).astype(np.float32)
    true = sparse.csr_array(draw.random((300, 4)) < probabilities * np.array([1, 1, 0.5, 0.01]))
    found = fit_thresholds(rule, true, probabilities, train_counts=[100, 100, 50, 1], n_train_documents=300)
    assert (found.shape, found.dtype) == ((4,), np.float32)
    assert (len(set(found.tolist())) == 1) == (rule == "global")
    if rule == "per_band":  # of 100 and of 50 documents: one band; of 1: another
        assert found[0] == found[1] == found[2] != found[3]
    if rule == "per_label":
        assert found[3] == np.float32(fit_calibrated_threshold(true, probabilities)), "too few positives of its own"


def test_each_band_has_the_threshold_of_its_own_labels_and_one_without_documents_that_of_all() -> None:
    draw = np.random.default_rng(1)
    probabilities = draw.random((200, 5)).astype(np.float32)
    true = sparse.csr_array((draw.random((200, 5)) < probabilities**2) & np.array([True, True, True, True, False]))
    found = fit_band_thresholds(true, probabilities, [200, 5, 150, 2, 0])
    frequent = fit_calibrated_threshold(true[:, [0, 2]], np.ascontiguousarray(probabilities[:, [0, 2]]))
    assert found[0] == found[2] == np.float32(frequent)
    assert found[1] == np.float32(fit_calibrated_threshold(true[:, [1]], np.ascontiguousarray(probabilities[:, [1]])))
    assert found[4] == np.float32(fit_calibrated_threshold(true, probabilities))


def test_a_label_gets_a_threshold_of_its_own_from_six_documents_on_and_the_common_one_is_worth_20() -> None:
    """Best at 0.75 where 0.25 is common: 5 documents stay at 0.25, 6 go 6/26 and 60 go 60/80 of the way."""
    true = np.arange(60)[:, np.newaxis] < np.array([5, 6, 60])
    probabilities = np.where(true, 0.75, 0.0).astype(np.float32)
    found = fit_label_thresholds(sparse.csr_array(true), probabilities, global_threshold=0.25)
    assert found.tolist() == pytest.approx([0.25, 0.25 + 0.5 * 6 / 26, 0.25 + 0.5 * 60 / 80])


def test_half_of_f1_is_worth_300_true_cells_and_the_expected_f1_thirty() -> None:
    """Fitted is 0.25 with F1 0.8 from 2 true cells; expected is 2.5 / (1.625 + 2) of 0.75 and 0.5."""
    true = sparse.csr_array(np.array([[True, False], [True, False]]))
    found = fit_calibrated_threshold(true, np.float32([[0.75, 0.5], [0.25, 0.125]]))
    f1 = (2 * 0.8 + 30 * 2.5 / 3.625) / 32
    assert found == pytest.approx((2 * 0.25 + 300 * f1 / 2) / 302)
