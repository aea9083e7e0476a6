"""Intervals of scores: against the drawn documents, holding the score, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import Bools, Probabilities, csr, random_split, splits

from pipeline.evaluation.intervals import difference_interval, percentile_interval
from pipeline.evaluation.label_counts import label_matrix
from pipeline.evaluation.metrics import bootstrap_distributions, bootstrap_intervals, evaluate_predictions
from pipeline.evaluation.paired import paired_differences
from pipeline.evaluation.patients import few_patients_note


@given(splits(), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_bootstrap_scores_equal_scores_of_the_drawn_documents(
    split: tuple[Bools, Bools, Probabilities], seed: int
) -> None:
    true, predicted, probabilities = split
    n_documents = true.shape[0]
    found = bootstrap_distributions(csr(true), csr(predicted), probabilities, n_resamples=3, seed=seed)
    drawn = np.random.default_rng(seed).integers(n_documents, size=(3, n_documents))
    for sample, rows in enumerate(drawn):
        scores = evaluate_predictions(csr(true[rows]), csr(predicted[rows]), probabilities[rows])
        for name, values in found.items():
            assert values[sample] == pytest.approx(scores[name])


def test_intervals_hold_the_score_and_shrink_with_more_documents() -> None:
    """Four times the documents: half the width, here with a generous margin."""
    widths = []
    for n_documents in (200, 800):
        split = random_split(n_documents, seed=5)
        scores = evaluate_predictions(*split)
        intervals = bootstrap_intervals(*split, n_resamples=300, seed=0)
        assert set(intervals) >= {"micro_f1", "macro_f1", "map", "precision_at_5", "jaccard"}
        assert all(low <= scores[name] <= high for name, (low, high) in intervals.items())
        widths.append(intervals["micro_f1"][1] - intervals["micro_f1"][0])
    assert 0.3 < widths[1] / widths[0] < 0.75


def test_macro_f1_interval_holds_the_score_where_plain_percentiles_lie_below_it() -> None:
    """Each label: 4 true documents, 1 found, F1 2/5. Found k times in a sample of 4 it is 2k / (4 + k).

    That bends downward, so by Jensen's inequality samples score below 2/5 on average: with 400 labels, all.
    """
    n_labels = 400
    true = label_matrix([[(d + i) % n_labels for i in range(4)] for d in range(n_labels)], n_labels)
    predicted = label_matrix([[d] for d in range(n_labels)], n_labels)
    samples = bootstrap_distributions(true, predicted, None, n_resamples=100, seed=0)["macro_f1"]
    low, high = bootstrap_intervals(true, predicted, None, n_resamples=100, seed=0)["macro_f1"]
    assert np.quantile(samples, 0.975) < 2 / 5
    assert low < 2 / 5 < high


def test_intervals_depend_on_the_seed_alone() -> None:
    split = random_split(60, seed=1)
    first = bootstrap_intervals(*split, n_resamples=120, seed=4)
    assert first == bootstrap_intervals(*split, n_resamples=120, seed=4)
    assert first != bootstrap_intervals(*split, n_resamples=120, seed=5)


def test_no_samples_give_no_intervals() -> None:
    assert bootstrap_intervals(*random_split(5, seed=0), n_resamples=0, seed=0) == {}


@given(splits(), st.integers(0, 2**16), st.data())
@settings(max_examples=30, deadline=None)
def test_a_patient_is_drawn_with_all_documents(
    split: tuple[Bools, Bools, Probabilities], seed: int, data: st.DataObject
) -> None:
    true, predicted, probabilities = split
    n_documents = true.shape[0]
    patients = data.draw(st.lists(st.sampled_from("abc"), min_size=n_documents, max_size=n_documents))
    found = bootstrap_distributions(
        csr(true), csr(predicted), probabilities, n_resamples=3, seed=seed, patients=patients
    )
    names = list(dict.fromkeys(patients))
    for sample, drawn in enumerate(np.random.default_rng(seed).integers(len(names), size=(3, len(names)))):
        rows = [row for place in drawn for row in range(n_documents) if patients[row] == names[place]]
        scores = evaluate_predictions(csr(true[rows]), csr(predicted[rows]), probabilities[rows])
        for name, values in found.items():
            assert values[sample] == pytest.approx(scores[name])


def test_copies_of_documents_make_nothing_surer_where_the_patient_is_known() -> None:
    """Each document four times, as if a patient came back with the same note: by patient the same intervals."""
    once = random_split(100, seed=2)
    copied = tuple(part[np.repeat(np.arange(100), 4)] for part in once)
    patients = [f"p{n}" for n in np.repeat(np.arange(100), 4)]
    expected = bootstrap_intervals(*once, n_resamples=200, seed=0)
    found = bootstrap_intervals(*copied, n_resamples=200, seed=0, patients=patients)
    assert {name: pytest.approx(ends) for name, ends in expected.items()} == found
    by_document = bootstrap_intervals(*copied, n_resamples=200, seed=0)
    assert np.diff(by_document["micro_f1"]) < 0.7 * np.diff(found["micro_f1"])


def test_documents_that_are_each_a_patient_are_drawn_one_by_one() -> None:
    split = random_split(30, seed=3)
    by_patient = bootstrap_intervals(*split, n_resamples=50, seed=0, patients=[f"p{n}" for n in range(30)])
    assert by_patient == bootstrap_intervals(*split, n_resamples=50, seed=0)


def test_patients_that_are_not_one_a_document_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 for 5 documents"):
        bootstrap_intervals(*random_split(5, seed=0), n_resamples=1, seed=0, patients=["a", "b"])


def test_few_patients_are_told() -> None:
    assert few_patients_note(20, 20) is None
    assert "40 documents are of 19 patients" in str(few_patients_note(40, 19))


def test_where_all_samples_score_alike_there_is_no_interval() -> None:
    """Every use of two codes is found, of one code none: 1 and 0 whichever documents are drawn."""
    true = label_matrix([[0, 1], [0], [1, 2]] * 4, 3)
    predicted = label_matrix([[0, 1], [0], [1]] * 4, 3)
    groups = {"found": np.array([0, 1]), "missed": np.array([2])}
    intervals = bootstrap_intervals(true, predicted, None, n_resamples=50, seed=0, label_groups=groups)
    assert "micro_f1" in intervals
    assert not {"found/micro_f1", "missed/micro_f1"} & intervals.keys()


def test_differences_over_all_codes_lie_within_their_interval_on_a_long_tail() -> None:
    """A sample lacks a third of the codes that one document has, and these count 0 there for both systems."""
    generator = np.random.default_rng(0)
    zipf = 1 / np.arange(1, 601)
    given = [generator.choice(600, 6, replace=False, p=zipf / zipf.sum()) for _ in range(200)]
    a, b = ([[one for one in labels if generator.random() < share] for labels in given] for share in (0.8, 0.6))
    true, *answers = (label_matrix([sorted(map(int, labels)) for labels in sets], 600) for sets in (given, a, b))
    found = paired_differences(true, answers[0], None, answers[1], None, n_resamples=200, seed=0)
    for name in ("macro_f1_all_codes", "macro_f1_caml"):
        assert found[name].low < found[name].difference < found[name].high


def test_an_interval_leaves_out_as_many_samples_at_both_ends() -> None:
    """Of 0, 1, ..., 200 the middle 95 % lie between 5 and 195, the middle half between 50 and 150."""
    assert percentile_interval(np.arange(201.0)) == pytest.approx((5, 195))
    assert percentile_interval(np.arange(201.0)[::-1], level=0.5) == pytest.approx((50, 150))


@pytest.mark.parametrize("group", ["", "train_count_1_10/", "a/b/"])
def test_macro_scores_over_all_codes_lie_around_the_difference_also_within_a_group(group: str) -> None:
    """Samples from 0 to 0.2 are laid around 0.5: 0.5 - 0.1 + 0.005 to 0.5 + 0.1 - 0.005. Other scores stay."""
    drawn = np.linspace(0, 0.2, 201)
    for name in ("macro_f1_all_codes", "macro_f1_caml"):
        assert difference_interval(f"{group}{name}", 0.5, drawn) == pytest.approx((0.405, 0.595))
    for name in ("macro_f1", "micro_f1"):
        assert difference_interval(f"{group}{name}", 0.5, drawn) == pytest.approx((0.005, 0.195))


def test_intervals_end_at_0_and_1() -> None:
    """Two documents with one given code each, drawn twice: a quarter of the samples is of the one alone.

    If nothing is said of the second, F1 is 2/3, of samples 1, 2/3 and 0, 7/12 in the mean: laid around 2/3 they would
    reach 13/12. If it gets three wrong codes, F1 is 1/3, of samples 1, 1/3 and 0, 5/12 in the mean: from -1/12 on.
    """
    true = label_matrix([[0], [0]], 4)
    for of_second, expected in (([], (1 / 12, 1)), ([1, 2, 3], (0, 11 / 12))):
        predicted = label_matrix([[0], of_second], 4)
        found = bootstrap_intervals(true, predicted, None, n_resamples=4000, seed=0)["micro_f1"]
        assert found == pytest.approx(expected, abs=0.02)
        assert set(found) & {0.0, 1.0}
