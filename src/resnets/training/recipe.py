"""The settings of a run, and how those left open are decided: by whether there are pretrained
weights, and by the pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from resnets.settings import nearest


@dataclass(frozen=True)
class TrainSettings:
    """Everything that `train` can be told; None is decided by `decide` and said with its reason.

    Args:
        data: A folder, a table, or the name of a torchvision data set.
        model: A network with changes: `resnet50 shortcut=none`.
        weights: `auto`, `none`, a file, or `torchvision:TAG`.
        size: Side of the input in pixels.
        channels: 3 or 1.
        bits: Of a stored value: 8, or 16 for grayscale kept at full depth.
        fit: `crop`, `pad` or `stretch`.
        epochs: Passes over the training pictures; may be a fraction.
        minutes: End within this time instead, all included.
        batch_size: Pictures a step.
        lr: Peak learning rate.
        warmup: Part of the steps that warm up.
        momentum: Of SGD, in Nesterov's form.
        weight_decay: On weights of convolutions and linear layers.
        smoothing: Of labels.
        average: Part of the run over which averaged weights forget; 0 switches averaging off.
        norms: `train`, or `frozen`: BatchNorm in eval mode, as loaded.
        crop: `resized`, `shift` or `none`.
        smallest: Area of the smallest crop.
        flip: `none`, `horizontal` or `both`.
        val_fraction: Of the training pictures, what is held out where the data name no validation
            pictures.
        seed: Fixes initial weights, split, order and augmentation.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        workers: Threads that decode; 0: one a core.
        cache_gb: Memory for decoded pictures; None: a quarter of the machine's.
    """

    data: str
    model: str | None = None
    weights: str = "auto"
    size: int | None = None
    channels: int = 3
    bits: int = 8
    fit: str | None = None
    epochs: float | None = None
    minutes: float | None = None
    batch_size: int | None = None
    lr: float | None = None
    warmup: float = 0.1
    momentum: float = 0.9
    weight_decay: float | None = None
    smoothing: float | None = None
    average: float = 0.05
    norms: str | None = None
    crop: str | None = None
    smallest: float | None = None
    flip: str = "horizontal"
    val_fraction: float = 0.2
    seed: int = 0
    device: str = "auto"
    workers: int = 0
    cache_gb: float | None = None

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "size": (8, 4096),
            "epochs": (0.01, 1e6),
            "minutes": (0.1, 1e6),
            "batch_size": (1, 65536),
            "lr": (1e-8, 100),
            "warmup": (0, 0.9),
            "momentum": (0, 0.9999),
            "weight_decay": (0, 1),
            "smoothing": (0, 0.9),
            "average": (0, 1),
            "smallest": (0.01, 1),
            "val_fraction": (0.01, 0.9),
            "seed": (0, 2**63 - 1),
            "workers": (0, 1024),
            "cache_gb": (0, 1e6),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} is {value}; allowed: {low} to {high:g}")
        choices: dict[str, tuple[Any, ...]] = {
            "channels": (1, 3),
            "bits": (8, 16),
            "fit": (None, "crop", "pad", "stretch"),
            "norms": (None, "train", "frozen"),
            "crop": (None, "resized", "shift", "none"),
            "flip": ("none", "horizontal", "both"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; allowed:"
                    f" {', '.join(str(a) for a in allowed if a is not None)}"
                )
        if self.bits == 16 and self.channels == 3:
            raise ValueError("bits=16 needs channels=1: colour is kept at 8 bits")
        if self.epochs and self.minutes:
            raise ValueError("epochs and minutes are both given; choose one")


@dataclass(frozen=True)
class Circumstances:
    """What the open settings are decided by.

    Args:
        pretrained: Whether the network starts from trained weights.
        size: Input size that the weights were made for; None without.
        median: Median height and width of the training pictures, in pixels.
        elongated: The part of the pictures whose long side is more than 1.6 times the short one.
        count: Training pictures.
    """

    pretrained: bool
    size: int | None
    median: tuple[int, int]
    elongated: float
    count: int


TINY = 64  # pixels of the median short side up to which the networks for small pictures are meant


def choose_model(median: tuple[int, int]) -> tuple[str, str]:
    """The network where none is named, and why."""
    short = min(median)
    if short <= TINY:
        return "resnet20", f"pictures of {short} px (median): a network for small pictures"
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
                (max(16, short // 4 * 4), "the pictures' own")
                if tiny
                else (128, "from scratch on a CPU: a third of the time of 224")
            )
        ),
        "fit": (fit, f"{seen.elongated:.0%} of the pictures are longer than 1.6 : 1"),
        "epochs": (5.0 if seen.pretrained else 30.0, how),
        "batch_size": (batch, f"{seen.count} training pictures, {how}"),
        "weight_decay": (1e-4 if seen.pretrained else 5e-4, how),
        "smoothing": (0.1 if not tiny else 0.0, how),
        "norms": (
            ("frozen", "fine-tuning: small batches would spoil the statistics")
            if seen.pretrained
            else ("train", how)
        ),
        "crop": (
            ("shift", "small pictures")
            if tiny
            else (
                ("resized", "photographs")
                if (settings.fit or fit) == "crop"
                else ("shift", "whole pictures are kept")
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
        reasons["lr"] = f"{how}, in proportion to the batch"
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
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name}: {str(error).splitlines()[0]}; use auto or cpu") from None
    return device


def memory_for_pictures(cache_gb: float | None) -> float:
    """Bytes of decoded pictures that may be kept."""
    if cache_gb is not None:
        return cache_gb * 1e9
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    except (ValueError, OSError, AttributeError):  # no such question on this system
        return 2e9


def from_mapping(values: Mapping[str, Any]) -> TrainSettings:
    """Settings from a file or from Python's keywords.

    Raises:
        ValueError: A key that is no setting, with the nearest that is.
    """
    names = {field.name for field in fields(TrainSettings)}
    for key in values:
        if key not in names:
            raise ValueError(f"unknown setting {key!r}: {nearest(key, names)}")
    return TrainSettings(**values)
