"""What `show` tells: a list of networks, one network as table 1 of the paper has it, or what two
differ in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnets.files import write_file
from resnets.models import Network, list_models
from resnets.models.rows import ROWS
from resnets.pretrained import published_accuracy
from resnets.screen import Screen
from resnets.settings import format_value, nearest
from resnets.summary.diagram import draw
from resnets.summary.table import Stage, activation_bytes, count_parameters, summarise

FRAMES = 16  # of a clip
SORTS = ("name", "parameters", "macs", "top1")


def built(
    network: Network, size: int | None = None, layers: bool = False
) -> tuple[nn.Module, int, list[Stage]]:
    """The network without memory for its weights, the side of its input (by default its row's), and
    its parts."""
    with torch.device("meta"):
        net = network.build()
    side = size or ROWS[network.name].size
    return net, side, summarise(net, _sides(network, side), network.in_channels, layers)


def _sides(network: Network, side: int) -> int | tuple[int, int, int]:
    return (FRAMES, side, side) if network.is_clip else side


def show_list(pattern: str, size: int | None, sort: str | None, screen: Screen) -> dict[str, Any]:
    """All networks whose names match.

    Raises:
        ValueError: None matches, or there is no such order.
    """
    names = list_models(pattern)
    if not names:
        raise ValueError(f"no network matches {pattern!r}: {nearest(pattern.strip('*?'), ROWS)}")
    if sort and sort not in SORTS:
        raise ValueError(f"sort={sort}: {nearest(sort, SORTS)}")
    networks: list[dict[str, Any]] = []
    for name in names:
        row, published = ROWS[name], [vars(one) for one in published_accuracy(name)]
        stages = built(Network.parse(name), size)[2] if size else []
        networks.append(
            {
                "name": name,
                "parameters": row.parameters,
                "macs": sum(stage.macs for stage in stages) if size else row.macs,
                "size": size or row.size,
                "classes": row.classes,
                "published": published,
                "top1": published[0]["top1"] if published else None,
            }
        )
    if sort:
        networks.sort(key=lambda one: -(one["top1"] or 0) if sort == "top1" else one[sort])
    header = ("network", "parameters", "MACs, G", "input", "top-1, %", "published for")
    screen.table(header, [_line(one) for one in networks], right=(1, 2, 3, 4))
    return {"networks": networks}


def _line(one: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{one['parameters']:,}", f"{one['macs'] / 1e9:.3f}", str(one["size"]))
    if not one["published"]:
        return (one["name"], *counts)
    best = one["published"][0]
    tag = best["weights"].replace(f":{one['name']}.", " ").replace(":", " ")
    return (one["name"], *counts, f"{best['top1']:.2f}", f"{tag}, {best['size']} px")


def show_one(
    network: Network, size: int | None, batch: int, layers: bool, svg: Path | None, screen: Screen
) -> dict[str, Any]:
    """One network, stage by stage or layer by layer."""
    net, side, stages = built(network, size, layers)
    memory = activation_bytes(net, _sides(network, side), batch, network.in_channels)
    parameters, macs = count_parameters(net), sum(stage.macs for stage in stages)
    published = published_accuracy(network.name) if str(network) == network.name else []
    screen.say(f"{network} at {side} x {side}")
    header = ("layer" if layers else "stage", "layers", "output", "sees, px", "parameters")
    total = ("all", "", "", "", f"{parameters:,}", f"{macs / 1e6:,.1f}")
    screen.table((*header, "MACs, M"), [*map(_row, stages), total], right=(3, 4, 5))
    screen.say(
        f"a training step of {batch} images keeps {memory / 1e9:.2f} GB for the backward pass"
        " (float32)"
    )
    if published:
        tags = [(one.weights, str(one.size), f"{one.top1:.2f}") for one in published]
        screen.table(("published for", "at, px", "top-1, %"), tags, right=(1, 2))
    if svg:
        write_file(svg, draw(network, size))
        screen.say(f"diagram written to {svg}")
    return {
        "network": str(network),
        "parameters": parameters,
        "macs": macs,
        "size": side,
        "classes": network.num_classes,
        "batch": batch,
        "activation_bytes": memory,
        "published": [vars(one) for one in published],
        "stages": [{**vars(stage), "output": list(stage.output)} for stage in stages],
    }


def _row(stage: Stage) -> tuple[str, ...]:
    name, output = stage.name.removeprefix("features."), " x ".join(map(str, stage.output))
    macs = f"{stage.macs / 1e6:,.1f}" if stage.macs else ""
    return (name, stage.layers, output, str(stage.field), f"{stage.parameters:,}", macs)


def show_difference(networks: list[Network], size: int | None, screen: Screen) -> dict[str, Any]:
    """What two networks differ in: their settings, then sums."""
    settings = [{"kind": one.setting.kind, **vars(one.setting)} for one in networks]
    keys = [
        key for key in settings[0] | settings[1] if settings[0].get(key) != settings[1].get(key)
    ]
    different = {
        key: [format_value(setting[key]) if key in setting else "-" for setting in settings]
        for key in keys
    }
    nets = [built(one, size) for one in networks]
    totals = {
        "classes": [one.num_classes for one in networks],
        "size": [side for _, side, _ in nets],
        "parameters": [count_parameters(net) for net, _, _ in nets],
        "macs": [sum(stage.macs for stage in stages) for _, _, stages in nets],
    }
    lines = [(key, *values) for key, values in different.items()]
    lines += [
        (key, *(f"{value:,}" for value in values))
        for key, values in totals.items()
        if len(set(values)) > 1
    ]
    screen.table(("", *map(str, networks)), lines or [("no difference", "", "")])
    return {"networks": [str(one) for one in networks], "different": different, **totals}
