"""The recipes of MIMIC-III on synthetic raw folders: written otherwise, damaged, incomplete, large."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mimic3_cases import MARKER, SUMMARY, ingest, message, note, read, write_raw

from data_recipes import load_recipe, mimic3_full, raw_tables, synthetic
from data_recipes._mimic import mimic3
from pipeline.errors import UserError
from pipeline.notes.ingest_report import IngestReport


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
    after = [one._replace(text=one.text.replace("\r\n", "\n")) for one in read(raw)[0]]
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
    assert f"{name}.csv.gz: column '{column.decode().lower()}' is missing; found ROW_ID, SUBJECT_ID" in message(raw)


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
    options = mimic3.Options(code_kinds=("diagnoses",), splits_path=tmp_path / "s.csv", codes_path=tmp_path / "c.csv")
    names = [path.name for path in mimic3.raw_files(raw, options)]
    assert names == ["NOTEEVENTS.csv.gz", "DIAGNOSES_ICD.csv.gz", "D_ICD_DIAGNOSES.csv.gz", "s.csv", "c.csv"]
    assert mimic3.raw_files(None, options) == []
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
from pipeline.notes.documents import write_documents
from pipeline.notes.ingest_report import IngestReport

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
