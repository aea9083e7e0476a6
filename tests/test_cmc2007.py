from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_recipes import cmc2007, load_recipe
from pipeline.errors import UserError
from pipeline.notes.documents import Document, write_documents
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.text import find_sections

HISTORY = "<text origin='X' type='CLINICAL_HISTORY'>{}</text>"
IMPRESSION = "<text origin='X' type='IMPRESSION'>{}</text>"


def code(value: str, origin: str = "CMC_MAJORITY", kind: str = "ICD-9-CM") -> str:
    return f"<code origin='{origin}' type='{kind}'>{value}</code>"


def doc(document_id: str, codes: str, history: str = "Made-up cough.", impression: str = "Clear.") -> str:
    texts = HISTORY.format(history) + IMPRESSION.format(impression)
    return f"<doc id='{document_id}' type='RADIOLOGY_REPORT'><codes>{codes}</codes><texts>{texts}</texts></doc>"


def write_xml(folder: Path, *docs: str) -> Path:
    path = folder / "made_up.xml"
    path.write_text("<?xml version='1.0' encoding='utf-8'?>\n<docs>\n" + "\n".join(docs) + "\n</docs>\n", "utf-8")
    return path


def read(raw: Path | None, report: IngestReport | None = None) -> list[Document]:
    return list(cmc2007.read(raw, cmc2007.Options(), report or IngestReport(), Path("unused")))


def test_a_report_has_majority_codes_as_labels_and_the_coders_as_annotators(tmp_path: Path) -> None:
    codes = code("786.2") + code("786.2", "COMPANY1") + code("V42.81", "COMPANY1") + code("780.6", "COMPANY2")
    (document,) = read(write_xml(tmp_path, doc("17", codes + code("599.0"))))
    assert document == Document(
        "17",
        "17",
        "CLINICAL HISTORY: Made-up cough.\nIMPRESSION: Clear.",
        ["icd9cm:786.2", "icd9cm:599.0"],
        annotations={"COMPANY1": ["icd9cm:786.2", "icd9cm:V42.81"], "COMPANY2": ["icd9cm:780.6"]},
    )
    assert [section.name for section in find_sections(document.text)] == ["clinical history", "impression"]


def test_entities_blanks_and_repeated_codes_are_resolved(tmp_path: Path) -> None:
    (document,) = read(write_xml(tmp_path, doc("1", code(" 786.2 ") + code("7862"), " T &lt; 38 &amp; é ", "  ")))
    assert document.labels == ["icd9cm:786.2"]
    assert document.text == "CLINICAL HISTORY: T < 38 & é"


def test_codes_that_are_none_are_counted_by_reason_and_coder(tmp_path: Path) -> None:
    codes = (
        code("786.2") + code(".786.2") + code("") + code("I10", kind="ICD-10") + "<code type='ICD-9-CM'>599.0</code>"
        + code("27.00", "COMPANY1")
    )  # fmt: skip
    report = IngestReport()
    (document,) = read(write_xml(tmp_path, doc("5", codes)), report)
    assert document.labels == ["icd9cm:786.2"]
    assert document.annotations == {"COMPANY1": []}
    assert report.as_dict()["dropped"] == {
        "annotator_code_malformed": 1,
        "code_malformed": 1,
        "code_missing": 1,
        "code_of_other_type": 1,
        "code_without_origin": 1,
    }
    assert report.as_dict()["examples"]["code_malformed"] == ["5"]


