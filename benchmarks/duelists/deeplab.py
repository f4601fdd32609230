"""torchvision's DeepLabHead on our ResNet-18 at output stride 16, as its segmentation reference
trains it: SGD, polynomial rate, random scale 0.5 to 2, crop and flip; input at half size; as many
steps as fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import part, read_task, train
from PIL import Image
from torch import nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from resnets import create_model
from resnets.checkpoints import read_state
from resnets.models.weights import load_weights

RATE = 0.01
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class Net(nn.Module):
    """The last stage, the head, and its map enlarged to the input."""

    def __init__(self, state: dict[str, torch.Tensor], classes: int) -> None:
        super().__init__()
        name = "resnet18 output_stride=16"
        self.backbone = create_model(name, features_only=True, out_indices=[4])
        print(load_weights(self.backbone.net, state))
        self.head = DeepLabHead(512, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        (maps,) = self.backbone(images)
        return F.interpolate(self.head(maps), size=images.shape[-2:], mode="bilinear")


def read(one: dict[str, Any]) -> tuple[Image.Image, Image.Image]:
    """Image and mask at half size."""
    size = (one["width"] // 2, one["height"] // 2)
    image = Image.open(one["file"]).convert("RGB").resize(size, Image.Resampling.BILINEAR)
    stored = np.asarray(Image.open(one["mask"]))
    truth = np.full(stored.shape, 255, np.uint8)
    for annotation in one["annotations"]:
        truth[stored == annotation["value"]] = CLASSES.index(annotation["label"])
    return image, Image.fromarray(truth).resize(size, Image.Resampling.NEAREST)


def varied(image: Image.Image, mask: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """A random scale, part and mirror."""
    width, height = image.size
    scale = float(torch.empty(1).uniform_(0.5, 2.0))
    w, h = round(width * scale), round(height * scale)
    x, y = (float(torch.rand(1)) * (full - side) for full, side in ((w, width), (h, height)))
    box = (round(x), round(y), round(x) + width, round(y) + height)
    pixels = np.asarray(image.resize((w, h), Image.Resampling.BILINEAR).crop(box))
    labels = np.full((height, width), 255, np.uint8)
    scaled = np.asarray(mask.resize((w, h), Image.Resampling.NEAREST))
    top, left = max(0, -box[1]), max(0, -box[0])
    part_ = scaled[max(0, box[1]) : box[3], max(0, box[0]) : box[2]]
    labels[top : top + part_.shape[0], left : left + part_.shape[1]] = part_
    if torch.rand(1) < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    return pixels, labels


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) to what the network takes."""
    images = (torch.from_numpy(pixels.copy()).float() / 255 - MEAN) / STD
    return images.permute(0, 3, 1, 2).to(memory_format=torch.channels_last)


def step(pairs: list[tuple[Image.Image, Image.Image]]) -> float:
    """One step on some images."""
    arrays = [varied(*pair) for pair in pairs]
    labels = torch.from_numpy(np.stack([mask for _, mask in arrays]).astype(np.int64))
    loss = F.cross_entropy(
        net(normalised(np.stack([p for p, _ in arrays]))), labels, ignore_index=255
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


if __name__ == "__main__":
    folder, task = read_task()
    CLASSES: list[str] = task["data"]["classes"]
    state = read_state(Path(task["weights"]), print)
    net = Net(state, len(CLASSES)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), RATE, 0.9, weight_decay=1e-4)
    training = [read(one) for one in part(task, "train")]
    net.train()
    train(task, training, step, optimizer, lambda number, steps: RATE * (1 - number / steps) ** 0.9)
    judged = [*part(task, "val"), *part(task, "test")]
    net.eval()
    masks = {}
    for one in judged:
        image, _ = read(one)
        with torch.inference_mode():
            logits = net(normalised(np.asarray(image)[None]))
            whole = F.interpolate(logits, size=(one["height"], one["width"]), mode="bilinear")
        masks[one["name"]] = whole.argmax(1)[0].numpy().astype(np.uint8)
    np.savez_compressed(folder / "masks.npz", **masks)
