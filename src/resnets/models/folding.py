"""BatchNorm of a trained network folded into the convolution before it: what it multiplies and adds
goes into weights and bias (Jacob et al. 2018, arXiv:1712.05877, section 3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
TOLERATED = 1e-3  # of the largest output: between rounding, 1e-5, and another function


class _Uses(TorchFunctionMode):
    """Counts in how many calls that give tensors each tensor takes part."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[int]()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if any(isinstance(one, Tensor) for one in tree_leaves(found)):
            self.counts.update(
                id(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)
            )
        return found


@torch.no_grad()
def fold_norms(net: nn.Module, image: Tensor) -> int:
    """Folds every BatchNorm that alone takes the output of a convolution, whatever the network is:
    one forward pass shows which do. A network that would compute something else after it, or whose
    outputs are no tensors in lists or dictionaries, stays as it is.

    Args:
        net: Changed in place, for predictions alone; in evaluation mode from here on.
        image: (N, C, H, W), or (N, C, T, H, W), that it can take, on its device.

    Returns:
        How many norms are gone.
    """
    net.eval()
    pairs, before = _find_pairs(net, image)
    places = {child: (parent, name) for parent, name, child in _children(net)}
    for conv, norm in pairs:
        _put(places[conv], fuse_conv_bn_eval(conv, norm))
        _put(places[norm], nn.Identity())
    after = _outputs(net, image)
    if after and all(map(_alike, before, after)):
        return len(pairs)
    for module in (one for pair in pairs for one in pair):
        _put(places[module], module)
    return 0


def _find_pairs(net: nn.Module, image: Tensor) -> tuple[list[tuple[Any, Any]], list[Tensor]]:
    """Convolutions and norms that follow them, and the outputs of the network."""
    calls, uses = Counter[nn.Module](), _Uses()
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # kept, so that no id comes twice
    follows: list[tuple[Any, Any, int]] = []

    def on_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[norm] += 1
        if id(inputs[0]) in made:
            follows.append((made[id(inputs[0])][0], norm, id(inputs[0])))

    def on_convolution(conv: nn.Module, inputs: Any, output: Tensor) -> None:
        calls[conv] += 1
        made[id(output)] = conv, output
        uses.counts[id(output)] = 0  # an earlier tensor, gone since, may have had the same id

    handles = []
    places = Counter(child for _, _, child in _children(net))  # a shared one has several
    for module in places:
        if type(module) in CONVOLUTIONS:
            handles.append(module.register_forward_hook(on_convolution))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and _is_fixed(module):
            handles.append(module.register_forward_pre_hook(on_norm))
    try:
        with uses:
            outputs = _outputs(net, image)
    finally:
        for handle in handles:
            handle.remove()
    given = {id(one) for one in outputs}
    pairs = [
        (conv, norm)
        for conv, norm, place in follows
        if calls[conv] == calls[norm] == places[conv] == places[norm] == 1
        and uses.counts[place] == 1
        and place not in given
    ]
    return pairs, outputs


def _children(net: nn.Module) -> Iterable[tuple[nn.Module, str, nn.Module]]:
    return [(one, name, child) for one in net.modules() for name, child in one._modules.items()
            if child is not None]  # fmt: skip


def _is_fixed(norm: Any) -> bool:
    return norm.affine and norm.running_mean is not None


def _put(place: tuple[nn.Module, str], module: nn.Module) -> None:
    setattr(*place, module)


def _outputs(net: nn.Module, image: Tensor) -> list[Tensor]:
    return [one for one in tree_leaves(net(image)) if isinstance(one, Tensor)]


def _alike(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return True
    return bool((one - other).abs().max() <= TOLERATED * one.abs().max().clamp(min=1e-6))
