"""Processes of a test of its own: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
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


@contextlib.contextmanager
def gloo_group(rank: int, n_processes: int, *, timeout_s: float, folder: Path) -> Iterator[None]:
    """One process of several as accelerate launch would start it; a failure is left as failure_<rank>.txt."""
    # The group exists before accelerate asks for it, so nobody ever connects to this address.
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "LOCAL_WORLD_SIZE": str(n_processes)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n_processes)} | address
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / f'group_{n_processes}'}", rank=rank, world_size=n_processes,
        timeout=timedelta(seconds=timeout_s),
    )  # fmt: skip
    try:
        yield
        dist.barrier()
    except BaseException:
        # Written before the group is destroyed: the other processes abort as soon as this one is gone.
        (folder / f"failure_{rank}.txt").write_text(traceback.format_exc())
        raise
    finally:
        dist.destroy_process_group()
