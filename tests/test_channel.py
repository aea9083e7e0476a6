"""The lexical channel: what titles say of codes that have few training documents or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.experiment.config import PipelineConfig
from pipeline.icd.labels import LabelSpace
from pipeline.lexical.channel import N_CELL_FEATURES, TitleStatistics, cell_features

FREQUENT = {"J18.9": "pneumonia", "R50.9": "fever", "R11.10": "vomiting", "D64.9": "anemia", "R31.9": "hematuria"}
SINGLE = {"K59.00": "constipation", "E86.0": "dehydration", "R21": "rash", "R42": "dizziness"}


def test_features_of_a_cell_by_hand() -> None:
    """Label 0: 4 documents; its title is complete in 3, of which 2 are right, so 1 false alarm. Label 1: nothing.

    Over all labels 2 of 3 are right, which counts as 2 mentions: precision (2 + 4/3) / (3 + 2) = 2/3, log odds log 2.
    """
    statistics = TitleStatistics(np.float32([4, 0]), np.float32([3, 0]), np.float32([2, 0]))
    mentions = np.zeros((1, 2, 6), dtype=np.float32)
    mentions[0, 0] = [1, 0, 0, 0.5, 1, 1]
    found = cell_features(np.float32([[0.6, -1.5]]), mentions, statistics)
    assert found.shape == (1, 2, N_CELL_FEATURES)
    of_title = [2 / 3, np.log(2), 1, 1, 0]
    np.testing.assert_allclose(found[0, 0], [2, 1, 0, 0, 0.5, 1, 1, *of_title, np.log(5), -1.5 / 0.3, 0], rtol=1e-5)
    np.testing.assert_allclose(found[0, 1], [0] * 6 + [0] * 6 + [0, 0.6 / 0.3, 1], rtol=1e-5)


def test_counts_without_a_fold_are_those_of_the_other_folds() -> None:
    draw = np.random.default_rng(0)
    true, complete = draw.random((30, 4)) < 0.3, draw.random((30, 4)) < 0.5
    whole, part = TitleStatistics.of(true, complete), TitleStatistics.of(true[:10], complete[:10])
    rest = TitleStatistics.of(true[10:], complete[10:])
    for name in ("n_documents", "n_complete", "n_right"):
        np.testing.assert_array_equal(getattr(whole - part, name), getattr(rest, name))
        np.testing.assert_array_equal(getattr(part + rest, name), getattr(whole, name))


def notes() -> list[dict[str, Any]]:
    """Sixty notes of frequent codes, one each of four rare ones, and three of split test about headache, which no
    training document has: affirmed, denied, and the mother's."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(60):
        codes = sorted(draw.choice(sorted(FREQUENT), size=2, replace=False).tolist())
        denied = sorted(set(FREQUENT) - set(codes))[number % 3]
        text = f"The patient has {FREQUENT[codes[0]]} and {FREQUENT[codes[1]]}. No {FREQUENT[denied]}."
        rows.append((text, codes, "val" if number % 6 == 0 else "train"))
    rows += [(f"The patient has {word} today.", [code], "train") for code, word in SINGLE.items()]
    rows += [("The patient has headache today.", ["R51.9"], "test"), ("No headache. Fever.", ["R50.9"], "test")]
    rows += [("Her mother has headache. The patient has fever.", ["R50.9"], "test")]
    return [
        {"document_id": f"d{place}", "text": text, "codes": codes, "split": split}
        for place, (text, codes, split) in enumerate(rows)
    ]


@pytest.mark.parametrize(("model", "is_found"), [("lexical", True), ("tfidf", False)])
def test_a_code_without_a_training_document_is_found_by_its_title_where_it_is_affirmed(
    run_small: Callable[..., PipelineConfig], tmp_path: Path, model: str, is_found: bool
) -> None:
    config = run_small(
        tmp_path / "run", notes(), "ingest split tokenize train_encoder train_classifier predict",
        label_space={"count_over": "all"}, train_encoder={"loss": "none"}, train_classifier={"model": model},
    )  # fmt: skip
    space = LabelSpace.load(config.experiment_dir / "label_space.json")
    headache = space.labels.index("icd10cm:R51.9")
    table = pq.read_table(config.experiment_dir / "predictions.parquet", filters=[("split", "==", "test")])
    probabilities = np.array(table["probabilities"].to_pylist())[:, headache]
    predicted = [headache in one for one in table["predicted"].to_pylist()]
    assert predicted == [is_found, False, False]
    assert (probabilities[0] > 0.3) == is_found
    assert (probabilities[1:] < 0.1).all()
