"""The streaming reader of raw CSV files."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_recipes._raw import csv_columns
from data_recipes._raw.csv_columns import OnBadRow, read_raw_csv
from data_recipes._raw.files import need_raw_file, raw_file
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport

HEADER = "id,code,text"
ROWS = [
    ["10", "0389", 'Name: ___\n\nsaid "fine", then left\n'],
    ["11", "250.00", "a,b,c\nd"],
    ["12", "0066", "plain"],
    ["13", "V053", '"'],
    ["14", "E8889", ""],
]


def as_csv(rows: Sequence[Sequence[str]], *, header: str = HEADER, line_end: str = "\n") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    return f"{header}{line_end}{text.getvalue()}".encode()


def read(
    path: Path, columns: Sequence[str] = ("id", "code", "text"), *, on_bad_row: OnBadRow = "error"
) -> tuple[list[list[str]], IngestReport]:
    report = IngestReport()
    batches = list(read_raw_csv(path, columns, report=report, on_bad_row=on_bad_row))
    return [list(row.values()) for batch in batches for row in batch.to_pylist()], report


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


@pytest.mark.parametrize("broken", [b'3,"x"\n', b'3,"x","y","z"\n', b'3,"x","a "quote" in it"\n'])
def test_a_broken_row_is_found_though_it_does_not_hold_the_text_looked_for(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'id,code,text\n1,"x","no"\n2,"x","yes"\n' + broken + b'4,"x","yes"\n')
    with pytest.raises(UserError, match="row 3: "):
        list(read_raw_csv(path, ["id"], report=IngestReport(), holding="yes"))
    report = IngestReport()
    batches = list(read_raw_csv(path, ["id"], report=report, holding="yes", on_bad_row="skip", count_as="rows"))
    ids = [value for batch in batches for value in batch["id"].to_pylist()]
    assert [one for one in ids if one != "1"] == ["2", "4"]  # rows beside a broken one may come unasked
    assert report.counts["rows"] == 3
    assert report.dropped("broken_row") == 1


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


BREAKS = {
    "quote_not_closed": (b'left\n"\n"11"', b'left\n\n"11"', "broken quote"),
    "quote_in_text": (b'said ""fine"",', b'said "fine"",', "broken quote"),
    "quote_at_line_end": (b"___\n\nsaid", b'___"\n\nsaid', "broken quote|fields where"),
    "field_missing": (b'"10","0389",', b'"10",', "2 fields where the header has 3"),
    "field_too_many": (b'"10","0389"', b'"10","0389","x"', "4 fields where the header has 3"),
    "latin_1": (b"then left", "then zurück".encode("latin-1"), "bytes that are not UTF-8"),
}


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("n_before", [0, 3])
def test_exactly_the_broken_row_is_refused_or_skipped(tmp_path: Path, kind: str, n_before: int) -> None:
    before = [[str(90 + i), "I10", "fine\nrow"] for i in range(n_before)]
    sound, broken, problem = BREAKS[kind]
    raw = as_csv([*before, *ROWS])
    assert raw.count(sound) == 1
    path = tmp_path / "t.csv"
    path.write_bytes(raw.replace(sound, broken))
    with pytest.raises(UserError, match=rf"t\.csv, row {n_before + 1}: .*({problem}).*on_bad_row=skip") as caught:
        read(path)
    assert "left" not in str(caught.value)
    rows, report = read(path, on_bad_row="skip")
    assert rows == before + ROWS[1:]
    assert report.as_dict()["dropped"] == {"broken_row": 1}
    assert report.as_dict()["examples"] == {"broken_row": [f"t.csv row {n_before + 1}"]}


def test_a_plain_file_cut_in_the_middle_is_refused_at_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv(ROWS[:2])[:-4])
    with pytest.raises(UserError, match="row 2: a quote that is not closed before the end of the file"):
        read(path)


def test_a_quote_never_closed_does_not_swallow_the_file_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_columns, "_MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(csv_columns, "_CHUNK_BYTES", 100)
    path = tmp_path / "t.csv"
    path.write_text('id,code,text\n1,I10,x\n2,I10,"y\n' + "3,I10,z\n" * 1000)
    with pytest.raises(UserError, match="row 2: a quote that is not closed within"):
        read(path)


def test_rows_that_begin_with_a_word_are_skipped_one_by_one_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,code\nann,I10\nbob,"I"1\ncy,I10\ndee,I10,x\neve,I10\n')
    rows, report = read(path, ["id"], on_bad_row="skip")
    assert rows == [["ann"], ["cy"], ["eve"]]
    assert report.as_dict()["examples"]["broken_row"] == ["t.csv row 2", "t.csv row 4"]


@pytest.mark.parametrize("header", ["ward,id,text,code", "text,id,ward,code", "ward,text,code,id"])
@pytest.mark.parametrize(("line_end", "quote"), [("\n", ""), ("\n", '"'), ("\r\n", '"')])
def test_a_broken_row_takes_no_other_with_it_where_only_the_first_begins_like_an_id(
    tmp_path: Path, header: str, line_end: str, quote: str
) -> None:
    wards = ("W1", *["ICU"] * 29)
    rows = [{"ward": ward, "id": f"d{i}", "text": "all fine", "code": "I10"} for i, ward in enumerate(wards, start=1)]
    rows = [{name: f"{quote}{value}{quote}" for name, value in row.items()} for row in rows]
    rows[10]["text"] = '"all fi"ne"'
    names = header.split(",")
    lines = [header, *(",".join(row[name] for name in names) for row in rows)]
    (tmp_path / "t.csv").write_text(line_end.join([*lines, ""]), newline="")
    found, report = read(tmp_path / "t.csv", ["id"], on_bad_row="skip")
    assert found == [[f"d{i}"] for i in range(1, 31) if i != 11]
    assert report.as_dict()["dropped"] == {"broken_row": 1}
    assert report.as_dict()["examples"] == {"broken_row": ["t.csv row 11"]}


def test_a_first_row_that_is_broken_takes_no_other_with_it(tmp_path: Path) -> None:
    rows = "".join(f'ICU,d{i},"seen, and\nleft",I10\n' for i in range(2, 31))
    (tmp_path / "t.csv").write_text(f'ward,id,text,code\nW1,d1,"fi"ne, or not\nso, she, said, that",I10\n{rows}')
    found, report = read(tmp_path / "t.csv", ["id"], on_bad_row="skip")
    assert found == [[f"d{i}"] for i in range(2, 31)]
    assert report.as_dict()["examples"] == {"broken_row": ["t.csv row 1"]}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.sampled_from(list('ab ,"\n')), min_size=1, max_size=7), min_size=2, max_size=6),
    data=st.data(),
    n_chunk=st.sampled_from([5, 23, 4096]),
)
def test_a_stray_quote_never_changes_another_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], data: st.DataObject, n_chunk: int
) -> None:
    """One quote more or less in one text: the other rows come through unchanged, and nothing else does.

    With eight columns, seven commas in a line of text could pass for a row; so short texts cannot have them.
    """
    rows = [[f"1{i}", *"abcdef", text] for i, text in enumerate(texts)]
    lines = [as_csv([row]).split(b"\n", 1)[1] for row in rows]
    victim = data.draw(st.integers(0, len(rows) - 1))
    line = lines[victim]
    at = data.draw(st.integers(len('"10","a","b","c","d","e","f",'), len(line) - 2))
    is_quote = line[at : at + 1] == b'"'
    lines[victim] = line[:at] + (b"" if is_quote else b'"') + line[at + is_quote :]
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,a,b,c,d,e,f,text\n" + b"".join(lines))
    monkeypatch.setattr(csv_columns, "_CHUNK_BYTES", n_chunk)
    found, _ = read(path, ("id", *"abcdef", "text"), on_bad_row="skip")
    others = [row for i, row in enumerate(rows) if i != victim]
    assert [row for row in found if row[0] != rows[victim][0]] == others
