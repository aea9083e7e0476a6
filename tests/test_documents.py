"""The documents table: nothing is dropped without a count, memory stays flat, text stays out of messages."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.files import without_half_pairs, write_json
from pipeline.notes.documents import (
    ANNOTATOR_SCHEMA,
    DOCUMENT_SCHEMA,
    Document,
    iterate_documents,
    write_documents,
)
from pipeline.notes.ingest_report import IngestReport

I10, N179 = "icd10cm:I10", "icd10cm:N17.9"
DAY = datetime.date(2019, 3, 4)


def document(document_id: str, text: str = "Some text.", labels: Sequence[str] = (I10,), **options: Any) -> Document:
    return Document(document_id, options.pop("patient_id", f"p{document_id}"), text, labels, **options)


def write(folder: Path, documents: Any, **options: Any) -> tuple[list[dict[str, Any]], IngestReport]:
    """Rows of the table and the report."""
    report = IngestReport()
    write_documents(documents, folder / "documents.parquet", folder / "annotators.parquet", report, **options)
    table = pq.read_table(folder / "documents.parquet")
    assert table.schema == DOCUMENT_SCHEMA
    return table.to_pylist(), report


def test_documents_come_back_in_order_and_as_given(tmp_path: Path) -> None:
    rows, report = write(
        tmp_path,
        [
            document("007", 'First\nline, "quoted" – é', [N179, I10], patient_id="p1", given_split="train", date=DAY),
            document("8", labels=[I10], patient_id="p1"),
        ],
    )
    assert rows == [
        {
            "document_id": "007",
            "patient_id": "p1",
            "text": 'First\nline, "quoted" – é',
            "labels": [N179, I10],
            "given_split": "train",
            "date": DAY,
            "principal": None,
        },
        {
            "document_id": "8",
            "patient_id": "p1",
            "text": "Some text.",
            "labels": [I10],
            "given_split": None,
            "date": None,
            "principal": None,
        },
    ]
    assert report.as_dict()["counts"] == {
        "documents": 2, "documents_given_train": 1, "label_occurrences": 3, "labels": 2, "labels_of_10_documents": 0,
        "patients": 1,
    }  # fmt: skip


def test_every_document_that_cannot_be_used_is_counted_by_its_reason(tmp_path: Path) -> None:
    rows, report = write(
        tmp_path,
        [
            document("a"),
            document("a", "The same id again."),
            document("b", ""),
            document("c", " \n\t"),
            document("d", "\0\0"),
            document("e", labels=[]),
            document("f"),
        ],
    )
    assert [row["document_id"] for row in rows] == ["a", "f"]
    assert report.as_dict()["dropped"] == {"document_without_codes": 1, "duplicate_document_id": 1, "empty_text": 3}
    assert report.as_dict()["examples"]["empty_text"] == ["b", "c", "d"]
    assert report.dropped("empty_text") == 3
    assert report.dropped("never met") == 0


def test_documents_without_codes_stay_where_they_are_documents_that_need_none(tmp_path: Path) -> None:
    rows, report = write(tmp_path, [document("a"), document("b", labels=[])], keep_uncoded=True)
    assert [(row["document_id"], row["labels"]) for row in rows] == [("a", ["icd10cm:I10"]), ("b", [])]
    assert report.as_dict()["dropped"] == {}
    assert report.counts["documents_without_codes"] == 1


def test_of_documents_with_one_id_the_first_that_can_be_used_stays(tmp_path: Path) -> None:
    rows, report = write(tmp_path, [document("a", ""), document("a", "second"), document("a", "third")])
    assert [row["text"] for row in rows] == ["second"]
    assert report.as_dict()["dropped"] == {"duplicate_document_id": 1, "empty_text": 1}


def test_a_label_that_comes_twice_is_kept_once_where_it_came_first(tmp_path: Path) -> None:
    rows, report = write(tmp_path, [document("a", labels=[N179, I10, N179])])
    assert rows[0]["labels"] == [N179, I10]
    assert report.counts["label_occurrences"] == 2


def test_characters_that_no_file_can_hold_are_replaced_and_counted(tmp_path: Path) -> None:
    rows, report = write(
        tmp_path, [document("a", "no\0 fever"), document("b", "cut \ud83d off"), document("c", "🙂 ok")]
    )
    assert [row["text"] for row in rows] == ["no fever", "cut \ufffd off", "🙂 ok"]
    assert report.as_dict()["changed"] == {"half_characters_replaced": 1, "nul_characters_removed": 1}


def test_half_characters_of_ids_and_labels_are_replaced_as_predict_replaces_them(tmp_path: Path) -> None:
    """Two ids that are one then are a repeated id; the report of it can be written, too."""
    odd = document(
        "a\ud83d", "Other text.", labels=["none:x\udc00", I10], patient_id="p\ud83d", annotations={"coder": [I10]}
    )
    rows, report = write(tmp_path, [odd, document("a\ufffd"), document("b\udc00", "")])
    assert [(row["document_id"], row["patient_id"], row["labels"]) for row in rows] == [
        ("a\ufffd", "p\ufffd", ["none:x\ufffd", I10])
    ]
    assert pq.read_table(tmp_path / "annotators.parquet")["document_id"].to_pylist() == ["a\ufffd"]
    assert report.as_dict()["changed"] == {"half_characters_replaced": 2}
    assert report.as_dict()["dropped"] == {"duplicate_document_id": 1, "empty_text": 1}


def test_one_row_a_code_is_refused_and_a_repeated_row_is_left_out(tmp_path: Path) -> None:
    """Left out as well, the second row of a document would take its code with it."""
    with pytest.raises(UserError, match=r"document a: it comes twice .* other codes") as caught:
        write(tmp_path, [document("a", labels=[I10]), document("a", labels=[N179])])
    assert "Some text" not in str(caught.value)
    _, report = write(tmp_path, [document("a", labels=[I10, N179]), document("a", labels=[N179, I10])])
    assert report.as_dict()["dropped"] == {"duplicate_document_id": 1}


@pytest.mark.parametrize("texts", [("Some text", ""), ("", "Some text"), ("", " ")])
def test_rows_that_are_codes_are_seen_where_only_one_of_them_has_the_text(
    tmp_path: Path, texts: tuple[str, str]
) -> None:
    """As of a spreadsheet with merged cells."""
    with pytest.raises(UserError, match=r"document a: it comes twice .* once without one, and other codes"):
        write(tmp_path, [document("a", text, labels=[label]) for text, label in zip(texts, (I10, N179), strict=True)])


def test_a_recipe_may_report_an_id_that_no_file_can_hold(tmp_path: Path) -> None:
    report = IngestReport()
    report.drop("codes_without_text_file", "cut \ud83d off")
    write_json(tmp_path / "report.json", report.as_dict())
    assert "cut \ufffd off" in (tmp_path / "report.json").read_text(encoding="utf-8")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x1FFFF)))
def test_half_pairs_are_replaced_one_by_one_so_offsets_stay(text: str) -> None:
    replaced = without_half_pairs(text)
    replaced.encode("utf-8")
    assert len(replaced) == len(text)
    assert all(
        new == old or (new == "\ufffd" and 0xD800 <= ord(old) < 0xE000) for new, old in zip(replaced, text, strict=True)
    )


def test_cleaning_comes_before_the_check_for_empty_text(tmp_path: Path) -> None:
    rows, report = write(tmp_path, [document("a", "___"), document("b", "AB_")], clean=lambda text: text.strip("_"))
    assert [row["text"] for row in rows] == ["AB"]
    assert report.dropped("empty_text") == 1


def test_max_documents_counts_kept_documents_and_reads_no_further(tmp_path: Path) -> None:
    read = []

    def endless() -> Iterator[Document]:
        for number in range(10**9):
            read.append(number)
            yield document(str(number), "" if number % 2 else "text")

    rows, report = write(tmp_path, endless(), max_documents=3)
    assert [row["document_id"] for row in rows] == ["0", "2", "4"]
    assert read == [0, 1, 2, 3, 4]
    assert report.counts["documents"] == 3


def test_without_any_usable_document_the_reasons_are_given_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        write(tmp_path, [document("a", "SECRET", []), document("b", " ")])
    message = str(caught.value)
    assert "no usable document is left after ingestion (document_without_codes: 1, empty_text: 1)" in message
    assert "SECRET" not in message
    with pytest.raises(UserError, match="no rows"):
        write(tmp_path, [])


def test_the_report_holds_ids_and_counts_but_no_text(tmp_path: Path) -> None:
    _, report = write(tmp_path, [document("a", "SECRET"), document("a", "SECRET"), document("b", "SECRET\0", [])][::-1])
    assert "SECRET" not in str(report.as_dict())


def test_a_recipe_that_fails_midway_passes_its_error_on(tmp_path: Path) -> None:
    def broken() -> Iterator[Document]:
        yield document("a")
        raise UserError("line 3 is broken")

    with pytest.raises(UserError, match="line 3 is broken"):
        write(tmp_path, broken())


def test_annotations_go_to_a_table_of_their_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            document("a", annotations={"coder 1": [I10], "coder 2": []}),
            document("b"),
            document("c", "", annotations={"coder 1": [I10]}),
        ],
    )
    table = pq.read_table(tmp_path / "annotators.parquet")
    assert table.schema == ANNOTATOR_SCHEMA
    assert table.to_pylist() == [
        {"document_id": "a", "annotator": "coder 1", "labels": [I10]},
        {"document_id": "a", "annotator": "coder 2", "labels": []},
    ]


def test_the_annotators_table_exists_without_annotations_too(tmp_path: Path) -> None:
    write(tmp_path, [document("a")])
    assert pq.read_table(tmp_path / "annotators.parquet").num_rows == 0


def test_text_is_written_as_it_comes_so_memory_stays_flat(tmp_path: Path) -> None:
    """Of 40 documents of 1 M characters at most 17 are alive: a group of 8 is written, one of 8 comes together."""
    alive: set[int] = set()
    most = 0

    class Text(str):
        number: int

        def __del__(self) -> None:
            alive.discard(self.number)

    def documents() -> Iterator[Document]:
        nonlocal most
        for number in range(40):
            text = Text("x" * 1_000_000)
            text.number = number
            alive.add(number)
            most = max(most, len(alive))
            yield document(str(number), text)

    write_documents(
        documents(),
        tmp_path / "documents.parquet",
        tmp_path / "annotators.parquet",
        IngestReport(),
        clean=lambda text: text,
    )
    with pq.ParquetFile(tmp_path / "documents.parquet") as file:
        groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    assert groups == [8] * 5
    assert most <= 18


def test_documents_are_read_back_in_batches_of_the_columns_asked_for(tmp_path: Path) -> None:
    write(tmp_path, [document(str(number)) for number in range(10)])
    path = tmp_path / "documents.parquet"
    batches = list(iterate_documents(path, columns=["document_id"], n_rows=4))
    assert [batch.num_rows for batch in batches] == [4, 4, 2]
    assert batches[0].schema.names == ["document_id"]
    assert [one for batch in batches for one in batch["document_id"].to_pylist()] == [str(n) for n in range(10)]
    assert next(iterate_documents(path)).schema.names == DOCUMENT_SCHEMA.names


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.text(st.sampled_from("x \0"), max_size=3),
            st.lists(st.sampled_from([I10, N179]), max_size=3),
        ),
        max_size=12,
    )
)
def test_every_document_is_kept_or_counted_as_dropped(tmp_path: Path, made: list[tuple[str, str, list[str]]]) -> None:
    documents = [document(document_id, text, labels) for document_id, text, labels in made]
    report = IngestReport()
    try:
        write_documents(documents, tmp_path / "documents.parquet", tmp_path / "annotators.parquet", report)
    except UserError as error:
        if "comes twice" in str(error):
            return
        assert report.counts["documents"] == 0
    assert report.counts["documents"] + sum(report.as_dict()["dropped"].values()) == len(documents)
