"""torchvision's data sets by name, as folders of PNG files in the user's cache. Naming one is
asking for the download."""

from __future__ import annotations

import os
import shutil
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any

# name: class in torchvision.datasets, and the arguments of each of its parts
TORCHVISION_SETS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "cifar10": ("CIFAR10", {"train": {"train": True}, "test": {"train": False}}),
    "cifar100": ("CIFAR100", {"train": {"train": True}, "test": {"train": False}}),
    "mnist": ("MNIST", {"train": {"train": True}, "test": {"train": False}}),
    "fashion-mnist": ("FashionMNIST", {"train": {"train": True}, "test": {"train": False}}),
    "flowers102": (
        "Flowers102",
        {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}},
    ),
    "oxford-pets": ("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "dtd": (
        "DTD",
        {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}},
    ),
}


def cache_folder() -> Path:
    """Where downloads are kept: $RESNETS_CACHE, or `resnets` in the user's cache folder."""
    return Path(
        os.environ.get("RESNETS_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnets"
    )


def torchvision_folder(name: str) -> Path:
    """The data set as `PART/CLASS/NNNNN.png`, downloaded and unpacked at the first call.

    Raises:
        ValueError: It cannot be downloaded; the message says how to bring it by hand.
    """
    folder = cache_folder() / "data" / name
    if folder.is_dir():
        return folder
    # part of the training install; not needed where the folder is there already
    from torchvision import datasets

    class_name, parts = TORCHVISION_SETS[name]
    partial = folder.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    print(f"downloading {name} (torchvision.datasets.{class_name}) into {folder}", file=sys.stderr)  # noqa: T201
    try:
        for part, arguments in parts.items():
            data = getattr(datasets, class_name)(partial / "raw", download=True, **arguments)
            classes = [str(label).replace("/", "_") for label in getattr(data, "classes", [])]
            for index, (image, label) in enumerate(data):
                target = partial / "data" / part / (classes[label] if classes else str(label))
                target.mkdir(parents=True, exist_ok=True)
                image.save(target / f"{index:06d}.png")
        (partial / "data").rename(folder)
    except (
        OSError,
        RuntimeError,
        HTTPException,
    ) as error:  # URLError is an OSError; RuntimeError: a wrong checksum
        raise ValueError(
            f"{name} could not be downloaded ({error}); put its images as PART/CLASS/*.png into"
            f" {folder}"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
