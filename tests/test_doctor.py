"""icd doctor: every fault is named with what to do, before anything runs; no text of a document is shown."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from doctor_cases import CANARY, findings_of

from data_recipes import RawTable
from data_recipes._raw.checks import count_rows
from pipeline.__main__ import main
from pipeline.commands.doctor import examine, render
from pipeline.commands.findings import Finding
from pipeline.errors import UserError
from pipeline.experiment.artifacts import writing
from pipeline.experiment.config import PipelineConfig
from pipeline.files import write_json

SUMMARIES = [["n1", 1, 10, 1, f"{CANARY}, fever"], ["n2", 1, 11, 1, 'said "ouch"\nand left'], ["n3", 2, 12, 1, "well"]]
CODES = [[10, 1, "I10", 10], [10, 2, "J189", 10], [11, 1, "E119", 10], [12, 1, "4019", 9]]
TABLES: dict[str, tuple[Sequence[str], Sequence[Sequence[object]]]] = {
    "note/discharge": (("note_id", "subject_id", "hadm_id", "note_seq", "text"), SUMMARIES),
    "hosp/diagnoses_icd": (("hadm_id", "seq_num", "icd_code", "icd_version"), CODES),
    "hosp/procedures_icd": (("hadm_id", "seq_num", "icd_code", "icd_version"), CODES[:1]),
    "hosp/d_icd_diagnoses": (("icd_code", "icd_version", "long_title"), [["I10", 10, "Hypertension"]]),
    "hosp/d_icd_procedures": (("icd_code", "icd_version", "long_title"), [["0DTJ4ZZ", 10, "Resection"]]),
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A MIMIC-IV of three summaries."""
    folder = tmp_path / "raw"
    for name, (header, rows) in TABLES.items():
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.getvalue().encode()))
    return folder


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.fixture
def look(make_config: Callable[..., PipelineConfig], raw: Path) -> Callable[..., Finding]:
    """What is found of one raw file of that MIMIC-IV."""

    def found(what: str, **options: Any) -> Finding:
        config = make_config(data={"recipe": "mimic4_icd10", "raw": raw, "options": options})
        (finding,) = findings_of(config, what)
        return finding

    return found


def test_sound_raw_files_are_right_with_their_rows(look: Callable[..., Finding]) -> None:
    assert look("diagnoses_icd.csv.gz") == Finding("ok", "diagnoses_icd.csv.gz", "4 rows")
    assert look("d_icd_diagnoses.csv.gz") == Finding("ok", "d_icd_diagnoses.csv.gz", "1 rows")


def test_summaries_are_spooled_in_the_work_folder_and_nothing_is_left_there(
    make_config: Callable[..., PipelineConfig], raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = make_config(data={"recipe": "mimic4_icd10", "raw": raw})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "of the system, not there"))
    found = "2 can be read as ingest reads them (left out: admission_without_codes_of_version: 1, code_malformed: 1)"
    assert findings_of(config, "documents") == [Finding("ok", "documents", found)]
    assert not config.work_dir.exists()


def test_rows_other_than_published_are_said(look: Callable[..., Finding]) -> None:
    summaries = look("discharge.csv.gz")
    assert (summaries.state, summaries.found) == ("warning", "3 rows, published are 331,794")


