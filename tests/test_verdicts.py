"""Verdicts: each from counts whose intervals are known, and none from a handful of documents."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.evaluation.verdicts import VERDICTS, add_verdicts, count_verdicts


def table(*rows: tuple[int, int, int]) -> pd.DataFrame:
    """Rows of (given, proposed, right)."""
    frame = pd.DataFrame(list(rows), columns=["n_true", "n_predicted", "n_true_positive"])
    return frame.assign(n_true_patients=frame["n_true"], n_predicted_patients=frame["n_predicted"])


@pytest.mark.parametrize(
    ("given", "proposed", "right", "verdict"),
    [
        (40, 40, 38, "trust"),  # precision and recall 95 %, from 83.5 % on
        (90, 40, 38, "trust, but misses many"),  # recall 42 %, at least 32.6 %: it may be below half
        (40, 40, 37, "trust"),  # precision from 80.1 % on
        (40, 40, 36, "check each"),  # precision from 77.0 % on
        (60, 40, 38, "trust"),  # recall from 50.7 % on
        (70, 40, 38, "trust, but misses many"),  # recall from 42.7 % on
        (40, 40, 32, "check each"),  # precision 80 %, from 65 % on
        (40, 40, 14, "check each"),  # precision up to 50.5 %
        (40, 40, 13, "do not trust"),  # precision up to 48.0 %
        (30, 8, 8, "not found"),  # recall up to 44.5 %
        (40, 40, 10, "do not trust"),  # precision 25 %, at most 40 %
        (5, 40, 2, "do not trust"),  # few have it, but it is proposed wrongly again and again
        (30, 2, 2, "not found"),  # recall 7 %, at most 21 %
        (12, 5, 5, "too few to tell"),  # recall 42 %, at most 68 %: it may find half of them
        (5, 5, 5, "too few to tell"),
        (9, 40, 9, "do not trust"),
        (9, 12, 9, "too few to tell"),  # precision may be above half, and hardly any document has it
        (0, 3, 0, "too few to tell"),
    ],
)
def test_verdict_follows_the_ends_of_the_intervals(given: int, proposed: int, right: int, verdict: str) -> None:
    assert add_verdicts(table((given, proposed, right)))["verdict"].tolist() == [verdict]


def test_more_documents_of_the_same_quality_make_surer() -> None:
    """90 % precision and recall: 10 documents leave it open, 100 do not."""
    found = add_verdicts(table((10, 10, 9), (100, 100, 90)))
    assert found["verdict"].tolist() == ["check each", "trust"]
    assert found["precision_low"].is_monotonic_increasing


def test_verdicts_are_counted_with_what_they_weigh_and_what_never_came_up_is_left_out() -> None:
    """Given 40 + 5 = 45 codes: 40/45 of the coding is of the code that can be trusted."""
    counts = count_verdicts(add_verdicts(table((40, 40, 38), (5, 5, 5), (0, 0, 0))))
    assert counts["verdict"].tolist() == ["trust", "too few to tell"]
    assert counts["n_codes"].tolist() == [1, 1]
    assert counts["share_of_true"].tolist() == pytest.approx([40 / 45, 5 / 45])
    assert count_verdicts(add_verdicts(table((0, 0, 0)))).empty
    assert set(add_verdicts(table((40, 40, 38), (0, 0, 0)))["verdict"]) <= VERDICTS.keys()


def test_many_documents_of_one_patient_are_not_many_witnesses() -> None:
    """50 documents of one patient, all right: nothing is known of others. Of 30 patients it would be."""
    frame = table((50, 50, 50)).assign(n_true_patients=1, n_predicted_patients=1)
    assert add_verdicts(frame)["verdict"].tolist() == ["too few to tell"]
    assert add_verdicts(frame)["precision_low"].item() < 0.25
    of_many = frame.assign(n_true_patients=30, n_predicted_patients=30)
    assert add_verdicts(of_many)["verdict"].tolist() == ["trust"]
