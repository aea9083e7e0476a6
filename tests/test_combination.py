"""Combination of scores: logistic regression as scikit-learn's, pulled to a prior, shared by labels as rare."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from pipeline.evaluation.label_counts import FITTING_BAND_STARTS, fitting_bands
from pipeline.lexical.combination import (
    BandedLogistic,
    Cells,
    Platt,
    draw_cells,
    fit_logistic,
    logits_of,
    probabilities_of,
)


def cells(n: int, n_features: int, seed: int, band: int | None = None) -> Cells:
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(n, n_features)).astype(np.float32)
    true = draw.random(n) < expit(features @ np.linspace(1, 2, n_features) - 0.5)
    bands = draw.integers(0, len(FITTING_BAND_STARTS), n) if band is None else np.full(n, band)
    return Cells(features, true, bands, np.ones(n))


@pytest.mark.parametrize("strength", [0.5, 10.0])
def test_weights_are_those_of_scikit_learn_where_the_prior_is_zero(strength: float) -> None:
    some = cells(400, 3, seed=0)
    weights = np.random.default_rng(1).uniform(0.5, 2, 400)
    ours = fit_logistic(some.features, some.true, sample_weights=weights, prior=np.zeros(3), strength=strength)
    theirs = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-9).fit(some.features, some.true, weights)
    np.testing.assert_allclose(ours, theirs.coef_[0], atol=1e-4)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=2), st.floats(1e-3, 100))
def test_without_evidence_the_prior_stays(prior: list[float], strength: float) -> None:
    nothing = np.zeros((0, 2), dtype=np.float32)
    found = fit_logistic(
        nothing, np.zeros(0, dtype=np.bool_), sample_weights=np.zeros(0), prior=np.array(prior), strength=strength
    )
    np.testing.assert_allclose(found, prior)


def test_cells_that_a_line_parts_leave_finite_weights() -> None:
    features = np.array([[-1.0, 1.0], [1.0, 1.0]], dtype=np.float32).repeat(50, axis=0)
    found = fit_logistic(
        features, features[:, 0] > 0, sample_weights=np.ones(100), prior=np.array([50.0, 0.0]), strength=1e-3
    )
    assert np.isfinite(found).all()


def test_a_start_far_from_the_optimum_is_left_for_it() -> None:
    """Steps of Newton's method from here lead away; the loss is convex, so the optimum is the same from anywhere."""
    some = cells(300, 2, seed=3)
    features = some.features * 8
    found = [
        fit_logistic(features, some.true, sample_weights=np.ones(300), prior=np.array(prior), strength=1e-6)
        for prior in ([0.0, 0.0], [5.0, -5.0])
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_a_band_without_a_cell_takes_the_shared_weights() -> None:
    """All cells lie in band 4. Shared weights and the deviation of band 4 are penalised alike, so each takes half of
    the way from the prior; the other bands have the shared half alone."""
    fitted = BandedLogistic.fit(cells(500, 2, seed=2, band=4), prior=[0.0, 0.0, 0.0], strength=1.0)
    np.testing.assert_allclose(fitted.weights[0] * 2, fitted.weights[4], atol=1e-5)


def test_each_band_stays_at_its_own_prior_without_a_cell() -> None:
    nothing = Cells(
        np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64), np.zeros(0)
    )
    prior = np.arange(15.0).reshape(5, 3)
    np.testing.assert_allclose(BandedLogistic.fit(nothing, prior=prior, strength=1.0).weights, prior)


def test_logits_are_the_weights_of_each_labels_band() -> None:
    weights = np.arange(15.0).reshape(5, 3)
    features = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    bands = np.array([0, 4, 2])
    expected = [
        [document[label] @ weights[band][:2] + weights[band][2] for label, band in enumerate(bands)]
        for document in features
    ]
    np.testing.assert_allclose(BandedLogistic(weights).logits(features, bands), expected, rtol=1e-5)


def test_all_positive_cells_are_drawn_and_the_negative_ones_stand_for_those_left_out() -> None:
    true = sparse.csr_array(np.random.default_rng(0).random((200, 50)) < 0.02)
    drawn = draw_cells(np.zeros((200, 50, 1), dtype=np.float32), true, fitting_bands([5] * 50), share=0.25, seed=0)
    assert drawn.true.sum() == true.nnz
    assert drawn.sample_weights.sum() == pytest.approx(10_000, rel=0.05)
    whole = draw_cells(np.zeros((200, 50, 1), dtype=np.float32), true, fitting_bands([5] * 50), share=1.0, seed=0)
    assert len(whole.true) == 10_000


def test_a_code_with_five_positives_has_no_offset_of_its_own_and_one_with_many_is_pulled_to_it() -> None:
    """Labels 0 and 1 score alike, but label 1 is true far more often. Label 2 has 5 positives."""
    draw = np.random.default_rng(0)
    scores = draw.normal(size=(400, 3)).astype(np.float32)
    true = draw.random((400, 3)) < expit(2 * scores + np.array([-2.0, 0.0, -2.0]))
    true[:, 2] = False
    true[:5, 2] = True
    platt = Platt.fit(scores, sparse.csr_array(true))
    assert platt.offsets[0] < 0 < platt.offsets[1]
    assert platt.offsets[2] == 0
    assert platt.slope > 0


def test_scores_of_a_model_that_had_nothing_of_a_label_do_not_bend_the_sigmoid() -> None:
    """200 labels, each true once, in documents whose model never saw it: their score is the same, true or not."""
    draw = np.random.default_rng(1)
    scores = draw.normal(size=(400, 300)).astype(np.float32)
    true = draw.random(scores.shape) < expit(4 * scores - 6)
    scores[:, 100:], true[:, 100:] = -1.5, False
    true[np.arange(200), 100 + np.arange(200)] = True
    is_seen = np.arange(300) < 100
    expected = Platt.fit(scores[:, :100], sparse.csr_array(true[:, :100]))
    bent = Platt.fit(scores, sparse.csr_array(true))
    for seen in (is_seen, np.tile(is_seen, (400, 1))):
        found = Platt.fit(scores, sparse.csr_array(true), is_seen=seen)
        assert (found.slope, found.intercept) == (pytest.approx(expected.slope), pytest.approx(expected.intercept))
        assert found.offsets.tolist() == pytest.approx([*expected.offsets, *[0] * 200])
    assert bent.slope < 0.8 * expected.slope


def test_offsets_stay_finite_for_labels_of_all_and_of_no_documents() -> None:
    scores = np.zeros((20, 2), dtype=np.float32)
    true = sparse.csr_array(np.tile([True, False], (20, 1)))
    assert np.isfinite(Platt.fit(scores, true).logits(scores)).all()


def test_logits_and_probabilities_are_inverse_and_finite() -> None:
    probabilities = np.array([0.0, 0.25, 0.5, 1.0], dtype=np.float32)
    logits = logits_of(probabilities)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(probabilities_of(logits), probabilities, atol=1e-7)


def test_logits_of_different_probabilities_differ() -> None:
    """Else codes of a large label space, nearly all of them improbable, would be ties."""
    probabilities = np.array([1e-30, 1e-12, 2e-12, 1e-7, 1 - 2**-22, 1 - 2**-24, 1.0], dtype=np.float32)
    assert (np.diff(logits_of(probabilities)) > 0).all()


def test_bands_of_fitting_begin_at_1_3_11_and_101_training_documents() -> None:
    assert fitting_bands([0, 1, 2, 3, 10, 11, 100, 101, 9000]).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
