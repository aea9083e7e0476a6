"""Half precision only where the device has it; never silently where it cannot work."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

import pytest
import torch

from pipeline.encoders.precision import autocast, check_gpus, has_bf16, usable_precision
from pipeline.errors import UserError


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("is_native", [True, False])
def test_bf16_is_float32_where_it_would_be_emulated_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, device: str, is_native: bool
) -> None:
    monkeypatch.setattr("pipeline.encoders.precision.has_bf16", lambda kind: is_native and kind == device)
    caplog.set_level(logging.INFO)
    assert usable_precision("bf16", device) == ("bf16" if is_native else "no")
    assert ("float32 is used" in caplog.text) is not is_native


@pytest.mark.parametrize(
    ("flags", "is_native"),
    [
        ({"avx2": True}, False),
        ({"avx2": True, "avx512_bw": True, "avx512_vl": True, "avx512_dq": True, "avx512_bf16": False}, False),
        ({"avx512_bw": True, "avx512_bf16": True}, True),
        ({"avx512_bw": True, "amx_bf16": True}, True),
        ({"avx2": True, "avx_ne_convert": True}, True),
    ],
)
def test_avx512_alone_is_no_bf16_arithmetic_though_onednn_calls_it_supported(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], is_native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags | {"architecture": "x86_64"})
    assert has_bf16("cpu") == is_native


def test_what_this_cpu_is_said_to_have_is_what_its_kernel_lists() -> None:
    """The kernel names flags by itself, not through PyTorch."""
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not cpuinfo.exists():
        pytest.skip("flags are those of x86 under Linux")
    listed = next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")).split()
    assert has_bf16("cpu") == bool({"avx512_bf16", "amx_bf16", "avx_ne_convert"} & set(listed))


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


def test_gpus_that_a_scheduler_gave_and_torch_does_not_see_end_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    check_gpus(0)
    assert not caplog.records
    check_gpus(1)
    assert "sees no GPU" in caplog.text
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    check_gpus(0)
    with pytest.raises(UserError, match=r"compute\.n_gpus is 2, but torch .* sees no GPU .*ICD_TORCH"):
        check_gpus(2)
