"""The label space: chosen on split train alone, in an order of its own, saved and read back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.icd.labels import LabelSpace

CODES = ["icd10cm:I10", "icd10cm:I11.0", "icd10cm:E11.9", "icd10cm:N17.9", "icd10cm:N17.0", "icd10cm:J18.9"]
LABEL_SETS = st.lists(st.lists(st.sampled_from(CODES), unique=True), min_size=1, max_size=12)


@given(LABEL_SETS, st.integers(1, 3), st.one_of(st.none(), st.integers(1, 4)), st.randoms())
def test_the_space_is_that_of_its_definition_whatever_the_order_of_documents(
    label_sets: list[list[str]], min_documents: int, top_k: int | None, chance: object
) -> None:
    """Keep labels of at least min_documents documents; of those the top_k, of equals the one that sorts first."""
    counts = Counter(label for labels in label_sets for label in labels)
    ranked = sorted((-n, label) for label, n in counts.items() if n >= min_documents)
    expected = sorted(label for _, label in ranked[:top_k])
    shuffled = [sorted(labels, key=lambda _: chance.random()) for labels in label_sets]  # type: ignore[attr-defined]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    if not expected:
        with pytest.raises(UserError, match="the label space is empty"):
            LabelSpace.fit(shuffled, min_documents=min_documents, top_k=top_k)
        return
    space = LabelSpace.fit(shuffled, min_documents=min_documents, top_k=top_k)
    assert list(space.labels) == expected
    assert space.train_counts == tuple(counts[label] for label in expected)
    assert len(space) == len(expected)


def test_of_labels_that_are_equally_frequent_the_one_that_sorts_first_is_kept() -> None:
    """N17.9 has two documents, the other three have one each: E11.9 sorts first of them."""
    label_sets = [["icd10cm:N17.9", "icd10cm:J18.9"], ["icd10cm:N17.9", "icd10cm:I10"], ["icd10cm:E11.9"]]
    assert LabelSpace.fit(label_sets, top_k=2).labels == ("icd10cm:E11.9", "icd10cm:N17.9")


def test_an_empty_space_says_what_was_seen_and_what_to_change() -> None:
    with pytest.raises(UserError) as caught:
        LabelSpace.fit([["icd10cm:I10"], ["icd10cm:I10", "icd10cm:E11.9"]], min_documents=3)
    assert str(caught.value) == (
        "the label space is empty: 2 labels were seen, none in 3 documents or more (the most frequent one has 2); "
        "lower label_space.min_documents."
    )


def test_no_document_gives_no_space() -> None:
    with pytest.raises(UserError, match="0 labels were seen"):
        LabelSpace.fit([])


def test_labels_of_a_document_are_raised_to_the_level_before_they_are_counted() -> None:
    """N17.0 and N17.9 of one document are one N17."""
    space = LabelSpace.fit([["icd10cm:N17.0", "icd10cm:N17.9"], ["icd10cm:N17.9"], ["icd10cm:I10"]], level="category")
    assert space.labels == ("icd10cm:I10", "icd10cm:N17")
    assert space.train_counts == (1, 2)
    assert space.encode(["icd10cm:N17.0", "icd10cm:N17.9", "icd10cm:J18.9"]) == ([1], 1)
    assert space.raised(["icd10cm:N17.0", "icd10cm:N17.9"]) == {"icd10cm:N17"}


def test_documents_of_all_splits_decide_only_where_that_is_asked_for() -> None:
    """I10 stands in one train document and in two of all; E11.9 only outside train."""
    train = [["icd10cm:I10"], ["icd10cm:N17.9"], ["icd10cm:N17.9"]]
    everywhere = [*train, ["icd10cm:I10", "icd10cm:E11.9"], ["icd10cm:E11.9"]]
    assert LabelSpace.fit(train, min_documents=2).labels == ("icd10cm:N17.9",)
    space = LabelSpace.fit(train, min_documents=2, counted_label_sets=everywhere)
    assert space.labels == ("icd10cm:E11.9", "icd10cm:I10", "icd10cm:N17.9")
    assert space.train_counts == (0, 1, 2)


def test_titles_of_the_data_set_come_before_those_of_packages() -> None:
    label_sets = [["icd10cm:I10", "icd10cm:N17.9", "none:x"]]
    space = LabelSpace.fit(label_sets, titles={"icd10cm:I10": "High blood pressure"})
    titles = dict(zip(space.labels, space.titles, strict=True))
    assert titles["icd10cm:I10"] == "High blood pressure"
    assert titles["icd10cm:N17.9"] == "Acute kidney failure, unspecified"
    assert titles["none:x"] is None


@given(st.lists(st.sampled_from([*CODES, "icd10cm:Z99", "icd9cm:I10"])))
def test_encoding_gives_ascending_ids_of_known_labels_and_counts_the_others(labels: list[str]) -> None:
    space = LabelSpace.fit([CODES])
    ids, n_outside = space.encode(labels)
    assert ids == sorted(set(ids))
    assert set(space.decode(ids)) == set(labels) & set(CODES)
    assert n_outside == len(set(labels) - set(CODES))


def test_a_code_of_another_system_is_another_label() -> None:
    space = LabelSpace.fit([["icd9cm:401.9"], ["icd9pcs:40.19"]])
    assert space.labels == ("icd9cm:401.9", "icd9pcs:40.19")


def test_a_saved_space_is_the_same_when_read(tmp_path: Path) -> None:
    space = LabelSpace.fit([["icd10cm:I10", "none:é"]], titles={"none:é": "Ménière"}, level="full")
    space.save(tmp_path / "label_space.json")
    loaded = LabelSpace.load(tmp_path / "label_space.json")
    assert loaded == space
    assert loaded.encode(["icd10cm:I10"]) == space.encode(["icd10cm:I10"])


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["icd10cm:I10"]},
        {"titles": []},
        {"train_counts": None},
        {"level": "block"},
        {"titles": [["a"], None]},
        {"labels": ["I10", "icd10cm:E11.9"]},
        {"labels": ["icd10cm:I10\n", "icd10cm:E11.9"]},
        {"labels": [7, "icd10cm:E11.9"]},
    ],
)
def test_a_damaged_file_is_a_user_error(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "label_space.json"
    LabelSpace.fit([["icd10cm:I10", "icd10cm:E11.9"]]).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="run the stage 'split' again"):
        LabelSpace.load(path)


@pytest.mark.parametrize("content", ["[]", "{}", "{", "3"])
def test_a_file_that_is_no_label_space_is_a_user_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "label_space.json").write_text(content)
    with pytest.raises(UserError, match=r"label_space\.json is"):
        LabelSpace.load(tmp_path / "label_space.json")
