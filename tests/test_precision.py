"""Half precision only where the device has it; never silently where it cannot work."""

from __future__ import annotations

import logging

import pytest
import torch

from pipeline.errors import UserError
from pipeline.precision import autocast, has_bf16, usable_precision


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("is_native", [True, False])
def test_bf16_is_float32_where_it_would_be_emulated_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, device: str, is_native: bool
) -> None:
    monkeypatch.setattr("pipeline.precision.has_bf16", lambda kind: is_native and kind == device)
    caplog.set_level(logging.INFO)
    assert usable_precision("bf16", device) == ("bf16" if is_native else "no")
    assert ("float32 is used" in caplog.text) is not is_native


def test_the_answer_for_this_cpu_is_that_of_its_flags() -> None:
    flags = torch.cpu.get_capabilities()
    if flags["architecture"] == "x86_64":
        assert has_bf16("cpu") == (flags["avx512_bw"] or flags.get("avx_ne_convert", False))


def test_float32_stays_and_fp16_asks_for_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert usable_precision("no", "cpu") == "no"
    assert usable_precision("fp16", "cuda:0") == "fp16"
    assert caplog.text == ""
    with pytest.raises(UserError, match="'fp16' needs a GPU"):
        usable_precision("fp16", "cpu")


@pytest.mark.parametrize(("precision", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_that_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
