"""Source files that a stage is made of: when one changes, it runs again, and checkpoints of before are not used."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection
from pathlib import Path

from pipeline.experiment.config import Stage

PACKAGE_DIR = Path(__file__).parents[1]


@functools.cache
def _import_graph() -> object:
    import grimp

    return grimp.build_graph("pipeline", "data_recipes", cache_dir=None)


@functools.cache
def stage_sources(stage: Stage, recipe: str = "") -> list[Path]:
    """Source files that a stage uses, directly or not.

    Args:
        stage: which one.
        recipe: recipe of the experiment, which only ingest uses.
    """
    roots = [f"pipeline.stages.{stage}"] + ([f"data_recipes.{recipe}"] if stage == "ingest" else [])
    return module_sources(*roots)


def module_sources(*roots: str) -> list[Path]:
    """Source files of modules and of all modules that they import, directly or not."""
    graph = _import_graph()
    modules = set(roots).union(*(graph.find_upstream_modules(root) for root in roots))  # type: ignore[attr-defined]
    # Packages for their __init__, which no module names and every import of one within runs.
    modules |= {module.rsplit(".", n)[0] for module in modules for n in range(1, module.count(".") + 1)}
    files = {_module_path(module) for module in modules}
    if "pipeline.reports.page" in modules:
        files |= set((PACKAGE_DIR / "reports" / "templates").iterdir())
    if "pipeline.lexical.mentions" in modules:
        files |= set((PACKAGE_DIR / "lexical" / "lexicon").iterdir())
    return sorted(files)


@functools.cache
def sources_digest(stage: Stage, recipe: str = "") -> str:
    """Digest of :func:`stage_sources` as this process first saw them, wherever the packages lie."""
    digest = hashlib.sha256()
    for path in stage_sources(stage, recipe):
        digest.update(path.relative_to(PACKAGE_DIR.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def state_of(paths: Collection[Path]) -> str:
    """Number of files, and a digest of their names, sizes and times: without reading them, whether they changed."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{int(stat.st_mtime)}\0".encode())
    return f"{len(paths)} {digest.hexdigest()}"


def are_as_before(state: str, paths: Collection[Path]) -> bool:
    """Whether files that are there are those that :func:`state_of` saw; of some that are gone nothing can be said."""
    return len(paths) < int(state.partition(" ")[0]) or state_of(paths) == state


def _module_path(module: str) -> Path:
    """File of a module of ours; both packages lie side by side.

    Example:
        >>> _module_path("pipeline.stages").name
        '__init__.py'
    """
    base = PACKAGE_DIR.parent.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