def test_reports_that_cannot_be_used_are_counted_and_the_rest_written(tmp_path: Path) -> None:
    """Six reports: two good ones, one each without id, with an id seen before, without text, without labels."""
    path = write_xml(
        tmp_path,
        doc("1", code("786.2") + code("786.2", "COMPANY1")),
        doc("", code("786.2")),
        doc("1", code("599.0"), "Another text."),
        doc("2", code("786.2"), " ", ""),
        doc("3", code("786.2", "COMPANY1")),
        doc("4", code("599.0")),
    )
    report = IngestReport(cmc2007.PUBLISHED)
    documents = cmc2007.read(path, cmc2007.Options(), report, tmp_path)
    write_documents(documents, tmp_path / "d.parquet", tmp_path / "a.parquet", report)
    assert pq.read_table(tmp_path / "d.parquet")["document_id"].to_pylist() == ["1", "4"]
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [
        {"document_id": "1", "annotator": "COMPANY1", "labels": ["icd9cm:786.2"]}
    ]
    summary = report.as_dict()
    assert summary["counts"]["reports"] == 6
    assert summary["dropped"] == {
        "document_without_codes": 1,
        "duplicate_document_id": 1,
        "empty_text": 1,
        "missing_document_id": 1,
    }
    assert summary["examples"]["missing_document_id"] == ["report 2"]
    assert summary["published"]["reports"] == {"published": 978, "found": 6, "matches": False, "verdict": "other size"}


def test_a_file_cut_off_in_the_middle_is_refused_with_the_line(tmp_path: Path) -> None:
    """Line 1 is the declaration, 2 <docs>, 3 and 4 the reports; line 4 is cut."""
    path = write_xml(tmp_path, doc("1", code("786.2")), doc("2", code("786.2"), "CANARY text"))
    whole = path.read_text("utf-8")
    path.write_text(whole[: whole.index("CANARY") + 3], "utf-8")
    with pytest.raises(UserError, match=r"made_up.xml, line 4, column \d+: no XML, or cut off here") as error:
        read(path)
    assert "CANARY"[:3] not in str(error.value).replace("made_up.xml", "")


@pytest.mark.parametrize("content", [b"", b"id,text\n1,cough\n", b"\x1f\x8b\x08\x00zip", b"<docs><doc id='1'></docs>"])
def test_what_is_no_xml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.xml"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no XML, or cut off"):
        read(path)


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.xml"
    path.write_bytes(b"<?xml version='1.0' encoding='utf-7'?><docs></docs>")
    with pytest.raises(UserError, match="XML"):
        read(path)


def test_xml_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.xml"
    path.write_text("<records><record/></records>", "utf-8")
    with pytest.raises(UserError, match="holds no <doc> elements"):
        read(path)


def test_a_missing_path_is_refused_and_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.raw is not set; give the XML file"):
        read(None)
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "none.xml")


def test_a_folder_must_hold_one_xml_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 0 .xml files, expected one"):
        read(tmp_path)
    path = write_xml(tmp_path, doc("1", code("786.2")))
    assert [document.document_id for document in read(tmp_path)] == ["1"]
    assert cmc2007.raw_files(tmp_path, cmc2007.Options()) == [path]
    (tmp_path / "test.xml").write_text("<docs/>", "utf-8")
    with pytest.raises(UserError, match=r"holds 2 .xml files"):
        read(tmp_path)


def test_the_recipe_is_found_by_name() -> None:
    assert load_recipe("cmc2007") is cmc2007
    assert cmc2007.raw_files(None, cmc2007.Options()) == []
    assert cmc2007.raw_files(Path("x.xml"), cmc2007.Options()) == [Path("x.xml")]


def test_the_real_file_has_three_coders_for_every_report() -> None:
    if "ICD_CMC2007" not in os.environ:
        pytest.skip("set ICD_CMC2007 to the path of the challenge's training XML")
    report = IngestReport()
    documents = read(Path(os.environ["ICD_CMC2007"]), report)
    assert report.counts["reports"] == len(documents) == len({document.document_id for document in documents})
    assert all(document.labels and document.text for document in documents)
    assert {tuple(sorted(document.annotations)) for document in documents} == {("COMPANY1", "COMPANY2", "COMPANY3")}
    assert not report.dropped("code_malformed")
    n_labels = len({label for document in documents for label in document.labels})
    assert 40 <= n_labels <= 45
