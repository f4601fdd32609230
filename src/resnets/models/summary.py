"""A network in numbers: parameters, multiply-adds, and the stages as table 1 of He et al. 2015 shows them."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Stage:
    """One line of the table.

    Args:
        name: Its module: conv1, layer1, ...
        layers: What is in it, in words.
        output: (channels, height, width) of what comes out.
        parameters: Its own.
        macs: Multiply-adds of its convolutions and linear layers for one picture.
    """

    name: str
    layers: str
    output: tuple[int, ...]
    parameters: int
    macs: int


def count_parameters(net: nn.Module) -> int:
    """All parameters, trained or not."""
    return sum(parameter.numel() for parameter in net.parameters())


def summarise(net: nn.Module, size: int, in_channels: int = 3) -> list[Stage]:
    """The children of a network in running order, measured on a copy on the meta device: nothing is computed."""
    net = copy.deepcopy(net).to("meta").eval()
    outputs: dict[str, tuple[int, ...]] = {}
    hooks = [
        child.register_forward_hook(lambda module, args, out, name=name: outputs.__setitem__(name, tuple(out.shape[1:])))
        for name, child in net.named_children()
    ]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, in_channels, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    flops = counter.get_flop_counts()
    root = type(net).__name__
    return [
        Stage(name, _words(child), outputs[name], count_parameters(child), sum(flops.get(f"{root}.{name}", {}).values()) // 2)
        for name, child in net.named_children()
        if name in outputs and not isinstance(child, nn.Identity | nn.ReLU)
    ]


def _words(module: nn.Module) -> str:
    """A module in a few words: `7x7, 64, stride 2`, or its blocks and how often they stand in a row."""
    if isinstance(module, nn.Sequential) and len(module) and any(True for _ in module[0].children()):
        convs = [conv for name, conv in module[-1].named_modules() if isinstance(conv, nn.Conv2d) and "downsample" not in name]
        return (
            f"[{', '.join(f'{conv.kernel_size[0]}x{conv.kernel_size[1]} {conv.out_channels}' for conv in convs)}] x {len(module)}"
        )
    if isinstance(module, nn.Conv2d):
        return f"{module.kernel_size[0]}x{module.kernel_size[1]} {module.out_channels}, stride {module.stride[0]}"
    if isinstance(module, nn.MaxPool2d):
        return f"max pool {module.kernel_size}x{module.kernel_size}, stride {module.stride}"
    if isinstance(module, nn.Linear):
        return f"linear {module.out_features}"
    return re.sub(r"(?<!^)(?=[A-Z])", " ", type(module).__name__).lower().replace("_ ", "")
