"""Tables of one's own in a folder: several tables, or .txt files with a table of codes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_cases import jsonl, read

from data_recipes import table
from pipeline.errors import UserError
from pipeline.notes.document_files import read_documents
from pipeline.notes.documents import Document


def test_a_folder_counts_codes_without_text_and_takes_codes_from_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.1.txt").write_text("\ufefftext", encoding="utf-8")
    (folder / "b.txt").write_text("other", encoding="utf-8")
    codes = tmp_path / "codes.csv"
    codes.write_text("document_id,codes\na.1,I10\nlost,I10\n", encoding="utf-8")
    documents, report = read(folder)
    assert documents == [Document("a.1", "a.1", "text", ["icd10cm:I10"]), Document("b", "b", "other", [])]
    assert report["dropped"] == {"codes_without_text_file": 1}
    assert report["examples"] == {"codes_without_text_file": ["lost"]}
    # what is read is watched for changes
    assert table.raw_files(folder, table.Options()) == [folder / "a.1.txt", folder / "b.txt", codes]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_text_files_are_read_as_predict_and_review_read_them(tmp_path: Path, line_end: str) -> None:
    """Else offsets found in the one text would mark other words in the other."""
    text = f"Impression:{line_end}fever"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "codes.csv").write_text("document_id,codes\na,I10\n", encoding="utf-8")
    ((ingested,), _), (coded,) = read(tmp_path), read_documents(str(tmp_path))
    assert ingested.text == coded.text == text


def test_a_folder_of_tables_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "B.CSV").write_text("document_id,text,codes\n2,b,I10\n", encoding="utf-8")
    jsonl(folder / "a.jsonl", {"document_id": "1", "text": "a", "codes": ["I10"]})
    (folder / "readme.md").write_text("not a table", encoding="utf-8")
    assert [one.document_id for one in read(folder)[0]] == ["2", "1"]
    assert table.raw_files(folder, table.Options()) == [folder / "B.CSV", folder / "a.jsonl"]


def test_what_is_not_read_of_a_folder_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.csv", "b.tsv", "c.csv.zip", "d.csv.bz2", "e.json", "._a.csv", ".DS_Store"):
        (tmp_path / name).write_text("document_id,text,codes\n1,t,I10\n", encoding="utf-8")
    (tmp_path / "2021").mkdir()
    documents, report = read(tmp_path)
    assert [one.document_id for one in documents] == ["1"]
    assert "not read: 4 files (.csv.bz2, .csv.zip, .json, .tsv) and 1 folders" in caplog.text
    assert report["examples"] == {"hidden_file": ["._a.csv"]}


def test_hidden_text_files_are_no_documents_and_those_without_a_row_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a1.txt", "._a1.txt", "readme.txt"):
        (tmp_path / name).write_text("text", encoding="utf-8")
    (tmp_path / "codes.csv").write_text("document_id,codes\na1,I10\n", encoding="utf-8")
    documents, report = read(tmp_path, keep_uncoded=True)
    assert [one.document_id for one in documents] == ["a1", "readme"]
    assert report["dropped"] == {"hidden_file": 1}
    assert report["counts"]["text_files_without_a_row_of_codes"] == 1
    assert (
        "it has no row for 1 .txt files (first: readme.txt), which count as documents that need no code" in caplog.text
    )


def test_ids_that_are_missing_in_a_table_of_codes_are_no_two_patients(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("text", encoding="utf-8")
    rows = pa.table(
        {"document_id": [1.0, 1.0, float("nan")], "p": [float("nan")] * 3, "codes": ["I10", "E11.9", "I10"]}
    )
    pq.write_table(rows, tmp_path / "codes.parquet")
    _, report = read(tmp_path, codes_file="codes.parquet", patient_id="p")
    assert report["dropped"] == {"empty_document_id": 1, "empty_patient_id": 1}


def test_a_document_of_two_patients_or_splits_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("text", encoding="utf-8")
    (folder / "codes.csv").write_text("document_id,patient,codes\na,p1,I10\na,p2,E119\n", encoding="utf-8")
    with pytest.raises(UserError, match="document a has two values of 'patient'"):
        read(folder, patient_id="patient")


def test_a_folder_without_texts_or_codes_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    with pytest.raises(UserError, match=r"no table of codes 'codes\.csv' in it or beside it"):
        read(folder)
    (folder / "codes.csv").write_text("document_id,codes\n1,I10\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no \.txt file"):
        read(folder)
    (folder / "1.txt").write_bytes(b"\xe9")
    with pytest.raises(UserError, match=r"1\.txt: not UTF-8"):
        read(folder)
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "absent.csv")
