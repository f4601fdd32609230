"""The prediction for an image with one label: probabilities, embedding, class activation maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from resnets.tasks.classes import _ends_in_pooling


class Outputs(NamedTuple):
    """What a classifier says of N images."""

    probabilities: Tensor  # (N, classes)
    embedding: Tensor | None  # (N, channels): the pooled feature maps
    heat: Tensor | None  # (N, classes, h, w): its mean over h, w is the logit


class Answering(nn.Module):
    """A trained classifier with its outputs decoded: what is evaluated, exported and served.

    Networks that end in global average pooling and a linear layer, and say so by `forward_features`
    and `get_classifier`, give maps besides: the classifier applied to the last feature maps (Zhou
    et al. 2016, arXiv:1512.04150). No gradients are needed.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.has_maps = _ends_in_pooling(net)

    def forward(self, images: Tensor) -> Outputs:
        """Normalised images (N, C, H, W) to the outputs."""
        if not self.has_maps:
            return Outputs(self.net(images).softmax(1), None, None)
        net: Any = self.net
        maps: Tensor = net.forward_features(images)
        classifier: nn.Linear = net.get_classifier()
        embedding = maps.mean((2, 3))
        bias = 0.0 if classifier.bias is None else classifier.bias[:, None, None]
        heat = F.conv2d(maps, classifier.weight[:, :, None, None]) + bias
        return Outputs(
            F.linear(embedding, classifier.weight, classifier.bias).softmax(1), embedding, heat
        )
