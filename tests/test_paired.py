"""Paired differences: by hand, against slow definitions of both draws, and where nothing can be told apart."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse, stats

from pipeline.evaluation.intervals import SampleScorer
from pipeline.evaluation.label_counts import label_matrix
from pipeline.evaluation.metrics import evaluate_predictions
from pipeline.evaluation.paired import label_wins, paired_differences

Split = tuple[sparse.csr_array, sparse.csr_array, NDArray[np.float32], sparse.csr_array, NDArray[np.float32]]


@st.composite
def pairs(draw: st.DrawFn) -> Split:
    """Two systems on small splits with empty rows and columns and equal probabilities."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))
    true, a, b = (sparse.csr_array(draw(hnp.arrays(bool, shape))) for _ in range(3))
    in_a, in_b = (draw(hnp.arrays(np.float32, shape, elements=values)) for _ in range(2))
    return true, a, in_a, b, in_b


def random_pair(n_documents: int, *, noise_b: float) -> Split:
    generator = np.random.default_rng(3)
    true = generator.random((n_documents, 12)) < 0.25
    a, b = ((true + noise * generator.random(true.shape)) / (1 + noise) for noise in (1.5, noise_b))
    a, b = a.astype(np.float32), b.astype(np.float32)
    return sparse.csr_array(true), sparse.csr_array(a > 0.5), a, sparse.csr_array(b > 0.5), b


@given(pairs())
@settings(max_examples=40)
def test_a_difference_is_that_of_the_scores(split: Split) -> None:
    true, a, in_a, b, in_b = split
    found = paired_differences(*split, n_resamples=1, seed=0)
    score_a, score_b = evaluate_predictions(true, a, in_a), evaluate_predictions(true, b, in_b)
    assert found.keys() >= {"micro_f1", "macro_f1", "map", "precision_at_5", "precision_at_8", "exact_match"}
    for name, one in found.items():
        assert one.difference == pytest.approx(score_a[name] - score_b[name])


@given(pairs(), st.integers(0, 2**16))
@settings(max_examples=30)
def test_swapped_sides_score_like_rows_swapped_by_hand(split: Split, seed: int) -> None:
    true, a, in_a, b, in_b = split
    is_swapped = np.random.default_rng(seed).integers(2, size=(true.shape[0], 3), dtype=np.int32)
    scorers = [SampleScorer(true, *system, ks=(2,)) for system in ((a, in_a), (b, in_b))]
    sides = scorers[0].swapped(scorers[1], is_swapped)
    for sample, swaps in enumerate(is_swapped.T.astype(bool)[..., np.newaxis]):
        for side, first, second, in_first, in_second in ((0, a, b, in_a, in_b), (1, b, a, in_b, in_a)):
            mixed = sparse.csr_array(np.where(swaps, second.toarray(), first.toarray()))
            expected = evaluate_predictions(true, mixed, np.where(swaps, in_second, in_first), ks=(2,))
            assert {name: values[sample] for name, values in sides[side].items()} == pytest.approx(
                {name: expected[name] for name in sides[side]}
            )


def test_p_value_is_the_share_of_all_swaps_that_differ_as_much() -> None:
    """Four documents, one label each; A is right on all, B on the last. Exact match differs by 3/4.

    Swapping the sides of the first three documents in all 8 ways gives +-3/4 in 2 of them: p = 1/4.
    """
    true = label_matrix([[0], [0], [1], [1]], 2)
    b = label_matrix([[1], [], [], [1]], 2)
    found = paired_differences(true, true, None, b, None, n_resamples=4000, seed=0)["exact_match"]
    by_hand = [sum(sign) / 4 for sign in product((1, -1), repeat=3)]
    assert found.difference == 3 / 4
    assert sum(abs(one) >= 3 / 4 for one in by_hand) / 8 == 1 / 4
    assert found.p_value == pytest.approx(1 / 4, abs=0.03)


