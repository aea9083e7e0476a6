"""What the evaluation lets one say about a single code, in plain words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.evaluation.curves import wilson_interval

FEW_PATIENTS = 10
"""Documents of fewer patients, given or proposed, say nothing sure of a code."""
TRUSTED_PRECISION, DOUBTFUL_PRECISION, GOOD_RECALL = 0.8, 0.5, 0.5

TRUST, PARTIAL, CHECK, DOUBT, MISSED, UNKNOWN = (
    "trust", "trust, but misses many", "check each", "do not trust", "not found", "too few to tell",
)  # fmt: skip
VERDICTS: dict[str, str] = {
    TRUST: "when proposed, it is right in at least 80 % of the documents, and at least half of its documents are found",
    PARTIAL: "when proposed, it is right in at least 80 % of the documents, but half of its documents may be missed",
    CHECK: "neither clearly right nor clearly wrong when proposed: a human must look at each proposal",
    DOUBT: "when proposed, it is wrong in at least half of the documents",
    MISSED: f"{FEW_PATIENTS} or more patients have the code, and at least half of its documents are missed; when it is "
    "proposed nothing sure is known",
    UNKNOWN: f"fewer than {FEW_PATIENTS} patients have the code or were given it: these documents cannot tell",
}
"""Verdict -> what it means; all bounds are ends of 95 % intervals, not the scores themselves."""


def add_verdicts(label_table: pd.DataFrame) -> pd.DataFrame:
    """Say of each label whether to trust the model on it.

    Args:
        label_table: ``metrics.label_metrics_table``.

    Returns:
        The same rows with ``precision_low``, ``precision_high``, ``recall_low``, ``recall_high`` (95 %, Wilson, where
        all documents of a patient are worth one) and ``verdict``, a key of ``VERDICTS``.
    """
    n_right, n_predicted, n_true = (
        label_table[name].to_numpy() for name in ("n_true_positive", "n_predicted", "n_true")
    )
    proposed, given = (label_table[name].to_numpy() for name in ("n_predicted_patients", "n_true_patients"))
    precision_low, precision_high = wilson_interval(n_right, n_predicted, n_independent=proposed)
    recall_low, recall_high = wilson_interval(n_right, n_true, n_independent=given)
    verdict = np.select(
        [
            (proposed < FEW_PATIENTS) & (given >= FEW_PATIENTS) & (recall_high < GOOD_RECALL),
            (proposed < FEW_PATIENTS) | (given < FEW_PATIENTS) & (precision_high >= DOUBTFUL_PRECISION),
            precision_high < DOUBTFUL_PRECISION,
            (precision_low >= TRUSTED_PRECISION) & (recall_low >= GOOD_RECALL),
            precision_low >= TRUSTED_PRECISION,
        ],
        [MISSED, UNKNOWN, DOUBT, TRUST, PARTIAL],
        default=CHECK,
    )
    return label_table.assign(
        precision_low=precision_low,
        precision_high=precision_high,
        recall_low=recall_low,
        recall_high=recall_high,
        verdict=verdict,
    )


def count_verdicts(label_table: pd.DataFrame) -> pd.DataFrame:
    """How many codes, and how much of the coding, each verdict holds; labels that never came up are left out.

    Args:
        label_table: with verdicts.

    Returns:
        One row a verdict that occurs, best first: ``verdict``, ``meaning``, ``n_codes``, ``n_true`` and
        ``share_of_true`` (of the code uses in the gold standard).
    """
    seen = label_table[(label_table["n_true"] > 0) | (label_table["n_predicted"] > 0)]
    n_true = max(1, int(seen["n_true"].sum()))
    rows = []
    for verdict, meaning in VERDICTS.items():
        part = seen[seen["verdict"] == verdict]
        if len(part):
            uses = int(part["n_true"].sum())
            rows.append({"verdict": verdict, "meaning": meaning, "n_codes": len(part), "n_true": uses,
                         "share_of_true": uses / n_true})  # fmt: skip
    return pd.DataFrame(rows, columns=["verdict", "meaning", "n_codes", "n_true", "share_of_true"])
