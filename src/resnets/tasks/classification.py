"""One label for an image: the loss to train with, and the prediction to make (probabilities,
embedding, class activation maps)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Outputs(NamedTuple):
    """What a classifier says of N images."""

    probabilities: Tensor  # (N, classes)
    embedding: Tensor | None  # (N, channels): the pooled feature maps
    heat: Tensor | None  # (N, classes, h, w): its mean over h, w is the logit


class Classification:
    """The task of the training loop: turns a batch into numbers, the first of them the loss.

    Args:
        smoothing: The part of the target that is spread over all classes (Szegedy et al. 2016,
            section 7).
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def __call__(self, net: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss`, and the hits of this batch as `correct`: images (N, C, H, W), labels (N,)."""
        logits = net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return {"loss": loss, "correct": (logits.detach().argmax(1) == labels).sum()}


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


def _ends_in_pooling(net: Any) -> bool:
    """Whether the logits are the classifier on the mean of the feature maps: asked of the network,
    then tried."""
    if not (
        hasattr(net, "forward_features")
        and hasattr(net, "get_classifier")
        and isinstance(net.get_classifier(), nn.Linear)
    ):
        return False
    conv = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if conv is None:
        return False
    values = torch.linspace(
        -1, 1, conv.in_channels * 64 * 64, dtype=conv.weight.dtype, device=conv.weight.device
    )
    probe = values.reshape(1, conv.in_channels, 64, 64)
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            maps = net.forward_features(probe)
            return maps.ndim == 4 and torch.allclose(
                net.get_classifier()(maps.mean((2, 3))), net(probe), atol=1e-3, rtol=1e-3
            )
    except (
        RuntimeError,
        ValueError,
        AssertionError,
    ):  # it takes another size, or its maps do not fit its classifier
        return False
    finally:
        for module, mode in modes:
            module.training = mode