def test_interval_and_p_value_have_draws_of_their_own() -> None:
    """Patients drawn and patients swapped, sample by sample and document by document, more than go at a time."""
    n_patients, n_resamples = 12, 130
    true, a, in_a, b, in_b = random_pair(30, noise_b=2.2)
    patient_of = np.arange(30) % n_patients
    of_samples, of_swaps = (np.random.default_rng(one) for one in np.random.SeedSequence(4).spawn(2))
    drawn, n_as_large = [], 0

    def micro_f1(given: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
        return 2 * float((given & said).sum()) / int(given.sum() + said.sum())

    def difference(rows: NDArray[np.int64], is_swapped: NDArray[np.bool_]) -> float:
        swaps = is_swapped[patient_of[rows]][:, np.newaxis]
        given, *answers = (one.toarray()[rows] for one in (true, a, b))
        return micro_f1(given, np.where(swaps, *answers[::-1])) - micro_f1(given, np.where(swaps, *answers))

    whole = difference(np.arange(30), np.zeros(n_patients, dtype=np.bool_))
    for n_samples in (50, 50, 30):
        for patients in of_samples.integers(n_patients, size=(n_samples, n_patients)):
            rows = np.concatenate([np.flatnonzero(patient_of == one) for one in patients])
            drawn.append(difference(rows, np.zeros(n_patients, dtype=np.bool_)))
        for swaps in of_swaps.integers(2, size=(n_patients, n_samples), dtype=np.int32).T:
            n_as_large += abs(difference(np.arange(30), swaps == 1)) >= abs(whole) - 1e-12
    found = paired_differences(
        true, a, in_a, b, in_b, n_resamples=n_resamples, seed=4, patients=[f"p{one}" for one in patient_of]
    )["micro_f1"]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found == pytest.approx((whole, low, high, (1 + n_as_large) / (1 + n_resamples)))
    assert 2 / 131 < found.p_value < 1


def test_two_equal_systems_do_not_differ() -> None:
    true, a, in_a, _, _ = random_pair(30, noise_b=2.0)
    for one in paired_differences(true, a, in_a, a, in_a, n_resamples=60, seed=0).values():
        assert one == (0.0, 0.0, 0.0, 1.0)


def test_a_clear_difference_has_a_small_p_and_an_interval_without_zero() -> None:
    clear = paired_differences(*random_pair(200, noise_b=4.0), n_resamples=199, seed=0)
    for name in ("micro_f1", "macro_f1", "map"):
        assert 0 < clear[name].low < clear[name].difference < clear[name].high
        assert clear[name].p_value == pytest.approx(1 / 200)  # the least that 199 draws can show
    true, a, in_a, b, in_b = random_pair(200, noise_b=4.0)
    turned = paired_differences(true, b, in_b, a, in_a, n_resamples=199, seed=0)["micro_f1"]
    assert turned.difference == pytest.approx(-clear["micro_f1"].difference)
    assert turned.high == pytest.approx(-clear["micro_f1"].low)


def test_one_document_that_differs_tells_nothing_apart() -> None:
    """A draw of the documents lacks that one in (1 - 1/40)**40, a third of the cases, so its interval ends at 0."""
    true = label_matrix([[0], [1]] * 20, 2)
    one = [[0], [1]] * 20
    one[0] = []
    found = paired_differences(true, true, None, label_matrix(one, 2), None, n_resamples=999, seed=0)
    assert found["micro_f1"].difference > 0
    assert (found["micro_f1"].low, found["micro_f1"].p_value) == (0.0, 1.0)
    assert not any(score.is_apart for score in found.values())


def test_differences_depend_on_the_seed_alone() -> None:
    split = random_pair(40, noise_b=1.7)
    first = paired_differences(*split, n_resamples=70, seed=1)
    assert first == paired_differences(*split, n_resamples=70, seed=1)
    assert first != paired_differences(*split, n_resamples=70, seed=2)


def test_without_probabilities_of_one_system_only_label_scores_are_compared() -> None:
    true, a, in_a, b, _ = random_pair(20, noise_b=2.0)
    found = paired_differences(true, a, in_a, b, None, n_resamples=5, seed=0)
    assert "micro_f1" in found
    assert "map" not in found


def test_no_draw_and_no_document_are_refused() -> None:
    true, a, in_a, b, in_b = random_pair(5, noise_b=2.0)
    with pytest.raises(ValueError, match="got 0 and 5"):
        paired_differences(true, a, in_a, b, in_b, n_resamples=0, seed=0)
    with pytest.raises(ValueError, match="got 9 and 0"):
        paired_differences(true[:0], a[:0], None, b[:0], None, n_resamples=9, seed=0)


def test_wins_by_code_count_documents_where_one_side_alone_is_right() -> None:
    """Label 0: true in d0 to d5, A finds all, B none: 6 to 0. Label 1: true nowhere, B gives it to d0 and d1, A to
    d2: right by leaving it out, A 2 and B 1. Label 2: both find it. Label 3: nobody gives it, left out of the table.

    Sign test of 6 to 0: 2 / 2**6 = 1/32; of 2 to 1: 1; of 0 to 0: 1. The largest rank decides: 3 * 1/32 > 0.05, so no
    code is sure at 5 % but label 0 is at 10 %.
    """
    true = label_matrix([[0, 2], [0], [0], [0], [0], [0]], 4)
    a = label_matrix([[0, 2], [0], [0, 1], [0], [0], [0]], 4)
    b = label_matrix([[1, 2], [1], [], [], [], []], 4)
    names = list("wxyz")
    options = {"labels": names, "titles": names, "train_counts": [1, 2, 3, 4]}
    table = label_wins(true, a, b, **options)  # type: ignore[arg-type]
    assert table["label"].tolist() == ["w", "y", "x"]
    assert table["n_only_a_right"].tolist() == [6, 0, 2]
    assert table["n_only_b_right"].tolist() == [0, 0, 1]
    assert table["p_value"].tolist() == pytest.approx([1 / 32, 1, 1])
    assert table["f1_difference"].tolist() == [1, 0, 0]
    assert table["winner"].tolist() == ["", "", ""]
    assert label_wins(true, a, b, **options, false_discovery_rate=0.1)["winner"].tolist() == ["A", "", ""]  # type: ignore[arg-type]
    assert label_wins(true[:0], a[:0], b[:0], **options).empty  # type: ignore[arg-type]


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=25)
def test_sign_test_equals_the_binomial_test_of_scipy(n_a: int, n_b: int) -> None:
    true = label_matrix([[0]] * max(1, n_a + n_b), 1)
    a = label_matrix([[0]] * n_a + [[]] * (true.shape[0] - n_a), 1)
    b = label_matrix([[]] * n_a + [[0]] * n_b + [[]] * (true.shape[0] - n_a - n_b), 1)
    table = label_wins(true, a, b, labels=["x"], titles=[""], train_counts=[1])
    expected = stats.binomtest(min(n_a, n_b), n_a + n_b).pvalue if n_a + n_b else 1.0
    assert table["p_value"].tolist() == pytest.approx([expected])


