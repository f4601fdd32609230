"""A network that says something of every place of an image: the stages of a backbone, added up to
one fine map, and a head on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.models import Network
from resnets.models.features import Features
from resnets.tasks.task import Limit

CHANNELS = 64  # of the fine map
GROUPS = 16  # of a norm: statistics of one image, since batches are small


class Dense(nn.Module):
    """A backbone, its stages added up from coarse to fine (Lin et al. 2017, arXiv:1612.03144, with
    one level), and a head of 3 x 3 convolutions.

    Args:
        network: The backbone; its classifier is left out.
        outputs: Channels of the output.
        depth: Convolutions of the head before the last one.
    """

    def __init__(self, network: Network, outputs: int, depth: int = 1) -> None:
        super().__init__()
        self.backbone = Features(network.build())
        _, *stages = self.backbone.channels  # without the stem
        self.laterals = nn.ModuleList(nn.Conv2d(channels, CHANNELS, 1) for channels in stages)
        self.head = nn.Sequential(*(convolution() for _ in range(depth)))
        self.predict = nn.Conv2d(CHANNELS, outputs, 1)

    @property
    def stride(self) -> int:
        """Side of the input over that of the output."""
        return self.backbone.strides[1]

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        _, *stages = self.backbone(images)
        *finer, coarsest = (
            lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)
        )
        return self.predict(self.head(add_up(finer, coarsest)))


class DenseTask:
    """What tasks with a `Dense` network share; see `tasks.task.Task`."""

    takes_modules: ClassVar[bool] = False
    limits: ClassVar[dict[str, Limit]] = {
        "augment": Limit(("none", "colour"), "a change of shape would move what is to be found"),
        "mixup": Limit((0,), "its loss is not linear in what is true of an image"),
        "cutmix": Limit((0,), "its loss is not linear in what is true of an image"),
        "dropout": Limit((0,), "its head is no classifier on features"),
        "balance": Limit(("none",), "its images have no single class"),
        "loss": Limit((None,), "it has a loss of its own"),
    }

    def backbone(self, net: Any) -> nn.Module:
        """The network under the head."""
        return net.backbone.net

    def head(self, net: Any) -> nn.Module:
        """All but the backbone."""
        return nn.ModuleList([net.laterals, net.head, net.predict])

    def features(self, net: nn.Module) -> None:
        """None: the head looks at maps."""


def add_up(finer: Sequence[Tensor], coarse: Tensor) -> Tensor:
    """Maps of equal channels, each enlarged to the next finer one and added to it."""
    for one in reversed(finer):
        coarse = one + F.interpolate(coarse, size=one.shape[-2:], mode="nearest")
    return coarse


def convolution(channels: int = CHANNELS) -> nn.Module:
    """A 3 x 3 convolution with norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.GroupNorm(GROUPS, channels),
        nn.ReLU(inplace=True),
    )
