"""Boxes around things: each thing is found at its centre (Zhou et al. 2019, arXiv:1904.07850), and
its box is learnt at and around it (Liu et al. 2020, arXiv:1909.00700)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from resnets.kinds import Kind
from resnets.kinds.boxes import BOXES, THRESHOLD
from resnets.kinds.overlap import matched
from resnets.kinds.peaks import FOUND
from resnets.kinds.prediction import Prediction
from resnets.models import Network
from resnets.tasks.dense import Dense, DenseTask
from resnets.tasks.task import Targets

SIDES = 4  # left, top, right, bottom: distances from a place to the sides of its box
RARE = 0.01  # first score of every place, since few are centres (Lin et al. 2017, section 4.1)
FARTHEST = 8.0  # log of the largest distance, in places
SPREAD = 0.54 / 6  # of the bump around a centre, as a part of the sides of its box
LEAST = 0.35  # of it, in places
NEAR = 0.1  # height of the bump from which on a place learns the box
GAMMA, BETA = 2.0, 4.0  # of the focal loss (Law and Deng 2018, equation 1)
BOX_WEIGHT = 5.0  # brings the GIoU of boxes to about the size of the loss of centres


class Places(NamedTuple):
    """What the network says of each place of its map.

    Args:
        scores: (N, classes, h, w), logits: whether the centre of a thing is there.
        sides: (N, 4, h, w), distances to left, top, right, bottom of its box, in pixels of the
            input.
        centres: (1, 2, h, w), x and y of the place itself, in pixels of the input.
    """

    scores: Tensor
    sides: Tensor
    centres: Tensor

    @property
    def boxes(self) -> Tensor:
        """(N, 4, h, w) left, top, right, bottom."""
        return torch.cat([self.centres - self.sides[:, :2], self.centres + self.sides[:, 2:]], 1)


class CentreNet(Dense):
    """Scores and a box for each place of the finest map.

    Args:
        network: The backbone.
        classes: To be told apart.
    """

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__(network, SIDES + classes, depth=2)
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias[SIDES:], math.log(RARE / (1 - RARE)))

    def forward(self, images: Tensor) -> Places:  # type: ignore[override]
        """Normalised images (N, C, H, W) to what is said of each place."""
        found = super().forward(images).float()
        height, width = found.shape[-2:]
        y, x = (torch.arange(side, device=found.device) + 0.5 for side in (height, width))
        centres = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]
        sides = found[:, :SIDES].clamp(max=FARTHEST).exp() * self.stride
        return Places(found[:, SIDES:], sides, centres * self.stride)


@dataclass(frozen=True)
class Detection(DenseTask):
    """Boxes of several classes; see `tasks.task.Task`.

    Args:
        threshold: The score from which on a box is given (`settle`).
    """

    kind: ClassVar[Kind] = BOXES

    threshold: float = THRESHOLD

    def build(self, network: Network, classes: int) -> nn.Module:
        """See `CentreNet`."""
        return CentreNet(network, classes)

    def collate(self, truths: Sequence[Prediction]) -> Targets:
        """`boxes` (N, most, 4) in pixels of the input; `labels` (N, most), -1 where there is no
        box; `difficult` (N, most)."""
        most = max([1, *(len(truth.labels) for truth in truths)])
        boxes = np.zeros((len(truths), most, SIDES), np.float32)
        labels = np.full((len(truths), most), -1)
        difficult = np.zeros((len(truths), most), bool)
        for number, truth in enumerate(truths):
            count = len(truth.labels)
            boxes[number, :count], labels[number, :count] = truth.boxes, truth.labels
            difficult[number, :count] = truth.difficult
        arrays = {"boxes": boxes, "labels": labels, "difficult": difficult}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def loss(self, raw: Places, targets: Targets) -> dict[str, Tensor]:
        """`loss`, and its parts `centres` and `sides`.

        Every class has a map with a bump of height 1 on each centre: the farther from one, the more
        a high score costs. Around a centre each place learns the box, as GIoU; of several boxes the
        one whose bump is the highest there.
        """
        counted = (targets["labels"] >= 0) & ~targets["difficult"]
        bumps = _bumps(raw, targets["boxes"])
        count = counted.sum(1).clamp(min=1)
        centres = _centre_loss(raw.scores, bumps, targets, counted) / count
        sides = _side_loss(raw.boxes, bumps, targets["boxes"], counted)
        loss = (centres + BOX_WEIGHT * sides).mean()
        return {"loss": loss, "centres": centres.detach().sum(), "sides": sides.detach().sum()}

    def inference(self, net: nn.Module) -> nn.Module:
        """See `BoxInference`."""
        return BoxInference(net)

    def settle(self, judged: Iterable[tuple[Prediction, Prediction]]) -> Self:
        """The threshold at which precision and recall are balanced best: the highest F1 over all
        boxes of the validation images."""
        scores, right, wanted = [np.zeros(0)], [np.zeros(0, bool)], 0
        for truth, prediction in judged:
            found = matched(truth, prediction)
            scores.append(prediction.scores[~found.ignored])
            right.append(found.right[~found.ignored])
            wanted += int(found.right.sum() + found.missed.sum())
        every, hits = np.concatenate(scores), np.concatenate(right)
        order = np.argsort(-every, kind="stable")
        f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(order) + 1) + wanted)
        if not hits.any():
            return self
        best = float(every[order][int(f1.argmax())])
        return replace(self, threshold=math.floor(best * 1e4) / 1e4)


def _bumps(raw: Places, boxes: Tensor) -> Tensor:
    """(N, most, h, w): for each box a bump of height 1 on the place nearest to its centre."""
    x, y = raw.centres[0, 0, 0], raw.centres[0, 1, :, 0]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    extent = boxes[..., 2:] - boxes[..., :2]
    axes = []
    for places, at, length in (
        (x, middle[..., 0], extent[..., 0]),
        (y, middle[..., 1], extent[..., 1]),
    ):
        step = places[1] - places[0] if len(places) > 1 else places[0] * 2
        nearest = ((at / step).floor().clamp(0, len(places) - 1) + 0.5) * step
        spread = (length * SPREAD).clamp(min=LEAST * float(step))
        axes.append(torch.exp(-(((places - nearest[..., None]) / spread[..., None]) ** 2) / 2))
    across, down = axes
    return down[..., :, None] * across[..., None, :]


def _centre_loss(scores: Tensor, bumps: Tensor, targets: Targets, counted: Tensor) -> Tensor:
    """(N,) focal loss of the scores, summed over places; none where a difficult box lies."""
    labels = targets["labels"]
    wanted = torch.zeros_like(scores)
    index = labels.clamp(min=0)[..., None, None].expand_as(bumps)
    wanted.scatter_reduce_(1, index, bumps * counted[..., None, None], "amax")
    ignored = (bumps * targets["difficult"][..., None, None]).amax(1, keepdim=True) > NEAR
    peak = wanted > 1 - 1e-4
    probability = scores.sigmoid()
    hit = -F.logsigmoid(scores) * (1 - probability) ** GAMMA
    miss = -F.logsigmoid(-scores) * probability**GAMMA * (1 - wanted) ** BETA
    found = torch.where(peak, hit, miss.masked_fill(ignored, 0.0))
    return found.flatten(1).sum(1)


def _side_loss(boxes: Tensor, bumps: Tensor, wanted: Tensor, counted: Tensor) -> Tensor:
    """(N,) GIoU loss around the centres, each box counting alike."""
    near, which = (bumps * counted[..., None, None]).max(1)
    weight = near * (near > NEAR)
    share = torch.zeros(counted.shape, device=boxes.device)
    share.scatter_add_(1, which.flatten(1), weight.flatten(1))
    weight = weight.flatten(1) / share.gather(1, which.flatten(1)).clamp(min=1e-6)
    image, place = weight.nonzero(as_tuple=True)
    found = boxes.flatten(2).transpose(1, 2)[image, place]
    aim = wanted[image, which.flatten(1)[image, place]]
    each = generalized_box_iou_loss(found, aim) * weight[image, place]
    total = torch.zeros(len(boxes), device=boxes.device).index_add_(0, image, each)
    return total / counted.sum(1).clamp(min=1)


class BoxInference(nn.Module):
    """A detector with its places decoded: the highest peaks, each with its box. A thing is found
    once, since a place counts only if no neighbour scores higher; nothing has to be suppressed.

    Args:
        net: Normalised images to `Places`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs of `kinds.boxes.BOXES`."""
        raw: Places = self.net(images)
        score_map = raw.scores.sigmoid()
        peaks = score_map * (F.max_pool2d(score_map, 3, 1, 1) == score_map)
        scores, at = peaks.flatten(1).topk(min(FOUND, peaks[0].numel()))
        area = score_map.shape[2] * score_map.shape[3]
        labels = torch.div(at, area, rounding_mode="floor")
        place = (at % area)[..., None].expand(-1, -1, SIDES)
        boxes = raw.boxes.flatten(2).transpose(1, 2).gather(1, place)
        return boxes, scores, labels, score_map, raw.boxes
