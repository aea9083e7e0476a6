"""Files of codes are read as they were written, and what is none is refused without quoting it."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_cases import SECRET, code, shown, write_codes, write_notes

from pipeline.coding.code_files import Code, CodedDocument, text_digest, writing_codes
from pipeline.coding.code_reading import read_codes
from pipeline.errors import UserError
from pipeline.files import csv_cell, csv_text
from pipeline.icd.labels import LabelSpace
from pipeline.notes.spans import Span
from pipeline.reports.review import collect


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_codes_are_read_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    codes = [code("R50", 0.75, (1, 4), (6, 9)), code("I10", 0.25, rank=2)]
    written = [CodedDocument("007", codes, text_digest("x")), CodedDocument("b", [], text_digest(""))]
    assert list(read_codes(write_codes(tmp_path / f"c.{suffix}", *written))) == written
    earlier = [one._replace(text_digest=None) for one in written]
    assert list(read_codes(write_codes(tmp_path / f"c.{suffix}", *earlier))) == earlier


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["=1+1", "-5", "-5-", "+a", "@b", "'=1+1", "''@", "'", "'quoted'"])
def test_what_a_spreadsheet_would_compute_is_read_as_it_was_given(tmp_path: Path, suffix: str, name: str) -> None:
    """A title may begin with a tab, too; blanks around an id are none of it."""
    found = Code(1, "none", name, f"\t{name}", 0.5, is_predicted=True)
    written = [CodedDocument(name, [found], text_digest("x")), CodedDocument(f"{name}=", [], None)]
    with writing_codes(tmp_path / f"c.{suffix}") as writer:
        for one in written:
            writer.add(*one)
    assert list(read_codes(tmp_path / f"c.{suffix}")) == written


@given(st.text("'=+-@\t\r1a.e"))
def test_no_cell_of_a_csv_is_a_formula_and_each_gives_its_text_back(text: str) -> None:
    cell = csv_cell(text)
    assert csv_text(cell) == text
    if cell[:1] in tuple("=+-@\t\r"):
        assert math.isfinite(float(cell)), "but for numbers"


def test_evidence_of_thousands_of_spans_is_read(tmp_path: Path) -> None:
    """It is one field of a CSV, of which Python's reader takes 131,072 characters unless told otherwise."""
    spans = [(start, start + 1) for start in range(0, 5000, 2)]
    path = write_codes(tmp_path / "c.csv", CodedDocument("a", [code("R50", 0.75, *spans)], None))
    assert path.stat().st_size > 131_072
    ((_, (found,), _),) = read_codes(path)
    assert found.evidence is not None
    assert len(found.evidence) == len(spans)


def test_codes_without_evidence_say_so(tmp_path: Path) -> None:
    with writing_codes(tmp_path / "c.csv") as writer:
        writer.add("a", [Code(1, "icd10cm", "I10", None, 0.5, is_predicted=True)])
    (one,) = shown(tmp_path / "c.csv", write_notes(tmp_path / "n.jsonl", a="x"))
    assert (one["hasEvidence"], one["codes"][0]["title"]) == (False, "")


def write_stage_predictions(folder: Path, n_labels: int, **more: str) -> Path:
    row = {
        "document_id": "a", "split": "test", "probabilities": [0.25, 0.75, 0.5], "predicted": [1, 2],
        "evidence": [[{"start": 0, "end": 3, "score": 1.0}], []],
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row | more]), folder / "predictions.parquet")
    labels = ("icd10cm:A00", "icd10cm:B00", "icd9pcs:39.95")[:n_labels]
    LabelSpace(labels, ("A", "B", None)[:n_labels], (1, 1, 1)[:n_labels]).save(folder / "label_space.json")
    return folder / "predictions.parquet"


def test_predictions_of_the_stage_get_codes_and_titles_from_the_label_space_beside_them(tmp_path: Path) -> None:
    ((document_id, codes, digest),) = read_codes(write_stage_predictions(tmp_path, 3))
    assert (document_id, digest) == ("a", None)
    assert codes == [
        Code(1, "icd10cm", "B00", "B", 0.75, is_predicted=True, evidence=(Span(0, 3, 1.0, ""),)),
        Code(2, "icd9pcs", "39.95", None, 0.5, is_predicted=True, evidence=()),
    ]


