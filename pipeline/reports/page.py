"""HTML pages: one file each, complete in itself, every value escaped, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jinja2

from pipeline.reports.drawing import pretty_name
from pipeline.reports.report_tables import (
    at_least,
    duration,
    number_or_nothing,
    p_value,
    percent,
    percent_or_dash,
    points,
    short,
    written,
)


def render_page(template: str, **content: Any) -> str:
    """A page from a template of ``pipeline/reports/templates``; equal content gives equal text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "at_least": at_least,
        "percent": percent,
        "points": points,
        "p_value": p_value,
        "duration": duration,
        "pretty": pretty_name,
        "short": short,
        "number_or_nothing": number_or_nothing,
        "percent_or_dash": percent_or_dash,
    }
    environment.globals |= {"written": written, "caveat_of_split": caveat_of_split}
    return environment.get_template(template).render(**content)


def caveat_of_split(split: str) -> str:
    """What scores of a split that is not held out leave unsaid; nothing for split test."""
    if split == "test":
        return ""
    return (
        f"Split {split} took part in training or in the choice of epoch and threshold, so these scores are better than "
        "those on new documents."
    )


def write_page(path: Path, html: str) -> None:
    """Write a page whole or not at all; its folder must exist."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
