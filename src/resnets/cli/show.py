"""`resnets show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.models import Network


def show(
    network: Annotated[str, Argument(help='A pattern ("resnet*"), or one network ("resnet50 shortcut=none").')] = "*",
    size: Annotated[int | None, Option("--size", min=1, help="Side of the input in pixels.")] = None,
    json: Annotated[bool, Option("--json", help="One JSON object as the last line of stdout.")] = False,
) -> None:
    """List networks, or show one as table 1 of the paper does."""
    values = _list(network, size) if any(mark in network for mark in "*?[") else _show(network, size)
    if json:
        print_json(values)


def _look(words: str, size: int | None) -> tuple[Network, Any, int]:
    """The network in words, itself without memory for its weights, and the side of its input."""
    import torch

    from resnets.models import Network

    network = Network.parse(words)
    with torch.device("meta"):
        net = network.build()
    return network, net, size or (32 if network.setting.stem == "cifar" else 224)


def _list(pattern: str, size: int | None) -> dict[str, Any]:
    from resnets.models import list_models
    from resnets.models.summary import count_parameters, summarise
    from resnets.screen import Screen
    from resnets.settings import nearest

    names = list_models(pattern)
    if not names:
        raise ValueError(f"no network matches {pattern!r}: {nearest(pattern.strip('*'), list_models())}")
    rows: list[dict[str, Any]] = []
    for name in names:
        network, net, side = _look(name, size)
        macs = sum(stage.macs for stage in summarise(net, side))
        rows.append({"name": name, "parameters": count_parameters(net), "macs": macs, "size": side, "classes": network.num_classes})
    Screen().table(
        ("network", "parameters", "multiply-adds", "input", "classes"),
        [(r["name"], f"{r['parameters']:,}", f"{r['macs'] / 1e9:.3f} G", f"{r['size']}", f"{r['classes']}") for r in rows],
        right=(1, 2, 3, 4),
    )
    return {"networks": rows}


def _show(words: str, size: int | None) -> dict[str, Any]:
    from resnets.models.summary import count_parameters, summarise
    from resnets.screen import Screen

    network, net, side = _look(words, size)
    stages = summarise(net, side)
    total = count_parameters(net)
    macs = sum(stage.macs for stage in stages)
    rows = [
        (s.name, s.layers, " x ".join(map(str, s.output)), f"{s.parameters:,}", f"{s.macs / 1e6:,.1f} M" if s.macs else "")
        for s in stages
    ]
    rows.append(("all", "", "", f"{total:,}", f"{macs / 1e6:,.1f} M"))
    screen = Screen()
    screen.say(f"{network} at {side} x {side}")
    screen.table(("stage", "layers", "output", "parameters", "multiply-adds"), rows, right=(3, 4))
    listed = [{**vars(stage), "output": list(stage.output)} for stage in stages]
    return {"network": str(network), "size": side, "parameters": total, "macs": macs, "stages": listed}
