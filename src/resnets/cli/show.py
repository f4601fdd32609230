"""`resnets show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.options import NETWORK, OUTPUT, Json
from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.screen import Screen

EXAMPLES = """
resnets show
resnets show 'se*' --sort top1
resnets show "resnet50 attention=eca" --svg eca.svg
resnets show resnet50 resnet50d
resnets show photos-int8.onnx
"""


def show(
    networks: Annotated[
        list[str] | None,
        Argument(
            metavar="[NETWORK]...",
            help="A pattern ('se*') lists the networks that match, one network is shown with its"
            " layers, and two are compared. Changes may follow a name: resnet50 attention=eca."
            " Of an exported NAME.onnx, what the file says is shown.",
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
    as Table 1 of the ResNet paper does; compare two; or tell what an exported file is.
    """
    from resnets.screen import Screen

    if networks and networks[0].endswith(".onnx"):
        if networks[1:] or size or sort or layers or svg:
            raise ValueError(
                f"{networks[0]}: a file is shown by itself; leave out other networks, --size,"
                " --sort, --layers and --svg"
            )
        values = _show_file(Path(networks[0]), Screen())
    else:
        values = _show_networks(networks or ["*"], size, batch, sort, layers, svg)
    if json:
        print_json(values)


def _show_networks(
    networks: list[str],
    size: int | None,
    batch: int,
    sort: str | None,
    layers: bool,
    svg: Path | None,
) -> dict[str, Any]:
    """A list of networks, one of them, or two."""
    from resnets.models import Network
    from resnets.screen import Screen
    from resnets.summary import catalogue

    names: list[str] = []
    for name in networks:  # changes may follow a network without quotes
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
        return catalogue.show_list(names[0], size, sort, Screen())
    if len(names) == 1:
        return catalogue.show_one(Network.parse(names[0]), size, batch, layers, svg, Screen())
    return catalogue.show_difference([Network.parse(one) for one in names], size, Screen())


def _show_file(path: Path, screen: Screen) -> dict[str, Any]:
    """What an exported file says of itself."""
    from resnets.runtime.onnxfile import read_onnx

    file = read_onnx(path)
    height, width = file.preprocessing.size
    size, account = path.stat().st_size, {}
    screen.pairs(
        [
            ("network", file.metadata["model"], ""),
            ("task", file.kind.name, f"{len(file.classes):,} classes"),
            ("input", f"{height} x {width} pixels", f"fit: {file.preprocessing.fit}"),
            ("precision", file.precision, f"{size / 1e6:.1f} MB"),
        ]
    )
    if file.precision != "float32":
        account = file.metadata["judgement"]
        header, *rows = account["table"] or [[]]
        screen.pairs([("images", account["images"], "")])
        screen.table(header, rows, right=range(1, len(header)))
        screen.say(f"{account['verdict']}: {account['reason']}")
    return {
        "file": str(path),
        "network": file.metadata["model"],
        "task": file.kind.name,
        "classes": list(file.classes),
        "preprocessing": file.preprocessing.to_dict(),
        "precision": file.precision,
        "bytes": size,
        **({"judgement": account} if account else {}),
    }
