"""The streaming reader of raw CSV files."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raw_csv_cases import ROWS, as_csv, read

from data_recipes._raw import csv_columns
from data_recipes._raw.csv_columns import read_raw_csv
from data_recipes._raw.files import need_raw_file, raw_file
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport


@pytest.fixture(params=[7, 4 << 20], ids=["tiny_chunks", "usual_chunks"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_columns, "_CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_values_come_as_they_are_whatever_the_packing(tmp_path: Path, name: str, start: bytes, line_end: str) -> None:
    raw = start + as_csv(ROWS, line_end=line_end)
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert read(tmp_path / name)[0] == ROWS


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(st.text(st.sampled_from(list('ab0é,"\n\r\0'))), min_size=3, max_size=3)),
    n_chunk=st.integers(1, 40),
    is_cut_short=st.booleans(),
)
@example(rows=[], n_chunk=1, is_cut_short=False)
def test_any_table_reads_as_the_standard_library_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[list[str]], n_chunk: int, is_cut_short: bool
) -> None:
    raw = as_csv(rows)
    path = tmp_path / "t.csv"
    path.write_bytes(raw.removesuffix(b"\n") if is_cut_short else raw)  # a last line end may be missing
    monkeypatch.setattr(csv_columns, "_CHUNK_BYTES", n_chunk)
    assert read(path)[0] == list(csv.reader(io.StringIO(raw.decode(), newline="")))[1:] == rows


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(st.text(st.sampled_from(list('ab0é,"\n\r'))), min_size=3, max_size=3)),
    n_chunk=st.integers(1, 40),
    line_end=st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_rows_that_hold_a_text_are_picked_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[list[str]], n_chunk: int, line_end: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv(rows, line_end=line_end))
    monkeypatch.setattr(csv_columns, "_CHUNK_BYTES", n_chunk)
    report = IngestReport()
    columns = ["id", "code", "text"]
    batches = list(read_raw_csv(path, columns, report=report, holding="ab", count_as="rows"))
    assert [list(row.values()) for batch in batches for row in batch.to_pylist()] == [
        row for row in rows if any("ab" in value for value in row)
    ]
    assert report.counts["rows"] == len(rows)


def test_unquoted_rows_blank_lines_and_columns_in_another_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("TEXT, Code ,extra,ID\nnone,0389,x,1\n\n\nnone,00.66,y,2\n")
    assert read(path, ["id", "code"])[0] == [["1", "0389"], ["2", "00.66"]]


def test_batches_hold_only_the_columns_asked_for_as_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv(ROWS))
    (batch,) = read_raw_csv(path, ["code"], report=IngestReport())
    assert batch.schema.names == ["code"]
    assert str(batch.schema.field("code").type) == "string"
    assert batch["code"].to_pylist() == ["0389", "250.00", "0066", "V053", "E8889"]


def test_a_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    raw = as_csv(ROWS)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(raw[:40]) + gzip.compress(raw[40:]))
    assert read(tmp_path / "t.csv.gz")[0] == ROWS


def test_a_text_of_ten_megabytes_is_one_value(tmp_path: Path) -> None:
    text = "word, word\n" * 900_000
    (tmp_path / "t.csv").write_bytes(as_csv([["1", "I10", text], ["2", "I10", "short"]]))
    assert read(tmp_path / "t.csv")[0] == [["1", "I10", text], ["2", "I10", "short"]]


@pytest.mark.parametrize("place", ["", "hosp", "mimiciv/hosp", "files/mimiciv/hosp"])
@pytest.mark.parametrize("name", ["d_icd.csv", "d_icd.csv.gz", "D_ICD.csv.gz"])
def test_a_table_is_found_in_the_folder_and_its_sub_folders(tmp_path: Path, place: str, name: str) -> None:
    path = tmp_path / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert need_raw_file(tmp_path, "d_icd", folder="hosp") == path


def test_the_packed_file_wins_over_one_unpacked_beside_it(tmp_path: Path) -> None:
    for name in ("t.csv", "t.csv.gz"):
        (tmp_path / name).touch()
    assert raw_file(tmp_path, "t").name == "t.csv.gz"


def test_two_versions_below_one_folder_are_refused(tmp_path: Path) -> None:
    for version in ("2.2", "3.1"):
        (tmp_path / version / "hosp").mkdir(parents=True)
        (tmp_path / version / "hosp" / "t.csv").touch()
    with pytest.raises(UserError, match=r"several tables 't': .*2\.2.*, .*3\.1.*; set data\.raw"):
        raw_file(tmp_path, "t", folder="hosp")


def test_a_missing_file_is_named_with_the_places_searched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.csv\.gz or t\.csv not found in .* or its sub-folder hosp/"):
        need_raw_file(tmp_path, "t", folder="hosp")
    assert raw_file(tmp_path, "t", folder="hosp") == tmp_path / "hosp" / "t.csv.gz"


def test_a_file_where_a_folder_should_be_has_no_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    with pytest.raises(UserError, match="not found"):
        need_raw_file(tmp_path / "t.csv", "t", folder="hosp")


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(as_csv(ROWS, header="ROW_ID,SUBJECT_ID,ICD9_CODE"))
    with pytest.raises(UserError, match=r"column 'code' is missing; found ROW_ID, SUBJECT_ID, ICD9_CODE"):
        read(tmp_path / "t.csv", ["row_id", "code"])


def test_names_with_blanks_and_umlauts_are_shown_where_another_column_says_that_it_is_a_header(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(as_csv(ROWS, header="ROW_ID,Note ID,Diagnoseschlüssel"))
    with pytest.raises(UserError, match=r"column 'code' is missing; found ROW_ID, Note ID, Diagnoseschlüssel;"):
        read(tmp_path / "t.csv", ["row_id", "code"])


@pytest.mark.parametrize("header", ["10,I10,Seen for MARKER", "A1,MARKER,fever"])
def test_a_lost_header_does_not_bring_a_row_of_data_into_the_message(tmp_path: Path, header: str) -> None:
    (tmp_path / "t.csv").write_bytes(as_csv([["1", "I10", "Seen for cough"]], header=header))
    with pytest.raises(
        UserError, match=r"none of its columns \(3\) is one of .*perhaps the header is missing"
    ) as caught:
        read(tmp_path / "t.csv")
    assert "MARKER" not in str(caught.value)


def test_the_first_line_that_excel_alone_reads_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"sep=,\r\n" + as_csv(ROWS))
    with pytest.raises(UserError, match="its first line, 'sep=', is for Excel alone; delete it"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (as_csv(ROWS).decode().encode("utf-16"), r"the header is not UTF-8 text; convert the file to UTF-8"),
        (as_csv(ROWS).replace(b"\n", b"\r"), r"lines must end with LF or CR LF, not with CR alone"),
    ],
)
def test_a_file_of_another_encoding_or_other_line_ends_is_told_what_to_become(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=problem):
        read(tmp_path / "t.csv")


RAW = gzip.compress(as_csv([[str(i), "I10", "some text " * i] for i in range(300)]), mtime=0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (as_csv(ROWS), "not a gzip file"),
        (RAW[: len(RAW) // 2], r"damaged or cut off after the first [\d,]+ unpacked bytes"),
        (RAW[:-4], "damaged or cut off"),
        (RAW[:500] + bytes(20) + RAW[520:], "damaged or cut off"),
        (RAW[:-8] + b"\1\2\3\4" + RAW[-4:], "damaged or cut off"),  # only the checksum tells
        (RAW + b"rubbish", "damaged or cut off"),
    ],
    ids=["empty", "plain", "half", "no_tail", "overwritten", "checksum", "rubbish_behind"],
)
def test_a_damaged_gzip_is_refused_with_what_to_do(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=problem + "(.|\n)*download it again") as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_opened_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read(tmp_path / "t.csv")
