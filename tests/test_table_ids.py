"""Ids of patients and documents in tables of one's own: one spelling each, whatever wrote them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from table_cases import read

from pipeline.errors import UserError


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_patient_is_one_whether_pandas_wrote_the_number_whole_or_as_a_float(tmp_path: Path, kind: str) -> None:
    """A column of numbers with a gap is one of floats."""
    for name, patients in (("a", [123, 7]), ("b", [123.0, None])):
        rows = pd.DataFrame({
            "document_id": [f"{name}1", f"{name}2"], "patient": patients, "text": "t", "codes": "I10"
        })  # fmt: skip
        if kind == "parquet":
            rows.to_parquet(tmp_path / f"{name}.parquet")
        elif kind == "csv":
            rows.to_csv(tmp_path / f"{name}.csv", index=False)
        else:
            rows.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
    documents, report = read(tmp_path, patient_id="patient")
    assert [(one.document_id, one.patient_id) for one in documents] == [("a1", "123"), ("a2", "7"), ("b1", "123")]
    assert report["dropped"] == {"empty_patient_id": 1}
    assert report["changed"] == {"ids_without_their_decimals": 1}


@pytest.mark.parametrize("patient", [1.5, 2.0**53])
def test_a_float_that_is_no_id_is_refused(tmp_path: Path, patient: float) -> None:
    rows = {"document_id": ["a"], "patient": [patient], "text": ["t"], "codes": ["I10"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="row 1: column 'patient': a float is no id"):
        read(tmp_path / "a.parquet", patient_id="patient")


@pytest.mark.parametrize("patient", ["1.23457E+12", "1,23E+12", "4e+11"])
def test_an_id_that_a_spreadsheet_shortened_is_refused(tmp_path: Path, patient: str) -> None:
    """Those of many patients would be one."""
    rows = [{"document_id": "a", "patient": patient, "text": "t", "codes": "I10"}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match="row 1: column 'patient': a spreadsheet shortened this id"):
        read(tmp_path / "a.csv", patient_id="patient")


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (
            "text",
            pa.array([b"Xqzv"], pa.binary()),
            r"document a: column 'text': .* bytes \(a binary column\) is no text",
        ),
        ("text", [5], "document a: column 'text': a value of type int is no text"),
        ("codes", pa.array([b"I10"], pa.binary()), "document a: a code is bytes, not text: the column is binary"),
        ("patient", pa.array([b"Xqzv"], pa.binary()), r"a\.parquet row 1: column 'patient': .* bytes .* is no id"),
        ("patient", pa.array([0], pa.timestamp("s")), "column 'patient': a value of type datetime is no id"),
        ("patient", [True], "column 'patient': a value of type bool is no id"),
        ("patient", pa.array(["1.5"]).cast(pa.decimal128(5, 1)), "column 'patient': a decimal is no id"),
        ("patient", pa.array([7.0], pa.float32()), "column 'patient' holds numbers of type float, in which several"),
        ("document_id", pa.array([7.0]).cast(pa.float16()), "column 'document_id' holds numbers of type halffloat"),
    ],
)
def test_a_cell_of_another_type_is_refused_and_not_written_as_python_shows_it(
    tmp_path: Path, column: str, values: object, expected: str
) -> None:
    """Else a document is "b'Fever'", and one patient is two or two are one."""
    row = {"document_id": ["a"], "patient": ["p"], "text": ["t"], "codes": ["I10"]}
    pq.write_table(pa.table({**row, column: values}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path / "a.parquet", patient_id="patient")
    assert "Xqzv" not in str(caught.value)


def test_a_whole_decimal_is_an_id(tmp_path: Path) -> None:
    """As databases export a NUMBER."""
    numbers = pa.array(["90071992547409930", "7"]).cast(pa.decimal128(20, 0))
    rows = {"document_id": ["a", "b"], "patient": numbers, "text": ["t"] * 2, "codes": ["I10"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    documents, report = read(tmp_path / "a.parquet", patient_id="patient")
    assert [one.patient_id for one in documents] == ["90071992547409930", "7"]
    assert report["changed"] == {}


def test_an_id_with_a_point_in_thousands_stays_as_it_is(tmp_path: Path) -> None:
    """1.000 may stand beside 1.234 and 1."""
    (tmp_path / "a.csv").write_text("document_id,text,codes\n1.000,t,I10\n2.0,t,I10\n", encoding="utf-8")
    documents, report = read(tmp_path / "a.csv")
    assert [one.document_id for one in documents] == ["1.000", "2"]
    assert report["examples"] == {"ids_without_their_decimals": ["a.csv row 2"]}


def test_patients_whose_ids_differ_in_zeros_or_capitals_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = ["007", "7", "ab1", "AB1", "12"]
    rows = pd.DataFrame({"document_id": range(5), "patient": ids, "text": "t", "codes": "I10"})
    rows.to_csv(tmp_path / "a.csv", index=False)
    documents, report = read(tmp_path / "a.csv", patient_id="patient")
    assert [one.patient_id for one in documents] == ids
    assert report["counts"]["patient_ids_alike"] == 4
    assert "4 ids in column 'patient' differ from others only in leading zeros or capitals" in caplog.text


def test_the_patient_may_be_the_document(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("pid,text,codes\n7,t,I10\n", encoding="utf-8")
    documents, _ = read(tmp_path / "a.csv", document_id="pid", patient_id="pid")
    assert [(one.document_id, one.patient_id) for one in documents] == [("7", "7")]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    """As after a join: one of the texts is a draft."""
    rows = pa.table([["1"], ["draft"], ["I10"], ["final"]], names=["document_id", "text", "codes", "text"])
    (pa_csv.write_csv if name == "a.csv" else pq.write_table)(rows, tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}: 2 columns are called 'text'; rename"):
        read(tmp_path / name)


def test_a_column_is_the_one_that_is_spelled_alike_before_one_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ID,id,text,codes\nP7,1,t,I10\nP7,2,t,I10\n", encoding="utf-8")
    documents, _ = read(tmp_path / "a.csv", document_id="id", patient_id="ID")
    assert [(one.document_id, one.patient_id) for one in documents] == [("1", "P7"), ("2", "P7")]
    (tmp_path / "b.csv").write_text("ID,text,codes\n1,t,I10\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"b\.csv: .* are not columns of their own"):
        read(tmp_path / "b.csv", document_id="id", patient_id="ID")


def notes_and_codes(folder: Path, names: list[str], codes: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("text", encoding="utf-8")
    (folder / "codes.csv").write_text(codes, encoding="utf-8")
    return folder


def test_ids_that_lost_their_zeros_are_refused_where_the_files_kept_them(tmp_path: Path) -> None:
    """Else 007 would be a note that needs no code."""
    folder = notes_and_codes(tmp_path / "notes", ["007.txt", "12.txt"], "document_id,codes\n7,I10\n12,I10\n")
    with pytest.raises(UserError, match=r"codes for document '7', the folder has 007\.txt"):
        read(folder, keep_uncoded=True)


def test_a_text_without_a_row_has_no_patient_that_is_known(tmp_path: Path) -> None:
    folder = notes_and_codes(
        tmp_path / "notes", ["a.txt", "b.TXT", "1.0.txt"], "document_id,p,codes\na,p1,I10\n1.0,p2,I10\n"
    )
    documents, report = read(folder, patient_id="p", keep_uncoded=True)
    assert [(one.document_id, one.patient_id) for one in documents] == [("1.0", "p2"), ("a", "p1")]
    assert report["dropped"] == {"empty_patient_id": 1}, "of b.TXT, which is a text file as well"
    assert "codes_without_text_file" not in report["dropped"]
