"""Means of training that a run may do without: each does nothing by default."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.training.mix import Mix
from resnets.training.settings import TrainSettings

# A stage by its name: layer1, denseblock1, stages.0, blocks.0, encoder.layers.encoder_layer_0
STAGE = re.compile(r"(.*\.)?((layer|stage|block|denseblock|encoder_layer_)s?\.?\d+)")


@dataclass(frozen=True)
class Means:
    """What is done in steps besides.

    Args:
        mix: Of the images of a batch.
        accumulate: Batches of a step.
        freeze: Parts of the backbone that stay as they are (`frozen_modules`).
        dropout: Part of the features that is left out before the classifier.
    """

    mix: Mix = field(default_factory=Mix)
    accumulate: int = 1
    freeze: int = 0
    dropout: float = 0.0

    @classmethod
    def of(cls, settings: TrainSettings) -> Means:
        """Those that settings ask for."""
        mix = Mix(settings.mixup, settings.cutmix)
        return cls(mix, settings.accumulate, settings.freeze, settings.dropout)


def frozen_modules(backbone: nn.Module, count: int) -> list[nn.Module]:
    """All modules of the first parts of a backbone: the stem, then one stage after the other, each
    with what lies between it and the next.

    Raises:
        ValueError: There are not so many, or none are known by name.
    """
    if not count:
        return []
    modules = list(backbone.named_modules())
    starts = [
        number
        for number, (name, _) in enumerate(modules)
        if STAGE.fullmatch(name) and not any(map(STAGE.fullmatch, _around(name)))
    ]
    if count > len(starts) + 1 or not starts:
        names = ["the stem", *(modules[start][0] for start in starts)] if starts else []
        raise ValueError(
            f"freeze={count}: {type(backbone).__name__} has {len(names)} parts that are known"
            f" ({', '.join(names) or 'stages are called layer1, stages.0, blocks.0'}); choose as"
            " many or fewer"
        )
    # what follows the last stage goes with it, but for the classifier
    end = [*starts, starts[-1] + len(list(modules[starts[-1]][1].modules()))][count - 1]
    return [module for _, module in modules[:end]]


def _around(name: str) -> list[str]:
    """Names of the modules that hold a module."""
    words = name.split(".")
    return [".".join(words[:length]) for length in range(1, len(words))]


def freeze(backbone: nn.Module, count: int) -> None:
    """Takes the weights of the first parts out of training: backward passes end behind them."""
    for module in frozen_modules(backbone, count):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)


def classifier_of(head: nn.Module) -> nn.Linear:
    """The last linear layer of a head.

    Raises:
        ValueError: It has none.
    """
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(
            f"dropout: {type(head).__name__} has no linear layer to leave out features before;"
            " leave it out"
        )
    return layers[-1]


def drop_features(head: nn.Module, rate: float) -> None:
    """Leaves out features before the classifier in training (Srivastava et al. 2014, section 10);
    the draws are those of the step."""

    def drop(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        (features,) = inputs
        return (F.dropout(features, rate, module.training),)

    classifier_of(head).register_forward_pre_hook(drop)
