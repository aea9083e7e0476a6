"""Files of documents in and codes out: every kind, and what can be wrong with it, without a word of text."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.notes.document_files import Columns, NewDocument, read_documents

DOCUMENTS = [
    NewDocument("007", 'First line\nsecond, with "quotes" – é 🙂'),
    NewDocument("1e5", "NA"),
    NewDocument("b", ""),
]
SECRET = "Mrs Secret has cough"


def read(source: Path) -> list[NewDocument]:
    return list(read_documents(str(source)))


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["more", "text", "document_id"])
        rows.writerows([["x", one.text, one.document_id] for one in DOCUMENTS])


def write_jsonl(path: Path) -> None:
    rows = [{"document_id": one.document_id, "text": one.text, "more": 1} for one in DOCUMENTS]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")


def write_parquet(path: Path) -> None:
    columns = {"text": [one.text for one in DOCUMENTS], "document_id": [one.document_id for one in DOCUMENTS]}
    pq.write_table(pa.table(columns | {"more": [1, 2, 3]}), path)


@pytest.mark.parametrize(
    ("name", "write"), [("in.csv", write_csv), ("in.jsonl", write_jsonl), ("in.parquet", write_parquet)]
)
def test_every_kind_of_file_gives_its_documents_in_order(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    assert read(tmp_path / name) == DOCUMENTS


def test_a_folder_gives_its_txt_files_by_name(tmp_path: Path) -> None:
    for one in DOCUMENTS[::-1]:
        (tmp_path / f"{one.document_id}.txt").write_text(one.text, encoding="utf-8")
    (tmp_path / "readme.md").write_text("not a document")
    (tmp_path / "folder.txt").mkdir()  # no file, whatever its name
    assert read(tmp_path) == DOCUMENTS


def stdin_of(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[NewDocument]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii", errors="surrogateescape"))
    return list(read_documents("-"))


def test_standard_input_is_json_lines_or_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as UTF-8 whatever the terminal's encoding is."""
    lines = "".join(json.dumps(vars(one), ensure_ascii=False) + "\n" for one in DOCUMENTS).encode()
    assert stdin_of(monkeypatch, lines) == DOCUMENTS
    assert stdin_of(monkeypatch, "\ufeff".encode() + lines) == DOCUMENTS
    assert stdin_of(monkeypatch, "Née\nwith {fever}".encode()) == [NewDocument("stdin", "Née\nwith {fever}")]
    assert stdin_of(monkeypatch, b"[**Name**] has\nfever") == [NewDocument("stdin", "[**Name**] has\nfever")]


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff\n"])
def test_nothing_on_standard_input_is_no_document(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """What was to fill the pipe may have failed."""
    assert stdin_of(monkeypatch, content.encode()) == []


@pytest.mark.parametrize(
    "content", ["document_id,text\na,fever\n", '"Text", "DOCUMENT_ID"\r\n', '[{"document_id": "a"}]', "[\n{}"]
)
def test_a_table_on_standard_input_is_not_read_as_one_note(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    with pytest.raises(UserError, match="standard input: a table; pipe JSON lines, or name the file with --input"):
        stdin_of(monkeypatch, content.encode())


@pytest.mark.parametrize("blank", ["\n", "\r\n \t\n", "\ufeff\n\n"])
def test_blank_lines_before_standard_input_do_not_change_what_it_is(
    monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    """They count as lines in messages, and stay in a text, whose offsets count them."""
    lines = "".join(json.dumps(vars(one)) + "\n" for one in DOCUMENTS)
    assert stdin_of(monkeypatch, (blank + lines).encode()) == DOCUMENTS
    with pytest.raises(UserError, match=f"line {blank.count(chr(10)) + 1}: expected an object with"):
        stdin_of(monkeypatch, (blank + "{}").encode())
    text = f"{blank}Fever.\n{{}}"
    assert stdin_of(monkeypatch, text.encode()) == [NewDocument("stdin", text.removeprefix("\ufeff"))]


@pytest.mark.parametrize("content", [b"caf\xe9", b'{"document_id": "a", "text": "caf\xe9"}'])
def test_standard_input_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    with pytest.raises(UserError, match=r"standard input.*not UTF-8"):
        stdin_of(monkeypatch, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", "document_id,text\n007,abc\n"),
        ("in.jsonl", '{"document_id": "007", "text": "abc"}\n'),
        ("folder/007.txt", "abc"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_name_or_text(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8-sig")
    assert read(path.parent if path.suffix == ".txt" else path) == [NewDocument("007", "abc")]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_of_a_csv_do_not_matter_and_blank_lines_are_skipped(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(ending.join(["document_id,text", "", "1,a", '2,"b\nc"', ""]).encode())
    assert read(path) == [NewDocument("1", "a"), NewDocument("2", "b\nc")]


def test_a_text_may_be_longer_than_pythons_limit_for_csv_fields(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"document_id,text\n1,{'x' * 200_000}\n")
    assert len(read(tmp_path / "in.csv")[0].text) == 200_000


def test_whole_numbers_serve_as_ids_and_nothing_as_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"document_id": 7, "text": null}')
    pq.write_table(pa.table({"document_id": [7], "text": pa.array([None], pa.large_string())}), tmp_path / "in.parquet")
    assert read(tmp_path / "in.jsonl") == read(tmp_path / "in.parquet") == [NewDocument("7", "")]


def test_half_characters_are_replaced_since_no_tokenizer_takes_them(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(r'{"document_id": "a\udc00", "text": "cut \ud83d off"}')
    assert read(tmp_path / "in.jsonl") == [NewDocument("a\ufffd", "cut \ufffd off")]


def test_reading_streams(tmp_path: Path) -> None:
    """The first documents are there although the last row is broken."""
    (tmp_path / "in.jsonl").write_text('{"document_id": "a", "text": "x"}\n' * 3 + "{")
    documents = read_documents(str(tmp_path / "in.jsonl"))
    assert [next(documents).document_id for _ in range(3)] == ["a"] * 3
    with pytest.raises(UserError):
        next(documents)


BROKEN_FILES: list[tuple[str, bytes | str, str]] = [
    ("in.csv", f"document_id,text,TEXT,text\n1,{SECRET},,\n", "in.csv: 2 columns are called 'text'"),
    (
        "in.csv.gz",
        gzip.compress(f"document_id,text\n1,{SECRET}\n".encode(), mtime=0)[:-9],
        "in.csv.gz, after line .*: a damaged",
    ),
    ("in.csv.gz", SECRET, "in.csv.gz, after line 0: a damaged gzip file"),
    ("in.jsonl", f'{{"document_id": {"9" * 5000}, "text": "{SECRET}"}}', r"line 1: it cannot be read \(ValueError\)"),
    ("in.jsonl", "[" * 100_000, r"line 1: it cannot be read \(RecursionError\)"),
    ("in.jsonl", f'{{"document_id": " ", "text": "{SECRET}"}}', "line 1: document_id must be text .* not empty"),
    ("in.csv", "", r"in.csv: column document_id and text missing among its 0 columns"),
    ("in.csv", f"document_id,note\n1,{SECRET}\n", r"in.csv: column text missing among its 2 columns"),
    ("in.csv", f"1,{SECRET}\n2,{SECRET}\n", r"in.csv: column document_id and text missing among its 2 columns"),
    ("in.csv", f"document_id;text\n1;{SECRET}\n", r"separated by commas"),
    ("in.csv", f"document_id,text\n1,a\n2,{SECRET}, fever\n", r"in.csv, line 3: 3 fields, but the header has 2"),
    ("in.csv", f"document_id,text\n1,{SECRET}, fever\n2,{SECRET}, b\n", r"in.csv, line 2: 3 fields"),
    ("in.csv", "document_id,text\n1\n", r"in.csv, line 2: 1 fields, but the header has 2"),
    ("in.csv", f'document_id,text\n1,a\n2,"{SECRET}\n3,c\n', r"in.csv, row that begins on line 3: a quote that is not"),
    ("in.csv", f'document_id,text\n1,"{SECRET}" more\n', r"in.csv, row that begins on line 2: a quote that is not"),
    ("in.csv", f"document_id,text\n,{SECRET}\n", r"in.csv, line 2: document_id must be text .* not empty"),
    ("in.csv", "document_id,text\n1,caf\xe9\n".encode("latin-1"), r"in.csv, after line \d: not UTF-8"),
    ("in.jsonl", f'{{"document_id": "a", "text": "x"}}\n{{"text": "{SECRET}', r"in.jsonl, line 2: not JSON"),
    ("in.jsonl", f'{{"document_id": "a"}} {SECRET}', r"in.jsonl, line 1: not JSON \(Extra data at column 22\)"),
    ("in.jsonl", f'["{SECRET}"]', r"in.jsonl, line 1: expected an object with document_id and text"),
    ("in.jsonl", f'\n{{"text": "{SECRET}"}}', r"in.jsonl, line 2: expected an object with document_id and text"),
    ("in.jsonl", f'{{"document_id": null, "text": "{SECRET}"}}', r"line 1: document_id must be text .* not empty"),
    ("in.jsonl", f'{{"document_id": true, "text": "{SECRET}"}}', r"line 1: document_id must be .*, not bool"),
    ("in.jsonl", f'{{"document_id": 1.5, "text": "{SECRET}"}}', r"line 1: document_id must be .*, not float"),
    ("in.jsonl", f'{{"document_id": 1, "text": ["{SECRET}"]}}', r"line 1: text must be text, not list"),
    (
        "in.jsonl",
        b'{"document_id": "a", "text": "x"}\n{"document_id": "caf\xe9"',
        r"in.jsonl, after line \d: not UTF-8",
    ),
    ("in.parquet", SECRET, r"in.parquet: not a readable Parquet file"),
    ("in.parquet", "", r"in.parquet: not a readable Parquet file"),
    ("in.csv", f"document_id,text\n1,a\n{SECRET * 6},b\n", "line 3: document_id must be one line of at most 100"),
    ("in.csv", f'document_id,text\n"{SECRET}\nfever",b\n', "line 3: document_id must be one line of at most 100"),
    ("in.jsonl", f'{{"document_id": "\\u001b[0m{SECRET}", "text": ""}}', "line 1: document_id must be one line"),
    ("in.xlsx", SECRET, r"unknown kind of file '.xlsx'; expected .csv, .csv.gz, .jsonl, .parquet, a folder"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN_FILES)
def test_a_broken_file_is_refused_with_its_place_and_without_text(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert not any(word in str(caught.value) for word in ("Secret", "cough", "caf"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"document_id": ["a"], "note": [SECRET]}, "column text missing among its 2 columns"),
        ({"document_id": ["a", None], "text": ["x", SECRET]}, "in.parquet, row 2: document_id must be text"),
        ({"document_id": ["a"], "text": [SECRET.encode()]}, "in.parquet, row 1: text must be text, not bytes"),
        ({"document_id": ["a"], "text": [1.5]}, "in.parquet, row 1: text must be text, not float"),
    ],
)
def test_a_parquet_file_with_other_columns_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / "in.parquet")
    assert "Secret" not in str(caught.value)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "whole.parquet")
    (tmp_path / "in.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match=r"in.parquet: not a readable Parquet file"):
        read(tmp_path / "in.parquet")


def test_a_missing_file_an_empty_folder_and_a_text_file_that_is_not_utf8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.csv: no such file or folder; expected .csv"):
        read(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"no .txt file in this folder"):
        read(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"abc\xe9")
    with pytest.raises(UserError, match=r"a.txt: not UTF-8 \(byte 3\)"):
        read(tmp_path)


def test_a_table_is_read_as_training_reads_it(tmp_path: Path) -> None:
    """Names of columns in any case or of one's own, gzip, suffixes in capitals."""
    (tmp_path / "a.CSV").write_text("Document_ID,TEXT\n1,fever\n", encoding="utf-8")
    assert read(tmp_path / "a.CSV") == [NewDocument("1", "fever")]
    with gzip.open(tmp_path / "b.csv.gz", "wt", encoding="utf-8") as file:
        file.write("text,ID,id,note\nno,P7,1,fever\n")
    own = Columns("id", "note")
    assert list(read_documents(str(tmp_path / "b.csv.gz"), own)) == [NewDocument("1", "fever")]
    (tmp_path / "c.jsonl").write_text('{"id": 1, "note": "fever"}', encoding="utf-8")
    assert list(read_documents(str(tmp_path / "c.jsonl"), own)) == [NewDocument("1", "fever")]
    pq.write_table(pa.table({"id": ["1"], "note": ["fever"]}), tmp_path / "d.parquet")
    assert list(read_documents(str(tmp_path / "d.parquet"), own)) == [NewDocument("1", "fever")]


@pytest.mark.parametrize("columns", [Columns("text", "text"), Columns("Text", "text")])
def test_one_column_is_not_taken_for_ids_and_texts(tmp_path: Path, columns: Columns) -> None:
    """Else whole notes would be written to the file of codes, as ids."""
    (tmp_path / "in.csv").write_text(f"document_id,text\n1,{SECRET}\n")
    with pytest.raises(UserError, match="--id-column and --text-column are both 'text'"):
        read_documents(str(tmp_path / "in.csv"), columns)


def test_texts_in_folders_further_down_are_not_read_which_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.txt", "below/b.txt"):
        (tmp_path / name).write_text("fever", encoding="utf-8")
    assert [one.document_id for one in read(tmp_path)] == ["a"]
    assert "texts in its 1 folders below are not read (first: below)" in caplog.text


def test_a_parquet_file_with_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    ends = np.array([0, 4], dtype=np.int32)
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(ends), pa.py_buffer(b"caf\xe9"))
    pq.write_table(pa.table({"document_id": ["1"], "text": broken}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: a value cannot be read"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_of_a_text_file_stay_so_that_offsets_fit_the_file(tmp_path: Path, line_end: str) -> None:
    (tmp_path / "a.txt").write_bytes(f"Impression:{line_end}fever".encode())
    assert read(tmp_path)[0].text == f"Impression:{line_end}fever"
