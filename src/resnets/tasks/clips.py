"""One label for a clip: the loss and the inference of classes, on networks that take clips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from resnets.kinds import Kind
from resnets.kinds.clips import CLIPS
from resnets.models import Network
from resnets.models.framewise import Framewise
from resnets.tasks.classes import Classification


@dataclass(frozen=True)
class ClipClassification(Classification):
    """One of several classes for each clip; see `tasks.task.Task`. A network for images
    (`time=none`) takes each image by itself, and what it says of them is averaged."""

    kind: ClassVar[Kind] = CLIPS
    takes_modules: ClassVar[bool] = False

    def build(self, network: Network, classes: int) -> nn.Module:
        """The network with as many outputs as classes: (N, C, T, H, W) to (N, classes)."""
        if network.is_clip:
            return super().build(network, classes)
        return Framewise(replace(network, num_classes=0).build(), classes)

    def backbone(self, net: nn.Module) -> nn.Module:
        """The network for images, where there is one."""
        return net.net if isinstance(net, Framewise) else net

    def features(self, net: nn.Module) -> None:
        """None: what a head for clips is linear on is not the features of one image."""

    def head(self, net: nn.Module) -> nn.Module:
        """Motion and classifier, or the classifier alone."""
        return net.head if isinstance(net, Framewise) else super().head(net)