def test_copies_of_documents_are_no_evidence_where_the_patient_is_known() -> None:
    """A is right on 3 documents of 4 where B is not; copied 10 times p would fall, by patient it stays 1/4."""
    true = label_matrix([[0], [0], [1], [1]] * 10, 2)
    b = label_matrix([[1], [], [], [1]] * 10, 2)
    patients = list("wxyz") * 10
    by_document = paired_differences(true, true, None, b, None, n_resamples=999, seed=0)["exact_match"]
    found = paired_differences(true, true, None, b, None, n_resamples=4000, seed=0, patients=patients)["exact_match"]
    assert by_document.p_value < 0.01
    assert found.p_value == pytest.approx(1 / 4, abs=0.03)
    assert found.difference == by_document.difference == 3 / 4
    assert found.high - found.low > 2 * (by_document.high - by_document.low)


def test_wins_by_code_count_a_patient_once() -> None:
    """Patient p: A alone right on 5 documents, B on 1; q: B on 1; r: each on 1, for nobody. Documents 6 to 3, patients
    1 to 1: a sign test of p = 1, where that of 6 to 3 had 0.51."""
    true = label_matrix([[0]] * 9, 1)
    a = label_matrix([[0]] * 5 + [[], [], [0], []], 1)
    b = label_matrix([[]] * 5 + [[0], [0], [], [0]], 1)
    options = {"labels": ["x"], "titles": [""], "train_counts": [1]}
    found = label_wins(true, a, b, **options, patients=list("ppppppqrr"))  # type: ignore[arg-type]
    assert found[["n_only_a_right", "n_only_b_right"]].values.tolist() == [[6, 3]]
    assert found["p_value"].tolist() == [1.0]
    assert label_wins(true, a, b, **options)["p_value"].tolist() == [pytest.approx(0.5078125)]  # type: ignore[arg-type]


def test_a_code_has_no_winner_where_patients_and_documents_point_different_ways() -> None:
    """12 patients with a document each for A, one with 60 for B: by patient A is ahead (p = 0.003), by document B."""
    true = label_matrix([[0]] * 72, 1)
    a, b = label_matrix([[0]] * 12 + [[]] * 60, 1), label_matrix([[]] * 12 + [[0]] * 60, 1)
    patients = [f"p{n}" for n in range(12)] + ["q"] * 60
    found = label_wins(true, a, b, labels=["x"], titles=[""], train_counts=[1], patients=patients)
    assert found["p_value"].tolist() == [pytest.approx(0.0034179688)]
    assert found["winner"].tolist() == [""]
