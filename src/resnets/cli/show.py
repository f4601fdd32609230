"""`resnets show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from resnets.cli.options import NETWORK, OUTPUT, Json
from resnets.cli.output import print_json

EXAMPLES = """
resnets show
resnets show 'se*' --sort top1
resnets show "resnet50 attention=eca" --svg eca.svg
resnets show resnet50 resnet50d
"""


def show(
    networks: Annotated[
        list[str] | None,
        Argument(
            metavar="[NETWORK]...",
            help="A pattern ('se*') lists the networks that match, one network is shown with its"
            " layers, and two are compared. Changes may follow a name: resnet50 attention=eca.",
            show_default="all networks are listed",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    size: Annotated[
        int | None,
        Option(
            "--size",
            metavar="INT",
            min=1,
            help="Side of the square input. [1 or more pixels]",
            show_default="the network's own",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    batch: Annotated[
        int,
        Option(
            "--batch",
            "-b",
            metavar="INT",
            min=1,
            help="Images per training step, to estimate its memory. [1 or more images]",
            rich_help_panel=NETWORK,
        ),
    ] = 32,
    sort: Annotated[
        str | None,
        Option(
            metavar="name|parameters|macs|top1",
            help="Order of a list.",
            show_default="from older to newer families",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    layers: Annotated[
        bool,
        Option(
            "--layers",
            help="Show every layer of one network instead of its stages.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    svg: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Draw one network as a diagram into this SVG file.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List networks with their parameters, multiply-adds and published accuracies; show one network
    as Table 1 of the ResNet paper does; or compare two.
    """
    from resnets.models import Network
    from resnets.screen import Screen
    from resnets.summary import catalogue

    names: list[str] = []
    for name in networks or ["*"]:  # changes may follow a network without quotes
        if "=" in name and " " not in name and names:
            names[-1] += f" {name}"
        else:
            names.append(name)
    many = any(mark in names[0] for mark in "*?[")
    if len(names) > 2 or (many and len(names) > 1):
        raise ValueError(f"{names}: one network is shown, two are compared, one pattern lists many")
    if (svg or layers) and (many or len(names) > 1):
        raise ValueError("--svg and --layers show one network")
    if sort and not many:
        raise ValueError("--sort orders a list: give a pattern, 'resnet*'")
    if many:
        values = catalogue.show_list(names[0], size, sort, Screen())
    elif len(names) == 1:
        values = catalogue.show_one(Network.parse(names[0]), size, batch, layers, svg, Screen())
    else:
        values = catalogue.show_difference([Network.parse(one) for one in names], size, Screen())
    if json:
        print_json(values)
