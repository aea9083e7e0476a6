"""Coding: which codes of a document are given, in which order; documents stream through."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from review_cases import in_git

from pipeline.coding.classifier import CodedText
from pipeline.coding.code_files import Code
from pipeline.coding.ensemble import CodingModel
from pipeline.coding.proposals import code_documents, propose
from pipeline.errors import UserError
from pipeline.evaluation.thresholds import apply_thresholds
from pipeline.icd.labels import LabelSpace
from pipeline.notes.text import Preparation


def probabilities_of(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


LABELS = ("icd10cm:E11.9", "icd10cm:I10", "icd9cm:401.9", "icd9pcs:39.95")
SPACE = LabelSpace(LABELS, ("Type 2 diabetes", None, "Hypertension", "Hemodialysis"), (4, 3, 2, 1))


def test_codes_come_by_probability_with_system_code_and_title() -> None:
    codes = propose(probabilities_of([0.5, 0.125, 0.75, 0.25]), SPACE, 0.5, top_k=3)
    assert codes == [
        Code(1, "icd9cm", "401.9", "Hypertension", 0.75, is_predicted=True),
        Code(2, "icd10cm", "E11.9", "Type 2 diabetes", 0.5, is_predicted=True),
        Code(3, "icd9pcs", "39.95", "Hemodialysis", 0.25, is_predicted=False),
    ]


def test_without_top_k_the_predicted_codes_are_given() -> None:
    codes = propose(probabilities_of([0.5, 0.125, 0.75, 0.25]), SPACE, 0.25, top_k=None)
    assert [code.code for code in codes] == ["401.9", "E11.9", "39.95"]
    assert propose(probabilities_of([0.1, 0.1, 0.1, 0.1]), SPACE, 0.5, top_k=None) == []


def test_equally_probable_codes_keep_the_order_of_the_label_space() -> None:
    codes = propose(probabilities_of([0.5, 0.75, 0.5, 0.75]), SPACE, 0.0, top_k=None)
    assert [code.code for code in codes] == ["I10", "39.95", "E11.9", "401.9"]
    labels = tuple(f"none:{number:03}" for number in range(200))
    wide = LabelSpace(labels, (None,) * 200, (1,) * 200)
    codes = propose(np.full(200, 0.5, dtype=np.float32), wide, 0.0, top_k=None)
    assert [f"none:{code.code}" for code in codes] == list(labels)


def test_more_codes_than_there_are_labels_give_all() -> None:
    assert len(propose(probabilities_of([0.5, 0.75, 0.5, 0.75]), SPACE, 0.0, top_k=50)) == 4


@given(hnp.arrays(np.float32, 4, elements=st.floats(0, 1, width=32)), st.floats(0, 1), st.integers(1, 6))
def test_predicted_means_the_same_as_in_the_predictions_of_the_pipeline(
    probabilities: np.ndarray, threshold: float, top_k: int
) -> None:
    """A threshold that float32 cannot hold, such as 0.7, must not part the two."""
    expected = set(apply_thresholds(probabilities[None], threshold).indices.tolist())
    codes = propose(probabilities, SPACE, threshold, top_k=None)
    assert {LABELS.index(f"{code.code_system}:{code.code}") for code in codes} == expected
    assert all(code.is_predicted for code in codes)
    for code in propose(probabilities, SPACE, threshold, top_k=top_k):
        assert code.is_predicted == (LABELS.index(f"{code.code_system}:{code.code}") in expected)


def test_a_probability_at_the_threshold_is_predicted_even_where_float32_rounds_down() -> None:
    """0.7 as float32 is 0.699999988."""
    codes = propose(probabilities_of([0.7, 0.0, 0.0, 0.0]), SPACE, 0.7, top_k=None)
    assert [code.is_predicted for code in codes] == [True]


class FakeClassifier:
    """Gives I10 the probability of a text's first digit, or no number for a text that has none."""

    label_space = SPACE
    thresholds = np.full(4, 0.5, dtype=np.float32)
    preparation = Preparation()
    limit = "the model reads (20 words)"

    def to(self, device: str, mixed_precision: str | None) -> FakeClassifier:
        del device
        assert mixed_precision is None
        return self

    def code_texts(self, texts: Iterable[str], *, max_tokens: int) -> Iterator[CodedText]:
        assert max_tokens > 0
        for text in texts:
            first = text.strip(" \n\0")[:1] or "9"
            probability = int(first) / 10 if first.isdigit() else float("nan")
            yield CodedText(probabilities_of([0.0, probability, 0.0, 0.0]), is_cut=False)


