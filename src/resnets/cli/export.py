"""`resnets export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from resnets.cli.inputs import Crop, Fit, Interpolation, Mean, Size, Std, input_changes
from resnets.cli.options import MODEL, OUTPUT, Classes, Json, Network
from resnets.cli.output import print_json

EXAMPLES = """
resnets export runs/train/1
resnets export runs/train/1/weights/best.safetensors -o photos.onnx
resnets export torchvision:IMAGENET1K_V2 --model resnet50 -o resnet50.onnx
"""


def export(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="The folder of a run, a model file, a state dict, or published weights"
            " (torchvision:TAG, timm:NAME.TAG).",
            rich_help_panel=MODEL,
        ),
    ],
    network: Network = None,
    classes: Classes = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    interpolation: Interpolation = None,
    fit: Fit = None,
    crop: Crop = None,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The ONNX file to write.",
            show_default="NAME.onnx beside the model",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Export a model as one ONNX file, and verify in every installed engine that it gives the same
    predictions as PyTorch. If it does not, nothing is written.
    """
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
    changes = input_changes(
        model, size=size, mean=mean, std=std, interpolation=interpolation, fit=fit, crop=crop
    )
    opened = open_model(model, network, classes, screen, changes)
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
            + ("; those of the run are gone" if held_out else "")
        )
    proven = export_outcome(opened, target, there)
    screen.say(str(proven))
    if json:
        values = {**vars(proven), "path": str(proven.path), "engines": list(proven.engines)}
        print_json(values)
