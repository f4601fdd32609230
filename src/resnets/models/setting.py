"""What can be chosen in a network: the words of the grammar, what each may be, and which of them make no sense together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from resnets.settings import nearest, word


def choice(*options: str) -> Any:
    """A field that takes one of some words; the first is its default."""
    return field(default=options[0], metadata={"options": options})


@dataclass(frozen=True)
class ResNetSetting:
    """A residual network; the defaults are ResNet-50's.

    Args:
        block: 3x3, 3x3 (`basic`) or 1x1, 3x3, 1x1 (`bottleneck`).
        depths: Blocks in each stage.
        widths: Channels of each stage, before the block's expansion.
        order: `post` (convolution, norm, activation) or `pre` (norm, activation, convolution).
        stem: `imagenet` (7x7), `deep` (three 3x3), `tiered` (the same, narrower at first) or `cifar` (one 3x3, full size).
        stem_width: Channels of what comes out of the stem; by default the first of `widths`.
        stem_pool: `max`; `conv`, a strided convolution; `zero`, max with a border of zeros; `none`.
        shortcut: `projection` where the shape changes (option B), `zero_pad` there (A), `projection_everywhere` (C), `average`
            before the projection (ResNet-D), `wide` (3x3, SENet-154), or `none`, the plain network.
        stride_in: The convolution of a bottleneck that strides: `3x3`, or `1x1` as in the paper.
        groups: Of the 3x3 convolution of a bottleneck.
        group_width: Channels of each group where the stage is 64 wide; it grows with the stage.
        reduce_first: Divides the channels between the first 1x1 and the 3x3.
        spatial: In the place of the 3x3 that strides: `conv`; `sk-REDUCTION-DIVISOR[-full]`; `res2-PIECES`; `split-RADIX[-before]`.
        attention: At the end of a branch: `none`, `se[-REDUCTION[-DIVISOR]]` or `eca`.
        antialias: `none`, `blur` or `average`.
        norm: `batch` or `group`.
        conv: `plain` or `standardised` weights.
        drop_path: Stochastic depth: the last block's rate.
        zero_init: Start every block as the identity.
        output_stride: Input over output size of the last stage; 16 and 8 dilate instead of striding.
        time: For clips: `full`, `spatial` or `2plus1`, for all stages or one for each; `none` for pictures.
    """

    kind: ClassVar[str] = "residual network"

    block: str = choice("bottleneck", "basic")
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    order: str = choice("post", "pre")
    stem: str = choice("imagenet", "deep", "tiered", "cifar")
    stem_width: int | None = None
    stem_pool: str = choice("max", "conv", "zero", "none")
    shortcut: str = choice("projection", "average", "wide", "zero_pad", "projection_everywhere", "none")
    stride_in: str = choice("3x3", "1x1")
    groups: int = 1
    group_width: int = 64
    reduce_first: int = 1
    spatial: tuple[str, ...] = ("conv",)
    attention: tuple[str, ...] = ("none",)
    antialias: str = choice("none", "blur", "average")
    norm: str = choice("batch", "group")
    conv: str = choice("plain", "standardised")
    drop_path: float = 0.0
    zero_init: bool = False
    output_stride: int = 32
    time: tuple[str, ...] = ("none",)

    def check(self) -> None:
        """Refuses what is no word of the grammar, and what makes no sense together.

        Raises:
            ValueError: With the reason.
        """
        check_choices(self)
        check_parts("spatial", self.spatial, {"conv": (), "sk": (int, int, "full"), "res2": (int,), "split": (int, "before")})
        check_parts("attention", self.attention, {"none": (), "se": (int, int), "eca": ()})
        if len(self.widths) != len(self.depths) or not self.depths or min(self.depths + self.widths) < 1:
            raise ValueError(
                f"depths={word(self.depths)} widths={word(self.widths)}: every stage needs one width, and a block at least; "
                "give both with as many numbers as there are stages"
            )
        spatial, antialiased = self.spatial[0], self.antialias != "none"
        bottleneck_only = {
            "stride_in=1x1": self.stride_in != "3x3",
            f"groups={self.groups}": self.groups != 1,
            f"group_width={self.group_width}": self.group_width != 64,
            f"reduce_first={self.reduce_first}": self.reduce_first != 1,
            f"spatial={word(self.spatial)}": spatial in ("res2", "split"),
        }
        pre_excludes = {
            f"spatial={word(self.spatial)}": spatial != "conv",
            f"antialias={self.antialias}": antialiased,
            "shortcut=wide": self.shortcut == "wide",
        }
        refuse(
            *((self.block == "basic" and given, f"{text} needs block=bottleneck: a basic block has two full 3x3 convolutions")
              for text, given in bottleneck_only.items()),
            *((self.order == "pre" and given, f"{text} needs order=post: it was made for blocks that end in a ReLU")
              for text, given in pre_excludes.items()),
            (min(self.groups, self.group_width, self.reduce_first, self.stem_width or 1) < 1,
             "groups, group_width, reduce_first and stem_width must be at least 1"),
            (antialiased and self.stride_in == "1x1", f"antialias={self.antialias} stride_in=1x1: it smooths the 3x3 that strides"),
            (antialiased and spatial != "conv", f"antialias={self.antialias} spatial={word(self.spatial)}: that part strides by itself"),
            (antialiased and (self.stem == "cifar" or self.stem_pool == "zero"),
             f"antialias={self.antialias} needs a stem that pools: stem=imagenet, deep or tiered with stem_pool=max or conv"),
            (self.stem == "cifar" and self.stem_pool != "max", f"stem_pool={self.stem_pool}: the stem for small pictures does not pool"),
            (self.stride_in == "1x1" and spatial != "conv", f"stride_in=1x1 spatial={word(self.spatial)}: that part strides by itself"),
            (self.reduce_first != 1 and spatial == "res2", "reduce_first with spatial=res2: its pieces need equal channels in and out"),
            (self.conv == "standardised" and self.norm == "batch",
             "conv=standardised needs norm=group: before BatchNorm, standardised weights change nothing"),
            (not 0 <= self.drop_path < 1, f"drop_path={self.drop_path}; allowed: 0 up to 1"),
        )  # fmt: skip
        check_stride(self.output_stride, self.stem)
        if self.time != ("none",):
            refuse(
                (len(self.time) not in (1, len(self.depths)), f"time={word(self.time)}: one word, or one for each stage"),
                (antialiased or self.conv != "plain" or self.shortcut == "zero_pad" or self.stem_pool == "zero",
                 f"time={word(self.time)}: antialias, standardised weights and zero padding have no form in three dimensions"),
            )  # fmt: skip


@dataclass(frozen=True)
class DenseNetSetting:
    """A densely connected network; the defaults are DenseNet-121's.

    Args:
        growth: Channels that each layer adds.
        depths: Dense layers in each block.
        stem: `imagenet`, `deep` or `cifar`.
        antialias: `none`, or `blur` in the stem's pooling.
        output_stride: Input over output size of the last block.
    """

    kind: ClassVar[str] = "DenseNet"

    growth: int = 32
    depths: tuple[int, ...] = (6, 12, 24, 16)
    stem: str = choice("imagenet", "deep", "cifar")
    antialias: str = choice("none", "blur")
    output_stride: int = 32

    def check(self) -> None:
        """See `ResNetSetting.check`."""
        check_choices(self)
        refuse(
            (not self.depths or min(self.growth, *self.depths) < 1, "every block needs a layer at least, and every layer growth"),
            (self.antialias != "none" and self.stem == "cifar", "antialias=blur: the stem for small pictures does not pool"),
        )
        check_stride(self.output_stride, self.stem)


@dataclass(frozen=True)
class TransformerSetting:
    """A residual Transformer; the defaults are ViT-S/16's.

    Args:
        width: Channels of a token.
        depth: Blocks.
        heads: Of each attention.
        patch: Side of a patch.
        size: Side of the pictures whose places are learned.
        order: `pre`, `post`, or `none` for no residual connection at all.
        drop_path: Stochastic depth: the last block's rate.
    """

    kind: ClassVar[str] = "Transformer"

    width: int = 384
    depth: int = 12
    heads: int = 6
    patch: int = 16
    size: int = 224
    order: str = choice("pre", "post", "none")
    drop_path: float = 0.0

    def check(self) -> None:
        """See `ResNetSetting.check`."""
        check_choices(self)
        refuse(
            (min(self.width, self.depth, self.heads, self.patch, self.size) < 1, "width, depth, heads, patch and size: at least 1"),
            (self.width % max(1, self.heads) != 0, f"heads={self.heads} must divide width={self.width}"),
            (self.size % max(1, self.patch) != 0, f"patch={self.patch} must divide size={self.size}"),
            (not 0 <= self.drop_path < 1, f"drop_path={self.drop_path}; allowed: 0 up to 1"),
            (self.order == "none" and self.drop_path > 0, "drop_path needs a residual connection: order=pre or post"),
        )


Setting = ResNetSetting | DenseNetSetting | TransformerSetting
SETTINGS: tuple[type[Setting], ...] = (ResNetSetting, DenseNetSetting, TransformerSetting)

# Words that other kinds of networks have, and why this kind has not
REASONS = {
    DenseNetSetting: "its layers are put side by side, not added: there is no branch, shortcut or block to change",
    TransformerSetting: "it has tokens instead of maps, and no convolutions after the first",
    ResNetSetting: "it belongs to another kind of network",
}


def check_words(kind: type[Setting], name: str, given: Sequence[str]) -> None:
    """Refuses words that this kind of network does not have, with the reason where another kind has them."""
    own = {one.name for one in fields(kind)}
    for key in given:
        if key in own:
            continue
        if any(key == one.name for other in SETTINGS for one in fields(other)):
            raise ValueError(f"{key}: {name} is a {kind.kind}, {REASONS[kind]}; its words: {', '.join(sorted(own))}")
        raise ValueError(f"unknown setting {key!r}: {nearest(key, own)}")


def check_choices(setting: Setting) -> None:
    """Refuses a value that its field does not know."""
    for one in fields(setting):
        value = getattr(setting, one.name)
        options = one.metadata.get("options")
        if options and value not in options:
            raise ValueError(f"{one.name}={value}: {nearest(str(value), options)}")


def check_parts(key: str, value: Sequence[str], grammar: dict[str, tuple[Any, ...]]) -> None:
    """Refuses a part that is unknown, or what follows its name: `se-16` for {"se": (int, int)}."""
    name, *rest = value or ("",)
    if name not in grammar:
        raise ValueError(f"{key}={word(tuple(value))}: {nearest(name, grammar)}")
    kinds = grammar[name]
    fits = len(rest) <= len(kinds) and all(
        text.isdigit() and int(text) > 0 if kind is int else text == kind for text, kind in zip(rest, kinds, strict=False)
    )
    if not fits:
        form = "".join(f"[-{'NUMBER' if kind is int else kind}" for kind in kinds) + "]" * len(kinds)
        raise ValueError(f"{key}={word(tuple(value))}: the form is {name}{form}")


def check_stride(output_stride: int, stem: str) -> None:
    """Refuses an output stride that there is none of."""
    refuse(
        (output_stride not in (8, 16, 32), f"output_stride={output_stride}; allowed: 8, 16, 32"),
        (output_stride != 32 and stem == "cifar", f"output_stride={output_stride}: small pictures end at 4 as it is"),
    )


def refuse(*cases: tuple[bool, str]) -> None:
    """Raises the first reason that holds."""
    for holds, reason in cases:
        if holds:
            raise ValueError(reason)
