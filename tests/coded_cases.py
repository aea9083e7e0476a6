"""Documents of a split with what was given and what a system says, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from pipeline.evaluation.coded import CodedSplit
from pipeline.evaluation.label_counts import label_matrix
from pipeline.icd.labels import LabelSpace


def coded_by_hand(
    space: LabelSpace,
    gold: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]],
    patients: Sequence[str],
    *,
    principals: Sequence[str | None] | None = None,
) -> CodedSplit:
    """A split whose predicted labels are those with a probability of one half or more."""
    values = np.array(probabilities, dtype=np.float32)
    encoded = [space.encode(labels) for labels in gold]
    return CodedSplit(
        space,
        [f"d{row}" for row in range(len(gold))],
        list(patients),
        [list(labels) for labels in gold],
        [None] * len(gold) if principals is None else list(principals),
        label_matrix([ids for ids, _ in encoded], len(space)),
        sparse.csr_array(values >= 0.5),
        values,
        sum(n for _, n in encoded),
    )