@pytest.fixture
def _fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodingModel, "load", lambda _folder: FakeClassifier())


def write_input(path: Path, *rows: tuple[str, str]) -> str:
    path.write_text("".join(json.dumps({"document_id": one, "text": text}) + "\n" for one, text in rows))
    return str(path)


@pytest.mark.usefixtures("_fake_model")
def test_every_document_comes_out_in_order_and_counts_are_given(tmp_path: Path) -> None:
    rows = [(f"d{number}", f"{number % 10}") for number in range(600)]
    source, output = write_input(tmp_path / "in.jsonl", *rows), tmp_path / "codes.jsonl"
    assert code_documents(tmp_path, source, output, top_k=None) == (600, 300)
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["document_id"] for row in found] == [document_id for document_id, _ in rows]
    assert [len(row["codes"]) for row in found] == [int(number % 10 >= 5) for number in range(600)]


@pytest.mark.usefixtures("_fake_model")
def test_a_document_without_text_has_no_code_whatever_the_model_says(tmp_path: Path) -> None:
    source, output = (
        write_input(tmp_path / "in.jsonl", ("a", ""), ("b", " \n"), ("c", "\0 \0")),
        tmp_path / "codes.jsonl",
    )
    assert code_documents(tmp_path, source, output, top_k=3) == (3, 0)
    assert [json.loads(line)["codes"] for line in output.read_text().splitlines()] == [[], [], []]


@pytest.mark.usefixtures("_fake_model")
def test_an_id_that_comes_twice_is_refused_and_no_output_is_left(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", ("a", "1"), ("b", "2"), ("a", "3"))
    with pytest.raises(UserError, match="documents 1 and 3 of the input have the same document_id"):
        code_documents(tmp_path, source, tmp_path / "codes.csv", top_k=None)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.usefixtures("_fake_model")
def test_codes_that_git_would_pick_up_are_warned_of_and_others_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = in_git(tmp_path / "checkout")
    source = write_input(tmp_path / "in.jsonl", ("a", "9"))
    for name, n_warnings in (("work/codes.csv", 0), ("docs/codes.csv", 1)):
        code_documents(tmp_path, source, folder / name, top_k=None)
        assert (folder / name).exists()
        assert len(caplog.messages) == n_warnings
    assert f"--output {folder / 'docs' / 'codes.csv'}: git would pick up what is written there" in caplog.text


@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.usefixtures("_fake_model")
def test_a_model_that_gives_no_number_is_not_taken_for_a_note_without_codes(tmp_path: Path, top_k: int | None) -> None:
    source = write_input(tmp_path / "in.jsonl", ("a", "1"), ("b", "secret"))
    with pytest.raises(UserError, match="document b: the model gives no number") as caught:
        code_documents(tmp_path, source, tmp_path / "codes.jsonl", top_k=top_k)
    assert "secret" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.usefixtures("_fake_model")
def test_an_input_without_documents_is_refused_and_leaves_what_was_there(tmp_path: Path) -> None:
    source, output = write_input(tmp_path / "in.jsonl"), tmp_path / "codes.csv"
    output.write_text("earlier")
    with pytest.raises(UserError, match="it holds no document"):
        code_documents(tmp_path, source, output, top_k=None)
    assert output.read_text() == "earlier"


def test_a_wrong_input_or_output_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading a clinical BERT takes longer than finding out that a file is not there."""
    monkeypatch.setattr(CodingModel, "load", lambda folder: pytest.fail(f"{folder} was loaded"))
    source = write_input(tmp_path / "in.jsonl", ("a", "1"))
    with pytest.raises(UserError, match="no such file"):
        code_documents(tmp_path, str(tmp_path / "none.csv"), tmp_path / "codes.csv", top_k=None)
    with pytest.raises(UserError, match="unknown kind of file"):
        code_documents(tmp_path, source, tmp_path / "codes.txt", top_k=None)
