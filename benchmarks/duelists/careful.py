"""What somebody writes who knows how: a fresh head, all layers, AdamW at 3e-4 with warm-up and a
cosine, batches of 32, crops of 35 % and more, flips, label smoothing 0.1, channels_last, bfloat16
where the processor multiplies matrices of it (AMX); images are decoded once and kept in memory. The
minutes go into training alone: no validation, no export."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from classes import Images, finish, left, loader, network, predicting, train_epochs
from common import read_task
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2 as transforms
from tutorial import NORMALISE, VAL

BATCH, RATE, WARM_UP = 32, 3e-4, 0.1
AMX = "amx_bf16" in Path("/proc/cpuinfo").read_text()
PREPARE = transforms.Compose(
    [
        transforms.RandomResizedCrop(224, scale=(0.35, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToImage(),
        transforms.ToDtype(torch.float32, scale=True),
        NORMALISE,
    ]
)


class Kept(Images):
    """The images of one part, decoded once."""

    def __init__(
        self, task: dict[str, Any], name: str, transform: Callable[[Image.Image], Tensor]
    ) -> None:
        super().__init__(task, name, transform)
        smaller = transforms.Resize(256)
        self.decoded = [smaller(Image.open(one["file"]).convert("RGB")) for one in self.images]

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        label = self.places[self.images[number]["annotations"][0]["label"]]
        return self.transform(self.decoded[number]), label


if __name__ == "__main__":
    folder, task = read_task()
    images = Kept(task, "train", PREPARE)
    net = network(task).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)

    def step(images: Tensor, labels: Tensor, done: float) -> None:
        """One step."""
        rate = done / WARM_UP if done < WARM_UP else (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate
        net.train()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=AMX):
            logits = net(images.to(memory_format=torch.channels_last))
        F.cross_entropy(logits.float(), labels, label_smoothing=0.1).backward()
        optimizer.step()

    print(f"decoded, {left(task):.0f} s left", flush=True)
    train_epochs(task, step, loader(images, BATCH, shuffle=True))
    finish(folder, task, predicting(net, VAL))
