"""What ``icd doctor`` looks at before anything runs: raw files, machine, counts of the last ingestion.

Every check gives findings; nothing is left behind, nothing is fetched, no weights are loaded.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import data_recipes
from data_recipes._raw.checks import RowCount, count_rows
from pipeline.commands import dag
from pipeline.commands.findings import Finding
from pipeline.commands.machine import machine_findings
from pipeline.errors import UserError
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.manifests import has_settings_of, read_manifest
from pipeline.files import private_folder, read_json
from pipeline.notes.documents import usable_documents
from pipeline.notes.ingest_report import IngestReport

_TRIED_DOCUMENTS = 2_000
_MANY_KEPT = 0.5  # of those tried


def examine(config: PipelineConfig, *, profile: str = "local") -> Iterator[Finding]:
    """Look at everything that an experiment needs.

    Args:
        config: of the experiment.
        profile: where stages are to run, as for ``icd run``.

    Raises:
        UserError: if the recipe, its options or the profile are unknown.
    """
    recipe = data_recipes.load_recipe(config.data.recipe)
    options = data_recipes.recipe_options(recipe, config.data.options)
    yield from machine_findings(config, _raw_paths(config), profile=profile)
    raw = list(_raw_findings(config, recipe, options))
    yield from raw
    if config.data.raw is not None and all(one.state != "wrong" for one in raw):
        yield _documents_finding(config, recipe, options)
    yield from _published_findings(config, is_published=bool(recipe.PUBLISHED))


def render(findings: Sequence[Finding], *, width: int = 100) -> str:
    """Findings as a plain-text table with a line that sums them up.

    Args:
        findings: in the order of the table.
        width: of the lines, in characters; long paths may go beyond.
    """
    column = max((len(one.what) for one in findings), default=0) + 2
    indent = " " * (9 + column)
    lines = [f"{'':<9}{'checked':<{column}}found -> what to do"]
    for one in findings:
        start = f"{one.state:<9}{one.what:<{column}}"
        text = one.found + (f" -> {one.advice}" if one.advice else "")
        lines += textwrap.wrap(
            text,
            max(width, len(indent) + 40),
            initial_indent=start,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    n_wrong = sum(one.state == "wrong" for one in findings)
    n_warnings = sum(one.state == "warning" for one in findings)
    verdict = f"{n_wrong} to be mended before it can run" if n_wrong else "nothing stands in the way"
    return "\n".join([*lines, "", f"{verdict}, {n_warnings} warnings"])


def _raw_paths(config: PipelineConfig) -> list[Path]:
    with contextlib.suppress(UserError):  # which the findings of raw files tell
        return dag.raw_files(config)
    return []


def _raw_findings(config: PipelineConfig, recipe: data_recipes.Recipe, options: Any) -> Iterator[Finding]:
    """Every raw file, read to its end."""
    try:
        tables = data_recipes.raw_tables(recipe, config.data.raw, options)
    except UserError as error:
        yield Finding("wrong", "data.raw", str(error))
        return
    is_skipped = getattr(options, "on_bad_row", "error") == "skip"
    n_others = 0
    for table in tables:
        if not table.is_required and not table.path.is_file():
            yield Finding("warning", table.path.name, "not there; not needed, but codes go without its titles")
            continue
        try:
            rows = count_rows(table)
        except UserError as error:
            yield Finding("wrong", table.path.name, str(error))
            continue
        if rows.n_rows is None:
            n_others += 1
        else:
            yield _rows_finding(table, rows, is_skipped=is_skipped)
    if n_others:
        yield Finding("ok", "data.raw", f"{n_others:,} files are there and can be read")
    if not tables:
        yield Finding("ok", "data.raw", f"recipe {config.data.recipe} reads no raw files")


def _documents_finding(config: PipelineConfig, recipe: data_recipes.Recipe, options: Any) -> Finding:
    """The first documents, read, kept and left out as by ingest."""
    report = IngestReport()
    try:
        with _scratch(config.experiment_dir) as scratch:
            documents = recipe.read(config.data.raw, options, report, scratch)
            tried = list(itertools.islice(documents, _TRIED_DOCUMENTS))
            del documents  # a generator ends here, before the folder goes
            kept = usable_documents(tried, report, keep_uncoded=getattr(options, "keep_uncoded", False))
            n_kept = sum(1 for _ in kept)
    except UserError as error:
        return Finding("wrong", "documents", str(error))
    left_out = ", ".join(f"{reason}: {n:,}" for reason, n in report.as_dict()["dropped"].items())
    if not n_kept:
        found = f"ingest would leave all out ({left_out or 'no rows'})"
        return Finding("wrong", "documents", found, "mend the data or data.options")
    first = f"of the first {len(tried):,} " if len(tried) == _TRIED_DOCUMENTS else ""
    found = f"{first}{n_kept:,} can be read as ingest reads them"
    if n_kept < _MANY_KEPT * len(tried):
        advice = "most are left out: see that data.options name the right columns"
        return Finding("warning", "documents", f"{found} (left out: {left_out})", advice)
    return Finding("ok", "documents", found + (f" (left out: {left_out})" if left_out else ""))


@contextlib.contextmanager
def _scratch(experiment_dir: Path) -> Iterator[Path]:
    """A folder for what a recipe spools, which is patients' text: in the work folder, as everywhere."""
    made = [folder for folder in (experiment_dir, experiment_dir.parent) if not folder.exists()]
    try:
        with tempfile.TemporaryDirectory(dir=private_folder(experiment_dir)) as scratch:
            yield Path(scratch)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # a run has begun there meanwhile
                folder.rmdir()


