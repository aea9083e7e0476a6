"""Label matrices and random splits that tests of scores share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse

from pipeline.evaluation.label_counts import label_matrix

Bools = NDArray[np.bool_]
Probabilities = NDArray[np.float32]


def csr(rows: object) -> sparse.csr_array:
    return sparse.csr_array(np.asarray(rows, dtype=bool))


def label_sets(*sets: set[int], n_labels: int) -> sparse.csr_array:
    return label_matrix([sorted(one) for one in sets], n_labels)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Bools, Bools, Probabilities]:
    """Small splits with empty rows, empty and full columns, and many equal probabilities."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 6)))
    true = draw(hnp.arrays(bool, shape))
    predicted = draw(hnp.arrays(bool, shape))
    values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))
    return true, predicted, draw(hnp.arrays(np.float32, shape, elements=values))


# By hand. Three documents, four labels, nobody has label 3:
#   true      {0, 1}  {0}  {1, 2}
#   predicted {0, 1}  {0}  {0}
# label 0: 2 true, 3 predicted, 2 right: P 2/3, R 1,   F1 4/5
# label 1: 2 true, 1 predicted, 1 right: P 1,   R 1/2, F1 2/3
# label 2: 1 true, none predicted: 0; label 3: 0.
TRUE = label_sets({0, 1}, {0}, {1, 2}, n_labels=4)
PREDICTED = label_sets({0, 1}, {0}, {0}, n_labels=4)


def random_split(n_documents: int, seed: int) -> tuple[sparse.csr_array, sparse.csr_array, Probabilities]:
    generator = np.random.default_rng(seed)
    true = generator.random((n_documents, 30)) < 0.15
    probabilities = (0.5 * true + 0.6 * generator.random(true.shape)).clip(0, 1).astype(np.float32)
    return csr(true), csr(probabilities > 0.5), probabilities
