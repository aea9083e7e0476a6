"""Agreement of coders, human or not, on the same documents."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.label_counts import LabelMatrix, as_label_matrix, count_labels, mean_or, set_scores


def agreement(label_sets_a: LabelMatrix, label_sets_b: LabelMatrix) -> dict[str, float]:
    """Agreement of two coders on the same documents; it does not matter which one comes first.

    Args:
        label_sets_a: bool CSR, shape (n_documents, n_labels).
        label_sets_b: the same shape.

    Returns:
        ``micro_f1``; ``macro_f1_either``: mean F1 over the labels that either coder used (not ``macro_f1``,
        which takes one side for the truth and skips the labels that only the other used);
        ``exact_match``; ``jaccard``; ``n_documents``; ``n_labels_used`` by either; ``n_a``, ``n_b`` and
        ``n_shared``: labels given.

    Raises:
        TypeError: if one is not a CSR matrix of bool.
        ValueError: if their shapes differ.
    """
    scores = set_scores(label_sets_a, label_sets_b)
    counts = count_labels(label_sets_a, label_sets_b)
    is_used = counts.n_true + counts.n_predicted > 0
    return {name: scores[name] for name in ("micro_f1", "exact_match", "jaccard", "n_documents")} | {
        "macro_f1_either": mean_or(counts.f1[is_used], 0.0),
        "n_labels_used": float(is_used.sum()),
        "n_a": scores["n_true"],
        "n_b": scores["n_predicted"],
        "n_shared": scores["n_true_positive"],
    }


def coder_comparison(
    coders: Mapping[str, LabelMatrix],
    gold: LabelMatrix,
    model_predicted: LabelMatrix,
    *,
    has_coded: Mapping[str, NDArray[np.bool_]] | None = None,
    n_labels_of_model: int | None = None,
) -> pd.DataFrame:
    """Put the model beside human coders, all on the same documents and in one union label space.

    A gold standard made from the coders' own votes flatters them: coder against coder is the honest row.

    Args:
        coders: name -> bool CSR, shape (n_documents, n_labels).
        gold: the same shape.
        model_predicted: the same shape.
        has_coded: name -> which documents the coder saw, shape (n_documents,); a pair is compared on those that
            both saw, since a document nobody gave to a coder is not one without codes. None: all.
        n_labels_of_model: the first so many labels are those that the model can assign; None: all.

    Returns:
        One row a pair: ``kind`` ("model vs gold", "coder vs gold", "coder vs coder", "model vs coder"),
        ``first``, ``second``, and ``micro_f1``, ``macro_f1_either``, ``exact_match``, ``jaccard``,
        ``n_documents`` as ``agreement`` gives them; ``micro_f1_in_label_space``, the same over the labels that
        the model can assign; ``n_documents_left_out``, since one of the two did not code them.

    Raises:
        TypeError: if one is not a CSR matrix of bool.
        ValueError: if the shapes differ.
    """
    systems = {"model": as_label_matrix("model_predicted", model_predicted), "gold": as_label_matrix("gold", gold)}
    coders = {f"coder {name}" if name in systems else name: labels for name, labels in coders.items()}
    has_coded = {f"coder {name}" if name in systems else name: seen for name, seen in (has_coded or {}).items()}
    systems |= {name: as_label_matrix(name, labels) for name, labels in coders.items()}
    pairs = [("model vs gold", "model", "gold")]
    pairs += [("coder vs gold", name, "gold") for name in coders]
    pairs += [("coder vs coder", first, second) for first, second in combinations(coders, 2)]
    pairs += [("model vs coder", "model", name) for name in coders]
    everything = np.ones(gold.shape[0], dtype=np.bool_)
    seen = {name: has_coded.get(name, everything) for name in systems}
    rows = []
    for kind, first, second in pairs:
        is_common = seen[first] & seen[second]
        both = [systems[name][np.flatnonzero(is_common)] for name in (first, second)]
        scores = agreement(*both)
        rows.append(
            {"kind": kind, "first": first, "second": second}
            | {name: scores[name] for name in _SHOWN}
            | {
                "micro_f1_in_label_space": agreement(*(one[:, :n_labels_of_model] for one in both))["micro_f1"],
                "n_documents": int(scores["n_documents"]),
                "n_documents_left_out": int((~is_common).sum()),
            }
        )
    return pd.DataFrame(rows)


_SHOWN = ("micro_f1", "macro_f1_either", "exact_match", "jaccard")
