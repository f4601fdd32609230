"""One label for an image: the loss to train with, and the prediction to make (probabilities,
embedding, class activation maps)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.kinds import Kind
from resnets.kinds.classes import CLASSES
from resnets.kinds.prediction import Prediction
from resnets.models import Network
from resnets.models.weights import head_name
from resnets.tasks.task import Limit, Targets


@dataclass(frozen=True)
class Classification:
    """One of several classes for each image; see `tasks.task.Task`.

    Args:
        smoothing: The part of the target that is spread over all classes (Szegedy et al. 2016,
            section 7).
        criterion: A row of `CRITERIA`.
        class_weights: Factor of the loss of an image, by its class; empty: 1.
    """

    kind: ClassVar[Kind] = CLASSES
    takes_modules: ClassVar[bool] = True
    limits: ClassVar[dict[str, Limit]] = {}
    criteria: ClassVar[tuple[str, ...]] = ("cross_entropy", "bce")

    smoothing: float = 0.0
    criterion: str = "cross_entropy"
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.criterion not in self.criteria:
            raise ValueError(f"criterion is {self.criterion}; allowed: {', '.join(self.criteria)}")

    def build(self, network: Network, classes: int) -> nn.Module:
        """The network with as many outputs as classes."""
        return replace(network, num_classes=classes).build()

    def backbone(self, net: nn.Module) -> nn.Module:
        """All of it: torchvision's names fit, the classifier's too."""
        return net

    def head(self, net: nn.Module) -> nn.Module:
        """The classifier.

        Raises:
            ValueError: It has none by name.
        """
        head = dict(net.named_modules()).get(head_name(net))
        if head is None:
            raise ValueError("has no classifier that is known (get_classifier, fc) to train alone")
        return head

    def features(self, net: nn.Module) -> nn.Module | None:
        """The pooled feature maps; None of a network that does not end in them."""
        return PooledFeatures(net) if ends_in_pooling(net) else None

    def collate(self, truths: Sequence[Prediction]) -> Targets:
        """`labels` (N,) int64."""
        return {"labels": torch.tensor([truth.index for truth in truths])}

    def loss(self, raw: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`loss`, and the hits of the batch as `accuracy`: raw output (N, classes)."""
        labels = targets["labels"]
        weights = raw.new_tensor(self.class_weights)[labels] if self.class_weights else None
        loss = CRITERIA[self.criterion](raw, labels, self.smoothing, weights)
        return {"loss": loss, "accuracy": (raw.detach().argmax(1) == labels).sum()}

    def inference(self, net: nn.Module) -> nn.Module:
        """The network with softmax; see `ImageInference`."""
        return ImageInference(net, _softmax)

    def settle(self, judged: Iterable[tuple[Prediction, Prediction]]) -> Self:
        """Nothing is fitted."""
        return self


def cross_entropy(
    raw: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """That of the softmax over raw outputs (N, classes), for labels (N,); the mean over images, the
    loss of each times its weight (N,)."""
    if weights is None:
        return F.cross_entropy(raw, labels, label_smoothing=smoothing)
    each = F.cross_entropy(raw, labels, label_smoothing=smoothing, reduction="none")
    return (each * weights).mean()


def bce(raw: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with a target of 0 or 1 for each class (Wightman et al. 2021,
    arXiv:2110.00476, section 2), summed over classes, so that a logit is moved as far as by the
    other. Smoothing gives a part of the target to all classes alike, as in timm."""
    classes = raw.shape[1]
    targets = F.one_hot(labels, classes).to(raw.dtype) * (1 - smoothing) + smoothing / classes
    each = None if weights is None else weights[:, None]
    return F.binary_cross_entropy_with_logits(raw, targets, each, reduction="sum") / len(raw)


CRITERIA = {"cross_entropy": cross_entropy, "bce": bce}


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


class ImageInference(nn.Module):
    """A network that says something of a whole image, with its outputs decoded: what is evaluated,
    exported and served.

    Networks that end in global average pooling and a linear layer, and say so by `forward_features`
    and `get_classifier`, give maps besides: the classifier applied to the last feature maps (Zhou
    et al. 2016, arXiv:1512.04150). No gradients are needed.

    Args:
        net: Normalised images (N, C, H, W) to logits (N, classes).
        activation: Logits to probabilities.
    """

    def __init__(self, net: nn.Module, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.activation = net, activation
        self.has_maps = ends_in_pooling(net)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Probabilities (N, classes); where the network has maps also the embedding (N, channels),
        the pooled feature maps, and heat (N, classes, h, w), whose mean over h, w is the logit."""
        if not self.has_maps:
            return (self.activation(self.net(images)),)
        net: Any = self.net
        maps: Tensor = net.forward_features(images)
        classifier: nn.Linear = net.get_classifier()
        embedding = maps.mean((2, 3))
        bias = 0.0 if classifier.bias is None else classifier.bias[:, None, None]
        heat = F.conv2d(maps, classifier.weight[:, :, None, None]) + bias
        logits = F.linear(embedding, classifier.weight, classifier.bias)
        return self.activation(logits), embedding, heat


class PooledFeatures(nn.Module):
    """A network without its classifier.

    Args:
        net: That ends in pooling (`ends_in_pooling`).
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) to the means of the last feature maps (N, channels)."""
        maps: Tensor = self.net.forward_features(images)
        return maps.float().mean((2, 3))


def ends_in_pooling(net: Any) -> bool:
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
    # it takes another size, or its maps do not fit its classifier
    except (RuntimeError, ValueError, AssertionError):
        return False
    finally:
        for module, mode in modes:
            module.training = mode