@pytest.mark.parametrize(("note", "misfits"), [("flu", []), ("cut", ["a"])])
def test_predictions_of_the_stage_tell_their_text_from_another(tmp_path: Path, note: str, misfits: list[str]) -> None:
    predictions = write_stage_predictions(tmp_path, 3, text_digest=text_digest("flu"))
    review = collect(predictions, write_notes(tmp_path / "n.jsonl", a=note), max_documents=9)
    assert review.misfits == misfits


def test_predictions_of_the_stage_without_their_label_space_or_with_another_are_refused(tmp_path: Path) -> None:
    path = write_stage_predictions(tmp_path, 2)
    with pytest.raises(UserError, match="different label spaces"):
        list(read_codes(path))
    (tmp_path / "label_space.json").unlink()
    with pytest.raises(UserError, match=r"label_space\.json is missing"):
        list(read_codes(path))


ROW = (
    '{"document_id": "a", "codes": [{"rank": 1, "code_system": "icd10cm", "code": "I10", "title": null, '
    '"probability": 0.5, "is_predicted": true, "evidence": [{"start": 0, "end": 1, "score": 1}]}]}'
)


def test_a_truth_value_of_a_csv_may_be_spelled_as_other_programs_do(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(ROW)
    assert next(read_codes(tmp_path / "c.jsonl")).codes[0].is_predicted
    rows = [f"{place},1,icd10cm,I10,,0.5,{value}\n" for place, value in enumerate(("True", "FALSE", "true", "0"))]
    (tmp_path / "c.csv").write_text(HEADER + "".join(rows))
    assert [one.codes[0].is_predicted for one in read_codes(tmp_path / "c.csv")] == [True, False, True, False]


HEADER = "document_id,rank,code_system,code,title,probability,is_predicted\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", f"document_id,text\na,{SECRET}\n", "column rank is missing"),
        ("c.csv", HEADER + "a,1,icd10cm\n", r"behind document 0: no codes as .* \(ValueError\)"),
        ("c.csv", HEADER + f"a,1,icd10cm,I10,,{SECRET},1\n", r"behind document 0: no codes as .* \(ValueError\)"),
        ("c.csv", HEADER + f"a,1,icd10cm,I10,,0.5,1\nb,1,icd10cm,I10,,0.5,{SECRET}\n", "behind document 1: no codes"),
        ("c.csv", HEADER + f'a,1,icd10cm,I10,,0.5,1\nb,"{SECRET}', "no codes"),
        ("c.jsonl", f'{{"document_id": "a", "text": "{SECRET}"}}', r"no codes as .* \(KeyError\)"),
        ("c.jsonl", f'{{"document_id": "a", "codes": ["{SECRET}"]}}', "no codes"),
        ("c.jsonl", SECRET, "no codes"),
        *[
            ("c.jsonl", ROW.replace(old, new), "no codes as")
            for old, new in (
                ("true", '"false"'),
                ("true", "1"),
                ("0.5", "NaN"),
                ("0.5", "7.0"),
                ("0.5", "1e9"),
                ("0.5", '"0.5"'),
                ('"a"', f'"{SECRET}\\n"'),
                ('"score": 1', '"score": NaN'),
            )
        ],
        ("c.csv", HEADER + "a,1,icd10cm,I10,,nan,1\n", "no codes as"),
        ("c.csv", HEADER + "a,1,icd10cm,I10,,1e9,1\n", "no codes as"),
        ("c.csv", HEADER + "a,1,icd10cm,I10,,0.5,2\n", "no codes as"),
        ("c.csv", HEADER + f'"{SECRET * 20}",1,icd10cm,I10,,0.5,1\n', "no codes as"),
        ("c.csv", "label,title,verdict\n", "that is the report's table of codes, not what `icd predict` wrote"),
        ("c.jsonl", b"\x89PNG\xff\xfe\0", "no codes"),
        ("c.parquet", SECRET, "no codes"),
        ("c.xlsx", SECRET, "unknown kind of file '.xlsx'"),
    ],
)
def test_a_file_that_holds_no_codes_is_refused_without_quoting_it(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as caught:
        list(read_codes(tmp_path / name))
    assert SECRET not in str(caught.value)


def test_a_missing_file_of_codes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; expected what `icd predict`"):
        list(read_codes(tmp_path / "none.jsonl"))
