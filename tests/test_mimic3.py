"""The recipes of MIMIC-III, on small raw folders written here and on damaged synthetic ones."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes import (
    _mimic3,
    load_recipe,
    mimic3_50,
    mimic3_clean,
    mimic3_full,
    raw_tables,
    recipe_options,
    synthetic,
)
from data_recipes._synthetic_mimic3 import COLUMNS
from pipeline.codes import CodeSystem, is_valid_shape
from pipeline.documents import Document, write_documents
from pipeline.errors import UserError
from pipeline.ingest_report import IngestReport

MARKER = "Zebrafinch"  # stands in every text; no message may hold it
SUMMARY = "Discharge summary"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def note(
    row_id: object,
    hadm_id: object,
    text: str,
    *,
    subject_id: object = 1,
    date: str = "2101-01-01",
    time: str = "",
    category: str = SUMMARY,
    description: str = "Report",
    iserror: str = "",
) -> tuple[object, ...]:
    return (row_id, subject_id, hadm_id, date, time, "", category, description, "", iserror, text)


def write_raw(
    folder: Path,
    notes: Sequence[Sequence[object]],
    *,
    diagnoses: Sequence[tuple[object, object, str]] = ((100, 1, "4019"), (200, 1, "4019")),
    procedures: Sequence[tuple[object, object, str]] = (),
) -> Path:
    """A raw folder; codes are given as (hadm_id, seq_num, code)."""
    folder.mkdir(exist_ok=True)
    codes = {"DIAGNOSES_ICD": diagnoses, "PROCEDURES_ICD": procedures}
    contents = {name: table(COLUMNS[name], [(1, 1, *row) for row in rows]) for name, rows in codes.items()}
    contents["NOTEEVENTS"] = table(COLUMNS["NOTEEVENTS"], notes)
    for name, content in contents.items():
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(content, compresslevel=1))
    return folder


def read(folder: Path, **options: Any) -> tuple[list[Document], IngestReport]:
    report = IngestReport()
    return list(_mimic3.read(folder, _mimic3.Options(**options), report, folder / "scratch")), report


def ingest(folder: Path, out: Path, **options: Any) -> dict[str, Any]:
    """The ingest report, after documents went through the checks of the documents table."""
    report = IngestReport(mimic3_full.PUBLISHED)
    documents = mimic3_full.read(folder, mimic3_full.Options(**options), report, out / "scratch")
    write_documents(documents, out / "documents.parquet", out / "annotators.parquet", report)
    return report.as_dict()


# What becomes of notes and codes.


def test_notes_of_an_admission_are_joined_in_the_order_of_the_published_sets(tmp_path: Path) -> None:
    """Reports before addenda, then with a time before without, by time, by date, by ROW_ID as a number."""
    notes = [
        note(1, 100, "addendum", description="Addendum", date="2101-01-01"),
        note(12, 100, "row twelve"),
        note(2, 200, "of another stay"),
        note(9, 100, "row nine"),
        note(3, 100, "later day", date="2101-01-02"),
        note(4, 100, "timed late", time="2101-01-09 10:00:00", date="2101-01-09"),
        note(5, 100, "timed early", time="2101-01-08 10:00:00", date="2101-01-08"),
    ]
    documents, report = read(write_raw(tmp_path, notes))
    joined = "timed early timed late row nine row twelve later day addendum"
    assert [(one.document_id, one.text) for one in documents] == [("100", joined), ("200", "of another stay")]
    assert report.as_dict()["changed"] == {"summaries_joined": 1}


@settings(max_examples=30)
@given(st.permutations(range(6)))
def test_the_order_of_rows_in_the_file_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    """Six notes of one admission; the text of the sorted file, by hand: a b c d e f."""
    notes = [
        note(1, 100, "a"), note(2, 100, "b"), note(3, 100, "c", date="2101-01-02"),
        note(4, 100, "d", date="2101-01-03"), note(5, 100, "e", description="Addendum"),
        note(6, 100, "f", description="Addendum"),
    ]  # fmt: skip
    documents, _ = read(write_raw(tmp_path_factory.mktemp("raw"), [notes[place] for place in order]))
    assert [one.text for one in documents] == ["a b c d e f"]


def test_only_discharge_summaries_count_whatever_blanks_stand_around_the_category(tmp_path: Path) -> None:
    notes = [
        note(1, 100, "kept", category=f"{SUMMARY}  "),
        note(2, 100, "left", category="Nursing"),
        note(3, 200, "left", category="discharge summary of nursing"),
    ]
    documents, report = read(write_raw(tmp_path, notes))
    assert [one.text for one in documents] == ["kept"]
    assert (report.counts["notes"], report.counts["discharge_summaries"]) == (3, 1)


def test_icd9_codes_keep_their_zeros_and_diagnoses_stay_apart_from_procedures(tmp_path: Path) -> None:
    diagnoses = [(100, place, code) for place, code in enumerate(("0389 ", "25000", "E8889", "V053", "3995", "0389"))]
    procedures = [(100, place, code) for place, code in ((2, "0066"), (1, "9390"), (3, "3995"))]
    documents, _ = read(write_raw(tmp_path, [note(1, 100, "x")], diagnoses=diagnoses, procedures=procedures))
    assert documents[0].labels == [
        "icd9cm:038.9", "icd9cm:250.00", "icd9cm:E888.9", "icd9cm:V05.3", "icd9cm:399.5",
        "icd9pcs:93.90", "icd9pcs:00.66", "icd9pcs:39.95",
    ]  # fmt: skip


def test_a_table_whose_codes_have_lost_their_leading_zeros_is_refused(tmp_path: Path) -> None:
    """Such as an export of whole numbers; one code with a zero among 5,000 shows that they are text."""
    codes = [(100, place, "3995") for place in range(5000)]
    raw = write_raw(tmp_path, [note(1, 100, "x")], procedures=codes)
    assert "none of its 5,000 icd9pcs codes begins with 0, so the column went through a number" in message(raw)
    assert read(write_raw(tmp_path, [note(1, 100, "x")], procedures=codes[1:]))[0]
    assert read(write_raw(tmp_path, [note(1, 100, "x")], procedures=[*codes, (100, 5000, "0117")]))[0]


def test_notes_and_codes_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    notes = [
        note(1, 100, MARKER),
        note(1, 100, "the same row again"),
        note(1, 900, "the same row, of another stay"),
        note(2, "", MARKER),
        note(3, 100, "taken back", iserror="1"),
        note(4, 100, "whose?", subject_id=2),
        note(5, 300, MARKER, subject_id=""),
        note(6, 400, MARKER),
        note(7, 500, " \n"),
    ]
    diagnoses = [(100, 1, "4019"), (100, "", ""), (100, 3, "rash"), ("", 1, "4019"), (500, 1, "4019")]
    report = ingest(write_raw(tmp_path, notes, diagnoses=diagnoses), tmp_path)
    assert report["dropped"] == {
        "code_malformed": 1, "code_missing": 1, "code_without_hadm_id": 1, "document_without_codes": 1,
        "duplicate_note_id": 2, "empty_text": 1, "summary_marked_as_error": 1, "summary_of_another_patient": 1,
        "summary_without_hadm_id": 1, "summary_without_subject_id": 1,
    }  # fmt: skip
    assert report["examples"]["summary_of_another_patient"] == ["4"]
    assert report["examples"]["document_without_codes"] == ["400"]
    assert report["counts"]["documents"] == 1
    assert report["published"]["notes"]["verdict"] == "other size"
    assert report["published"]["documents_given_val"]["verdict"] == "not counted"


def test_notes_whose_row_id_is_no_number_are_kept_and_come_last(tmp_path: Path) -> None:
    documents, _ = read(write_raw(tmp_path, [note("", 100, "c"), note("x", 100, "d"), note(7, 100, "b")]))
    assert [one.text for one in documents] == ["b c d"]


def test_the_scratch_folder_is_left_empty(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", [note(1, 100, MARKER), note(2, 200, MARKER)])
    documents = _mimic3.read(raw, _mimic3.Options(), IngestReport(), tmp_path / "scratch")
    next(documents)
    assert list((tmp_path / "scratch").iterdir()) == []  # the file on disk has no name, so kill -9 leaves none
    list(documents)


# Which codes are kept.


STAYS = [note(hadm, hadm, "x", subject_id=hadm) for hadm in (100, 200, 300, 400)]
CODES = [
    (100, 1, "4019"), (200, 1, "4019"), (300, 1, "4280"), (300, 2, "486"), (400, 1, "25000"),
    (999, 1, "25000"), (998, 1, "25000"), (997, 1, "25000"),
]  # fmt: skip


def test_the_most_frequent_codes_are_counted_over_admissions_with_a_summary(tmp_path: Path) -> None:
    """By hand: 401.9 has two; 250.00 (three more, without a summary), 428.0 and 486 one each, by name 250.00."""
    raw = write_raw(tmp_path, STAYS, diagnoses=CODES)
    documents, report = read(raw, top_codes=2)
    assert {one.document_id: one.labels for one in documents} == {
        "100": ["icd9cm:401.9"], "200": ["icd9cm:401.9"], "400": ["icd9cm:250.00"],
    }  # fmt: skip
    assert report.as_dict()["dropped"] == {"document_without_kept_code": 1}
    assert len(read(raw)[0]) == 4


def test_a_list_of_codes_takes_the_place_of_counting(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, STAYS, diagnoses=CODES, procedures=[(300, 1, "3995"), (400, 1, "0066")])
    listed = tmp_path / "codes.csv"
    listed.write_bytes(b"\xef\xbb\xbf428.0\r\n39.95\r\n\r\n")
    documents, _ = read(raw, top_codes=1, codes_path=listed)
    assert [(one.document_id, one.labels) for one in documents] == [("300", ["icd9cm:428.0", "icd9pcs:39.95"])]


@pytest.mark.parametrize("content", [b"4280\n", b"", b"code\n428.0\n", b"\xff\xfe"])
def test_a_list_that_holds_no_dotted_codes_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "codes.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"codes\.csv"):
        read(write_raw(tmp_path, STAYS), codes_path=tmp_path / "codes.csv")


def test_mimic3_50_keeps_fifty_codes_and_the_others_all() -> None:
    assert mimic3_50.Options().top_codes == 50
    assert mimic3_full.Options().top_codes is mimic3_clean.Options().top_codes is None


def test_caml_loses_zeros_of_procedures_at_both_ends_and_of_nothing_else(tmp_path: Path) -> None:
    diagnoses = [(100, 1, "0389"), (100, 2, "25000")]
    procedures = [(100, place, code) for place, code in enumerate(("0066", "9390", "0331", "331", "3995", "0009"))]
    raw = write_raw(tmp_path, [note(1, 100, "x")], diagnoses=diagnoses, procedures=procedures)
    assert read(raw, compatibility="caml")[0][0].labels == [
        "icd9cm:038.9", "icd9cm:250.00", "icd9pcs:66.0", "icd9pcs:93.9", "icd9pcs:33.1", "icd9pcs:39.95",
        "icd9pcs:00.09",
    ]  # fmt: skip
    assert "icd9pcs:00.66" in read(raw)[0][0].labels


@given(st.from_regex(r"[0-9]{2}(\.[0-9]{1,2})?", fullmatch=True), st.sampled_from(["icd9pcs", "icd9cm"]))
def test_every_code_has_a_spelling_of_caml_that_is_a_code(code: str, system: CodeSystem) -> None:
    """And that is the same number but for a dot two digits behind the first one that is not zero."""
    if not is_valid_shape(code, system):
        return
    spelled = _mimic3.caml_spelling(code, system)
    assert is_valid_shape(spelled, system)
    digits = code.replace(".", "").strip("0")
    assert spelled.replace(".", "").strip("0") == digits


def test_wrong_options_are_named() -> None:
    for options, problem in (
        ({"splits": "x"}, "unknown key; did you mean 'splits_path'"),
        ({"compatibility": "CAML"}, "compatibility: Input should be 'none' or 'caml'"),
        ({"min_split_match": 2}, "min_split_match"),
    ):
        with pytest.raises(UserError, match=problem):
            recipe_options(load_recipe("mimic3_full"), options)


# Bad input, on what the generator writes.


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mimic3"
    synthetic.make_raw(folder, synthetic.Options(shape="mimic3", n_documents=30))
    return folder


@pytest.fixture
def raw(_made: Path, tmp_path: Path) -> Path:
    """A synthetic raw folder of one's own, with a marker in every summary."""
    shutil.copytree(_made, tmp_path / "raw")
    edit(tmp_path / "raw", "NOTEEVENTS", lambda text: text.replace(b"Service:", b"Service: " + MARKER.encode()))
    return tmp_path / "raw"


