"""What can be chosen in a network: the options of the grammar, what each may be, and which of them
make no sense together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypedDict

from resnets.settings import format_value, nearest


def choice(*options: Any) -> Any:
    """A field that takes one of some values; the first is its default."""
    return field(default=options[0], metadata={"options": options})


def number(default: Any, least: float = 1, below: float = float("inf")) -> Any:
    """A field for a number, or several, within bounds."""
    return field(default=default, metadata={"least": least, "below": below})


def part(**grammar: tuple[Any, ...]) -> Any:
    """A field that names a part, with what may follow its name: `part(none=(), se=(int, int))`
    takes `se-16-8`."""
    return field(default=(next(iter(grammar)),), metadata={"grammar": grammar})


@dataclass(frozen=True)
class ResNetSetting:
    """A residual network; the defaults are ResNet-50's.

    Args:
        block: 3x3, 3x3 (`basic`) or 1x1, 3x3, 1x1 (`bottleneck`).
        depths: Blocks in each stage.
        widths: Channels of each stage, before the block's expansion.
        order: `post` (convolution, norm, activation) or `pre` (norm, activation, convolution).
        stem: `imagenet` (7x7), `deep` (three 3x3), `tiered` (the same, narrower at first) or
            `cifar` (one 3x3, full size).
        stem_width: Channels of what comes out of the stem; by default the first of `widths`.
        stem_pool: `max`; `conv`, a strided convolution; `zero`, max with a border of zeros; `none`.
        shortcut: `projection` where the shape changes (option B), `zero_pad` there (A),
            `projection_everywhere` (C), `average` before the projection (ResNet-D), `wide` (3x3,
            SENet-154), or `none`, the plain network.
        stride_in: The convolution of a bottleneck that strides: `3x3`, or `1x1` as in the paper.
        groups: Of the 3x3 convolution of a bottleneck.
        group_width: Channels of each group where the stage is 64 wide; it grows with the stage.
        reduce_first: Divides the channels between the first 1x1 and the 3x3.
        spatial: In the place of the 3x3 that strides: `conv`; `sk-REDUCTION-DIVISOR[-full]`;
            `res2-PIECES`; `split-RADIX[-before]`.
        attention: At the end of a branch: `none`, `se[-REDUCTION[-DIVISOR]]` or `eca`.
        antialias: `none`, `blur` or `average`.
        norm: `batch` or `group`.
        conv: `plain` or `standardised` weights.
        drop_path: Stochastic depth: the last block's rate.
        zero_init: Start every block as the identity.
        output_stride: Input over output size of the last stage; 16 and 8 dilate instead of
            striding.
        time: For clips: `full`, `spatial` or `2plus1`, for all stages or one for each; `shift` or
            `motion`, image by image; `none` for images.
    """

    kind: ClassVar[str] = "residual network"
    # these, each of those, and why; an option without value stands for all values but the default
    excludes: ClassVar = (
        ("block=basic", "groups group_width reduce_first stride_in spatial=res2 spatial=split",
         "a basic block has two full 3x3 convolutions; use block=bottleneck"),
        ("order=pre", "spatial antialias", "it was made for blocks that end in a ReLU; use order=post"),
        ("antialias", "stride_in spatial", "it smooths the plain 3x3 that strides"),
        ("antialias", "stem=cifar stem_pool=zero", "it needs a stem that pools: not cifar, and stem_pool=max or conv"),
        ("stem=cifar", "stem_pool output_stride", "the stem for small images does not shrink them; the network ends at 4"),
        ("stride_in", "spatial", "that part has a stride of its own"),
        ("reduce_first", "spatial=res2", "its pieces need equal channels in and out"),
        ("conv=standardised", "norm=batch", "before BatchNorm standardised weights change nothing; use norm=group"),
        ("time", "antialias conv shortcut=zero_pad stem_pool=zero", "it has no form in three dimensions"),
    )  # fmt: skip

    block: str = choice("bottleneck", "basic")
    depths: tuple[int, ...] = number((3, 4, 6, 3))
    widths: tuple[int, ...] = number((64, 128, 256, 512))
    order: str = choice("post", "pre")
    stem: str = choice("imagenet", "deep", "tiered", "cifar")
    stem_width: int | None = number(None)
    stem_pool: str = choice("max", "conv", "zero", "none")
    shortcut: str = choice(
        "projection", "average", "wide", "zero_pad", "projection_everywhere", "none"
    )
    stride_in: str = choice("3x3", "1x1")
    groups: int = number(1)
    group_width: int = number(64)
    reduce_first: int = number(1)
    spatial: tuple[str, ...] = part(
        conv=(), sk=(int, int, "full"), res2=(int,), split=(int, "before")
    )
    attention: tuple[str, ...] = part(none=(), se=(int, int), eca=())
    antialias: str = choice("none", "blur", "average")
    norm: str = choice("batch", "group")
    conv: str = choice("plain", "standardised")
    drop_path: float = number(0.0, least=0, below=1)
    zero_init: bool = False
    output_stride: int = choice(32, 16, 8)
    time: tuple[str, ...] = ("none",)

    def check(self) -> None:
        """Refuses what is no option of the grammar, and what makes no sense together.

        Raises:
            ValueError: With the reason.
        """
        check(self)
        if len(self.widths) != len(self.depths):
            raise ValueError(
                f"depths={format_value(self.depths)} widths={format_value(self.widths)}: give both with a number"
                " for each stage"
            )


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
    excludes: ClassVar = (
        ("stem=cifar", "antialias output_stride", "the stem for small images does not shrink them"),
    )

    growth: int = number(32)
    depths: tuple[int, ...] = number((6, 12, 24, 16))
    stem: str = choice("imagenet", "deep", "cifar")
    antialias: str = choice("none", "blur")
    output_stride: int = choice(32, 16, 8)

    def check(self) -> None:
        """See `ResNetSetting.check`."""
        check(self)


@dataclass(frozen=True)
class TransformerSetting:
    """A residual Transformer; the defaults are ViT-S/16's.

    Args:
        width: Channels of a token.
        depth: Blocks.
        heads: Of each attention.
        patch: Side of a patch in pixels.
        size: Side of the images whose places are learned; others are interpolated from them.
        order: `pre`, `post`, or `none` for no residual connection at all.
        drop_path: Stochastic depth: the last block's rate.
    """

    kind: ClassVar[str] = "Transformer"
    excludes: ClassVar = (
        ("order=none", "drop_path", "it needs a residual connection; use order=pre or post"),
    )

    width: int = number(384)
    depth: int = number(12)
    heads: int = number(6)
    patch: int = number(16)
    size: int = number(224)
    order: str = choice("pre", "post", "none")
    drop_path: float = number(0.0, least=0, below=1)

    def check(self) -> None:
        """See `ResNetSetting.check`."""
        check(self)
        if self.width % self.heads or self.size % self.patch:
            raise ValueError(
                f"heads={self.heads} must divide width={self.width}, patch={self.patch} must divide"
                f" size={self.size}"
            )


Setting = ResNetSetting | DenseNetSetting | TransformerSetting


class Changes(TypedDict, total=False):
    """The fields of all three settings, for editors that complete keywords."""

    block: str
    depths: Sequence[int] | str
    widths: Sequence[int] | str
    order: str
    stem: str
    stem_width: int | None
    stem_pool: str
    shortcut: str
    stride_in: str
    groups: int
    group_width: int
    reduce_first: int
    spatial: Sequence[str] | str
    attention: Sequence[str] | str
    antialias: str
    norm: str
    conv: str
    drop_path: float
    zero_init: bool
    output_stride: int
    time: Sequence[str] | str
    growth: int
    width: int
    depth: int
    heads: int
    patch: int
    size: int


# Why another kind of network does not have an option
REASONS = {
    DenseNetSetting: (
        "its layers are put side by side, not added: there is no branch, shortcut or block to"
        " change"
    ),
    TransformerSetting: "it has tokens instead of maps, and no convolutions after the first",
    ResNetSetting: "it belongs to another kind of network",
}


def check_options(kind: type[Setting], name: str, given: Sequence[str]) -> None:
    """Refuses options that this kind of network does not have, with the reason where another kind has
    them."""
    own = {one.name for one in fields(kind)}
    for key in given:
        if key not in own and any(key == one.name for other in REASONS for one in fields(other)):
            raise ValueError(
                f"{key}: {name} is a {kind.kind}, {REASONS[kind]}; its options:"
                f" {', '.join(sorted(own))}"
            )
        if key not in own:
            raise ValueError(f"unknown setting {key!r}: {nearest(key, own)}")


def check(setting: Setting) -> None:
    """Each field by itself, then what they exclude of each other."""
    for one in fields(setting):
        value = getattr(setting, one.name)
        text, rules = f"{one.name}={format_value(value)}", one.metadata
        if "options" in rules and value not in rules["options"]:
            raise ValueError(f"{text}: {nearest(str(value), map(str, rules['options']))}")
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if "least" in rules and (
            value == () or not all(rules["least"] <= item < rules["below"] for item in numbers)
        ):
            raise ValueError(
                f"{text}; allowed: from"
                f" {rules['least']}{' to below 1' if rules['below'] == 1 else ''}"
            )
        if "grammar" in rules:
            _check_part(text, value, rules["grammar"])
    for option, others, reason in setting.excludes:
        for other in others.split():
            if (first := _as_set(setting, option)) and (second := _as_set(setting, other)):
                raise ValueError(f"{second} with {first}: {reason}")


def _as_set(setting: Setting, text: str) -> str:
    """`"groups"` or `"stem=cifar"` as the setting has it; nothing where it does not hold."""
    key, _, wanted = text.partition("=")
    value = format_value(getattr(setting, key))
    default = next(format_value(one.default) for one in fields(setting) if one.name == key)
    return (
        f"{key}={value}"
        if (value.partition("-")[0] == wanted if wanted else value != default)
        else ""
    )


def _check_part(text: str, value: Sequence[str], grammar: dict[str, tuple[Any, ...]]) -> None:
    name, *rest = value or ("",)
    if name not in grammar:
        raise ValueError(f"{text}: {nearest(name, grammar)}")
    kinds = grammar[name]
    if len(rest) > len(kinds) or not all(
        given.isdigit() and int(given) > 0 if kind is int else given == kind
        for given, kind in zip(rest, kinds, strict=False)
    ):
        form = "".join(f"[-{'NUMBER' if kind is int else kind}" for kind in kinds) + "]" * len(
            kinds
        )
        raise ValueError(f"{text}: the form is {name}{form}")
