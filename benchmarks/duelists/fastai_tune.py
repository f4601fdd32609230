"""fastai's vision_learner, with its defaults: `fine_tune` from first weights, `fit_one_cycle` from
scratch; images of 224, `aug_transforms`, batches of 64 (fewer where there are fewer images), mixed
precision off. As many epochs as fit, from the time that the first ones take. https://docs.fast.ai"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from classes import finish, left
from common import part, read_task
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    Learner,
    Resize,
    aug_transforms,
    vision_learner,
)
from fastcore.foundation import L
from safetensors.torch import load_file
from torchvision.models import resnet18

BATCH = 64


def make_learner(task: dict[str, Any], loaders: Any) -> Learner:
    """With the first weights in its body, if there are any."""
    learner = vision_learner(loaders, resnet18, pretrained=False)
    if task["weights"]:
        net = resnet18()
        net.load_state_dict(load_file(task["weights"]))
        body = torch.nn.Sequential(*list(net.children())[:-2])
        learner.model[0].load_state_dict(body.state_dict())
        learner.freeze()
    return learner


def timed(learner: Learner, loaders: Any) -> float:
    """Seconds of an epoch of all layers, from a few steps."""
    learner.unfreeze()
    images, labels = loaders.train.one_batch()
    learner.model.train()
    ticks = []
    for _ in range(3):
        tick = time.monotonic()
        learner.loss_func(learner.model(images), labels).backward()
        ticks.append(time.monotonic() - tick)
    return sorted(ticks)[1] * max(1, len(loaders.train)) * 1.1


if __name__ == "__main__":
    folder, task = read_task()
    parts = {name: [one["file"] for one in part(task, name)] for name in ("train", "val")}
    labels = {one["file"]: one["annotations"][0]["label"] for one in task["data"]["images"]}
    count, held_out = len(parts["train"]), len(parts["val"])
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=task["data"]["classes"])),
        get_x=lambda file: Path(file),  # a class alone would be taken for a type to dispatch on
        get_y=lambda file: labels[file],
        splitter=lambda items: (L(range(count)), L(range(count, count + held_out))),
        item_tfms=Resize(224),
        batch_tfms=aug_transforms(),
    )
    files = parts["train"] + parts["val"]
    loaders = block.dataloaders(files, bs=min(BATCH, count), num_workers=2, device="cpu")
    epoch = timed(make_learner(task, loaders), loaders)
    torch.manual_seed(task["seed"])
    learner = make_learner(task, loaders)
    validation = epoch / 3 * held_out / count
    if task["weights"]:
        frozen = epoch / 2.5 + validation
        epochs = max(1, int((left(task) - frozen) / (epoch + validation)))
        learner.fine_tune(epochs)
    else:
        learner.fit_one_cycle(max(1, int(left(task) / (epoch + validation))))

    def predict(files: Sequence[str]) -> list[int]:
        """Places of classes."""
        images = learner.dls.test_dl([Path(file) for file in files], bs=64)
        probabilities, _ = learner.get_preds(dl=images)
        order = [task["data"]["classes"].index(name) for name in learner.dls.vocab]
        return [order[place] for place in probabilities.argmax(1).tolist()]

    finish(folder, task, predict)