def edit(raw: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = raw / f"{name}.csv.gz"
    before = gzip.decompress(path.read_bytes())
    after = change(before)
    assert after != before
    path.write_bytes(gzip.compress(after))


def message(raw: Path) -> str:
    """What a user is told; never text of a note."""
    with pytest.raises(UserError) as caught:
        read(raw)
    assert MARKER not in str(caught.value)
    return str(caught.value)


def test_the_synthetic_corpus_is_read_by_the_recipe_of_its_shape(raw: Path, tmp_path: Path) -> None:
    """By hand: 30 admissions; ceil(30 * 55,177 / 52,726) = 32 reports, so two more, and ceil(30 * 4,475 / 52,726) = 3
    addenda.
    """
    documents, report = read(raw)
    assert len(documents) == 30
    assert (report.counts["discharge_summaries"], report.as_dict()["changed"]["summaries_joined"]) == (35, 4)
    options = synthetic.Options(shape="mimic3", n_documents=30)
    by_recipe = list(synthetic.read(None, options, IngestReport(), tmp_path / "scratch"))
    assert [one.document_id for one in by_recipe] == [one.document_id for one in documents]
    assert synthetic.read_titles(None, options, IngestReport(), tmp_path / "scratch")["icd9cm:401.9"].startswith(
        "Unspecified"
    )


def test_two_runs_are_byte_identical(raw: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ingest(raw, tmp_path / name)
    assert (tmp_path / "a/documents.parquet").read_bytes() == (tmp_path / "b/documents.parquet").read_bytes()


def lower_case_header(content: bytes) -> bytes:
    header, rows = content.split(b"\n", 1)
    return header.lower() + b"\n" + rows


def columns_reversed(content: bytes) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(row[::-1] for row in rows)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    "change",
    [lower_case_header, lambda content: b"\xef\xbb\xbf" + content, columns_reversed],
    ids=["lower-case header", "byte order mark", "columns in another order"],
)
def test_files_written_otherwise_give_the_same_documents(raw: Path, change: Callable[[bytes], bytes]) -> None:
    before = read(raw)[0]
    for name in ("NOTEEVENTS", "DIAGNOSES_ICD", "PROCEDURES_ICD"):
        edit(raw, name, change)
    assert read(raw)[0] == before


def test_line_ends_of_windows_and_unpacked_files_give_the_same_codes_and_texts(raw: Path) -> None:
    before = read(raw)[0]
    for path in sorted(raw.glob("*.csv.gz")):
        content = gzip.decompress(path.read_bytes()).replace(b"\n", b"\r\n")
        (raw / path.name.removesuffix(".gz").lower()).write_bytes(content)
        path.unlink()
    after = [
        Document(one.document_id, one.patient_id, one.text.replace("\r\n", "\n"), one.labels) for one in read(raw)[0]
    ]
    assert after == before


@pytest.mark.parametrize("name", ["NOTEEVENTS", "DIAGNOSES_ICD", "PROCEDURES_ICD"])
def test_a_missing_file_is_named_and_a_cut_one_refused(raw: Path, name: str) -> None:
    path = raw / f"{name}.csv.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert f"{path}: damaged or cut off" in message(raw)
    path.unlink()
    assert f"{name.lower()}.csv.gz or {name.lower()}.csv not found in {raw}" in message(raw)


@pytest.mark.parametrize(("name", "column"), [("NOTEEVENTS", b"CHARTTIME"), ("DIAGNOSES_ICD", b"ICD9_CODE")])
def test_a_renamed_column_is_named_with_those_found(raw: Path, name: str, column: bytes) -> None:
    edit(raw, name, lambda content: content.replace(column, b"OTHER", 1))
    assert f"{name}.csv.gz: column '{column.decode().lower()}' is missing; found row_id, subject_id" in message(raw)


def break_quote(content: bytes) -> bytes:
    return content.replace(MARKER.encode(), b'"' + MARKER.encode(), 1)


def latin1(content: bytes) -> bytes:
    return content.replace(MARKER.encode(), "naïve".encode("latin-1"), 1)


def field_too_many(content: bytes) -> bytes:
    return content.replace(b',"Discharge summary","Report",', b',,"Discharge summary","Report",', 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (break_quote, "a broken quote"),
        (latin1, "bytes that are not UTF-8"),
        (field_too_many, "12 fields where the header has 11"),
    ],
)
def test_a_broken_row_is_refused_with_its_number_or_skipped_with_a_count(
    raw: Path, change: Callable[[bytes], bytes], problem: str
) -> None:
    """The first report is row 2: the first admission's addendum stands before it."""
    n_before = read(raw)[1].counts["notes"]
    edit(raw, "NOTEEVENTS", change)
    told = message(raw)
    assert f"NOTEEVENTS.csv.gz, row 2: {problem}" in told
    assert "data.options.on_bad_row=skip" in told
    documents, report = read(raw, on_bad_row="skip")
    assert (report.dropped("broken_row"), report.counts["notes"]) == (1, n_before - 1)
    assert report.as_dict()["examples"]["broken_row"] == ["NOTEEVENTS.csv.gz row 2"]
    assert len(documents) == 30  # of the first admission the addendum and a second report are left


