"""`resnets show`."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument, Option

from resnets.cli.output import print_json


def show(
    network: Annotated[str, Argument(help='A pattern ("resnet*"), or one network ("resnet50 shortcut=none").')] = "*",
    size: Annotated[int | None, Option("--size", min=1, help="Side of the input in pixels.")] = None,
    json: Annotated[bool, Option("--json", help="One JSON object as the last line of stdout.")] = False,
) -> None:
    """List networks, or show one as table 1 of the paper does."""
    values = _list(network, size) if any(mark in network for mark in "*?[") else _show(network, size)
    if json:
        print_json(values)


def _look(words: str, size: int | None) -> tuple[dict[str, Any], list[Any]]:
    """What is to be said of a network in words, and its stages; no memory is taken for its weights."""
    import torch

    from resnets.models import Network
    from resnets.models.summary import count_parameters, summarise

    network = Network.parse(words)
    with torch.device("meta"):
        net = network.build()
    side = size or (32 if network.setting.stem == "cifar" else 224)
    stages = summarise(net, side)
    counts = {"parameters": count_parameters(net), "macs": sum(stage.macs for stage in stages)}
    return {"name": str(network), **counts, "size": side, "classes": network.num_classes}, stages


def _list(pattern: str, size: int | None) -> dict[str, Any]:
    from resnets.models import list_models
    from resnets.screen import Screen
    from resnets.settings import nearest

    names = list_models(pattern)
    if not names:
        raise ValueError(f"no network matches {pattern!r}: {nearest(pattern.strip('*'), list_models())}")
    rows = [_look(name, size)[0] for name in names]
    Screen().table(
        ("network", "parameters", "multiply-adds", "input", "classes"),
        [(r["name"], f"{r['parameters']:,}", f"{r['macs'] / 1e9:.3f} G", r["size"], r["classes"]) for r in rows],
        right=(1, 2, 3, 4),
    )
    return {"networks": rows}


def _show(words: str, size: int | None) -> dict[str, Any]:
    from resnets.screen import Screen

    values, stages = _look(words, size)
    network = values.pop("name")
    rows = [
        (s.name, s.layers, " x ".join(map(str, s.output)), f"{s.parameters:,}", f"{s.macs / 1e6:,.1f} M" if s.macs else "")
        for s in stages
    ]
    rows.append(("all", "", "", f"{values['parameters']:,}", f"{values['macs'] / 1e6:,.1f} M"))
    screen = Screen()
    screen.say(f"{network} at {values['size']} x {values['size']}")
    screen.table(("stage", "layers", "output", "parameters", "multiply-adds"), rows, right=(3, 4))
    return {"network": network, **values, "stages": [{**vars(stage), "output": list(stage.output)} for stage in stages]}
