"""Clips through a network for images: every image of a clip goes through it by itself, and what it
becomes is averaged. Two additions tell what moves, which an image alone does not.

`shift`: some channels of each block are those of the image before or after (Lin et al. 2019,
arXiv:1811.08383). `motion`: maps of neighbouring images are compared at small displacements, and
convolutions on these correlations see where everything went (Wang et al. 2020, arXiv:1906.03349;
Kwon et al. 2020, arXiv:2007.09933).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnets.models.parts import blocks_of, initialise, make_head

FRAMEWISE = ("shift", "motion")  # what `time` of the grammar may be besides `inflation.KINDS`
SHIFTED = 8  # one channel in so many comes from the image after, as many from the one before
REACH = 3  # positions of a map, in each direction, that are compared
SHARPNESS = 20.0  # of the choice among displacements: correlations of -1 to 1 are this far apart
LEVELS = (1, 2)  # stages whose maps are compared: strides of 4 and 8, reaches of 12 and 24 pixels
WIDTH = 128  # channels of what is known of a motion
QUARTERS = 4  # of an image, in which it is known


class Framewise(nn.Module):
    """A network for images on clips.

    Args:
        net: Of the family; for `shift` and `motion` a residual one.
        num_classes: Outputs; 0 gives the pooled features.
        time: `none`, `shift` or `motion`.
    """

    def __init__(self, net: Any, num_classes: int, time: str = "none") -> None:
        super().__init__()
        net.reset_classifier(0)
        self.net = net
        if time == "shift":
            for block in blocks_of(net):
                let_see_neighbours(block)
        self.head = Head(net.num_features, num_classes, len(LEVELS) if time == "motion" else 0)

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised clips (N, C, T, H, W) to logits (N, num_classes)."""
        if clips.ndim != 5:
            raise ValueError(f"clips of shape {tuple(clips.shape)}; (N, C, T, H, W) expected")
        count = clips.shape[2]
        images = clips.transpose(1, 2).flatten(0, 1)  # (N T, C, H, W)
        images = images.contiguous(memory_format=torch.channels_last)
        for module in self.net.modules():
            if isinstance(module, ShiftedConv2d):
                module.frames = count
        if not self.head.motions:
            return self.head(self.net(images).unflatten(0, (-1, count)), [])
        maps = self.net.forward_stages(images)
        pooled = self.net.avgpool(maps[-1]).flatten(1)
        compared = [maps[level].unflatten(0, (-1, count)) for level in LEVELS]
        return self.head(pooled.unflatten(0, (-1, count)), compared)

    def get_classifier(self) -> nn.Module:
        """The linear layer on what is known of a clip."""
        return self.head.fc


class Head(nn.Module):
    """What becomes of the images of a clip; nothing of it is in a network for images.

    Args:
        channels: Pooled features of an image.
        num_classes: Outputs; 0 gives all features.
        levels: Maps of each image in which motion is looked for.
    """

    def __init__(self, channels: int, num_classes: int, levels: int) -> None:
        super().__init__()
        self.motions = nn.ModuleList(Motion() for _ in range(levels))
        self.fc = make_head(channels + QUARTERS * WIDTH * levels, num_classes)

    def forward(self, pooled: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(N, T, channels) and maps (N, T, C, h, w) to logits (N, num_classes)."""
        moved = [motion(one) for motion, one in zip(self.motions, maps, strict=True)]
        return self.fc(torch.cat([pooled.mean(1), *moved], 1))


class Motion(nn.Module):
    """What moves between neighbouring images, from maps of them, in each quarter of the image (He
    et al. 2014, arXiv:1406.4729): what moves apart on the left and right is zoomed in."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_layer((2 * REACH + 1) ** 2, WIDTH // 2, 1),
            *_layer(WIDTH // 2, WIDTH, 2),
            *_layer(WIDTH, WIDTH, 1),
        )
        initialise(self)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, T, C, h, w) to (N, QUARTERS * WIDTH), means over pairs of images and over places."""
        found = quarters(self.layers(correlations(maps).flatten(0, 1)))
        return found.unflatten(0, (-1, max(1, maps.shape[1] - 1))).mean(1)


def _layer(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return conv, nn.GroupNorm(8, out_channels), nn.ReLU(inplace=True)


def quarters(maps: Tensor) -> Tensor:
    """(N, C, h, w) to (N, QUARTERS * C): means of the upper and lower left, then of the upper and
    lower right; halves of odd sides share what is in the middle."""
    height, width = maps.shape[-2:]
    return torch.cat(
        [
            rows[..., columns].mean((2, 3))
            for columns in (slice(0, (width + 1) // 2), slice(width // 2, width))
            for rows in (maps[:, :, : (height + 1) // 2], maps[:, :, height // 2 :])
        ],
        1,
    )


def correlations(maps: Tensor) -> Tensor:
    """How alike each place of a map is to those around it in the map of the next image: (N, T, C,
    h, w) to (N, T - 1, (2 REACH + 1)^2, h, w), rows of displacements one after the other, of which
    the mean is 1. Of a single image: with itself."""
    height, width = maps.shape[-2:]
    unit = F.normalize(maps, dim=2).permute(0, 1, 3, 4, 2)  # (N, T, h, w, C)
    first, second = (unit[:, :-1], unit[:, 1:]) if maps.shape[1] > 1 else (unit, unit)
    around = F.pad(second, (0, 0, *(REACH,) * 4)).transpose(-1, -2)  # (N, T - 1, h, C, w)
    reach = torch.arange(2 * REACH + 1, device=maps.device)
    near = (torch.arange(width, device=maps.device)[:, None] + reach).expand(
        *first.shape[:4], len(reach)
    )
    # rows times rows, of which the places around are kept: 0.37 s instead of the 1.24 s of shifted
    # images, forward and backward (16 clips of 8 maps, 64 x 28 x 28, one core, float32)
    rows = [torch.gather(first @ around[:, :, y : y + height], -1, near) for y in range(len(reach))]
    alike = torch.cat(rows, -1).permute(0, 1, 4, 2, 3)
    return torch.softmax(SHARPNESS * alike, 2) * alike.shape[2]


class ShiftedConv2d(nn.Conv2d):
    """A convolution that takes an eighth of its channels from the image after, and as many from the
    one before; outside of the clip there is nothing.

    Attributes:
        frames: Images of a clip; clips lie one after the other in the batch.
    """

    frames = 1

    def forward(self, x: Tensor) -> Tensor:
        """(N T, C, H, W) to (N T, out_channels, H, W)."""
        part = x.shape[1] // SHIFTED
        clips = x.unflatten(0, (-1, self.frames))
        after, before, own = clips.split([part, part, x.shape[1] - 2 * part], 2)
        after = F.pad(after[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
        before = F.pad(before[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        return super().forward(torch.cat([after, before, own], 2).flatten(0, 1))


def let_see_neighbours(block: Any) -> None:
    """Lets the first convolution of a block's branch see neighbouring images; its weights stay."""
    conv = block.conv1
    if type(conv) is not nn.Conv2d:
        raise ValueError(f"time=shift: {type(conv).__name__} cannot see neighbouring images")
    with torch.device("meta"):
        new = ShiftedConv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
        )
    new.weight, new.bias = conv.weight, conv.bias
    block.conv1 = new