def test_nul_bytes_are_taken_out_and_counted(raw: Path, tmp_path: Path) -> None:
    edit(raw, "NOTEEVENTS", lambda content: content.replace(MARKER.encode(), b"Ze\0bra", 1))
    assert ingest(raw, tmp_path)["changed"]["nul_characters_removed"] == 1


def test_a_text_of_ten_megabytes_is_read_whole(tmp_path: Path) -> None:
    long = f"{MARKER} " * 1_000_000
    documents, _ = read(write_raw(tmp_path, [note(1, 100, long), note(2, 200, "short")]))
    assert [len(one.text) for one in documents] == [len(long), 5]


def test_a_folder_of_mimic4_is_refused_with_the_recipe_for_it_and_the_other_way_round(tmp_path: Path) -> None:
    for name, shape, recipe, advice in (
        ("four", "mimic4", mimic3_full, "set data.recipe to mimic4_icd10 or mimic4_icd9"),
        ("three", "mimic3", load_recipe("mimic4_icd10"), "set data.recipe to mimic3_full, mimic3_50 or mimic3_clean"),
    ):
        synthetic.make_raw(tmp_path / name, synthetic.Options.model_validate({"shape": shape, "n_documents": 2}))
        with pytest.raises(UserError, match=advice):
            next(iter(recipe.read(tmp_path / name, recipe.Options(), IngestReport(), tmp_path)))


