"""How settings left open are decided: by whether there are pretrained weights, and by the
images."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any

import torch

from resnets.training.settings import TrainSettings

__all__ = ["Circumstances", "TrainSettings", "choose_device", "choose_model", "decide"]


@dataclass(frozen=True)
class Circumstances:
    """What the open settings are decided by.

    Args:
        pretrained: Whether the network starts from trained weights.
        size: Input size that the weights were made for; None without.
        median: Median height and width of the training images, in pixels.
        elongated: The fraction of the images whose long side is more than 1.6 times the short one.
        count: Training images.
    """

    pretrained: bool
    size: int | None
    median: tuple[int, int]
    elongated: float
    count: int


TINY = 64  # pixels of the median short side, up to which the networks for small images are meant


def choose_model(median: tuple[int, int]) -> tuple[str, str]:
    """The network where none is named, and why."""
    short = min(median)
    if short <= TINY:
        return "resnet20", f"images of {short} px (median): a network for small images"
    return "resnet18", "the smallest ImageNet network: fast on a CPU"


def decide(settings: TrainSettings, seen: Circumstances) -> tuple[TrainSettings, dict[str, str]]:
    """Fills every open setting.

    Returns:
        The settings without None (but `minutes` and `cache_gb`), and the reason for each that was
        decided here.
    """
    short = min(seen.median)
    tiny = not seen.pretrained and short <= TINY
    batch = min(64 if tiny else 32, max(8, 2 ** max(0, seen.count // 8).bit_length() // 2))
    how = "fine-tuning" if seen.pretrained else "from scratch"
    fit = "pad" if seen.elongated > 0.5 else "crop"
    choices: dict[str, tuple[Any, str]] = {
        "size": (
            (seen.size, "what the weights were trained for")
            if seen.size
            else (
                (max(16, short // 4 * 4), "that of the images")
                if tiny
                else (128, "from scratch on a CPU: takes a third of the time of 224")
            )
        ),
        "fit": (fit, f"{seen.elongated:.0%} of the images are longer than 1.6 : 1"),
        "epochs": (5.0 if seen.pretrained else 30.0, how),
        "batch_size": (batch, f"{seen.count:,} training images, {how}"),
        "weight_decay": (1e-4 if seen.pretrained else 5e-4, how),
        "smoothing": (0.1 if not tiny else 0.0, how),
        "norms": (
            ("frozen", "fine-tuning: small batches give poor statistics")
            if seen.pretrained
            else ("train", how)
        ),
        "crop": (
            ("shift", "small images")
            if tiny
            else (
                ("resized", "photos")
                if (settings.fit or fit) == "crop"
                else ("shift", "keeps whole images")
            )
        ),
        "smallest": (0.35 if seen.pretrained else 0.25, how),
    }
    reasons = {
        key: reason for key, (_, reason) in choices.items() if getattr(settings, key) is None
    }
    if settings.minutes:
        reasons.pop("epochs", None)
        choices.pop("epochs")
    filled = replace(
        settings,
        **{key: value for key, (value, _) in choices.items() if getattr(settings, key) is None},
    )
    if filled.lr is None:
        assert filled.batch_size is not None
        base = 0.01 * filled.batch_size / 32 if seen.pretrained else 0.1 * filled.batch_size / 64
        filled = replace(filled, lr=round(base, 6))
        reasons["lr"] = f"{how}, in proportion to the batch size"
    return filled, reasons


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


def memory_for_images(cache_gb: float | None) -> float:
    """Bytes of decoded images that may be kept."""
    if cache_gb is not None:
        return cache_gb * 1e9
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    except (ValueError, OSError, AttributeError):  # no such question on this system
        return 2e9
