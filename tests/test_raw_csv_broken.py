"""Broken rows of raw CSV files: found, named, and left out alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_csv_cases import ROWS, as_csv, read

from data_recipes._raw import csv_columns
from data_recipes._raw.csv_columns import read_raw_csv
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport


@pytest.fixture(params=[7, 4 << 20], ids=["tiny_chunks", "usual_chunks"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_columns, "_CHUNK_BYTES", request.param)


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
