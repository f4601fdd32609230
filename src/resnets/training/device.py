"""What a machine has for a run: its device, and memory for images."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # flags of processors
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU.

    Raises:
        ValueError: A device that this machine does not have.
    """
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ValueError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:1, mps")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name} cannot be used here ({str(error).splitlines()[0]}); use auto or cpu"
        ) from None
    return device


def place_net(net: nn.Module, device: torch.device) -> nn.Module:
    """A network on a device, its weights in the order that is fastest there: channels last, but for
    convolutions over time, which a CPU trains a third more slowly so."""
    net = net.to(device)
    flat = all(weight.ndim < 5 for weight in net.parameters())
    return net.to(memory_format=torch.channels_last) if flat else net


def place_input(images: Tensor, device: torch.device) -> Tensor:
    """Images (N, C, H, W), channels last, or clips (N, C, T, H, W) on a device."""
    if images.ndim == 4:
        return images.to(device, memory_format=torch.channels_last)
    return images.to(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes with bfloat16 faster than with float32; False where that is not
    known."""
    if device.type == "cpu":
        try:
            return bool(BFLOAT16 & set(Path("/proc/cpuinfo").read_text().split()))
        except OSError:  # no Linux
            return False
    return device.type == "cuda"


def autocasting(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """A context in which a device computes in a shorter type; None: one that does nothing."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def make_scaler(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """What keeps small gradients from vanishing in float16: the loss is multiplied by a power of
    two, which grows until gradients overflow, and such steps are left out (Micikevicius et al.
    2018, arXiv:1710.03740, section 3.2). For other types one that does nothing."""
    return torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)


def refuse_precision(precision: str | None, device: torch.device) -> None:
    """Holds the precision that was asked for against the device.

    Raises:
        ValueError: float16 on a CPU, which is slow in it.
    """
    if precision == "float16" and device.type == "cpu":
        raise ValueError(
            "precision is float16, which is for GPUs, and the device is cpu; use bfloat16 or"
            " float32, or --device cuda"
        )


def memory_for_images(cache_gb: float | None) -> float:
    """Bytes of decoded images that may be kept."""
    if cache_gb is not None:
        return cache_gb * 1e9
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    except (ValueError, OSError, AttributeError):  # no such question on this system
        return 2e9