def test_code_tables_of_the_wrong_version_are_refused(raw: Path) -> None:
    edit(raw, "DIAGNOSES_ICD", lambda _: b"subject_id,hadm_id,seq_num,icd_code,icd_version\n1,100001,1,I10,10\n")
    assert "column 'icd9_code' is missing; found subject_id, hadm_id, seq_num, icd_code, icd_version" in message(raw)


def test_raw_files_lists_what_is_read(raw: Path, tmp_path: Path) -> None:
    options = _mimic3.Options(code_kinds=("diagnoses",), splits_path=tmp_path / "s.csv", codes_path=tmp_path / "c.csv")
    names = [path.name for path in _mimic3.raw_files(raw, options)]
    assert names == ["NOTEEVENTS.csv.gz", "DIAGNOSES_ICD.csv.gz", "D_ICD_DIAGNOSES.csv.gz", "s.csv", "c.csv"]
    assert _mimic3.raw_files(None, options) == []
    tables = raw_tables(load_recipe("mimic3_full"), raw, options)
    assert [table.path.name for table in tables] == names
    assert tables[0].n_rows == 2_083_180
    assert tables[1].columns == ("hadm_id", "seq_num", "icd9_code")
    assert [table.path.name for table in tables if not table.is_required] == ["D_ICD_DIAGNOSES.csv.gz"]


