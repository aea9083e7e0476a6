"""The recipes of MIMIC-III, on small raw folders written here."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mimic3_cases import MARKER, SUMMARY, ingest, message, note, read, table, write_raw

from data_recipes import load_recipe, mimic3_50, mimic3_clean, mimic3_full, recipe_options
from data_recipes._mimic import mimic3
from pipeline.errors import UserError
from pipeline.icd.codes import CodeSystem, is_valid_shape
from pipeline.notes.ingest_report import IngestReport


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
    documents = mimic3.read(raw, mimic3.Options(), IngestReport(), tmp_path / "scratch")
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


PRINCIPALS = [
    ([(1, "41071"), (2, "4019")], "icd9cm:410.71"),
    ([(1, ""), (2, "4019")], None),  # the row of the principal diagnosis has no code
    ([(2, "4019"), (3, "41071")], None),
    ([("", "4019"), ("", "41071")], None),
    ([("3.0", "4019"), ("1.0", "41071")], "icd9cm:410.71"),  # numbers that pandas read and wrote again
]


@pytest.mark.parametrize(("diagnoses", "principal"), PRINCIPALS)
def test_the_principal_diagnosis_is_the_row_of_number_one_or_unknown(
    tmp_path: Path, diagnoses: list[tuple[object, str]], principal: str | None
) -> None:
    rows = [(100, place, code) for place, code in diagnoses]
    (document,), report = read(write_raw(tmp_path, [note(1, 100, "x")], diagnoses=rows))
    assert document.principal == principal
    assert report.as_dict()["changed"].get("principal_diagnosis_unknown", 0) == (principal is None)


def test_the_principal_diagnosis_is_unknown_where_its_code_is_not_kept(tmp_path: Path) -> None:
    """Of 410.71, 401.9 the set of one code keeps 401.9 alone, which is not what the admission was for."""
    diagnoses = [(100, 1, "41071"), (100, 2, "4019"), (200, 1, "4019")]
    notes = [note(1, 100, "x"), note(2, 200, "y", subject_id=2)]
    documents, _ = read(write_raw(tmp_path, notes, diagnoses=diagnoses), top_codes=1)
    assert [one.principal for one in documents] == [None, "icd9cm:401.9"]


def test_caml_loses_zeros_of_procedures_at_both_ends_and_of_nothing_else(tmp_path: Path) -> None:
    diagnoses = [(100, 1, "0389"), (100, 2, "25000")]
    procedures = [(100, place, code) for place, code in enumerate(("0066", "9390", "0331", "331", "3995", "0009"))]
    raw = write_raw(tmp_path, [note(1, 100, "x")], diagnoses=diagnoses, procedures=procedures)
    assert read(raw, compatibility="caml")[0][0].labels == [
        "icd9cm:038.9", "icd9cm:250.00", "icd9pcs:66.0", "icd9pcs:93.9", "icd9pcs:33.1", "icd9pcs:39.95",
        "icd9pcs:00.09",
    ]  # fmt: skip
    assert "icd9pcs:00.66" in read(raw)[0][0].labels


def test_titles_are_spelled_as_the_labels_of_caml_and_of_two_codes_in_one_there_is_none(tmp_path: Path) -> None:
    """Else 00.66, an angioplasty, would have the title of 66.0 in training and reports."""
    raw = write_raw(tmp_path, [note(1, 100, "x")])
    titles = [(1, "0066", "", "PTCA"), (2, "0331", "", "Spinal tap"), (3, "331", "", "Incision of lung")]
    content = table(("ROW_ID", "ICD9_CODE", "SHORT_TITLE", "LONG_TITLE"), titles)
    (raw / "D_ICD_PROCEDURES.csv.gz").write_bytes(gzip.compress(content))

    def titles_of(compatibility: str) -> dict[str, str]:
        options = mimic3.Options.model_validate({"compatibility": compatibility})
        return mimic3.read_titles(raw, options, IngestReport(), tmp_path)

    assert titles_of("caml") == {"icd9pcs:66.0": "PTCA"}
    assert titles_of("none") == {
        "icd9pcs:00.66": "PTCA", "icd9pcs:03.31": "Spinal tap", "icd9pcs:33.1": "Incision of lung",
    }  # fmt: skip


@given(st.from_regex(r"[0-9]{2}(\.[0-9]{1,2})?", fullmatch=True), st.sampled_from(["icd9pcs", "icd9cm"]))
def test_every_code_has_a_spelling_of_caml_that_is_a_code(code: str, system: CodeSystem) -> None:
    """And that is the same number but for a dot two digits behind the first one that is not zero."""
    if not is_valid_shape(code, system):
        return
    spelled = mimic3.caml_spelling(code, system)
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


def test_notes_that_pandas_read_and_wrote_again_find_their_codes(tmp_path: Path) -> None:
    whole = [note(1, 100, "first"), note(2, 100, "wrong", iserror="1"), note(3, 200, "second", subject_id=2)]
    again = [
        note("1.0", "100.0", "first", subject_id="1.0"),
        note("2.0", "100.0", "wrong", iserror="1.0"),
        note("3.0", "200.0", "second", subject_id="2.0"),
    ]
    found = [read(write_raw(tmp_path / name, notes)) for name, notes in (("whole", whole), ("again", again))]
    assert found[0][0] == found[1][0] != []
    assert found[0][1].as_dict() == found[1][1].as_dict()
