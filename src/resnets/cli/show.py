"""`resnets show`."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument, Option

from resnets.cli.output import print_json


def show(
    network: Annotated[str, Argument(help='A pattern ("resnet*"), or one network ("resnet50 shortcut=none").')] = "*",
    size: Annotated[int | None, Option("--size", help="Side of the input in pixels.")] = None,
    json: Annotated[bool, Option("--json", help="One JSON object as the last line of stdout.")] = False,
) -> None:
    """List networks, or show one as table 1 of the paper does."""
    import torch

    from resnets.models import Network, list_models
    from resnets.models.summary import count_parameters, summarise
    from resnets.screen import Screen
    from resnets.settings import nearest

    screen = Screen()

    def look(words: str) -> tuple[Network, Any, int]:
        parsed = Network.parse(words)
        side = size or (32 if parsed.setting.stem == "cifar" else 224)
        with torch.device("meta"):
            net = parsed.build()
        return parsed, net, side

    if any(mark in network for mark in "*?["):
        names = list_models(network)
        if not names:
            raise ValueError(f"no network matches {network!r}: {nearest(network.strip('*'), list_models())}")
        rows: list[dict[str, Any]] = []
        for name in names:
            parsed, net, side = look(name)
            macs = sum(stage.macs for stage in summarise(net, side))
            rows.append(
                {"name": name, "parameters": count_parameters(net), "macs": macs, "size": side, "classes": parsed.num_classes}
            )
        screen.table(
            ("network", "parameters", "multiply-adds", "input", "classes"),
            [(r["name"], f"{r['parameters']:,}", f"{r['macs'] / 1e9:.3f} G", f"{r['size']}", f"{r['classes']}") for r in rows],
            right=(1, 2, 3, 4),
        )
        if json:
            print_json({"networks": rows})
        return
    parsed, net, side = look(network)
    stages = summarise(net, side)
    total = count_parameters(net)
    macs = sum(stage.macs for stage in stages)
    screen.say(f"{parsed} at {side} x {side}")
    rows_shown = [
        (s.name, s.layers, " x ".join(map(str, s.output)), f"{s.parameters:,}", f"{s.macs / 1e6:,.1f} M" if s.macs else "")
        for s in stages
    ]
    rows_shown.append(("all", "", "", f"{total:,}", f"{macs / 1e6:,.1f} M"))
    screen.table(("stage", "layers", "output", "parameters", "multiply-adds"), rows_shown, right=(3, 4))
    if json:
        listed = [{**vars(stage), "output": list(stage.output)} for stage in stages]
        print_json({"network": str(parsed), "size": side, "parameters": total, "macs": macs, "stages": listed})
