"""After the last stage of the members of a grid: their predictions -> grid.json, grid.csv, grid.html.

Run alone:
    python -m pipeline.stages.grid --config work/GRID/config.json
"""

from __future__ import annotations

import logging

import pandas as pd

from pipeline.errors import UserError
from pipeline.evaluation.grid_results import as_rows, collect
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.grid import choosing, expand, read_choice
from pipeline.experiment.tracking import log_grid
from pipeline.files import csv_cell, write_json
from pipeline.reports.grid_report import text_table, write_grid_report
from pipeline.stages import script_main

logger = logging.getLogger(__name__)


def run(config: PipelineConfig) -> None:
    """Write the table of a grid."""
    grid = config.grid
    if grid is None:
        raise UserError(
            f"{config.experiment}: the config has no section 'grid', so there is nothing to put in a table."
        )
    members, chosen_by = expand(config), None
    if choosing(members, grid):
        members, chosen_by = read_choice(config, members), members[0].seed
    results = collect(
        members,
        choose_by=grid.choose_by,
        n_resamples=config.evaluate.n_resamples,
        seed=config.seed,
        chosen_by=chosen_by,
    )
    rows = as_rows(results, reference=grid.reference)
    folder = config.experiment_dir
    pd.DataFrame(rows).map(csv_cell).to_csv(folder / "grid.csv", index=False)
    write_grid_report(folder / "grid.html", config.experiment, rows, grid, split=config.evaluate.split)
    write_json(folder / "grid.json", {"rows": rows})
    logger.info("%s", text_table(folder / "grid.json"))
    log_grid(config, rows, [folder / name for name in ("grid.html", "grid.csv", "grid.json")])


if __name__ == "__main__":
    script_main("grid", run)
