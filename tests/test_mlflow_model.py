"""The model that MLflow loads: a request's documents are taken as `icd predict` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from pipeline.coding.classifier import CodedText
from pipeline.icd.labels import LabelSpace
from pipeline.mlflow_model import MLflowModel
from pipeline.notes.text import Preparation


class FakeModel:
    """Gives its one label to every text."""

    preparation = Preparation()
    label_space = LabelSpace(("icd10cm:I10",), (None,), (1,))
    thresholds = np.full(1, 0.5, dtype=np.float32)
    limit = "the encoder reads (2 tokens)"

    def code_texts(self, texts: Iterable[str], *, max_tokens: int) -> Iterator[CodedText]:
        assert max_tokens > 0
        for text in texts:
            assert isinstance(text, str)
            yield CodedText(np.ones(1, dtype=np.float32), len(text.split()) > 2)


def coded_ids(document_ids: list[Any], texts: list[Any]) -> list[Any]:
    model = MLflowModel()
    model._model = FakeModel()  # type: ignore[assignment]
    table = pd.DataFrame({"more": 1, "text": texts, "document_id": document_ids})
    return list(model.predict(table)["document_id"])


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, ""])
def test_a_missing_text_is_an_empty_one_and_the_other_documents_are_coded(missing: object) -> None:
    assert coded_ids(["a", "b", "c"], ["fever", missing, "cough"]) == ["a", "c"]
    assert coded_ids(["a"], [missing]) == []


def test_a_note_that_is_not_read_to_its_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert coded_ids(["a", "b"], ["fever cough", "fever cough Secret"]) == ["a", "b"]
    said = "1 of 2 documents are longer than the encoder reads (2 tokens); what stands behind was not read by it"
    assert caplog.messages == [f"{said} (first: b)"]


def test_an_id_is_text_or_a_whole_number() -> None:
    assert coded_ids(["007", "1e5"], ["x", "y"]) == ["007", "1e5"]
    assert coded_ids([7, 8], ["x", "y"]) == ["7", "8"]


def test_an_id_that_comes_twice_or_is_missing_is_refused_without_text() -> None:
    for ids, message in (
        (["a", "b", "a"], "documents 1 and 3 of the input have the same document_id"),
        (["a", None], "row 2: document_id must be text or a whole number, not empty"),
        (["a", "Secret\nnote"], "row 2: document_id must be one line"),
    ):
        with pytest.raises(MlflowException, match=message) as caught:
            coded_ids(ids, ["Secret"] * len(ids))
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE", "of which a server tells the message"
        assert "Secret" not in str(caught.value)
