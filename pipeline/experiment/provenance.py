"""What made a result: commit of the code, versions of packages, memory that it took."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path

_VERSIONED_PACKAGES = (
    "accelerate", "datasets", "evaluate", "icd-contrast", "mlflow", "numpy", "pandas", "peft", "pyarrow",
    "scikit-learn", "scipy", "simple-icd-10-cm", "snakemake", "spacy", "tokenizers", "torch", "transformers",
)  # fmt: skip


def peak_memory_mb() -> int:
    """The most memory this process has held so far, MB; processes it started are not in it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, where they are installed."""
    found = {"python": platform.python_version()}
    for package in _VERSIONED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def git_commit() -> str | None:
    """Commit of this code, with ``+`` where the tree differs from it; None outside a checkout.

    Code that is installed within the checkout of something else, such as in its venv, is outside.
    """
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
