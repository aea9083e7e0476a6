"""Tokens: offsets lead back to the text, context and sections come with them, rows are selected by split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.encoders import tokens as tokens_module
from pipeline.encoders.micro_batches import (
    ChunkSettings,
    chunk_settings,
    iterate_micro_batches,
)
from pipeline.encoders.pretrained import load_tokenizer
from pipeline.encoders.tokens import AFFIRMED, TOKEN_FEATURES, Tokenize, select_rows, tokenize_documents
from pipeline.errors import UserError
from pipeline.icd.labels import LabelSpace
from pipeline.notes.documents import Document, write_documents
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.triggers import KINDS

if TYPE_CHECKING:
    import datasets

CLS, SEP, PAD = 102, 103, 100
SETTINGS = ChunkSettings(chunk_tokens=10, chunk_overlap=2, cls_id=CLS, sep_id=SEP, pad_id=PAD)
SPACE = LabelSpace(("icd10cm:E11.9", "icd10cm:I10"), (None, None), (1, 1))


def test_chunk_settings_take_the_special_tokens_of_the_tokenizer(tiny_encoder_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_encoder_dir)
    assert chunk_settings(tokenizer, chunk_tokens=16, chunk_overlap=3) == ChunkSettings(16, 3, 2, 3, 0)
    tokenizer.pad_token = None
    with pytest.raises(UserError, match="has no CLS, SEP or padding token: not an encoder"):
        chunk_settings(tokenizer, chunk_tokens=16, chunk_overlap=3)


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder_dir: Path) -> Any:
    return load_tokenizer(tiny_encoder_dir)


TEXTS = [
    "The patient has fever.\n\nNo cough, pneumonia – née 🙂  coughs",
    "  \n",
    "\u200b",
    "x" * 300,
    "Family History:\nmother had diabetes\nHPI:\nfever",
]


def test_offsets_lead_back_to_the_text(tokenizer: Any) -> None:
    columns = Tokenize(tokenizer, 1000, has_context=False)(TEXTS)
    for text, ids, starts, ends in zip(
        TEXTS, columns["input_ids"], columns["token_starts"], columns["token_ends"], strict=True
    ):
        assert len(ids) == len(starts) == len(ends) > 0
        assert all(0 <= start <= end <= len(text) for start, end in zip(starts, ends, strict=True))
        assert list(starts) == sorted(starts)
    words = [
        TEXTS[0][start:end] for start, end in zip(columns["token_starts"][0], columns["token_ends"][0], strict=True)
    ]
    assert words == [
        "The", "patient", "has", "fever", ".", "No", "cough", ",", "pneumonia", "–", "née", "🙂", "cough", "s",
    ]  # fmt: skip


def test_a_text_without_a_token_gets_the_unknown_token_over_all_of_it(tokenizer: Any) -> None:
    columns = Tokenize(tokenizer, 1000, has_context=True)(["  \n"])
    assert columns["input_ids"] == [[tokenizer.unk_token_id]]
    assert [columns["token_starts"][0].tolist(), columns["token_ends"][0].tolist()] == [[0], [3]]
    assert columns["n_tokens_cut"] == [0]


def test_tokens_beyond_the_limit_are_cut_and_counted(tokenizer: Any) -> None:
    """ "the patient has fever ." are five tokens."""
    whole = Tokenize(tokenizer, 5, has_context=True)(["The patient has fever."])
    assert whole["n_tokens_cut"] == [0]
    cut = Tokenize(tokenizer, 3, has_context=True)(["The patient has fever."])
    assert cut["n_tokens_cut"] == [2]
    assert cut["input_ids"][0] == whole["input_ids"][0][:3]
    assert {len(cut[name][0]) for name in ("input_ids", "token_starts", "token_ends", "context_ids")} == {3}


def test_no_text_gives_empty_columns(tokenizer: Any) -> None:
    columns = Tokenize(tokenizer, 5, has_context=True)([])
    assert columns
    assert all(values == [] for values in columns.values())


def test_special_tokens_written_in_a_text_are_no_special_tokens_of_a_chunk(tokenizer: Any) -> None:
    (ids,) = Tokenize(tokenizer, 100, has_context=False)(["fever [SEP] and [PAD] cough [CLS]"])["input_ids"]
    assert not {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id} & set(ids)


def test_every_token_carries_the_context_in_which_it_starts(tokenizer: Any) -> None:
    columns = Tokenize(tokenizer, 1000, has_context=True)(["No fever. The patient has cough.", TEXTS[4]])
    words = [
        [text[start:end] for start, end in zip(starts, ends, strict=True)]
        for text, starts, ends in zip(
            ["No fever. The patient has cough.", TEXTS[4]], columns["token_starts"], columns["token_ends"], strict=True
        )
    ]
    kinds = ["affirmed", *KINDS]
    found = [
        {word: kinds[kind] for word, kind in zip(some, ids, strict=True)}
        for some, ids in zip(words, columns["context_ids"], strict=True)
    ]
    assert found[0]["fever"] == "negated"
    assert found[0]["cough"] == "affirmed"
    assert found[1]["diabetes"] == "family"
    assert found[1]["fever"] == "affirmed"


def test_without_context_every_token_is_affirmed_and_all_else_is_equal(tokenizer: Any) -> None:
    without, with_context = (Tokenize(tokenizer, 1000, has_context=one)(TEXTS) for one in (False, True))
    assert all((ids == AFFIRMED).all() for ids in without["context_ids"])
    for name in ("input_ids", "sections", "n_tokens_cut"):
        assert without[name] == with_context[name]


def test_a_text_is_tokenized_the_same_alone_and_among_others(tokenizer: Any) -> None:
    tokenize = Tokenize(tokenizer, 1000, has_context=True)
    together = tokenize(TEXTS)
    for index, text in enumerate(TEXTS):
        alone = tokenize([text])
        assert all(
            np.array_equal(alone[name][0], together[name][index])
            for name in ("input_ids", "token_starts", "context_ids")
        )


def test_sections_cover_the_text_as_they_were_found(tokenizer: Any) -> None:
    (sections,) = Tokenize(tokenizer, 1000, has_context=True)([TEXTS[4]])["sections"]
    assert [(one["name"], TEXTS[4][one["start"] : one["end"]].partition(":")[0].strip()) for one in sections] == [
        ("family history", "Family History"), ("history of present illness", "HPI"),
    ]  # fmt: skip


def write_table(folder: Path, n_documents: int) -> Path:
    """A table of made-up documents; every third carries a label outside the space, document 0 a unique text."""
    folder.mkdir(exist_ok=True)
    documents = [
        Document(
            f"d{number}",
            f"p{number}",
            "No fever " * (number % 7 + 1) if number else "mother had diabetes",
            ["icd10cm:I10", "icd10cm:Z99.9"] if number % 3 == 0 else ["icd10cm:E11.9", "icd10cm:I10"],
        )
        for number in range(n_documents)
    ]
    write_documents(documents, folder / "documents.parquet", folder / "annotators.parquet", IngestReport())
    return folder / "documents.parquet"


def tokenized(
    folder: Path, path: Path, split_of: dict[str, str], tokenizer: Any, n_workers: int = 0
) -> datasets.Dataset:
    tokenize = Tokenize(tokenizer, 8, has_context=True)
    return tokenize_documents(path, split_of, SPACE, tokenize, cache_dir=folder / "cache", n_workers=n_workers)


def test_a_table_becomes_tokens_in_its_order_with_splits_and_labels(tmp_path: Path, tokenizer: Any) -> None:
    path = write_table(tmp_path, 5)
    tokens = tokenized(tmp_path, path, {"d0": "train", "d1": "test", "d2": "val", "d4": "train"}, tokenizer)
    assert tokens.features == TOKEN_FEATURES
    assert tokens["document_id"][:] == ["d0", "d1", "d2", "d4"], "d3 is in no split"
    assert tokens["split"][:] == ["train", "test", "val", "train"]
    assert tokens["label_ids"][:] == [[1], [0, 1], [0, 1], [0, 1]]
    assert tokens["n_labels_outside"][:] == [1, 0, 0, 0]
    assert tokens["n_tokens_cut"][:] == [0, 0, 0, 2], "document 4 has ten tokens"
    expected = Tokenize(tokenizer, 8, has_context=True)(["mother had diabetes"])
    assert tokens[0]["input_ids"] == expected["input_ids"][0]
    assert tokens[0]["token_ends"] == expected["token_ends"][0].tolist()
    assert "text" not in tokens.column_names


def test_a_batch_of_documents_of_which_none_is_in_a_split_is_skipped(tmp_path: Path, tokenizer: Any) -> None:
    """Documents are read 64 at a time; published splits leave whole stretches out."""
    tokens = tokenized(tmp_path, write_table(tmp_path, 200), {"d1": "train", "d199": "test"}, tokenizer)
    assert tokens["document_id"][:] == ["d1", "d199"]


def test_two_workers_give_the_same_tokens_as_one(tmp_path: Path, tokenizer: Any) -> None:
    path = write_table(tmp_path, 130)
    split_of = {f"d{number}": "train" for number in range(0, 130, 2)}
    alone = tokenized(tmp_path / "alone", path, split_of, tokenizer)
    shared = tokenized(tmp_path / "shared", path, split_of, tokenizer, n_workers=2)
    assert shared.features == alone.features
    assert shared.to_dict() == alone.to_dict()


def test_intermediate_files_lie_in_the_folder_given(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold text of patients, and the caller removes them."""
    import datasets

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    path = write_table(tmp_path / "in", 3)
    tokens = tokenized(tmp_path / "work", path, {"d0": "train"}, tokenizer)
    assert len(tokens) == 1
    assert not [one for one in elsewhere.rglob("*") if one.is_file()]
    assert all(Path(one["filename"]).is_relative_to(tmp_path / "work") for one in tokens.cache_files)


