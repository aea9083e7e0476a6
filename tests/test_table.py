from __future__ import annotations

import datetime
import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_cases import jsonl, read

from data_recipes import table
from data_recipes._raw.checks import count_rows
from pipeline.errors import UserError
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport

SECRET = "Xqzvsecret"
HEADER = "document_id,patient,text,codes,split"
CSV = f'{HEADER}\n007,p1,"a, b\nc",I10;e1165,train\n2,p2,d,,\n'
ROWS: list[dict[str, Any]] = [
    {"document_id": "007", "patient": "p1", "text": "a, b\nc", "codes": ["I10", "e1165"], "split": "train"},
    {"document_id": "2", "patient": "p2", "text": "d", "codes": [], "split": None},
]
EXPECTED = [
    Document("007", "p1", "a, b\nc", ["icd10cm:I10", "icd10cm:E11.65"], "train"),
    Document("2", "p2", "d", [], None),
]
OPTIONS = {"patient_id": "patient", "split": "split"}


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "jsonl with BOM", "parquet", "folder"])
def test_every_kind_of_table_gives_the_same_documents(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"notes.{kind.split(maxsplit=1)[0]}"
    if kind == "csv":
        path.write_text("\ufeff" + CSV, encoding="utf-8")
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(CSV.encode()))
    elif kind.startswith("jsonl"):
        jsonl(path, *ROWS, start="\ufeff" if "BOM" in kind else "")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.mkdir()
        for row in ROWS:
            (path / f"{row['document_id']}.txt").write_text(str(row["text"]), encoding="utf-8")
        (path / "codes.csv").write_text(
            "document_id,patient,codes,split\n2,p2,,\n007,p1,I10,train\n007,p1,E11.65,train\n", encoding="utf-8"
        )
    documents, report = read(path, **OPTIONS)
    assert documents == EXPECTED
    assert report["counts"]["documents_without_given_split"] == 1
    assert report["dropped"] == {}


@pytest.mark.parametrize("codes", [401.9, 4019, [4019], ["I10", 4019], {"a": 1}, True])
def test_codes_that_are_not_text_are_refused_since_zeros_may_be_lost(tmp_path: Path, codes: object) -> None:
    with pytest.raises(UserError, match=r"document d1: a code is a \w+, not text"):
        read(jsonl(tmp_path / "a.jsonl", {"document_id": "d1", "text": SECRET, "codes": codes}), code_system="icd9cm")


def test_a_code_that_is_none_is_counted_and_the_others_stay(tmp_path: Path) -> None:
    row: dict[str, Any] = {"document_id": "d1", "text": "t", "codes": "I10| |not a code|E1165"}
    documents, report = read(jsonl(tmp_path / "a.jsonl", row, {**row, "codes": None}), delimiter="|")
    assert [list(one.labels) for one in documents] == [["icd10cm:I10", "icd10cm:E11.65"], []]
    assert report["dropped"] == {"code_malformed": 1}
    assert report["examples"] == {"code_malformed": ["d1"]}


def test_a_document_whose_codes_are_all_malformed_does_not_pass_for_one_without_codes(tmp_path: Path) -> None:
    row: dict[str, Any] = {"document_id": "d1", "text": "t", "codes": ["not a code"]}
    documents, report = read(jsonl(tmp_path / "a.jsonl", row, {**row, "document_id": "d2", "codes": []}))
    assert [(one.document_id, one.labels) for one in documents] == [("d2", [])]
    assert report["dropped"] == {"all_codes_malformed": 1, "code_malformed": 1}


def test_titles_come_from_a_table_of_ones_own_and_are_watched(tmp_path: Path) -> None:
    raw = jsonl(tmp_path / "a.jsonl", *ROWS)
    titles = tmp_path / "titles.csv"
    titles.write_text("Title,code\n Sugar ,e1165\nSugar again,E11.65\n,I10\n", encoding="utf-8")
    options = table.Options(titles_path=titles, patient_id="patient", split="split")
    assert table.read_titles(raw, options, IngestReport(), tmp_path) == {"icd10cm:E11.65": "Sugar"}
    assert table.raw_files(raw, options) == [raw, titles]
    assert [one.path for one in table.raw_tables(raw, options)] == [raw, titles]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; data.options.titles_path must be a .csv file"),
        ("code,name\nI10,x\n", "title"),
        ("code,title\nnot a code,x\n", "titles.csv: .*icd10cm"),
    ],
)
def test_titles_that_cannot_be_read_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    titles = tmp_path / "titles.csv"
    if content is not None:
        titles.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        table.read_titles(None, table.Options(titles_path=titles), IngestReport(), tmp_path)


def test_titles_of_another_kind_of_file_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"titles_path: .*must be a \.csv or \.csv\.gz file"):
        read(jsonl(tmp_path / "a.jsonl", *ROWS), titles_path=tmp_path / "titles.jsonl")


