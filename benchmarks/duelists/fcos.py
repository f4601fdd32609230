"""torchvision's FCOS on a feature pyramid of ResNet-18, as its detection reference trains it: SGD,
warm-up, flips; BatchNorm frozen, the first two stages too; images of 240 x 320; as many steps as
fit, with a cosine instead of two drops, since nothing is known of how long it should take."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import part, read_task, train
from PIL import Image
from torchvision.models import resnet18
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from resnets.checkpoints import read_state

RATE = 0.01
SIDE = (240, 320)


def image_of(one: dict[str, Any], mirrored: bool) -> torch.Tensor:
    """(3, H, W) of 0 to 1."""
    pixels = CACHE.get(one["name"])
    if pixels is None:
        pixels = np.asarray(Image.open(one["file"]).convert("RGB"))
        scale = min(SIDE[0] / min(pixels.shape[:2]), SIDE[1] / max(pixels.shape[:2]))
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        CACHE[one["name"]] = pixels
    pixels = pixels[:, ::-1] if mirrored else pixels
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


CACHE: dict[str, np.ndarray] = {}


def target_of(one: dict[str, Any], width: int, mirrored: bool) -> dict[str, torch.Tensor]:
    """Boxes and labels, in pixels of what `image_of` gives."""
    scale, boxes, labels = width / one["width"], [], []
    for annotation in one["annotations"]:
        left, top, right, bottom = (side * scale for side in annotation["box"])
        if mirrored:
            left, right = width - right, width - left
        if right > left and bottom > top:
            boxes.append([left, top, right, bottom])
            labels.append(CLASSES.index(annotation["label"]))
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def step(images: list[dict[str, Any]]) -> float:
    """One step on some images."""
    mirrored = (torch.rand(len(images)) < 0.5).tolist()
    inputs = [image_of(one, turned) for one, turned in zip(images, mirrored, strict=True)]
    targets = [
        target_of(one, pixels.shape[2], turned)
        for one, pixels, turned in zip(images, inputs, mirrored, strict=True)
    ]
    loss = sum(net(inputs, targets).values())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(moving, 10.0)
    optimizer.step()
    return loss.item()


def rate_of(number: int, steps: int) -> float:
    """A cosine after a warm-up."""
    warm = min(1.0, (number + 1) / min(100, max(1, steps // 5)))
    return RATE * warm * (1 + math.cos(math.pi * number / steps)) / 2


if __name__ == "__main__":
    folder, task = read_task()
    CLASSES: list[str] = task["data"]["classes"]
    body = resnet18(norm_layer=FrozenBatchNorm2d)
    state = read_state(Path(task["weights"]), print)
    body.load_state_dict(state, strict=False)
    pyramid = LastLevelP6P7(256, 256)
    backbone = _resnet_fpn_extractor(body, 3, returned_layers=[2, 3, 4], extra_blocks=pyramid)
    net = FCOS(backbone, len(CLASSES), min_size=SIDE[0], max_size=SIDE[1])
    moving = [one for one in net.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(moving, RATE, 0.9, weight_decay=1e-4)
    training = part(task, "train")
    net.train()
    train(task, training, step, optimizer, rate_of)
    judged = [*part(task, "val"), *part(task, "test")]
    net.eval()
    said = {}
    for one in judged:
        pixels = image_of(one, False)
        with torch.inference_mode():
            (found,) = net([pixels])
        scale = one["width"] / pixels.shape[2]
        said[one["name"]] = {
            "boxes": (found["boxes"] * scale).tolist(),
            "scores": found["scores"].tolist(),
            "labels": [CLASSES[label] for label in found["labels"].tolist()],
        }
    (folder / "predictions.json").write_text(json.dumps(said))
