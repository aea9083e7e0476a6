"""Tables of one's own, read by their recipe, that tests of it share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import data_recipes
from data_recipes import table
from pipeline.notes.documents import Document
from pipeline.notes.ingest_report import IngestReport


def read(raw: Path, **options: Any) -> tuple[list[Document], dict[str, Any]]:
    checked = data_recipes.recipe_options(data_recipes.load_recipe("table"), options)
    report = IngestReport()
    assert isinstance(checked, table.Options)
    return list(table.read(raw, checked, report, raw.parent)), report.as_dict()


def jsonl(path: Path, *rows: dict[str, Any], start: str = "") -> Path:
    path.write_text(start + "\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path
