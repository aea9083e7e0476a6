"""A full disk, simulated by a limit on file size, wherever the pipeline streams a table of any length."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

START = """
import random, resource, signal, sys
from pathlib import Path
from pipeline.experiment import artifacts
from pipeline.notes import documents
from pipeline import errors, files
from pipeline.experiment.config import PipelineConfig
from pipeline.coding.code_files import writing_codes
from pipeline.notes.ingest_report import IngestReport

def limit(n_bytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as on a full disk: an error, not a signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
"""
WRITE_CODES = """
limit(10_000)
try:
    with writing_codes(Path(sys.argv[1])) as writer:
        for index in range(30_000):
            writer.add(str(index * 7919 % 104729), [])
except errors.UserError as error:
    print(error)
"""
INGEST = """
chance = random.Random(0)
config = PipelineConfig(experiment="a", work_dir=Path(sys.argv[1]))

def document(index):
    return documents.Document(str(index), "p", chance.randbytes(3_000_000).hex(), ["none:a"])

def ingest(n_documents):
    with artifacts.writing(config, "ingest") as output:
        paths = output.dir / "documents.parquet", output.dir / "annotators.parquet"
        documents.write_documents(map(document, range(n_documents)), *paths, IngestReport())
        for name in ("titles.json", "ingest_report.json"):
            files.write_json(output.dir / name, n_documents)

ingest(1)
limit(int(sys.argv[2]))
try:
    ingest(6)
except errors.UserError as error:
    print(error)
"""


def said(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", START + code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_codes_of_new_documents_leave_the_earlier_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("earlier", encoding="utf-8")
    assert "the disk is full" in said(WRITE_CODES, path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, "earlier")]


@pytest.mark.parametrize(("n_bytes", "n_kept"), [(3_000_000, 1), (16_000_000, 1), (30_000_000, 6)])
def test_the_documents_table_leaves_the_earlier_one(tmp_path: Path, n_bytes: int, n_kept: int) -> None:
    """Six texts of 6,000,000 hexadecimal digits take half of that when packed: 18,000,000 bytes in three row groups.

    So the first limit is met in the first row group, the second in the last one, the third never.
    """
    assert ("the disk is full" in said(INGEST, tmp_path, n_bytes)) == (n_kept == 1)
    assert json.loads((tmp_path / "a" / "titles.json").read_text()) == n_kept
    assert pq.ParquetFile(tmp_path / "a" / "documents.parquet").metadata.num_rows == n_kept
    assert not (tmp_path / "a" / ".writing-ingest").exists()
