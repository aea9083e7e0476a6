"""How many processes a launch file of accelerate starts."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.errors import UserError


def processes_of(launch_file: Path | None) -> int:
    """Processes on all machines together; 1 without a launch file.

    Raises:
        UserError: if it cannot be read or does not say.
    """
    if launch_file is None:
        return 1
    try:
        launch = yaml.safe_load(launch_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise UserError(f"{launch_file}: no readable YAML; compute.accelerate_config must be a launch file.") from None
    n_processes = launch.get("num_processes") if isinstance(launch, dict) else None
    if not isinstance(n_processes, int) or n_processes < 1:
        raise UserError(f"{launch_file}: num_processes is {n_processes!r}, expected 1 or more.")
    return n_processes
