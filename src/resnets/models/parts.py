"""What every network of the family shares: how it starts, how it ends, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from torch import Tensor, nn


def initialise(net: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Draws the weights of all convolutions anew (He et al. 2015, arXiv:1502.01852): keeps the
    variance through ReLUs.

    Raises:
        ValueError: A convolution that was divided until no channel was left.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            if not module.weight.numel():
                raise ValueError(
                    "a layer has no channels: choose larger widths, or divide them less"
                )
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")


def zero_branches(net: nn.Module) -> None:
    """Lets every block start as the identity: the last weights of its branch become zero."""
    for module in net.modules():
        if isinstance(end := getattr(module, "branch_end", None), str):
            nn.init.zeros_(module.get_parameter(f"{end}.weight"))


def make_head(channels: int, num_classes: int) -> nn.Module:
    """The classifier on pooled features; nothing at all for 0 classes."""
    return nn.Linear(channels, num_classes) if num_classes else nn.Identity()


def check_stages(block: Any, layers: Sequence[int], widths: Sequence[int]) -> None:
    """Refuses blocks, and numbers of them, that do not make a network.

    Raises:
        ValueError: The block has no `expansion`, or a stage has no width or no block.
    """
    expansion = getattr(block, "expansion", None)
    if type(expansion) is not int or expansion < 1:
        raise ValueError(
            f"expansion of block {getattr(block, '__name__', block)!r} is {expansion!r};"
            " allowed: a class attribute with a whole number from 1 on, the block's output"
            " channels divided by the stage's width"
        )
    if len(widths) != len(layers) or min(layers, default=0) < 1:
        raise ValueError(
            f"{list(layers)} blocks, widths {list(widths)}: every stage needs one width, and a"
            " block at least"
        )


def check_input(net: nn.Module, x: Tensor) -> None:
    """Refuses what a network cannot look at, before a layer deep inside of it does.

    Raises:
        ValueError: Another number of dimensions or channels, or sides below `net.smallest`.
    """
    weight = next(
        module.weight for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)
    )
    smallest = getattr(net, "smallest", 1)
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[1] or min(x.shape[-2:]) < smallest:
        sides = "N, C, T, H, W" if weight.ndim == 5 else "N, C, H, W"
        raise ValueError(
            f"images of shape {tuple(x.shape)}; ({sides}) with C = {weight.shape[1]} and sides of"
            f" at least {smallest} px expected"
        )


def blocks_of(net: nn.Module) -> list[Any]:
    """The residual blocks in running order: modules that have a branch."""
    return [module for module in net.modules() if hasattr(module, "branch_end")]


def replace(net: nn.Module, kinds: Any, make: Callable[[Any], nn.Module]) -> None:
    """Puts `make(module)` in the place of every module of some kinds, in place."""
    for parent, name, child in list(_children(net)):
        if isinstance(child, kinds):
            setattr(parent, name, make(child))


def _children(net: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in net.modules():
        for name, child in parent.named_children():
            yield parent, name, child