@pytest.mark.parametrize(
    ("change", "state", "part"),
    [
        (lambda path: path.unlink(), "wrong", "no such file; download it"),
        (lambda path: path.write_bytes(b""), "wrong", "the file is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "wrong", "damaged or cut off"),
        (lambda path: path.write_bytes(b"icd_code"), "wrong", "not a gzip file, whatever its name says"),
        (
            lambda path: edit(path, lambda one: one.replace(b"icd_code", b"code")),
            "wrong",
            "column 'icd_code' is missing",
        ),
        (lambda path: edit(path, lambda one: one.partition(b"\n")[0] + b"\n"), "wrong", "a header and no rows"),
        (lambda path: edit(path, lambda one: one.upper()), "ok", "4 rows"),
        (
            lambda path: edit(path, lambda one: one.replace(b"11,1,E119,10", b"11,1,E119")),
            "wrong",
            "3 rows, 1 more are broken (first: diagnoses_icd.csv.gz row 3)",
        ),
    ],
    ids=["missing", "empty", "cut", "not gzip", "column", "no rows", "upper case", "broken row"],
)
def test_a_fault_of_a_raw_file_is_named(
    look: Callable[..., Finding], raw: Path, change: Callable[[Path], object], state: str, part: str
) -> None:
    change(raw / "hosp" / "diagnoses_icd.csv.gz")
    found = look("diagnoses_icd.csv.gz")
    assert found.state == state
    assert part in found.found


def test_broken_rows_that_will_be_skipped_are_a_warning(look: Callable[..., Finding], raw: Path) -> None:
    edit(raw / "hosp" / "diagnoses_icd.csv.gz", lambda one: one.replace(b"11,1,E119,10", b"11,1,E119"))
    assert look("diagnoses_icd.csv.gz", on_bad_row="skip").state == "warning"


def test_tables_of_titles_may_be_missing_and_tables_never_read_are_not_asked_for(
    make_config: Callable[..., PipelineConfig], raw: Path
) -> None:
    (raw / "hosp" / "d_icd_diagnoses.csv.gz").unlink()
    (raw / "hosp" / "procedures_icd.csv.gz").unlink()
    config = make_config(data={"recipe": "mimic4_icd10", "raw": raw, "options": {"code_kinds": ["diagnoses"]}})
    states = {one.what: one.state for one in examine(config) if one.what.endswith(".csv.gz")}
    assert states == {"discharge.csv.gz": "warning", "diagnoses_icd.csv.gz": "ok", "d_icd_diagnoses.csv.gz": "warning"}


def test_folders_that_cannot_be_written_are_told(make_config: Callable[..., PipelineConfig], tmp_path: Path) -> None:
    for name in ("file", "other"):
        (tmp_path / name).touch()
    config = make_config(work_dir=tmp_path / "file" / "work", tracking={"dir": tmp_path / "other"})
    for what in ("disk", "MLflow"):
        (found,) = findings_of(config, what)
        assert (found.state, "cannot be written" in found.found) == ("wrong", True)


def test_raw_data_that_are_not_named_are_asked_for(make_config: Callable[..., PipelineConfig]) -> None:
    (found,) = findings_of(make_config(data={"recipe": "mimic4_icd10"}), "data.raw")
    assert found.state == "wrong"
    assert "set data.raw=PATH" in found.found


def test_counts_stand_beside_the_published_ones_after_ingestion(
    make_config: Callable[..., PipelineConfig], raw: Path
) -> None:
    config = make_config(data={"recipe": "mimic4_icd10", "raw": raw})
    assert [one.state for one in findings_of(config, "counts")] == ["ok"]
    published = {
        "summaries": {"published": 331_794, "found": 331_794, "verdict": "pass"},
        "documents": {"published": 1500, "found": 1499, "verdict": "differs"},
    }
    with writing(config, "ingest") as output:
        for name in ("documents.parquet", "annotators.parquet", "titles.json"):
            (output.dir / name).write_bytes(b"")
        write_json(output.dir / "ingest_report.json", {"counts": {"documents": 1499}, "published": published})
    assert findings_of(config, "n summaries") == [Finding("ok", "n summaries", "pass: 331,794, published 331,794")]
    (differs,) = findings_of(config, "n documents")
    assert (differs.state, differs.found) == ("warning", "differs: 1,499, published 1,500")
    other = make_config(data={"recipe": "mimic4_icd10", "raw": raw, "placeholder": "deid"})
    assert [one.found for one in findings_of(other, "counts")] == ["the last ingestion had other settings"]


def test_a_spreadsheet_is_told_to_be_exported(tmp_path: Path) -> None:
    path = tmp_path / "notes.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match="spreadsheets are not read; export it as CSV"):
        count_rows(RawTable(path, ("text",)))


def test_the_table_lines_up_and_sums_up() -> None:
    findings = [
        Finding("ok", "disk", "plenty"),
        Finding("wrong", "encoder", "is not on this machine, nor anywhere near it", "copy its folder to models/ first"),
    ]
    assert render(findings, width=60) == (
        "         checked  found -> what to do\n"
        "ok       disk     plenty\n"
        "wrong    encoder  is not on this machine, nor anywhere near\n"
        "                  it -> copy its folder to models/ first\n"
        "\n"
        "1 to be mended before it can run, 0 warnings"
    )


def test_a_raw_folder_without_permission_is_a_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "raw/hosp")

    monkeypatch.setattr("data_recipes.raw_tables", refuse)
    config = tmp_path / "a.yaml"
    config.write_text("experiment: a\n", encoding="utf-8")
    assert main(["doctor", str(config), "--set", f"work_dir={tmp_path / 'work'}"]) == 2
    assert capsys.readouterr().err == "error: raw/hosp: Permission denied; mend its permissions.\n"


@pytest.mark.parametrize(("is_sound", "status"), [(True, 0), (False, 2)])
def test_the_command_exits_0_or_2_and_shows_no_text_of_a_document(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str], is_sound: bool, status: int
) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("experiment: a\ndata: {recipe: mimic4_icd10}\n", encoding="utf-8")
    if not is_sound:
        edit(raw / "note" / "discharge.csv.gz", lambda one: one.replace(CANARY.encode(), CANARY.encode() + b'"'))
    arguments = ["doctor", str(config), "--set", f"data.raw={raw}", "--set", f"work_dir={tmp_path / 'work'}"]
    assert main(arguments) == status
    shown = capsys.readouterr()
    assert ("nothing stands in the way" in shown.out) == is_sound
    assert CANARY not in shown.out + shown.err
    assert not (tmp_path / "work").exists()
    assert main(["doctor", str(config), "--set", "data.recipe=mimic5"]) == 2
    assert "no recipe 'mimic5'" in capsys.readouterr().err
