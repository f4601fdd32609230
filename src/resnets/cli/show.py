"""`resnets show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from resnets.cli.output import print_json


def show(
    networks: Annotated[
        list[str] | None,
        Argument(
            metavar="[NETWORK]...",
            help="'se*' lists; resnet50 attention=eca shows one; two are compared.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        Option("--size", min=1, help="Side of the input in pixels; by default the network's own."),
    ] = None,
    sort: Annotated[
        str | None,
        Option(help="Of a list: name | parameters | macs | top1; by default as the rows stand."),
    ] = None,
    batch: Annotated[
        int, Option("--batch", "-b", min=1, help="Pictures in a training step, for its memory.")
    ] = 32,
    layers: Annotated[
        bool, Option("--layers", help="Every single layer instead of the stages.")
    ] = False,
    svg: Annotated[Path | None, Option(help="Draw the network into this file.")] = None,
    json: Annotated[
        bool, Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """List networks, show one as table 1 of the paper does, or say what two differ in."""
    from resnets.models import Network
    from resnets.screen import Screen
    from resnets.summary import catalogue

    words: list[str] = []
    for word in networks or ["*"]:  # changes may follow a network without quotes
        if "=" in word and " " not in word and words:
            words[-1] += f" {word}"
        else:
            words.append(word)
    many = any(mark in words[0] for mark in "*?[")
    if len(words) > 2 or (many and len(words) > 1):
        raise ValueError(f"{words}: one network is shown, two are compared, one pattern lists many")
    if (svg or layers) and (many or len(words) > 1):
        raise ValueError("--svg and --layers show one network")
    if sort and not many:
        raise ValueError("--sort orders a list: give a pattern, 'resnet*'")
    if many:
        values = catalogue.show_list(words[0], size, sort, Screen())
    elif len(words) == 1:
        values = catalogue.show_one(Network.parse(words[0]), size, batch, layers, svg, Screen())
    else:
        values = catalogue.show_difference([Network.parse(one) for one in words], size, Screen())
    if json:
        print_json(values)
