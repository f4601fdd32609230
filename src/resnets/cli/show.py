"""`resnets show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.models import Network


def show(
    networks: Annotated[
        list[str] | None, Argument(metavar="[NETWORK]...", help='"se*" for a list; "resnet50 attention=eca" for one; two to compare.')
    ] = None,
    size: Annotated[int | None, Option("--size", min=1, help="Side of the input in pixels; by default the network's own.")] = None,
    sort: Annotated[str, Option(help="Of a list: name | parameters | macs | top1; by default as the rows stand.")] = "",
    batch: Annotated[int, Option(min=1, help="Batch size for the memory of a training step.")] = 32,
    layers: Annotated[bool, Option("--layers", help="Every single layer instead of the stages.")] = False,
    svg: Annotated[Path | None, Option(help="Draw the network into this file.")] = None,
    json: Annotated[bool, Option("--json", help="One JSON object as the last line of stdout.")] = False,
) -> None:
    """List networks, show one as table 1 of the paper does, or say what two differ in."""
    words = networks or ["*"]
    if len(words) > 2:
        raise ValueError(f"{len(words)} networks; one is shown, two are compared, a pattern lists many. Quote a network with changes")
    if len(words) == 2:
        values = _compare(*words)
    elif any(mark in words[0] for mark in "*?["):
        values = _list(words[0], size, sort)
    else:
        values = _show(words[0], size, batch, layers, svg)
    if json:
        print_json(values)


def _stages(network: Network, size: int | None, layers: bool = False) -> tuple[Any, int, list[Any]]:
    """The network without memory for its weights, the side of its input, and its stages."""
    import torch

    from resnets.models.rows import ROWS
    from resnets.models.summary import summarise

    with torch.device("meta"):
        net = network.build()
    side = size or ROWS[network.name].size
    return net, side, summarise(net, (16, side, side) if network.is_clip else side, network.in_channels, layers)


def _list(pattern: str, size: int | None, sort: str) -> dict[str, Any]:
    from resnets.models import Network, list_models
    from resnets.models.rows import ROWS
    from resnets.models.pretrained import published_accuracy
    from resnets.screen import Screen
    from resnets.settings import nearest

    names = list_models(pattern)
    if not names:
        raise ValueError(f"no network matches {pattern!r}: {nearest(pattern.strip('*'), list_models())}")
    keys = {"": 0, "name": "name", "parameters": "parameters", "macs": "macs", "top1": "top1"}
    if sort not in keys:
        raise ValueError(f"sort={sort}: {nearest(sort, keys)}")
    rows = []
    for name in names:
        row, tags = ROWS[name], published_accuracy(name)
        macs = sum(stage.macs for stage in _stages(Network.parse(name), size)[2]) if size else row.macs
        counts = {"parameters": row.parameters, "macs": macs, "size": size or row.size, "classes": row.classes}
        rows.append({"name": name, **counts, "published": tags, "top1": max(tags.values(), default=0.0)})
    if sort:
        rows.sort(key=lambda row: row[sort], reverse=sort == "top1")
    Screen().table(
        ("network", "parameters", "multiply-adds", "input", "classes", "published top-1"),
        [
            (r["name"], f"{r['parameters']:,}", f"{r['macs'] / 1e9:.3f} G", r["size"], r["classes"],
             ", ".join(f"{tag} {value:.2f}" for tag, value in r["published"].items()))
            for r in rows
        ],
        right=(1, 2, 3, 4),
    )  # fmt: skip
    return {"networks": rows}


def _show(words: str, size: int | None, batch: int, layers: bool, svg: Path | None) -> dict[str, Any]:
    from resnets.models import Network
    from resnets.models.summary import activation_bytes, count_parameters
    from resnets.models.pretrained import published_accuracy
    from resnets.screen import Screen

    network = Network.parse(words)
    net, side, stages = _stages(network, size, layers)
    sides = (16, side, side) if network.is_clip else side
    memory = activation_bytes(net, sides, batch, network.in_channels)
    parameters, macs = count_parameters(net), sum(stage.macs for stage in stages)
    tags = published_accuracy(network.name) if str(network) == network.name else {}
    rows = [
        (s.name, s.layers, " x ".join(map(str, s.output)), s.field, f"{s.parameters:,}", f"{s.macs / 1e6:,.1f} M" if s.macs else "")
        for s in stages
    ]
    rows.append(("all", "", "", "", f"{parameters:,}", f"{macs / 1e6:,.1f} M"))
    screen = Screen()
    screen.say(f"{network} at {side} x {side}")
    header = ("layer" if layers else "stage", "layers", "output", "sees, px", "parameters", "multiply-adds")
    screen.table(header, rows, right=(3, 4, 5))
    screen.say(f"a training step of {batch} keeps {memory / 1e9:.2f} GB for the way back, in float32")
    if tags:
        screen.say("published top-1: " + ", ".join(f"{tag} {value:.2f} %" for tag, value in tags.items()))
    if svg:
        from resnets.files import write_file
        from resnets.run.diagram import draw

        write_file(svg, draw(network, size))
        screen.say(f"drawn: {svg}")
    counts = {"parameters": parameters, "macs": macs, "size": side, "classes": network.num_classes}
    listed = [{**vars(stage), "output": list(stage.output)} for stage in stages]
    return {"network": str(network), **counts, "batch": batch, "activation_bytes": memory, "published": tags, "stages": listed}


def _compare(one: str, two: str) -> dict[str, Any]:
    from resnets.models import Network
    from resnets.models.summary import count_parameters
    from resnets.screen import Screen
    from resnets.settings import word

    networks = [Network.parse(one), Network.parse(two)]
    built = [_stages(network, None) for network in networks]
    settings = [{"kind": network.setting.kind, **vars(network.setting)} for network in networks]
    keys = [key for key in {**settings[0], **settings[1]} if settings[0].get(key) != settings[1].get(key)]
    different = {key: [word(setting[key]) if key in setting else "-" for setting in settings] for key in keys}
    totals = {
        "parameters": [count_parameters(net) for net, _, _ in built],
        "macs": [sum(stage.macs for stage in stages) for _, _, stages in built],
        "size": [side for _, side, _ in built],
    }
    rows = [(key, *values) for key, values in different.items()]
    rows += [(key, *(f"{value:,}" for value in values)) for key, values in totals.items() if len(set(values)) > 1]
    Screen().table(("", *map(str, networks)), rows or [("nothing", "", "")])
    return {"networks": [str(network) for network in networks], "different": different, **totals}
