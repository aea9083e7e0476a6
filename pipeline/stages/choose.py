"""After the members of a grid with the first seed: which values it keeps for all seeds -> choice.json.

Only where ``grid.choose_on`` is first_seed. Run alone:
    python -m pipeline.stages.choose --config work/GRID/config.json
"""

from __future__ import annotations

import logging

from pipeline.errors import UserError
from pipeline.evaluation.grid_results import keep_best
from pipeline.experiment.config import PipelineConfig
from pipeline.experiment.grid import choosing, expand, write_choice
from pipeline.stages import script_main

logger = logging.getLogger(__name__)


def run(config: PipelineConfig) -> None:
    """Write what the first seed chooses."""
    grid = config.grid
    searched = choosing(expand(config), grid)
    if grid is None or not searched:
        raise UserError(
            f"{config.experiment}: the first seed has nothing to choose; that takes a grid with choose_on: first_seed "
            "and a list of values in a variant."
        )
    kept = keep_best(searched, choose_by=grid.choose_by)
    for one in kept:
        logger.info("%s: %s", one.variant if one.fold is None else f"{one.variant}, fold {one.fold}", one.choice)
    write_choice(config, kept)


if __name__ == "__main__":
    script_main("choose", run)
