"""Processes of a test of its own: started, waited for, and ended whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp


def run_processes(worker: Callable[..., None], *args: Any, n_processes: int, timeout_s: float, folder: Path) -> None:
    """Run ``worker(rank, *args)`` in processes; fail with what they left in ``folder`` as failure_<rank>.txt."""
    context = mp.start_processes(worker, args=args, nprocs=n_processes, join=False, start_method="spawn")
    assert context is not None
    try:
        deadline = time.monotonic() + timeout_s
        while not context.join(timeout=1):  # False as long as one process runs
            if time.monotonic() > deadline:
                pytest.fail(f"the processes still run after {timeout_s} s: a collective hangs")
    except (mp.ProcessRaisedException, mp.ProcessExitedException):
        reports = sorted(folder.glob("failure_*.txt"))
        pytest.fail("\n".join(report.read_text() for report in reports))
    finally:
        for process in context.processes:
            process.kill()
