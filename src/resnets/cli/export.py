"""`resnets export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from resnets.cli.inputs import Crop, Fit, Interpolation, Mean, Size, Std, input_changes
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
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    interpolation: Interpolation = None,
    fit: Fit = None,
    crop: Crop = None,
    json: Annotated[
        bool, Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Write NAME.onnx, proven to answer as the model does; nothing is written otherwise."""
    from resnets.data.splits import read_split
    from resnets.run.opening import open_model
    from resnets.run.outcome import export_outcome
    from resnets.screen import Screen

    screen, path = Screen(), Path(model)
    changes = input_changes(
        model, size=size, mean=mean, std=std, interpolation=interpolation, fit=fit, crop=crop
    )
    opened = open_model(model, network, classes, screen, changes)
    split = path / "split.csv"
    held_out = (
        [sample for sample in read_split(split) if sample.split != "train"]
        if split.is_file()
        else []
    )
    there = [sample for sample in held_out if sample.path.is_file()]
    if not there:
        screen.say(
            "proven on the sample pictures of this package"
            + ("; the run's own are gone" if held_out else "")
        )
    beside = path / f"{path.resolve().name}.onnx" if path.is_dir() else path.with_suffix(".onnx")
    target = output or (
        beside if path.exists() else Path(f"{opened.network_name.replace(':', '-')}.onnx")
    )
    proven = export_outcome(opened, target, there)
    screen.say(str(proven))
    if json:
        values = {**vars(proven), "path": str(proven.path), "engines": list(proven.engines)}
        print_json(values)
