"""What contenders for classes share: image folders as loaders, epochs that fill the minutes, and
what is predicted for the images of val and test."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import STARTED, part
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

WORKERS = 2


class Images(Dataset[tuple[Tensor, int]]):
    """The images of one part of the data, and the places of their classes."""

    def __init__(
        self, task: dict[str, Any], name: str, transform: Callable[[Image.Image], Tensor]
    ) -> None:
        self.images, self.transform = part(task, name), transform
        self.places = {name: place for place, name in enumerate(task["data"]["classes"])}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        one = self.images[number]
        with Image.open(one["file"]) as image:
            label = self.places[one["annotations"][0]["label"]]
            return self.transform(image.convert("RGB")), label


def loader(images: Images, batch: int, shuffle: bool = False) -> DataLoader[Any]:
    """Batches, made by two processes."""
    last = shuffle and len(images) > batch
    return DataLoader(
        images, batch, shuffle, num_workers=WORKERS, drop_last=last, persistent_workers=True
    )


def network(task: dict[str, Any]) -> nn.Module:
    """A ResNet-18 with a fresh head; the first weights if there are any."""
    net = resnet18()
    if task["weights"]:
        net.load_state_dict(load_file(task["weights"]))
    net.fc = nn.Linear(net.fc.in_features, len(task["data"]["classes"]))
    return net


def left(task: dict[str, Any]) -> float:
    """Seconds until the minutes are over."""
    return task["minutes"] * 60 - (time.monotonic() - STARTED)


def train_epochs(
    task: dict[str, Any], step: Callable[[Tensor, Tensor, float], None], batches: DataLoader[Any]
) -> None:
    """As many steps as fit. The schedule of a recipe knows how far the run is: by time, since
    nothing else says how long it will be.

    Args:
        task: What is wanted.
        step: One step on images and labels, with how much of the run is done (0 to 1).
        batches: An epoch of them.
    """
    begun = left(task)
    while True:
        for images, labels in batches:
            if (rest := left(task)) <= 0:
                return
            step(images, labels, 1 - rest / begun)


def finish(
    folder: Path, task: dict[str, Any], predict: Callable[[Sequence[str]], Sequence[int]]
) -> None:
    """Notes when the model was ready, then what it says of the images of val and test.

    Args:
        folder: Of the contender.
        task: What is wanted.
        predict: Files to places of classes.
    """
    (folder / "ready").write_text(f"{time.monotonic() - STARTED:.2f}")
    images = [*part(task, "val"), *part(task, "test")]
    places, names = predict([one["file"] for one in images]), task["data"]["classes"]
    said = {one["name"]: names[place] for one, place in zip(images, places, strict=True)}
    (folder / "predictions.json").write_text(json.dumps(said))


def predicting(
    net: nn.Module, transform: Callable[[Image.Image], Tensor]
) -> Callable[[Sequence[str]], list[int]]:
    """A network as `finish` wants it."""

    def predict(files: Sequence[str]) -> list[int]:
        places: list[int] = []
        net.eval()
        with torch.inference_mode():
            for start in range(0, len(files), 32):
                images = [
                    transform(Image.open(file).convert("RGB")) for file in files[start : start + 32]
                ]
                places += net(torch.stack(images)).argmax(1).tolist()
        return places

    return predict
