"""Coders against each other and against the gold standard."""

from __future__ import annotations

import pytest
from metric_cases import label_sets

from pipeline.evaluation.agreement import agreement, coder_comparison


def test_agreement_is_symmetric_and_counts_labels_that_either_used() -> None:
    """Label 0 agrees (F1 1), label 1 only a, label 2 only b: macro 1/3; micro 2·1 / (2 + 2)."""
    a, b = label_sets({0, 1}, n_labels=4), label_sets({0, 2}, n_labels=4)
    scores = agreement(a, b)
    assert scores["micro_f1"] == pytest.approx(1 / 2)
    assert scores["macro_f1_either"] == pytest.approx(1 / 3)
    assert scores["n_labels_used"] == 3
    mirrored = agreement(b, a)
    assert {name: mirrored[name] for name in ("micro_f1", "macro_f1_either", "exact_match", "jaccard")} == {
        name: scores[name] for name in ("micro_f1", "macro_f1_either", "exact_match", "jaccard")
    }


def test_coder_comparison_has_a_row_for_each_pair() -> None:
    """Coder a equals gold; coder b gives {0} for {0, 1}: micro-F1 2·1 / (1 + 2) with a and with gold."""
    gold = label_sets({0, 1}, n_labels=3)
    coders = {"a": gold, "b": label_sets({0}, n_labels=3)}
    table = coder_comparison(coders, gold, label_sets({2}, n_labels=3)).set_index(["first", "second"])
    assert table["kind"].tolist() == [
        "model vs gold", "coder vs gold", "coder vs gold",
        "coder vs coder", "model vs coder", "model vs coder",
    ]  # fmt: skip
    assert table.loc[("a", "gold"), "exact_match"] == 1
    assert table.loc[("a", "b"), "micro_f1"] == pytest.approx(2 / 3)
    assert table.loc[("model", "gold"), "micro_f1"] == 0