def test_rows_of_splits_are_selected_in_order(tmp_path: Path, tokenizer: Any) -> None:
    splits = {"d0": "train", "d1": "test", "d2": "val", "d3": "train"}
    tokens = tokenized(tmp_path, write_table(tmp_path, 4), splits, tokenizer)
    assert select_rows(tokens, "train") == [0, 3]
    assert select_rows(tokens, "val", "test") == [1, 2]
    assert select_rows(tokens, "nothing") == []


def test_streamed_micro_batches_hold_the_rows_asked_for_block_by_block(tmp_path: Path, tokenizer: Any) -> None:
    tokens = tokenized(tmp_path, write_table(tmp_path, 20), {f"d{number}": "train" for number in range(20)}, tokenizer)
    rows = [5, 3, 17, 0, 11]
    settings = chunk_settings(tokenizer, chunk_tokens=8, chunk_overlap=0)
    batches = list(iterate_micro_batches(tokens, rows, settings, max_tokens=1000, n_documents=2))
    assert [sorted(one.rows.tolist()) for one in batches] == [[3, 5], [0, 17], [11]]
    first = batches[0].rows.tolist().index(5)
    place = batches[0].document_of_chunk == first
    found = batches[0].input_ids[place][batches[0].text_mask[place]].tolist()
    assert found == tokens[5]["input_ids"]


