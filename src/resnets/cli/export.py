"""`resnets export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from resnets.cli.output import print_json


def export(
    model: Annotated[
        str,
        Argument(
            help="A run folder, a model file, a state dict, torchvision:TAG or timm:NAME.TAG."
        ),
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", help="NAME.onnx; by default beside the model.")
    ] = None,
    network: Annotated[
        str | None, Option("--model", "-m", help="The network of a bare state dict, or timm:NAME.")
    ] = None,
    classes: Annotated[str | None, Option(help="Its classes: FILE, or imagenet.")] = None,
    json: Annotated[
        bool, Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Write NAME.onnx, verified to equal the model; nothing is written otherwise."""
    from resnets.data.splits import read_split
    from resnets.export import check_target
    from resnets.run.opening import open_model
    from resnets.run.outcome import export_outcome
    from resnets.screen import Screen

    screen, path = Screen(), Path(model)
    beside = path / f"{path.resolve().name}.onnx" if path.is_dir() else path.with_suffix(".onnx")
    target = output or (beside if path.exists() else None)
    if target is not None:  # else it is named after the network, here
        check_target(target)
    opened = open_model(model, network, classes, screen)
    target = target or Path(f"{opened.network_name.replace(':', '-')}.onnx")
    split = path / "split.csv"
    held_out = (
        [sample for sample in read_split(split) if sample.split != "train"]
        if split.is_file()
        else []
    )
    there = [sample for sample in held_out if sample.path.is_file()]
    if not there:
        screen.say(
            "verified on the sample images of this package"
            + ("; the run's own are gone" if held_out else "")
        )
    proven = export_outcome(opened, target, there)
    screen.say(str(proven))
    if json:
        values = {**vars(proven), "path": str(proven.path), "engines": list(proven.engines)}
        print_json(values)
