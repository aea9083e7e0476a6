"""docs/losses.md: its example runs, and it names every loss."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from pipeline.losses import CONTRASTIVE_LOSSES, HEAD_LOSSES

PAGE = Path(__file__).parents[1] / "docs" / "losses.md"


def test_example_runs_and_is_at_most_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(block.strip().splitlines()) <= 10
    torch.manual_seed(0)
    exec(compile(block, str(PAGE), "exec"), {})
    assert re.fullmatch(r"loss \d+\.\d{3}\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", [*CONTRASTIVE_LOSSES, *HEAD_LOSSES])
def test_every_loss_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
