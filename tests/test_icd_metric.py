"""The module of Hugging Face evaluate gives what the functions give."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from metric_cases import random_split
from scipy import sparse

from pipeline.evaluation.icd_metric import IcdCodingMetric
from pipeline.evaluation.metrics import evaluate_predictions


def test_evaluate_module_in_batches_equals_the_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, and without a trace in the cache folder."""
    monkeypatch.setattr(socket, "socket", _no_network)
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path / "cache")
    true, predicted, probabilities = random_split(12, seed=7)
    lists = [[row.indices.tolist() for row in _rows(matrix)] for matrix in (predicted, true)]
    metric = IcdCodingMetric(n_labels=30)
    for start in range(0, 12, 5):
        metric.add_batch(predictions=lists[0][start : start + 5], references=lists[1][start : start + 5])
    counts = list(range(30))
    found = metric.compute(probabilities=probabilities, train_counts=counts)
    assert found == pytest.approx(evaluate_predictions(true, predicted, probabilities, train_counts=counts))
    again = metric.compute(predictions=lists[0], references=lists[1])
    assert again == pytest.approx(evaluate_predictions(true, predicted, None))
    assert not (tmp_path / "cache").exists()


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("a socket was opened")


def _rows(matrix: sparse.csr_array) -> list[sparse.csr_array]:
    return [matrix[[row]] for row in range(matrix.shape[0])]


def test_evaluate_module_names_the_document_with_an_impossible_label() -> None:
    metric = IcdCodingMetric()
    with pytest.raises(ValueError, match=r"references\[1\] holds the label index 7"):
        metric.compute(predictions=[[0], [1]], references=[[0], [7]], n_labels=3)
    with pytest.raises(ValueError, match="n_labels is missing"):
        IcdCodingMetric().compute(predictions=[[0]], references=[[0]])
