"""Curves: by hand, against scikit-learn, and where there is nothing to count."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metric_cases import Bools, Probabilities, csr, splits
from numpy.typing import NDArray
from scipy import sparse, stats

from pipeline.evaluation import cells
from pipeline.evaluation.curves import expected_calibration_error, reliability_table, threshold_curve, wilson_interval
from pipeline.evaluation.label_counts import label_matrix, set_scores


def test_reliability_by_hand() -> None:
    """Two bins. Below 1/2: 0.25 (true) and 0.0; from 1/2 on: 0.5 (false), 0.75 (true), 1.0 (true), 1.0 (false).

    Gaps: 0.125 to 1/2 in two cells, 0.8125 to 1/2 in four: ECE = (2 * 0.375 + 4 * 0.3125) / 6 = 1/3.
    """
    true = label_matrix([[0], [1], [0]], 2)
    probabilities = np.float32([[0.25, 0.5], [0.0, 0.75], [1.0, 1.0]])
    table = reliability_table(true, probabilities, n_bins=2)
    assert table["n_cells"].tolist() == [2, 4]
    assert table["n_true"].tolist() == [1, 2]
    assert table["mean_probability"].tolist() == [0.125, 0.8125]
    assert table["share_true"].tolist() == [0.5, 0.5]
    assert expected_calibration_error(table) == pytest.approx(1 / 3)
    assert expected_calibration_error(table, lowest=0.5) == pytest.approx(0.3125)


@given(st.data(), st.integers(1, 12))
def test_every_cell_falls_into_one_bin_whatever_the_chunks(data: st.DataObject, n_bins: int) -> None:
    values = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]), st.floats(0, 1, width=32))
    probabilities: NDArray[np.float32] = data.draw(hnp.arrays(np.float32, (5, 4), elements=values))
    true = sparse.csr_array(data.draw(hnp.arrays(bool, (5, 4))))
    table = reliability_table(true, probabilities, n_bins=n_bins)
    assert (table["n_cells"].sum(), table["n_true"].sum()) == (20, true.nnz)
    shown = table[table["n_cells"] > 0]
    assert (shown["mean_probability"] >= shown["low"] - 1e-6).all()
    assert (shown["mean_probability"] <= shown["high"] + 1e-6).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "CHUNK_CELLS", 4)
        again = reliability_table(true, probabilities, n_bins=n_bins)
    pd.testing.assert_frame_equal(again, table, rtol=1e-12, atol=0)  # sums of floats in another order


def test_calibration_of_probabilities_drawn_from_themselves_is_good() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.random((400, 50)).astype(np.float32)
    true = sparse.csr_array(generator.random(probabilities.shape) < probabilities)
    assert expected_calibration_error(reliability_table(true, probabilities)) < 0.02
    assert expected_calibration_error(reliability_table(true, probabilities**3)) > 0.1


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_interval_equals_that_of_scipy(n_right: int, n: int) -> None:
    n_right = min(n_right, n)
    low, high = wilson_interval(np.array([n_right]), np.array([n]), z=float(stats.norm.ppf(0.975)))
    expected = stats.binomtest(n_right, n).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_an_interval_of_nothing_is_everything() -> None:
    low, high = wilson_interval(np.array([0]), np.array([0]))
    assert (low[0], high[0]) == (0, 1)
    assert expected_calibration_error(reliability_table(label_matrix([], 2), np.zeros((0, 2), np.float32))) == 0


def test_threshold_curve_by_hand() -> None:
    """At 0.5 three cells are predicted, two of four true ones; at 0.8 one, and it is true."""
    true = csr([[1, 0], [1, 1], [0, 1]])
    probabilities = np.float32([[0.9, 0.6], [0.5, 0.3], [0.1, 0.2]])
    curve = threshold_curve(true, probabilities, [0.5, 0.8])
    assert curve["n_predicted"].tolist() == [3, 1]
    assert curve["micro_precision"].tolist() == pytest.approx([2 / 3, 1])
    assert curve["micro_recall"].tolist() == pytest.approx([2 / 4, 1 / 4])
    assert curve["macro_f1"].tolist() == pytest.approx([(1 + 0) / 2, (2 / 3 + 0) / 2])


@settings(deadline=None)
@given(splits())
def test_threshold_curve_equals_scores_at_each_threshold(split: tuple[Bools, Bools, Probabilities]) -> None:
    true, _, probabilities = split
    curve = threshold_curve(csr(true), probabilities)
    for row in curve.iloc[:: max(1, len(curve) // 7)].itertuples():
        scores = set_scores(csr(true), csr(probabilities >= np.float32(row.threshold)))
        assert row.n_predicted == scores["n_predicted"]
        assert row.micro_f1 == pytest.approx(scores["micro_f1"])
        assert row.macro_f1 == pytest.approx(scores["macro_f1"])