@pytest.mark.mimic
@pytest.mark.skipif("ICD_MIMIC3" not in os.environ, reason="ICD_MIMIC3 names no folder with MIMIC-III")
def test_real_mimic3_has_the_published_counts(tmp_path: Path) -> None:
    report = ingest(Path(os.environ["ICD_MIMIC3"]), tmp_path)
    assert {check["verdict"] for check in report["published"].values()} <= {"pass", "not counted"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_table_of_notes(tmp_path: Path) -> None:
    """Six times as many notes of 6,000 characters, 150 MB unpacked, may take 60 MB more."""
    text = "fever and chills, " * 333
    peaks = []
    for n_notes in (4_000, 24_000):
        notes = (
            note(number, 100 + number // 10, text, category=SUMMARY if number % 10 == 0 else "Nursing")
            for number in range(n_notes)
        )
        raw = write_raw(tmp_path / str(n_notes), list(notes), diagnoses=[(100 + n, 1, "4019") for n in range(2_400)])
        code = f"""
from pathlib import Path
from data_recipes import mimic3_full
from pipeline.documents import write_documents
from pipeline.ingest_report import IngestReport

folder = Path({str(raw)!r})
report = IngestReport()
documents = mimic3_full.read(folder, mimic3_full.Options(), report, folder)
write_documents(documents, folder / "documents.parquet", folder / "annotators.parquet", report)
assert report.counts["documents"] == {n_notes // 10}
status = Path("/proc/self/status").read_text()  # ru_maxrss would count what this test took before
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 400
    assert peaks[1] - peaks[0] < 60
