"""A network drawn from its words: what `show --svg` writes and the report shows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from resnets.evaluation.drawing import Opened, Part, draw_network
from resnets.models import DenseNet, Network, ResNet, VisionTransformer
from resnets.models.layers import NoShortcut, ZeroPad
from resnets.models.rows import ROWS
from resnets.models.summary import Stage, conv_words, count_parameters, summarise


def draw(network: Network, size: int | None = None) -> str:
    """The network as SVG.

    Args:
        network: What to draw.
        size: Side of the input; by default the row's.
    """
    side = size or ROWS[network.name].size
    with torch.device("meta"):
        net = network.build()
    clip = network.is_clip
    stages = summarise(net, (16, side, side) if clip else side, network.in_channels)
    shape = " x ".join(map(str, (network.in_channels, *((16,) if clip else ()), side, side)))
    parts = [Part("input", (), shape), *(_part(net, stage) for stage in stages)]
    millions = count_parameters(net) / 1e6
    title = f"{network}: {millions:.2f} M parameters, {sum(stage.macs for stage in stages) / 1e9:.2f} G multiply-adds"
    return draw_network(title, parts, _opened(net))


def _part(net: nn.Module, stage: Stage) -> Part:
    module = net.get_submodule(stage.name)
    output = " x ".join(map(str, stage.output))
    name = stage.name.rpartition(".")[2]
    stacked = isinstance(module, nn.Sequential | nn.ModuleDict) and any(True for _ in next(iter(module.children())).children())
    if not stacked:
        return Part(name, (stage.layers,), output)
    blocks = len(list(module.children()))
    arcs = "dense" if isinstance(net, DenseNet) else "none" if _plain(next(module.children())) else "sum"
    words = "layer" if isinstance(net, DenseNet) else "block"
    return Part(name, (f"{blocks} {words}{'s' if blocks > 1 else ''}",), output, blocks, arcs)


def _plain(block: Any) -> bool:
    return isinstance(getattr(block, "downsample", None), NoShortcut)


def _opened(net: Any) -> list[Opened]:
    if isinstance(net, DenseNet):
        layer, transition = net.features.denseblock1.denselayer1, getattr(net.features, "transition1", None)
        steps = tuple(f"norm, ReLU, {conv_words(conv)}" for conv in (layer.conv1, layer.conv2))
        opened = [Opened("a layer of block 1", steps, "all maps so far", "&, side by side")]
        if transition is not None:
            last = "average 2x2, /2" if isinstance(transition.pool, nn.AvgPool2d) else "no pooling"
            opened.append(Opened("the transition to block 2", (f"norm, ReLU, {conv_words(transition.conv)}", last), None))
        return opened
    if isinstance(net, VisionTransformer):
        block: Any = net.blocks[0]
        inside = ("LayerNorm",) if block.order != "post" else ()
        after = ", LayerNorm" if block.order == "post" else ""
        shortcut = None if block.order == "none" else "identity"
        return [
            Opened("first half of a block", (*inside, f"attention, {block.attn.heads} heads"), shortcut, f"+{after}"),
            Opened("second half", (*inside, f"linear {block.mlp.fc1.out_features}, GELU", "linear"), shortcut, f"+{after}"),
        ]
    if not isinstance(net, ResNet):
        return []
    first, *others = net.layer2 if len(net.stage_names) > 1 else net.layer1
    opened = [_open_block(first, "first block of layer2" if len(net.stage_names) > 1 else "first block of layer1")]
    return opened + ([_open_block(others[0], "its other blocks")] if others else [])


def _open_block(block: Any, title: str) -> Opened:
    """The branch in running order, from the modules that are there."""
    before = getattr(block, "preactivated", False)
    steps = []
    convs = [name for name, _ in block.named_children() if name.startswith("conv")]
    for name in convs:
        module = getattr(block, name)
        words = conv_words(module) if isinstance(module, nn.Conv2d | nn.Conv3d) else _special(module)
        own_norm = isinstance(getattr(block, name.replace("conv", "bn")), nn.Identity)
        end = "" if own_norm else ", norm" if name == convs[-1] else ", norm, ReLU"
        steps.append(f"norm, ReLU, {words}" if before else f"{words}{end}")
        if name == getattr(block, "spatial", "") and not isinstance(getattr(block, "pool", nn.Identity()), nn.Identity):
            steps.append("blur, /2" if type(block.pool).__name__ == "BlurPool" else "average 2x2, /2")
    if not isinstance(block.se, nn.Identity):
        steps.append("SE" if hasattr(block.se, "fc1") else "ECA")
    return Opened(title, tuple(steps), _shortcut(block.downsample), "+" if before else "+ ReLU")


def _special(module: nn.Module) -> str:
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]
    name = {"SelectiveKernel": "selective kernels", "Res2": "Res2 chain", "SplitAttention": "split attention"}.get(type(module).__name__)
    if name is None:  # a (2+1)-D convolution
        return ", norm, ReLU, ".join(conv_words(conv) for conv in convs)
    return f"{name}, {conv_words(convs[0])}"


def _shortcut(module: nn.Module | None) -> str | None:
    if module is None:
        return "identity"
    if isinstance(module, NoShortcut):
        return None
    if isinstance(module, ZeroPad):
        return "every second place, zeros for new channels"
    layers = [module] if isinstance(module, nn.Conv2d) else list(module.children())
    words = {"AvgPool2d": "average 2x2", "AvgPool3d": "average 2x2", "Sequential": "average 2x2"}
    told = [words.get(type(layer).__name__) or (conv_words(layer) if isinstance(layer, nn.Conv2d | nn.Conv3d) else "norm")
            for layer in layers if not isinstance(layer, nn.Identity)]  # fmt: skip
    return ", ".join(told)
