"""The memory table asks for what its columns say."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from benchmarks import training_memory


def test_memory_is_measured_with_and_without_the_gradient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="1.0\n", stderr="")

    monkeypatch.setattr(training_memory.subprocess, "run", run)
    rows = list(training_memory.memory_rows((64, 256), n_threads=1))
    assert [cells[0] for cells in rows] == ["64", "256"]
    assert ["--gradient-cache" in command for command in asked] == [False, True, False] * 2
    assert [command[3:5] for command in asked[3:]] == [
        ["contrastive", "256"],
        ["contrastive", "256"],
        ["classifier", "256"],
    ]
