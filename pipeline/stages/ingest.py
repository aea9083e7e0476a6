"""Stage ingest: raw files -> documents.parquet, annotators.parquet, titles.json, ingest_report.json.

Run alone:
    python -m pipeline.stages.ingest --config configs/demo.yaml
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import data_recipes
from pipeline.experiment.artifacts import writing
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.sources import state_of
from pipeline.experiment.stage_tracking import StageRun
from pipeline.files import sha256_of, write_json
from pipeline.notes.documents import write_documents
from pipeline.notes.ingest_report import IngestReport
from pipeline.notes.text import prepare
from pipeline.stages import stage_main

logger = logging.getLogger(__name__)


def run(config: PipelineConfig, tracked: StageRun) -> None:
    """Read raw files by their recipe and write the documents table."""
    recipe = data_recipes.load_recipe(config.data.recipe)
    options = data_recipes.recipe_options(recipe, config.data.options)
    raw_files = [path for path in recipe.raw_files(config.data.raw, options) if path.exists()]
    raw_state, digests = state_of(raw_files), _digests(raw_files, config.data.raw)
    report = IngestReport(recipe.PUBLISHED)
    with writing(config, "ingest", extra_inputs=digests) as output:
        scratch_dir = config.experiment_dir / "raw"
        write_documents(
            recipe.read(config.data.raw, options, report, scratch_dir),
            output.dir / "documents.parquet",
            output.dir / "annotators.parquet",
            report,
            clean=functools.partial(
                prepare,
                preset=config.data.cleaning,
                placeholder=config.data.placeholder,
                max_words=config.data.max_words,
            ),
            keep_uncoded=getattr(options, "keep_uncoded", False),
            max_documents=config.data.max_documents,
        )
        titles = recipe.read_titles(config.data.raw, options, report, scratch_dir)
        write_json(output.dir / "titles.json", dict(titles))
        summary = report.as_dict()
        write_json(output.dir / "ingest_report.json", summary)
        output.facts |= {name: summary["counts"][name] for name in ("documents", "patients", "labels")}
        output.facts["raw_state"] = raw_state
        digest = sha256_of(output.dir / "documents.parquet")
    logger.info("%(documents)d documents, %(patients)d patients, %(labels)d labels", summary["counts"])
    for reason, n in summary["dropped"].items():
        logger.warning("left out, %s: %d", reason, n)
    for reason, n in summary["changed"].items():
        logger.warning("changed, %s: %d", reason, n)
    for name, check in summary["published"].items():
        if check["verdict"] != "not counted":
            logger.info("%s: %d, published %d: %s", name, check["found"], check["published"], check["verdict"])
    tracked.log_dataset(config.data.recipe, digest, summary["counts"])
    tracked.log_metrics({f"n_{name}": value for name, value in summary["counts"].items()}, also_parent=False)
    tracked.log_metrics({f"dropped.{name}": value for name, value in summary["dropped"].items()})


def _digests(paths: Sequence[Path], raw: Path | None) -> dict[str, str]:
    """Digest of each file under its path from the raw folder, since files of several folders may share a name."""
    if raw is None:
        return {path.name: sha256_of(path) for path in paths}
    root = raw if raw.is_dir() else raw.parent
    return {Path(os.path.relpath(path, root)).as_posix(): sha256_of(path) for path in paths}


if __name__ == "__main__":
    stage_main("ingest", run)
