"""Selective prediction: curves by hand and against slow definitions, thresholds carried from split to split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from pipeline.evaluation.label_counts import label_matrix
from pipeline.evaluation.selective import choose_confidence, code_curve, independent_taken, selective_curve, take

# d0: {0} right, sure 0.9. d1: {0, 1}, 0 right, sure (0.8 + 0.6) / 2 = 0.7. d2: {1} wrong, 0 missed, sure 0.5.
# d3: nothing proposed, never sure.
TRUE = label_matrix([[0], [0, 2], [0], [1]], 3)
PREDICTED = label_matrix([[0], [0, 1], [1], []], 3)
PROBABILITIES = np.float32([[0.9, 0.1, 0.1], [0.8, 0.6, 0.2], [0.3, 0.5, 0.1], [0.1, 0.2, 0.2]])


def test_documents_by_hand() -> None:
    """Found of proposed: 1/1, then 2/3, then 2/4. Found of given: 1/1, 2/3, 2/4. Exact: 1/1, 1/2, 1/3."""
    curve = selective_curve(TRUE, PREDICTED, PROBABILITIES)
    assert curve["confidence"].tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75]  # d3 is never taken
    assert curve["precision"].tolist() == pytest.approx([1, 2 / 3, 2 / 4])
    assert curve["recall"].tolist() == pytest.approx([1, 2 / 3, 2 / 4])
    assert curve["exact_match"].tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_codes_by_hand() -> None:
    """Proposed by probability: 0.9 right, 0.8 right, 0.6 wrong, 0.5 wrong; five codes are given."""
    curve = code_curve(TRUE, PREDICTED, PROBABILITIES)
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve["precision"].tolist() == pytest.approx([1, 1, 2 / 3, 1 / 2])
    assert curve["recall"].tolist() == pytest.approx([1 / 5, 2 / 5, 2 / 5, 2 / 5])


def test_confidence_is_the_lowest_that_keeps_the_precision_and_none_where_none_does() -> None:
    curve = selective_curve(TRUE, PREDICTED, PROBABILITIES)
    assert choose_confidence(curve, target=0.6) == pytest.approx(0.7)
    assert choose_confidence(curve, target=0.95) == pytest.approx(0.9)
    wrong = selective_curve(label_matrix([[], []], 3), PREDICTED[:2], PROBABILITIES[:2])
    assert choose_confidence(wrong, target=0.5) is None


def test_what_is_taken_follows_the_confidence_chosen_elsewhere() -> None:
    curve = selective_curve(TRUE, PREDICTED, PROBABILITIES)
    taken = take(curve, 0.6, kind="documents")
    assert (taken.coverage, taken.n_taken) == (0.5, 2)
    assert (taken.precision, taken.recall, taken.exact_match) == pytest.approx((2 / 3, 2 / 3, 1 / 2))
    assert taken.precision_low < 2 / 3 < taken.precision_high
    codes = take(code_curve(TRUE, PREDICTED, PROBABILITIES), 0.7, kind="codes")
    assert (codes.coverage, codes.n_taken, codes.precision, codes.exact_match) == (0.5, 2, 1.0, None)
    for confidence in (None, 0.99):
        nothing = take(curve, confidence, kind="documents")
        assert (nothing.coverage, nothing.n_taken, nothing.precision_low, nothing.precision_high) == (0, 0, 0, 1)


@given(st.data())
def test_curves_equal_slow_definitions(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(0, 6)), data.draw(st.integers(1, 4)))
    true, predicted = (data.draw(hnp.arrays(bool, shape)) for _ in range(2))
    values = st.sampled_from([0.125, 0.25, 0.5, 0.75])  # exact in float32, with ties
    probabilities = data.draw(hnp.arrays(np.float32, shape, elements=values))
    answers = (sparse.csr_array(true), sparse.csr_array(predicted), probabilities)
    for row in selective_curve(*answers).to_dict("records"):
        sure = [
            n
            for n in range(shape[0])
            if predicted[n].any() and probabilities[n][predicted[n]].mean() >= row["confidence"]
        ]
        found = (true & predicted)[sure].sum()
        assert row["n_documents"] == len(sure)
        assert row["precision"] == pytest.approx(found / predicted[sure].sum())
        assert row["recall"] == pytest.approx(found / max(1, true[sure].sum()))
        assert row["exact_match"] == pytest.approx((true == predicted)[sure].all(axis=1).mean())
    for row in code_curve(*answers).to_dict("records"):
        taken = predicted & (probabilities >= row["confidence"])
        assert row["n_predicted"] == taken.sum()
        assert row["precision"] == pytest.approx((taken & true).sum() / taken.sum())


def test_the_interval_counts_patients_and_not_the_codes_of_their_documents() -> None:
    """d0 is of p, d1 and d2 of q. Taken from 0.5 on: p 1 of 1 right, q 1 of 3: two patients tell nothing, worth 1.

    From 0.7 on all codes are right: worth the patients, 2.
    """
    of = (TRUE, PREDICTED, PROBABILITIES)
    assert independent_taken(*of, list("pqqr"), 0.5, kind="documents") == 1
    assert independent_taken(*of, list("pqqr"), 0.7, kind="codes") == 2
    assert independent_taken(*of, list("pppp"), 0.5, kind="documents") == 1
    assert independent_taken(*of, list("pqrs"), None, kind="codes") == 0
    curve = selective_curve(*of)
    by_code, by_patient = (take(curve, 0.5, kind="documents", n_independent=n) for n in (None, 1.0))
    assert by_patient.precision_low < by_code.precision_low
    assert by_patient.precision == by_code.precision == 0.5


def test_copies_of_documents_make_nothing_surer() -> None:
    """Ten documents, then each ten times for the same patient: worth as much as before."""
    generator = np.random.default_rng(0)
    true, predicted = (sparse.csr_array(generator.random((10, 6)) < 0.5) for _ in range(2))
    probabilities = generator.random((10, 6)).astype(np.float32)
    rows = np.repeat(np.arange(10), 10)
    once = independent_taken(true, predicted, probabilities, list("abcdefghij"), 0.0, kind="codes")
    often = independent_taken(
        true[rows], predicted[rows], probabilities[rows], [f"p{row}" for row in rows], 0.0, kind="codes"
    )
    assert once == pytest.approx(often)
