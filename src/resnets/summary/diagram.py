"""A network drawn from its settings: what `show --svg` writes and the report shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from resnets.models import DenseNet, Network, ResNet, VisionTransformer
from resnets.models.attention import Res2, SelectiveKernel, SplitAttention
from resnets.models.layers import NoShortcut, ZeroPad
from resnets.models.rewrite import BlurPool, StandardisedConv2d
from resnets.models.rows import ROWS
from resnets.summary.drawing import Opened, Part, draw_network
from resnets.summary.table import Stage, count_parameters, describe_conv, is_stage, summarise

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)
SPECIAL = {
    SelectiveKernel: "selective kernels",
    Res2: "Res2 chain",
    SplitAttention: "split attention",
}


def draw(network: Network, size: int | Sequence[int] | None = None, backbone: bool = False) -> str:
    """The network as SVG.

    Args:
        network: What to draw.
        size: Side of the input, or height and width, of a clip behind the number of its images;
            by default the row's, and 16.
        backbone: Without its pooling and classifier, in whose place a task has a head of its own.
    """
    size = size or ROWS[network.name].size
    sides = (size, size) if isinstance(size, int) else size
    with torch.device("meta"):
        net: Any = network.build()
        if backbone:
            net.reset_classifier(0)
    shape = (16, *sides) if network.is_clip and len(sides) == 2 else tuple(sides)
    stages = summarise(net, shape, network.in_channels)
    parts = [Part("input", (" x ".join(map(str, (network.in_channels, *shape))),), sides[-1])]
    for stage in stages:
        if backbone and math.prod(stage.output[1:]) == 1:
            break
        single_norm = isinstance(net.get_submodule(stage.name), NORMS)
        # the norm of a stem is part of its convolution
        if not (single_norm and parts[-1].blocks == 0):
            parts.append(_part(net, stage))
    macs = sum(stage.macs for stage in stages)
    work = f"{macs / 1e9:.2f} G" if macs >= 1e8 else f"{macs / 1e6:.1f} M"
    totals = f"{count_parameters(net) / 1e6:.2f} M parameters, {work} multiply-adds"
    title = f"{network}{', as a backbone' if backbone else ''}: {totals}"
    return draw_network(title, parts, _opened(net))


def _part(net: nn.Module, stage: Stage) -> Part:
    module = net.get_submodule(stage.name)
    name = stage.name.rpartition(".")[2]
    output = " x ".join(map(str, stage.output))
    # tokens are drawn as their grid
    side = {1: 1, 2: math.isqrt(stage.output[0])}.get(len(stage.output), stage.output[-1])
    if isinstance(module, NORMS):
        return Part(
            name, ("norm" if isinstance(module, nn.LayerNorm) else "norm, ReLU", output), side
        )
    if not is_stage(module):
        return Part(name, (*stage.layers.split("; "), output), side)
    blocks = list(module.children())
    plain = (
        isinstance(getattr(blocks[0], "downsample", None), NoShortcut)
        or getattr(blocks[0], "order", "") == "none"
    )
    arcs = "dense" if isinstance(net, DenseNet) else "none" if plain else "sum"
    unit = "layer" if isinstance(net, DenseNet) else "block"
    return Part(
        name,
        (f"{len(blocks)} {unit}{'s' if len(blocks) > 1 else ''}", output),
        side,
        len(blocks),
        arcs,
    )


def _opened(net: Any) -> list[Opened]:
    """One block of each kind."""
    if isinstance(net, DenseNet):
        parts: dict[str, Any] = dict(net.features.named_children())
        layer, transition = parts["denseblock1"].denselayer1, parts.get("transition1")
        steps = tuple(f"norm, ReLU, {describe_conv(conv)}" for conv in (layer.conv1, layer.conv2))
        opened = [
            Opened("a layer of denseblock1", steps, ("all maps so far",), "&", "side by side")
        ]
        if transition is not None:
            last = () if isinstance(transition.pool, nn.Identity) else ("average 2x2, /2",)
            opened.append(
                Opened(
                    "transition1", (f"norm, ReLU, {describe_conv(transition.conv)}", *last), None
                )
            )
        return opened
    if isinstance(net, VisionTransformer):
        block: Any = net.blocks[0]
        inside = () if block.order == "post" else ("norm",)
        after = "norm" if block.order == "post" else ""
        shortcut = None if block.order == "none" else ("identity",)
        steps = (
            *inside,
            f"linear {block.mlp.fc1.out_features}, GELU",
            f"linear {block.mlp.fc2.out_features}",
        )
        attention = Opened(
            "a block: attention",
            (*inside, f"attention, {block.attn.heads} heads"),
            shortcut,
            "+",
            after,
        )
        return [attention, Opened("then its MLP", steps, shortcut, "+", after)]
    if not isinstance(net, ResNet):
        return []
    name = net.stage_names[min(1, len(net.stage_names) - 1)]
    first, *others = list(getattr(net, name))
    return [
        _open_block(first, f"first block of {name}"),
        *(_open_block(other, f"other blocks of {name}") for other in others[:1]),
    ]


def _open_block(block: Any, title: str) -> Opened:
    """The branch in running order, from the modules that are there."""
    before = getattr(block, "preactivated", False)
    steps = []
    convs = [name for name, _ in block.named_children() if name.startswith("conv")]
    for name in convs:
        module = getattr(block, name)
        brings_norm = isinstance(getattr(block, name.replace("conv", "bn")), nn.Identity)
        after = "" if brings_norm else ", norm" if name == convs[-1] else ", norm, ReLU"
        steps.append(
            f"{_describe_norm(block)}, ReLU, {_describe(module)}"
            if before
            else f"{_describe(module)}{after}"
        )
        if name == block.spatial and not isinstance(block.pool, nn.Identity):
            steps.append(f"{'blur' if isinstance(block.pool, BlurPool) else 'average'}, /2")
    if not isinstance(block.se, nn.Identity):
        steps.append(
            "squeeze and excitation" if hasattr(block.se, "fc1") else "channel attention (ECA)"
        )
    return Opened(title, tuple(steps), _shortcut(block.downsample), "+", "" if before else "ReLU")


def _describe_norm(block: nn.Module) -> str:
    return (
        "group norm"
        if any(isinstance(module, nn.GroupNorm) for module in block.modules())
        else "norm"
    )


def _describe(module: nn.Module) -> str:
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]
    if type(module) in SPECIAL:
        return f"{SPECIAL[type(module)]}, {describe_conv(convs[0])}"
    standardised = "standardised " if isinstance(module, StandardisedConv2d) else ""
    # of a (2+1)-D convolution both
    return standardised + ", norm, ReLU, ".join(describe_conv(conv) for conv in convs)


def _shortcut(module: nn.Module | None) -> tuple[str, ...] | None:
    if module is None:
        return ("identity",)
    if isinstance(module, NoShortcut):
        return None
    if isinstance(module, ZeroPad):
        return (
            f"every {module.stride}nd place," if module.stride == 2 else "all places,",
            "zeros for new channels",
        )
    layers = list(module.children()) or [module]
    texts = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            texts.append(describe_conv(layer))
        elif not isinstance(layer, nn.Identity):
            texts.append("norm" if isinstance(layer, NORMS) else "average 2x2")
    return tuple(texts)