def _rows_finding(table: data_recipes.RawTable, rows: RowCount, *, is_skipped: bool) -> Finding:
    name, found = table.path.name, f"{rows.n_rows:,} rows"
    if not rows.n_rows and not rows.n_broken:
        return Finding("wrong", name, "a header and no rows", "download or export it again")
    if rows.n_broken and not rows.n_rows:
        advice = "mend the file: fields must be separated by commas, text in UTF-8"
        return Finding("wrong", name, f"all {rows.n_broken:,} rows are broken (first: {rows.first_broken})", advice)
    if rows.n_broken:
        found += f", {rows.n_broken:,} more are broken (first: {rows.first_broken})"
        if not is_skipped:
            advice = "mend the file, or leave them out with a count: data.options.on_bad_row=skip"
            return Finding("wrong", name, found, advice)
        return Finding("warning", name, found, "they will be left out with a count")
    if table.n_rows is not None and rows.n_rows != table.n_rows:
        advice = "another version or a part of the data: results do not compare with published ones"
        return Finding("warning", name, f"{found}, published are {table.n_rows:,}", advice)
    return Finding("ok", name, found + (", as published" if table.n_rows is not None else ""))


def _published_findings(config: PipelineConfig, *, is_published: bool) -> Iterator[Finding]:
    """Counts of the last ingestion beside the published ones."""
    manifest = read_manifest(config.experiment_dir, "ingest")
    path = config.experiment_dir / "ingest_report.json"
    if manifest is None or not path.is_file():
        found = "compared with published ones after ingestion" if is_published else "none yet: nothing is ingested"
        yield Finding("ok", "counts", found)
        return
    if not has_settings_of(manifest, config, "ingest"):
        yield Finding("warning", "counts", "the last ingestion had other settings", "run it again, then icd doctor")
        return
    report: dict[str, Any] = read_json(path)
    for name, check in report["published"].items():
        found = f"{check['found']:,}, published {check['published']:,}"
        if check["verdict"] == "differs":
            yield Finding("warning", f"n {name}", f"differs: {found}", f"{path} says what was left out, and why")
        else:
            yield Finding("ok", f"n {name}", f"{check['verdict']}: {found}")
    if not report["published"]:
        yield Finding("ok", "counts", f"{report['counts']['documents']:,} documents ingested; none are published")
