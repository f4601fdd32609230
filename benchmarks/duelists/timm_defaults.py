"""The defaults of timm's train.py: SGD with Nesterov momentum, its rate 0.1 a 256 images, weight
decay 2e-5, batches of 128, 5 of 300 epochs of warm-up, then a cosine; crops of 8 % and more, flips,
colour jitter 0.4, label smoothing 0.1. https://github.com/huggingface/pytorch-image-models
(train.py, 1.0)"""

from __future__ import annotations

import math

import timm.data
import timm.layers
import timm.optim
import torch.nn.functional as F
from classes import Images, finish, loader, network, predicting, train_epochs
from common import read_task
from torch import Tensor

BATCH, RATE, WARM_UP = 128, 0.1 * 128 / 256, 5 / 300

if __name__ == "__main__":
    folder, task = read_task()
    net = network(task)
    net.fc = timm.layers.create_classifier(512, len(task["data"]["classes"]))[1]
    training = timm.data.create_transform(224, is_training=True, color_jitter=0.4)
    optimizer = timm.optim.create_optimizer_v2(
        net, opt="sgd", lr=RATE, momentum=0.9, weight_decay=2e-5
    )

    def step(images: Tensor, labels: Tensor, done: float) -> None:
        """One step."""
        rate = (
            1e-5 + (RATE - 1e-5) * done / WARM_UP
            if done < WARM_UP
            else RATE * (1 + math.cos(math.pi * done)) / 2
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        net.train()
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels, label_smoothing=0.1).backward()
        optimizer.step()

    train_epochs(task, step, loader(Images(task, "train", training), BATCH, shuffle=True))
    finish(folder, task, predicting(net, timm.data.create_transform(224, crop_pct=0.875)))