def test_context_is_read_of_what_is_kept_and_of_the_end_of_its_sentence_only(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a very long text spaCy reads what is kept and 2,000 characters more; contexts and sections stay."""
    text = "HPI:\nno fever or cough in the patient. " + "the patient has pneumonia. " * 400 + "\nPMH: diabetes"
    whole = Tokenize(tokenizer, 100_000, has_context=True)([text])
    read: list[int] = []
    annotate = tokens_module.annotate

    def watched(texts: Sequence[str]) -> Any:
        read.extend(len(one) for one in texts)
        return annotate(texts)

    monkeypatch.setattr(tokens_module, "annotate", watched)
    cut = Tokenize(tokenizer, 12, has_context=True)([text])
    assert cut["context_ids"][0].tolist() == whole["context_ids"][0][:12].tolist()
    assert cut["sections"] == whole["sections"]
    assert read == [int(cut["token_ends"][0][-1]) + 2000]
    assert len(set(cut["context_ids"][0].tolist())) > 1


def test_tokens_of_a_byte_level_tokenizer_begin_at_their_first_letter() -> None:
    """Such a tokenizer counts the blank before a word in: (2, 8) for " fever" is (3, 8); blanks alone stay."""
    assert tokens_module._without_blanks("no fever  ", [(0, 2), (2, 8), (8, 10)]).tolist() == [[0, 2], [3, 8], [8, 10]]
