"""Codes, notes and pages that tests of the review page share."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from pipeline.coding.code_files import Code, writing_codes
from pipeline.notes.spans import Span
from pipeline.reports.review import collect, render

HOSTILE = "Impression: \U0001f600 <script>document.title='x'</script> fever &amp; </script>\u2028<img src=x onerror=y>."
SECRET = "Xqzvcanary"


def code(name: str, probability: float, *spans: tuple[int, int], rank: int = 1) -> Code:
    evidence = tuple(Span(start, end, 0.5, "other") for start, end in spans)
    return Code(rank, "icd10cm", name, f"Title of {name}", probability, probability >= 0.5, evidence)


def write_codes(path: Path, *documents: tuple[str, list[Code]] | tuple[str, list[Code], str | None]) -> Path:
    with writing_codes(path, has_evidence=True) as writer:
        for document in documents:
            writer.add(*document)
    return path


def in_git(folder: Path) -> Path:
    """A checkout that ignores work/ and tracks docs/."""
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True, capture_output=True)
    (folder / ".gitignore").write_text("work/\n")
    for name in ("work", "docs"):
        (folder / name).mkdir()
    return folder


def write_notes(path: Path, **notes: str) -> str:
    path.write_text("".join(json.dumps({"document_id": one, "text": text}) + "\n" for one, text in notes.items()))
    return str(path)


def shown(predictions: Path, notes: str, **options: Any) -> list[dict[str, Any]]:
    return collect(predictions, notes, **{"max_documents": 100} | options).documents


FEVER = (HOSTILE.index("fever"), HOSTILE.index("fever") + 5)


def hostile_page(tmp_path: Path) -> str:
    name = "<b>id</b>&\"'</script>"
    predictions = write_codes(tmp_path / "c.jsonl", (name, [code("<i>R50</i>", 0.9, FEVER)]), ("<u>gone</u>", []))
    return render(collect(predictions, write_notes(tmp_path / "n.jsonl", **{name: HOSTILE}), max_documents=9))
