"""icd doctor over tables of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from doctor_cases import CANARY, OPTIONS, ROWS, findings_of

from pipeline.__main__ import main
from pipeline.commands.findings import Finding
from pipeline.experiment.config import PipelineConfig


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.parquet"])
def test_a_table_of_ones_own_is_checked_in_every_format(
    make_config: Callable[..., PipelineConfig], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pd.DataFrame(ROWS).to_parquet(path)
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    else:
        pd.DataFrame(ROWS).to_csv(path, index=False)
    config = make_config(data={"recipe": "table", "raw": path, "options": OPTIONS})
    assert findings_of(config, name) == [Finding("ok", name, "2 rows")]
    assert findings_of(config, "documents") == [Finding("ok", "documents", "2 can be read as ingest reads them")]
    config = make_config(data={"recipe": "table", "raw": path, "options": OPTIONS | {"codes": "icd"}})
    (found,) = findings_of(config, name)
    assert found.state == "wrong"
    assert "icd" in found.found
    assert "missing" in found.found


def test_codes_that_ingest_would_refuse_are_told(make_config: Callable[..., PipelineConfig], tmp_path: Path) -> None:
    pd.DataFrame([*ROWS, ROWS[0] | {"id": "c", "codes": "I10, J18.9"}]).to_csv(tmp_path / "t.csv", index=False)
    config = make_config(data={"recipe": "table", "raw": tmp_path / "t.csv", "options": OPTIONS})
    (found,) = findings_of(config, "documents")
    assert found.state == "wrong"
    assert "holds several codes in one entry" in found.found
    assert CANARY not in found.found


@pytest.mark.parametrize(
    ("rows", "state", "part"),
    [
        ([ROWS[0] | {"codes": code} for code in ("I10", "J18.9")], "wrong", "rows seem to be codes"),
        ([row | {"codes": ""} for row in ROWS], "wrong", "leave all out (document_without_codes: 2)"),
        ([row | {"note": " "} for row in ROWS], "wrong", "leave all out (empty_text: 2)"),
        (
            [ROWS[0] | {"note": f"note {n}"} for n in range(5)],
            "warning",
            "1 can be read as ingest reads them (left out: dup",
        ),
    ],
)
def test_documents_that_ingest_would_leave_out_are_told(
    make_config: Callable[..., PipelineConfig], tmp_path: Path, rows: list[dict[str, str]], state: str, part: str
) -> None:
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    config = make_config(data={"recipe": "table", "raw": tmp_path / "t.csv", "options": OPTIONS})
    (found,) = findings_of(config, "documents")
    assert found.state == state
    assert part in found.found


def test_a_brace_in_a_name_is_told_before_anything_runs(
    make_config: Callable[..., PipelineConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Snakemake takes it for a wildcard."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "b{x} 1.txt").write_text(CANARY, encoding="utf-8")
    (folder / "codes.csv").write_text("document_id,codes\nb{x} 1,I10\n", encoding="utf-8")
    (found,) = findings_of(make_config(data={"recipe": "table", "raw": folder}), "b{x} 1.txt")
    assert found.state == "wrong"
    config = tmp_path / "a.yaml"
    config.write_text("experiment: a\ndata: {recipe: table}\n", encoding="utf-8")
    assert main(["run", str(config), "--set", f"data.raw={folder}", "--set", f"work_dir={tmp_path / 'work'}"]) == 2
    assert "a brace in the name of a file or folder cannot be read; rename it" in capsys.readouterr().err


def test_a_table_of_which_no_row_can_be_read_is_no_empty_one(
    make_config: Callable[..., PipelineConfig], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(b"id,note,codes\n" + b"a,caf\xe9,I10\n" * 3)
    (found,) = findings_of(
        make_config(data={"recipe": "table", "raw": tmp_path / "t.csv", "options": OPTIONS}), "t.csv"
    )
    assert (found.state, found.found.partition(" (")[0]) == ("wrong", "all 3 rows are broken")
    assert "UTF-8" in found.advice


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_a_damaged_table_is_named_without_its_content(
    make_config: Callable[..., PipelineConfig], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(f"{CANARY} is no table\n", encoding="utf-8")
    config = make_config(data={"recipe": "table", "raw": tmp_path / name, "options": OPTIONS})
    (found,) = findings_of(config, name)
    assert found.state == "wrong"
    assert "not" in found.found
    assert CANARY not in found.found


def test_a_folder_of_texts_is_checked_with_its_table_of_codes(
    make_config: Callable[..., PipelineConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(CANARY, encoding="utf-8")
    config = make_config(data={"recipe": "table", "raw": folder})
    (codes,) = findings_of(config, "codes.csv")
    assert codes.state == "wrong"
    (texts,) = findings_of(config, "data.raw")
    assert texts == Finding("ok", "data.raw", "3 files are there and can be read")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("notes.csv", "id,note\n1,a\n", "name the columns in data.options"),
        ("notes.JSONL", '{"document_id": "1"}\n', "name the columns in data.options"),
    ],
)
def test_a_table_with_other_columns_is_told_where_to_name_them(
    make_config: Callable[..., PipelineConfig], tmp_path: Path, name: str, content: str, part: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (found,) = findings_of(make_config(data={"recipe": "table", "raw": tmp_path / name}), name)
    assert found.state == "wrong"
    assert part in found.found
