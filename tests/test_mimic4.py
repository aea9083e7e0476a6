"""The recipe of MIMIC-IV on small raw folders written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mimic4_cases import (
    DIAGNOSES,
    DISCHARGE,
    MARKER,
    PROCEDURES,
    STAYS,
    TITLES,
    ingest,
    read,
    summary,
    write_raw,
    write_table,
)

from data_recipes import recipe_options
from data_recipes._mimic import mimic4
from data_recipes._mimic.codes import CodeColumns, CodeTable
from pipeline.errors import UserError
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport


def test_labels_are_diagnoses_then_procedures_by_sequence_number_each_once(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        diagnoses=[
            (100, 10, "Z7901", 10), (100, 2, "E1165  ", 10), (100, 1, "I10", 10), (100, 11, "I10", 10),
            (200, 1, "A419", 10),
        ],
        procedures=[(100, 1, "0DTJ4ZZ", 10)],
        summaries=STAYS,
    )  # fmt: skip
    documents, report = read(tmp_path)
    labels = ["icd10cm:I10", "icd10cm:E11.65", "icd10cm:Z79.01", "icd10pcs:0DTJ4ZZ"]
    assert documents == [
        Document("100", "1", f"{MARKER}\nfirst", labels, principal="icd10cm:I10"),
        Document("200", "2", f"{MARKER}\nsecond", ["icd10cm:A41.9"], principal="icd10cm:A41.9"),
    ]
    assert report.counts == {
        "diagnosis_rows": 5, "diagnosis_codes": 5, "procedure_rows": 1, "procedure_codes": 1, "summaries": 2,
    }  # fmt: skip
    assert not report.as_dict()["dropped"]


def test_icd9_codes_keep_their_zeros_and_diagnoses_stay_apart_from_procedures(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        diagnoses=[(100, place, code, 9) for place, code in enumerate(("0389", "25000", "E8889", "V053", "3995"))],
        procedures=[(100, place, code, 9) for place, code in enumerate(("0066", "9390", "3995"))],
        summaries=STAYS,
    )
    documents, _ = read(tmp_path, icd_version=9)
    assert documents[0].labels == [
        "icd9cm:038.9", "icd9cm:250.00", "icd9cm:E888.9", "icd9cm:V05.3", "icd9cm:399.5",
        "icd9pcs:00.66", "icd9pcs:93.90", "icd9pcs:39.95",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "labels"), [(("diagnoses",), ["icd10cm:I10"]), (("procedures",), ["icd10pcs:0DTJ4ZZ"])]
)
def test_only_the_code_kinds_asked_for_are_read(tmp_path: Path, kinds: tuple[str, ...], labels: list[str]) -> None:
    write_raw(tmp_path, diagnoses=[(100, 1, "I10", 10)], procedures=[(100, 1, "0DTJ4ZZ", 10)], summaries=STAYS[:1])
    other = "procedures" if kinds == ("diagnoses",) else "diagnoses"
    (tmp_path / f"hosp/{other}_icd.csv.gz").unlink()
    documents, _ = read(tmp_path, code_kinds=kinds)
    assert documents[0].labels == labels
    assert not any(other in path.name for path in mimic4.raw_files(tmp_path, mimic4.Options(code_kinds=kinds)))


def test_admissions_of_the_other_version_and_without_any_code_are_counted_apart(tmp_path: Path) -> None:
    summaries = [*STAYS, summary("3-DS-1", 3, 300, 1, MARKER)]
    write_raw(tmp_path, diagnoses=[(100, 1, "I10", 10), (200, 1, "4019", 9)], summaries=summaries)
    report = ingest(tmp_path, tmp_path)
    assert report["dropped"] == {"admission_without_codes_of_version": 1, "document_without_codes": 1}
    assert report["examples"]["admission_without_codes_of_version"] == ["200"]
    assert report["examples"]["document_without_codes"] == ["300"]
    assert report["counts"]["documents"] == 1


def test_tables_that_pandas_read_and_wrote_again_give_the_same_documents(tmp_path: Path) -> None:
    """A column with a gap is one of floats: "100.0" in all tables, whatever stands in each."""
    whole = write_raw(tmp_path / "a", diagnoses=[(100, 1, "I10", 10), (200, 1, "4019", 9)], summaries=STAYS)
    again = write_raw(
        tmp_path / "b",
        diagnoses=[("100.0", "1.0", "I10", "10.0"), ("200.0", "1.0", "4019", "9.0")],
        summaries=[summary("1-DS-2", "1.0", "100.0", "2.0", STAYS[0][-1]), (*STAYS[1][:2], "200.0", *STAYS[1][3:])],
    )
    assert read(again)[0] == read(whole)[0] != []
    assert read(again)[1].as_dict() == read(whole)[1].as_dict()
    write_table(again / "hosp/d_icd_diagnoses.csv.gz", TITLES, [("I10", "10.0", "Hypertension")])
    assert mimic4.read_titles(again, mimic4.Options(), IngestReport(), tmp_path) == {"icd10cm:I10": "Hypertension"}


def test_codes_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    """Of nine rows three are kept: I10, also of "100.0", and D62 behind it for want of a sequence number."""
    write_raw(
        tmp_path,
        diagnoses=[
            (100, "", "D62", 10), (100, 1, "I10", 10), (100, 2, "rash", 10), (100, 3, "", 10), (100, 4, "  ", 10),
            ("", 1, "I10", 10), ("100.0", 1, "I10", 10), (100, 5, "I10", 11), (100, 6, "9.5", 10),
        ],
        summaries=STAYS[:1],
    )  # fmt: skip
    documents, report = read(tmp_path)
    assert documents[0].labels == ["icd10cm:I10", "icd10cm:D62"]
    counts = report.as_dict()
    assert counts["dropped"] == {
        "code_malformed": 2, "code_missing": 2, "code_without_hadm_id": 1, "code_version_unknown": 1,
    }  # fmt: skip
    assert counts["changed"] == {"code_without_seq_num": 1}
    assert counts["counts"]["diagnosis_rows"] == 9
    assert counts["counts"]["diagnosis_codes"] == 3
    assert counts["examples"]["code_malformed"] == ["100", "100"]


def test_several_summaries_of_a_stay_are_joined_in_the_order_of_note_seq(tmp_path: Path) -> None:
    """Nine comes before ten; the stay keeps the place of its first row; a blank text adds nothing."""
    summaries = [
        summary("1-DS-10", 1, 100, 10, "late"),
        summary("1-DS-9", 1, 101, 9, "other stay"),
        summary("1-DS-9b", 1, 100, 9, "early"),
        summary("1-DS-11", 1, 100, 11, " \n"),
    ]
    write_raw(tmp_path, diagnoses=[(100, 1, "I10", 10), (101, 1, "I10", 10)], summaries=summaries)
    documents, report = read(tmp_path)
    assert [(one.document_id, one.text) for one in documents] == [("100", "early\n\nlate"), ("101", "other stay")]
    assert report.as_dict()["changed"] == {"summaries_joined": 1}


def test_rows_that_are_there_twice_and_rows_without_ids_are_counted(tmp_path: Path) -> None:
    summaries = [
        STAYS[0],
        STAYS[0],  # the same note again
        STAYS[1],
        summary("1-DS-7", 1, 100, 7, MARKER),  # a stay of patient 1 behind those of patient 2
        summary("3-DS-1", 3, "", 1, MARKER),
        summary("4-DS-1", "", 400, 1, MARKER),
        summary("5-DS-1", 5, 500, 1, " \n "),
    ]
    codes = [(hadm, 1, "I10", 10) for hadm in (100, 200, 400, 500)]
    report = ingest(write_raw(tmp_path, diagnoses=codes, summaries=summaries), tmp_path)
    assert report["dropped"] == {
        "duplicate_note_id": 1, "duplicate_document_id": 1, "summary_without_hadm_id": 1,
        "summary_without_subject_id": 1, "empty_text": 1,
    }  # fmt: skip
    assert report["counts"]["documents"] == 2
    assert report["published"]["summaries"] == {
        "published": 331_794, "found": 7, "matches": False, "verdict": "other size",
    }  # fmt: skip


def test_unpacked_files_in_the_folder_itself_with_upper_case_headers_are_read(tmp_path: Path) -> None:
    write_table(tmp_path / "diagnoses_icd.csv", [name.upper() for name in DIAGNOSES], [(1, 100, 1, "I10", 10)])
    write_table(tmp_path / "procedures_icd.csv", [name.upper() for name in PROCEDURES], [])
    write_table(tmp_path / "discharge.csv", [name.upper() for name in DISCHARGE], STAYS[:1])
    documents, _ = read(tmp_path)
    assert [one.labels for one in documents] == [["icd10cm:I10"]]


def test_titles_come_from_the_tables_of_the_version_and_may_be_missing(tmp_path: Path) -> None:
    rows = [
        ("I10    ", 10, "Essential hypertension"),
        ("4019", 9, "Hypertension"),
        ("heading", 10, "x"),
        ("E119", 10, " "),
    ]
    write_table(tmp_path / "hosp/d_icd_diagnoses.csv.gz", TITLES, rows)
    assert mimic4.read_titles(tmp_path, mimic4.Options(), IngestReport(), tmp_path) == {
        "icd10cm:I10": "Essential hypertension"
    }
    assert mimic4.read_titles(tmp_path, mimic4.Options(icd_version=9), IngestReport(), tmp_path) == {
        "icd9cm:401.9": "Hypertension"
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"icd_version": 11}, "options:\n  icd_version: Input should be 10 or 9"),
        ({"code_kinds": ["drugs"]}, "code_kinds"),
        ({"code_kinds": []}, "code_kinds"),
        ({"on_bad_rows": "skip"}, "unknown key; did you mean 'on_bad_row'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_options(mimic4, options)
    assert problem in str(caught.value)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 5),
            st.integers(1, 9),
            st.sampled_from(["I10", "D62", "A419", "E119"]),
            st.sampled_from([9, 10]),
        ),
        max_size=30,
    )
)
def test_codes_by_admission_equal_those_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("codes") / "diagnoses_icd.csv"
    write_table(path, DIAGNOSES, [(1, *row) for row in rows])
    table = CodeTable(CodeColumns("icd_code", "icd_version"), IngestReport(), version="10", on_bad_row="error")
    table.add(path, "icd10cm", kind="diagnosis")
    dotted = {"A419": "A41.9", "E119": "E11.9"}
    for admission in range(7):
        mine = [row for row in rows if row[0] == admission]
        by_place = sorted((row for row in mine if row[3] == 10), key=lambda row: row[1])
        expected = list(dict.fromkeys(f"icd10cm:{dotted.get(row[2], row[2])}" for row in by_place))
        assert table.labels_of(admission) == expected
        assert table.has_other_version(admission) == any(row[3] == 9 for row in mine)