def test_files_put_into_one_leave_no_header_among_the_rows(tmp_path: Path) -> None:
    part = "\ufeffdocument_id,Text,codes\n{0},t,I10\n"
    (tmp_path / "a.csv").write_text(part.format(1) + part.format(2), encoding="utf-8")
    documents, report = read(tmp_path / "a.csv", code_system="none")
    assert [one.document_id for one in documents] == ["1", "2"]
    assert report["examples"] == {"repeated_header": ["a.csv row 2"]}


@pytest.mark.parametrize("word", ["NULL", "null", "NaN", "nan", "None", r"\N", "<NA>"])
def test_a_word_for_an_empty_cell_is_neither_id_nor_text_nor_label(tmp_path: Path, word: str) -> None:
    """Else it is one patient that joins strangers, and a label; beside others it may be a label of no system."""
    columns = {"document_id": "d", "p": "p1", "text": "t", "codes": "a;b", "split": "train", "date": "2020-01-01"}
    rows = [columns, *({**columns, name: word} for name in columns), {**columns, "codes": f"a;{word}"}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    documents, report = read(tmp_path / "a.csv", patient_id="p", split="split", date="date", code_system="none")
    whole = Document("d", "p1", "t", ["none:a", "none:b"], "train", datetime.date(2020, 1, 1))
    assert documents == [
        whole,
        whole._replace(text=""),
        whole._replace(labels=[]),
        whole._replace(given_split=None),
        whole._replace(date=None),
        whole._replace(labels=["none:a", f"none:{word}"]),
    ]
    assert report["dropped"] == {"empty_document_id": 1, "empty_patient_id": 1}
    assert report["changed"] == {"words_for_nothing_taken_out": 6}
    pd.DataFrame([{**columns, "codes": f"I10;{word}"}]).to_csv(tmp_path / "a.csv", index=False)
    assert read(tmp_path / "a.csv")[0][0].labels == ["icd10cm:I10"]


def test_many_codes_of_icd9_without_a_zero_have_gone_through_a_number(tmp_path: Path) -> None:
    lines = "".join(f"{number},t,{code}\n" for number, code in enumerate(["117", "3995"] * 2500))
    (tmp_path / "a.csv").write_text(f"document_id,text,codes\n{lines}", encoding="utf-8")
    with pytest.raises(UserError, match="none of its 5,000 icd9pcs codes begins with 0"):
        read(tmp_path / "a.csv", code_system="icd9pcs")
    (tmp_path / "a.csv").write_text(f"document_id,text,codes\nx,t,0117\n{lines}", encoding="utf-8")
    assert len(read(tmp_path / "a.csv", code_system="icd9pcs")[0]) == 5001


@pytest.mark.parametrize(
    "names", [{"codes": "text"}, {"document_id": "text"}, {"patient_id": "text"}, {"split": "codes"}]
)
def test_a_text_is_not_taken_for_an_id_or_a_code(names: dict[str, str]) -> None:
    with pytest.raises(UserError, match="must be different columns"):
        read(Path("a.csv"), **names)


def test_an_id_as_long_as_a_text_is_refused_without_it(tmp_path: Path) -> None:
    row = {"note": f"{SECRET} " * 20, "text": "t", "codes": ["I10"]}
    with pytest.raises(UserError, match=r"a\.jsonl row 1: column 'note' holds 219 characters") as caught:
        read(jsonl(tmp_path / "a.jsonl", row), document_id="note")
    assert SECRET not in str(caught.value)


def test_an_id_that_is_a_list_is_refused_and_what_is_no_value_is_no_code(tmp_path: Path) -> None:
    row: dict[str, Any] = {"document_id": ["x"], "text": "t", "codes": []}
    with pytest.raises(UserError, match=r"^a\.jsonl row 1: column 'document_id': a value of type list is no id; write"):
        read(jsonl(tmp_path / "a.jsonl", row))
    without = (float("nan"), [""], [None])
    rows = [{**row, "document_id": str(number), "codes": codes} for number, codes in enumerate(without)]
    documents, report = read(jsonl(tmp_path / "a.jsonl", *rows))
    assert [one.labels for one in documents] == [[], [], []]
    assert report["dropped"] == {}


def test_labels_of_no_code_system_are_taken_as_they_are(tmp_path: Path) -> None:
    row = {"document_id": 7, "text": "t", "codes": ["sustaining growth: yes", "Ü"]}
    documents, _ = read(jsonl(tmp_path / "a.jsonl", row), code_system="none")
    assert documents == [Document("7", "7", "t", ["none:sustaining growth: yes", "none:Ü"])]


def test_rows_without_an_id_or_patient_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"document_id": " ", "p": "p1"},
        {"document_id": "d2", "p": None},
        {"document_id": "d3", "p": "p3"},
    ]
    path = jsonl(tmp_path / "a.jsonl", *({**row, "text": "t", "codes": "I10"} for row in rows))
    documents, report = read(path, patient_id="p")
    assert [one.document_id for one in documents] == ["d3"]
    assert report["dropped"] == {"empty_document_id": 1, "empty_patient_id": 1}
    assert report["counts"] == {"rows": 3}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", f"document_id,note,codes\n1,{SECRET},I10\n".encode(), "column 'text' is missing"),
        ("a.csv", f'document_id,text,codes\n1,"{SECRET}" x,I10\n'.encode(), "row 1"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-12], "a.csv.gz"),
        ("a.jsonl", f'{{"document_id": "1", "text": {SECRET}}}'.encode(), "line 1: not JSON"),
        ("a.jsonl", f'["{SECRET}"]'.encode(), "line 1: column document_id and text and codes missing"),
        ("a.jsonl", f'{{"document_id": 1, "text": "{SECRET}"}}'.encode(), "line 1: column codes missing"),
        ("a.jsonl", f'{{"text": "{SECRET}\xe9"}}'.encode("latin-1"), "not UTF-8"),
        ("a.parquet", SECRET.encode(), "not a readable Parquet file"),
        ("a.xlsx", SECRET.encode(), "unknown kind of file '.xlsx'"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_without_its_text(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_names_of_columns_that_are_a_row_of_data_are_shown_by_no_kind_of_table(tmp_path: Path, name: str) -> None:
    """As pandas and DuckDB write a table whose header was forgotten."""
    row = {"A1": "A2", SECRET: "x", f"Seen for {SECRET}": "t"}
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    elif name == "a.jsonl":
        jsonl(tmp_path / name, row)
    else:
        (tmp_path / name).write_text(",".join(row), encoding="utf-8")
    with pytest.raises(UserError, match=r"none of its columns \(3\) is one of document_id, text, codes") as caught:
        read(tmp_path / name)
    assert SECRET not in str(caught.value)
    for table_ in table.raw_tables(tmp_path / name, table.Options()):
        with pytest.raises(UserError, match=r"none of its columns \(3\)") as caught:
            count_rows(table_)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("split", ["dev", "Mueller", f"Mr {SECRET}"])
def test_a_split_of_another_name_is_refused_with_the_document_and_without_its_value(tmp_path: Path, split: str) -> None:
    row = {"document_id": "d1", "text": "t", "codes": "I10", "split": split}
    with pytest.raises(UserError, match="document d1: column 'split' holds none of train, val, test") as caught:
        read(jsonl(tmp_path / "a.jsonl", row), split="split")
    assert split not in str(caught.value)
    documents, _ = read(jsonl(tmp_path / "a.jsonl", {**row, "split": " Train "}), split="split")
    assert documents[0].given_split == "train"


@pytest.mark.parametrize("date", ["2019-03-04", " 2019-03-04 10:11:12 ", "20190304", "2019-03-04T23:59:00Z"])
def test_dates_of_text_are_read_by_iso_8601(tmp_path: Path, date: str) -> None:
    row = {"document_id": "d1", "text": "t", "codes": "I10", "written": date}
    documents, report = read(jsonl(tmp_path / "a.jsonl", row, {**row, "written": ""}), date="written")
    assert [one.date for one in documents] == [datetime.date(2019, 3, 4), None]
    assert report["counts"]["documents_without_date"] == 1


@pytest.mark.parametrize("type_", [pa.date32(), pa.timestamp("ms"), pa.timestamp("us", tz="UTC")])
def test_dates_of_parquet_are_read_as_they_are(tmp_path: Path, type_: pa.DataType) -> None:
    moments = pa.array([datetime.datetime.fromisoformat("2019-03-04T10:00"), None], pa.timestamp("ms")).cast(
        type_, safe=False
    )
    table_ = pa.table({"document_id": ["1", "2"], "text": ["t", "u"], "codes": [["I10"]] * 2, "day": moments})
    pq.write_table(table_, tmp_path / "a.parquet")
    documents, _ = read(tmp_path / "a.parquet", date="day")
    assert [one.date for one in documents] == [datetime.date(2019, 3, 4), None]


@pytest.mark.parametrize(
    ("date", "shown"), [(f"4 March, Mr {SECRET}", "not of the form YYYY-MM-DD"), (5, "is of type int")]
)
def test_a_date_of_another_form_is_refused_without_its_text(tmp_path: Path, date: object, shown: str) -> None:
    row = {"document_id": "d1", "text": "t", "codes": "I10", "written": date}
    with pytest.raises(UserError, match=f"document d1: its date .*{shown}") as caught:
        read(jsonl(tmp_path / "a.jsonl", row), date="written")
    assert SECRET not in str(caught.value)


def test_a_date_beyond_what_python_knows_is_a_users_mistake(tmp_path: Path) -> None:
    moments = pa.array([-(10**13)], pa.timestamp("s"))
    pq.write_table(
        pa.table({"document_id": ["1"], "text": ["t"], "codes": [["I10"]], "day": moments}), tmp_path / "a.parquet"
    )
    with pytest.raises(UserError, match="a value cannot be read, such as a date beyond the year 9999"):
        read(tmp_path / "a.parquet", date="day")
