"""In which precision a device computes: half where its hardware has it."""

from __future__ import annotations

import logging
import os

import torch

from pipeline.errors import UserError

logger = logging.getLogger(__name__)

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_X86_BF16 = ("amx_bf16", "avx512_bf16", "avx_ne_convert")


def usable_precision(asked: str, device: torch.device | str) -> str:
    """What the encoder computes in on this device.

    PyTorch emulates bf16 where the hardware lacks it: a matrix product took eight times as long as in float32 on a CPU
    with AVX2 alone, 4.4 times on one with AVX-512 but no bf16 arithmetic. There float32 is taken, which is no less
    exact, and the log says so.

    Args:
        asked: 'no' (float32), 'bf16' or 'fp16'.
        device: that computes.

    Returns:
        ``asked``, or 'no'.

    Raises:
        UserError: if fp16 is asked of a CPU: small gradients and large attention scores would not survive it.
    """
    kind = torch.device(device).type
    if asked == "fp16" and kind == "cpu":
        raise UserError("mixed_precision 'fp16' needs a GPU; use 'bf16' or 'no' on this machine.")
    if asked == "bf16" and not has_bf16(kind):
        logger.info("this %s has no bf16 arithmetic, so float32 is used", kind.upper())
        return "no"
    return asked


def precision_as_trained(trained: str, device: torch.device | str) -> str:
    """What a model computes in on this device where nothing else is asked: what it was trained in, if it can.

    Args:
        trained: 'no', 'bf16' or 'fp16'.
        device: that computes.

    Returns:
        ``trained``, or 'no' where the device has no such arithmetic.
    """
    is_cpu = torch.device(device).type == "cpu"
    return "no" if trained == "fp16" and is_cpu else usable_precision(trained, device)


def default_device() -> str:
    """What computes where nothing else is said: the GPU, if torch sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bf16(kind: str) -> bool:
    """Whether a kind of device ('cpu', 'cuda', ...) has bf16 arithmetic of its own."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _cpu_has_bf16() if kind == "cpu" else True


def _cpu_has_bf16() -> bool:
    """By its flags on x86: oneDNN calls bf16 supported on any CPU with AVX-512, where it may be emulated."""
    flags = torch.cpu.get_capabilities()
    if flags["architecture"] == "x86_64":
        return any(flags.get(name, False) for name in _X86_BF16)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device, mixed_precision: str) -> torch.autocast:
    """What inference runs in: a precision as :func:`usable_precision` gives it."""
    return torch.autocast(device.type, dtype=_DTYPES[mixed_precision], enabled=mixed_precision != "no")


def check_gpus(n_gpus: int) -> None:
    """Tell that GPUs were asked for and are not seen.

    Raises:
        UserError: in a job of Slurm, which would compute for days on its few cores; elsewhere it is a warning.
    """
    if not n_gpus or torch.cuda.is_available():
        return
    found = f"compute.n_gpus is {n_gpus}, but torch {torch.__version__} sees no GPU (its CUDA: {torch.version.cuda})"
    if "SLURM_JOB_ID" in os.environ:
        raise UserError(
            f"{found}. Install a build of torch with CUDA (make run ICD_TORCH=...), or set compute.n_gpus: 0."
        )
    logger.warning("%s; this training runs on the processor", found)
