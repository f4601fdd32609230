"""How a network is described in a file, and built again from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from resnets.foreign import build_foreign, is_foreign
from resnets.models import Network
from resnets.tasks import Task


def describe_network(
    network: Network | None,
    net: nn.Module,
    num_classes: int,
    in_channels: int,
    name: str | None = None,
) -> dict[str, Any]:
    """How a network is built again: by its name and changes, or only by whoever made the object or
    named it (`timm:NAME`)."""
    if network is not None:
        return {
            "kind": "family",
            "name": str(network),
            "classes": network.num_classes,
            "channels": network.in_channels,
        }
    name = name or f"{type(net).__module__}.{type(net).__qualname__}"
    return {"kind": "object", "name": name, "classes": num_classes, "channels": in_channels}


def build_network(
    description: Mapping[str, Any], task: Task, given: str | nn.Module | None = None
) -> nn.Module:
    """The network that a description names; no code outside this package is ever imported for it,
    unless it is named again.

    Args:
        description: What a file says.
        task: What it was trained for: its head.
        given: The network itself, or its name, for one that was made outside this package.

    Raises:
        ValueError: It was made outside this package and is not given, or something else is given.
    """
    name = description["name"]
    if isinstance(given, nn.Module):
        return given
    if given is not None and not isinstance(given, str):
        raise ValueError(
            f"a torch.nn.Module or the name of a network expected, got {type(given).__name__}"
        )
    if given is not None and given != name and _in_full(given) != _in_full(name):
        raise ValueError(f"this file is of {name}, not of {given}")
    if description["kind"] == "family":
        classes = description["classes"]
        return task.build(Network.parse(name, classes, description["channels"]), classes)
    if given is not None and is_foreign(given):
        return build_foreign(given, description["classes"], description["channels"])
    again = f"name it again (--model {name})"
    cure = (
        again
        if is_foreign(name)
        else "pass the network itself (resnets.modelfile.load_model(path, net))"
    )
    raise ValueError(
        f"this file holds weights of {name}, which is not a network of this package: {cure}, or use"
        " the exported .onnx"
    )


def _in_full(name: str) -> str:
    """The name of a network of this package in its one form; others as they are."""
    try:
        return str(Network.parse(name))
    except ValueError:
        return name
