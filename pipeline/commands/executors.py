"""What a profile hands its jobs to, and whether it can be reached; `icd run` asks at its start: no torch here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Iterator

import yaml

from pipeline.commands import dag
from pipeline.commands.findings import Finding
from pipeline.errors import UserError

PACKAGE = "icd-contrast"


def installed(name: str) -> str | None:
    """Version of a package, or None."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def check_executor(profile: str) -> None:
    """Refuse a profile whose scheduler cannot be reached from here; Snakemake would say so in a log at best.

    Raises:
        UserError: if there is no such profile, or its plugin or a command of the scheduler is not here.
    """
    executor = executor_of(profile)
    for finding in () if executor == "local" else executor_findings(executor):
        if finding.state == "wrong":
            raise UserError(f"--profile {profile}: {finding.found}; {finding.advice}.")


def executor_of(profile: str) -> str:
    """What a profile hands its jobs to."""
    settings = yaml.safe_load((dag.profile_dir(profile) / "config.yaml").read_text(encoding="utf-8"))
    return str((settings or {}).get("executor", "local"))


def executor_findings(executor: str) -> Iterator[Finding]:
    """Whether Snakemake's plugin and the commands of a scheduler are here."""
    plugin = f"snakemake_executor_plugin_{executor}"
    if importlib.util.find_spec(plugin) is None:
        advice = f"pip install '{PACKAGE}[{executor}]'"
        yield Finding("wrong", executor, f"Snakemake's plugin {plugin} is not installed", advice)
    else:
        yield Finding("ok", executor, f"plugin {plugin.replace('_', '-')} {installed(plugin) or ''}".rstrip())
    commands = ("sbatch", "squeue") if executor == "slurm" else ()
    if absent := [command for command in commands if shutil.which(command) is None]:
        found = f"no {' and no '.join(absent)} on this machine"
        yield Finding("wrong", executor, found, "run on a node from which jobs can be submitted")
