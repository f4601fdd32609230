"""A network in numbers: the stages as table 1 of He et al. 2015 shows them, what each output sees,
and what training keeps."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resnets.models.attention import Res2
from resnets.models.rewrite import BlurPool
from resnets.models.vit import Attention


@dataclass(frozen=True)
class Stage:
    """One line of the table.

    Args:
        name: Its module: conv1, layer1, ...
        layers: What is in it, as text.
        output: (channels, height, width) of what comes out.
        parameters: Its own.
        macs: Multiply-adds of its convolutions and linear layers for one image.
        field: Side of the part of the image that one place of its output sees through
            convolutions and pooling, in pixels.
    """

    name: str
    layers: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    field: int


def count_parameters(net: nn.Module) -> int:
    """All parameters, trained or not."""
    return sum(parameter.numel() for parameter in net.parameters())


def summarise(
    net: nn.Module, size: int | Sequence[int], in_channels: int = 3, leaves: bool = False
) -> list[Stage]:
    """The parts of a network in running order, measured on a copy on the meta device: nothing is
    computed.

    Args:
        net: The network.
        size: Side of the input, or all of them (T, H, W).
        in_channels: Channels of the input.
        leaves: Every single layer instead of the stages.
    """
    net, x = _hollow(net, size, in_channels)
    outputs: dict[str, tuple[int, ...]] = {}
    fields: dict[str, int] = {}
    field, jump = 1, 1

    def look(name: str, module: nn.Module, out: Any) -> None:
        nonlocal field, jump
        if isinstance(module, SEEING) and _on_the_way(net, name):
            size, stride, dilation = (
                _side(getattr(module, key, 1)) for key in ("kernel_size", "stride", "dilation")
            )
            field, jump = field + (size - 1) * dilation * jump, jump * stride
        if isinstance(module, Attention):
            field = x.shape[-1]
        if isinstance(out, Tensor):
            outputs.setdefault(name, tuple(out.shape[1:]))
            fields[name] = field

    for name, module in net.named_modules():
        module.register_forward_hook(lambda module, args, out, name=name: look(name, module, out))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    flops = counter.get_flop_counts()
    for name, module in net.named_modules():
        if not isinstance(module, nn.ModuleList):
            continue
        # it is not called itself, its blocks are
        last = f"{name}.{len(module) - 1}"
        if last in outputs:
            outputs[name], fields[name] = outputs[last], fields[last]
            flops[f"{type(net).__name__}.{name}"] = {
                "all": sum(_flops(flops, net, f"{name}.{i}") for i in range(len(module)))
            }
    return [
        Stage(
            name,
            _describe(part),
            outputs[name],
            count_parameters(part),
            _flops(flops, net, name) // 2,
            fields[name],
        )
        for name, part in (_leaves(net) if leaves else _parts(net, "", outputs))
        if name in outputs and not isinstance(part, nn.Identity | nn.ReLU)
    ]


def activation_bytes(
    net: nn.Module, size: int | Sequence[int], batch: int, in_channels: int = 3
) -> int:
    """Memory that a training step keeps for the backward pass, without weights and without its
    own scratch space."""
    net, x = _hollow(net, size, in_channels, batch)
    net.train()
    weights = {value.untyped_storage()._cdata for value in (*net.parameters(), *net.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = net(x)
    result = sum(storage.nbytes() for storage in kept.values())
    del out
    return result


SEEING = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.AvgPool2d, nn.MaxPool3d, nn.AvgPool3d, BlurPool)


def _hollow(
    net: nn.Module, size: int | Sequence[int], channels: int, batch: int = 1
) -> tuple[Any, Tensor]:
    """A copy without memory, in eval mode, and an input for it."""
    copied = copy.deepcopy(net).to("meta").eval()
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return copied, torch.zeros(batch, channels, *sides, device="meta")


def _on_the_way(net: nn.Module, name: str) -> bool:
    """Whether a layer lies on the longest way through the network: not in a shortcut, an attention
    or the shorter of two paths."""
    if re.search(r"downsample|\.se\.|\.attn\.|fc\d|paths\.0|avgpool", name):
        return False
    parent = (
        net.get_submodule(name.rpartition(".")[0].rpartition(".")[0]) if ".convs." in name else None
    )
    if isinstance(parent, Res2) and parent.first:
        return name.endswith("convs.0")
    return not (".pool" in name and isinstance(net.get_submodule(name.rpartition(".")[0]), Res2))


def _side(value: int | Sequence[int]) -> int:
    return value if isinstance(value, int) else value[-1]


def _flops(flops: Any, net: nn.Module, name: str) -> int:
    return sum(flops.get(f"{type(net).__name__}.{name}", {}).values())


def _parts(net: nn.Module, prefix: str, outputs: dict[str, Any]) -> Iterator[tuple[str, nn.Module]]:
    """Children, and of those that are mere containers, theirs."""
    for name, child in net.named_children():
        if f"{prefix}{name}" in outputs:
            yield f"{prefix}{name}", child
        else:
            yield from _parts(child, f"{prefix}{name}.", outputs)


def _leaves(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return (
        (name, module)
        for name, module in net.named_modules()
        if not any(True for _ in module.children())
    )


def is_stage(module: nn.Module) -> bool:
    """Whether it is a row of blocks."""
    first = next(module.children(), None)
    stacks = nn.Sequential | nn.ModuleDict | nn.ModuleList
    return isinstance(module, stacks) and first is not None and any(True for _ in first.children())


def _describe(module: nn.Module) -> str:
    """A module as a short text: `7x7 64, /2`, or its blocks and how often they stand in a row."""
    if is_stage(module):
        *_, last = module.children()
        convs = [
            describe_conv(conv) for name, conv in last.named_modules() if _named_conv(name, conv)
        ]
        return f"[{', '.join(convs)}] x {len(list(module.children()))}"
    leaves = [part for name, part in _leaves(module) if not re.search("downsample|se\\.", name)]
    texts = [
        _describe_leaf(part)
        for part in leaves
        if len(leaves) == 1 or isinstance(part, (*SEEING, nn.Linear))
    ]
    return "; ".join(texts)


def _describe_leaf(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
        return describe_conv(module)
    if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d):
        return "global average"
    if isinstance(module, SEEING):
        pools = isinstance(module, nn.MaxPool2d | nn.MaxPool3d)
        kind = "blur" if isinstance(module, BlurPool) else "max" if pools else "average"
        size, stride = _side(module.kernel_size), _side(module.stride)
        return f"{kind} {size}x{size}" + (f", /{stride}" if stride > 1 else "")
    return "norm" if "norm" in type(module).__name__.lower() else type(module).__name__


def _named_conv(name: str, module: nn.Module) -> bool:
    """Whether a layer is on the main way through its block."""
    is_conv = isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear)
    return is_conv and not re.search(r"downsample|se\.|\.attn\.fc|conv\d\.fc\d", name)


def describe_conv(conv: Any) -> str:
    """`3x3 256 in 32 groups, /2`."""
    if isinstance(conv, nn.Linear):
        return f"linear {conv.out_features}"
    groups = f" in {conv.groups} groups" if conv.groups > 1 else ""
    stride = f", /{_side(conv.stride)}" if _side(conv.stride) > 1 else ""
    dilation = f", dilation {_side(conv.dilation)}" if _side(conv.dilation) > 1 else ""
    return f"{'x'.join(map(str, conv.kernel_size))} {conv.out_channels}{groups}{stride}{dilation}"
