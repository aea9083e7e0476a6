"""Files of proposed codes: every kind holds the same, whole or not at all."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.coding.code_files import Code, CodesWriter, text_digest, writing_codes
from pipeline.errors import UserError
from pipeline.notes.spans import Span

I10 = Code(1, "icd10cm", "I10", "Essential (primary) hypertension", 0.875, is_predicted=True)
N179 = Code(2, "icd10cm", "N17.9", None, 0.25, is_predicted=False)


def write_codes(writer: CodesWriter) -> None:
    writer.add("007", [I10, N179], "0123456789abcdef")
    writer.add("b", [])


def without_evidence(code: Code) -> dict[str, Any]:
    return {name: value for name, value in vars(code).items() if name != "evidence"}


EXPECTED_ROWS = [
    {"document_id": "007", "text_digest": "0123456789abcdef", "codes": [without_evidence(I10), without_evidence(N179)]},
    {"document_id": "b", "text_digest": None, "codes": []},
]


def test_csv_has_a_row_a_code_and_one_for_a_document_without_any(tmp_path: Path) -> None:
    with writing_codes(tmp_path / "codes.csv") as writer:
        write_codes(writer)
    with (tmp_path / "codes.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["document_id", "rank", "code_system", "code", "title", "probability", "is_predicted", "text_digest"],
            ["007", "1", "icd10cm", "I10", "Essential (primary) hypertension", "0.875000", "1", "0123456789abcdef"],
            ["007", "2", "icd10cm", "N17.9", "", "0.250000", "0", "0123456789abcdef"],
            ["b", "", "", "", "", "", "", ""],
        ]


def test_jsonl_has_a_row_a_document(tmp_path: Path) -> None:
    with writing_codes(tmp_path / "codes.jsonl") as writer:
        write_codes(writer)
    lines = (tmp_path / "codes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == EXPECTED_ROWS


@pytest.mark.parametrize("n_more", [0, 1022, 3000])
def test_parquet_has_a_row_a_document_however_many(tmp_path: Path, n_more: int) -> None:
    with writing_codes(tmp_path / "codes.parquet") as writer:
        write_codes(writer)
        for number in range(n_more):
            writer.add(str(number), [N179])
    rows = pq.read_table(tmp_path / "codes.parquet").to_pylist()
    assert rows[:2] == EXPECTED_ROWS
    assert [row["document_id"] for row in rows[2:]] == [str(number) for number in range(n_more)]


@pytest.mark.parametrize("name", ["codes.csv", "codes.jsonl", "codes.parquet"])
def test_a_file_without_documents_is_a_valid_file(tmp_path: Path, name: str) -> None:
    with writing_codes(tmp_path / name):
        pass
    n_lines = pq.read_table(tmp_path / name).num_rows if name.endswith("parquet") else None
    assert n_lines == 0 or len((tmp_path / name).read_text().splitlines()) == (1 if name.endswith("csv") else 0)


@pytest.mark.parametrize("name", ["codes.csv", "codes.jsonl", "codes.parquet"])
def test_codes_appear_only_when_whole_and_replace_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("earlier")
    with pytest.raises(ZeroDivisionError), writing_codes(path) as writer:
        write_codes(writer)
        raise ZeroDivisionError
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]
    with writing_codes(path) as writer:
        write_codes(writer)
        assert path.read_text() == "earlier"
    assert path.read_bytes() != b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["codes.csv", "codes.jsonl", "codes.parquet"])
def test_codes_are_for_their_owner_unless_a_file_that_was_there_was_shared(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with writing_codes(path) as writer:
        write_codes(writer)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with writing_codes(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_one_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    link, target = tmp_path / "codes.csv", tmp_path / "shared" / "of_today.csv"
    link.symlink_to(target)
    with writing_codes(link) as writer:
        write_codes(writer)
        (temporary,) = (tmp_path / "shared").iterdir()
        assert temporary.stat().st_mode & 0o777 == 0o600
    assert link.is_symlink()
    assert target.read_text().startswith("document_id,")


def test_an_output_of_another_kind_or_in_no_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown kind of file '.txt'; expected .csv, .jsonl, .parquet"):
        writing_codes(tmp_path / "codes.txt").__enter__()
    with pytest.raises(UserError, match=r"the folder .*no does not exist; make it first"):
        writing_codes(tmp_path / "no" / "codes.csv").__enter__()


FOUND = replace(I10, evidence=(Span(3, 9, 0.75, "impression", "encoder", (0, 19)), Span(20, 24, 0.25, "other")))
NOT_FOUND = replace(N179, evidence=())
FOUND_ROWS = [
    {
        "start": 3,
        "end": 9,
        "section": "impression",
        "score": 0.75,
        "source": "encoder",
        "sentence_start": 0,
        "sentence_end": 19,
    },
    {
        "start": 20,
        "end": 24,
        "section": "other",
        "score": 0.25,
        "source": "encoder",
        "sentence_start": None,
        "sentence_end": None,
    },
]


def test_evidence_stands_beside_each_code_in_every_kind_of_file(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        with writing_codes(tmp_path / f"codes.{suffix}", has_evidence=True) as writer:
            writer.add("a", [FOUND, NOT_FOUND], text_digest("one text"))
            writer.add("b", [], text_digest("another"))
    with (tmp_path / "codes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][-2:] == ["text_digest", "evidence"]
    assert [row[-1] for row in rows[2:]] == ["[]", ""]
    assert json.loads(rows[1][-1]) == FOUND_ROWS
    assert {len(row) for row in rows} == {9}
    digests = [text_digest("one text"), text_digest("another")]
    assert [row[-2] for row in rows[1:]] == [digests[0], *digests]
    lines = [json.loads(line) for line in (tmp_path / "codes.jsonl").read_text().splitlines()]
    assert lines == pq.read_table(tmp_path / "codes.parquet").to_pylist()
    assert [line["text_digest"] for line in lines] == digests
    assert [[code["evidence"] for code in line["codes"]] for line in lines] == [[FOUND_ROWS, []], []]
