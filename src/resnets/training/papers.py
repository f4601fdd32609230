"""Recipes by name, each a row: values of settings, what they are for, and where they are from.

Common to all: norms and biases do not decay, momentum is Nesterov's, images are normalised with the
mean and deviation of ImageNet, and the best weights are chosen on images that are held out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resnets.settings import format_value, nearest


@dataclass(frozen=True)
class Paper:
    """A recipe.

    Args:
        purpose: What it is for, in a sentence.
        source: Where its values are from.
        values: Of fields of `TrainSettings`.
        without: What the source does besides.
    """

    purpose: str
    source: str
    values: Mapping[str, Any] = field(default_factory=dict)
    without: str = ""

    def __str__(self) -> str:
        return " ".join(f"{key}={format_value(value)}" for key, value in self.values.items())


# From random weights, by the rates of papers: no averages of weights, no smoothing
_SCRATCH: dict[str, Any] = {
    "weights": "none", "norms": "train", "optimizer": "sgd", "average": 0.0, "smoothing": 0.0,
}  # fmt: skip
_STEPS = {"warmup": 0.0, "schedule": "steps"}
# Images of 32 px, moved by 4 px
_SMALL = {**_SCRATCH, "size": 32, "crop": "shift", "flip": "horizontal"}
_PHOTOS = {**_SCRATCH, "model": "resnet50", "crop": "resized", "flip": "horizontal", "size": 224}
# What the three procedures of Wightman et al. have in common; checked against the configurations of
# mmpretrain (resnet50_8xb256-rsb), but for the smoothing of A1
_STRIKES_BACK: dict[str, Any] = {
    **_PHOTOS,
    "optimizer": "lamb",
    "batch_size": 2048,
    "smallest": 0.08,
    "loss": "bce",
    "cutmix": 1.0,
    "augment": "rand",
}
_NOT_HERE = "repeated augmentation (A1, A2); RandAugment with a magnitude that varies by 0.5"

PAPERS: dict[str, Paper] = {
    "probe": Paper(
        "A model in seconds: a linear classifier on the features of a pretrained network; no layer"
        " is fine-tuned.",
        "the first phase of every run from pretrained weights",
        {"epochs": 0.0},
    ),
    "cifar-paper": Paper(
        "The residual networks of CIFAR-10, resnet20 to resnet56, as published: 64,000 steps.",
        "He et al. 2016, arXiv:1512.03385, section 4.2",
        {
            **_SMALL,
            **_STEPS,
            "model": "resnet20",
            "epochs": 164.0,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 1e-4,
            "milestones": "0.5-0.75",
        },
        "subtracts the mean of each pixel; resnet110 starts with a rate of 0.01",
    ),
    "cifar-fast": Paper(
        "CIFAR-10 in 24 epochs, for networks of about 10 layers.",
        "Page 2018, github.com/davidcpage/cifar10-fast, dawn.py",
        {
            **_SMALL,
            "model": "resnet20",
            "epochs": 24.0,
            "batch_size": 512,
            "lr": 0.4,
            "warmup": 0.2083,  # 5 of 24 epochs
            "schedule": "linear",
            "weight_decay": 5e-4,
        },
        "cuts out squares of 8 px; has a network of its own",
    ),
    "wrn-paper": Paper(
        "Wide residual networks on CIFAR-10 and CIFAR-100, as published.",
        "Zagoruyko and Komodakis 2016, arXiv:1605.07146, section 3",
        {
            **_SMALL,
            **_STEPS,
            "model": "wrn28_10",
            "epochs": 200.0,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "milestones": "0.3-0.6-0.8",
            "gamma": 0.2,
        },
        "pads by reflection",  # not checked
    ),
    "densenet-paper": Paper(
        "DenseNets on CIFAR-10 and CIFAR-100, as published.",
        "Huang et al. 2017, arXiv:1608.06993, section 4.2",
        {
            **_SMALL,
            **_STEPS,
            "model": "densenet_bc_100_12",
            "epochs": 300.0,
            "batch_size": 64,
            "lr": 0.1,
            "weight_decay": 1e-4,
            "milestones": "0.5-0.75",
        },
    ),
    "imagenet-paper": Paper(
        "ResNets on ImageNet, as published: 120 epochs in batches of 256.",
        "He et al. 2016, arXiv:1512.03385, section 3.4",
        {
            **_PHOTOS,
            **_STEPS,
            "epochs": 120.0,  # 600,000 steps at most
            "batch_size": 256,
            "lr": 0.1,
            "weight_decay": 1e-4,
            "milestones": "0.25-0.5-0.75",
            "smallest": 0.22,
        },
        "lowers the rate where the error stops falling, here at equal parts; scales the shorter"
        " side to 256 to 480 px, for which crops of at least 22 % of an image stand; varies"
        " colours",
    ),
    "imagenet-a1": Paper(
        "ResNet-50 on ImageNet at its best, in 600 epochs.",
        "Wightman et al. 2021, arXiv:2110.00476, table 2, A1",
        {
            **_STRIKES_BACK,
            "epochs": 600.0,
            "lr": 5e-3,
            "warmup": 0.00833,  # 5 epochs
            "weight_decay": 0.01,
            "smoothing": 0.1,
            "mixup": 0.2,
            "magnitude": 7,
            "stochastic_depth": 0.05,
        },
        _NOT_HERE,
    ),
    "imagenet-a2": Paper(
        "ResNet-50 on ImageNet in 300 epochs.",
        "Wightman et al. 2021, arXiv:2110.00476, table 2, A2",
        {
            **_STRIKES_BACK,
            "epochs": 300.0,
            "lr": 5e-3,
            "warmup": 0.01667,
            "weight_decay": 0.02,
            "mixup": 0.1,
            "magnitude": 7,
            "stochastic_depth": 0.05,
        },
        _NOT_HERE,
    ),
    "imagenet-a3": Paper(
        "ResNet-50 on ImageNet in 100 epochs of smaller images.",
        "Wightman et al. 2021, arXiv:2110.00476, table 2, A3",
        {
            **_STRIKES_BACK,
            "size": 160,
            "epochs": 100.0,
            "lr": 8e-3,
            "warmup": 0.05,
            "weight_decay": 0.02,
            "mixup": 0.1,
            "magnitude": 6,
        },
        f"{_NOT_HERE}; measures at 224 px",
    ),
    "imagenet-tv2": Paper(
        "The second weights of torchvision: 600 epochs with SGD.",
        "torchvision, references/classification/README.md, new recipe",
        {
            **_PHOTOS,
            "size": 176,
            "epochs": 600.0,
            "batch_size": 1024,
            "lr": 0.5,
            "warmup": 0.00833,  # 5 epochs
            "weight_decay": 2e-5,
            "smallest": 0.08,
            "smoothing": 0.1,
            "mixup": 0.2,
            "cutmix": 1.0,
            "augment": "trivial",
            "erase": 0.1,
            "average": 0.039,  # 0.99998 every 32 steps, in proportion to the batch
        },
        "repeated augmentation; measures at 224 px",
    ),
}


def filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, with the values of their recipe where they say nothing.

    Args:
        given: What was asked for; None counts as nothing.

    Raises:
        ValueError: There is no recipe of this name.
    """
    name = given.get("recipe")
    if name is None:
        return dict(given)
    if name not in PAPERS:
        hint = "resnets train --recipe list explains them"
        raise ValueError(f"no recipe {name!r}; {nearest(name, PAPERS)}; {hint}")
    values = dict(PAPERS[name].values)
    if given.get("minutes") and values.get("epochs"):
        del values["epochs"]  # as far as it gets in that time
    if given.get("find_lr"):
        values.pop("lr", None)
    return {**values, **{key: value for key, value in given.items() if value is not None}}
