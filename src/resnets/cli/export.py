"""`resnets export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.inputs import Crop, Fit, Interpolation, Mean, Size, Std, input_changes
from resnets.cli.options import DATA, MODEL, OUTPUT, Classes, Json, Network
from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.export.calibration import Images
    from resnets.export.forms import Form
    from resnets.kinds import Kind
    from resnets.kinds.sample import Sample
    from resnets.modelfile import Model
    from resnets.screen import Screen

EXAMPLES = """
resnets export runs/train/1
resnets export runs/train/1/weights/best.safetensors -o photos.onnx
resnets export torchvision:IMAGENET1K_V2 --model resnet50 -o resnet50.onnx
resnets export runs/train/1 --int8
resnets export resnet50.onnx --int8 --calibrate photos/ --max-drop 1
resnets export resnet50.onnx --precision bf16 --calibrate photos/
"""


def export(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="The folder of a run, a model file, a state dict, or published weights"
            " (torchvision:TAG, timm:NAME.TAG); with --precision also NAME.onnx.",
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
    precision: Annotated[
        str | None,
        Option(
            metavar="int8|bf16",
            help="Write NAME-int8.onnx or NAME-bf16.onnx besides, if it is faster and held-out"
            " images show that it loses no more than --max-drop; otherwise the exit code is 1."
            " bf16 is for OpenVINO, on processors with bfloat16.",
            show_default="float32 alone",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    int8: Annotated[
        bool,
        Option("--int8", help="The same as --precision int8.", rich_help_panel=OUTPUT),
    ] = False,
    calibrate: Annotated[
        str | None,
        Option(
            metavar="DATA",
            help="Labelled images for --precision, laid out as for training. They judge the file;"
            " in int8 some of them set its ranges instead.",
            show_default="the images that the run held out",
            rich_help_panel=DATA,
        ),
    ] = None,
    max_drop: Annotated[
        float,
        Option(
            metavar="POINTS",
            min=0,
            max=100,
            help="How many percentage points the file of --precision may lose of the main number,"
            " at the bound of the 95 % interval. [0 to 100]",
            rich_help_panel=OUTPUT,
        ),
    ] = 0.5,
    accept_unproven: Annotated[
        bool,
        Option(
            "--accept-unproven",
            help="Keep the file of --precision also where the images are too few to decide.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The ONNX file to write; that of --precision is named after it.",
            show_default="NAME.onnx beside the model",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Export a model as one ONNX file, and verify in every installed engine that it gives the same
    predictions as PyTorch. If it does not, nothing is written.

    With --precision, write a faster file besides, unless it loses too much.
    """
    from resnets.export import check_target
    from resnets.export.forms import check_form, export_form
    from resnets.loading import check_arguments, is_onnx
    from resnets.run.opening import open_model
    from resnets.runtime.onnxfile import read_onnx
    from resnets.screen import Screen

    screen, path = Screen(), Path(model)
    form = _choose_form(precision, int8)
    if form is None and (calibrate or accept_unproven):
        option = "--calibrate" if calibrate else "--accept-unproven"
        raise ValueError(f"{option} is for files in int8 or bf16: add --precision, or leave it out")
    changes = input_changes(
        model, size=size, mean=mean, std=std, interpolation=interpolation, fit=fit, crop=crop
    )
    beside = path / f"{path.resolve().name}.onnx" if path.is_dir() else path.with_suffix(".onnx")
    target = output or (beside if path.exists() else None)
    if target is not None:  # else it is named after the network, here
        check_target(target)
    if form and is_onnx(path):
        check_arguments(model, None, None, network, classes)
        file, opened = read_onnx(path), None
        kind, names, given = file.kind, file.classes, file.precision
        samples, float32 = _split_of(path.parent), path
    else:
        opened = open_model(model, network, classes, screen, changes)
        kind, names, given = opened.task.kind, opened.classes, "float32"
        target = target or Path(f"{opened.network_name.replace(':', '-')}.onnx")
        samples, float32 = _split_of(path), target
    if form:
        check_form(form, kind, model, given)
        images = _choose_images(form, calibrate, samples, kind, names, screen)
    values = _export_float32(opened, float32, samples, screen) if opened else {}
    if form:
        assert target is not None
        paths = float32, form.beside(target)
        judged = export_form(form, paths, images, max_drop / 100, accept_unproven, screen)
        values[form.precision] = {"path": str(paths[1]), **judged.to_dict()}
    if json:
        print_json(values)


def _choose_form(precision: str | None, int8: bool) -> Form | None:
    """What is to be written besides float32."""
    from resnets.export.forms import FORMS
    from resnets.runtime.engines import SPELLINGS
    from resnets.settings import nearest

    if int8 and precision not in (None, "int8"):
        raise ValueError(f"--int8 and --precision {precision}: one of them at a time")
    word = "int8" if int8 else precision
    if word is None:
        return None
    form = FORMS.get(SPELLINGS.get(word, word))
    if form is None:
        allowed = [one.suffix for one in FORMS.values()]
        raise ValueError(f"--precision {word}: {nearest(word, allowed)}")
    return form


def _split_of(folder: Path) -> list[Sample]:
    """The images of a run, if this is its folder."""
    from resnets.data.splits import read_split

    split = folder / "split.csv"
    return read_split(split) if split.is_file() else []


def _choose_images(
    form: Form,
    calibrate: str | None,
    samples: Sequence[Sample],
    kind: Kind,
    classes: Sequence[str],
    screen: Screen,
) -> Images:
    """What a file is made from and judged on: of data that were named, else of the samples of the
    run."""
    from resnets.export.calibration import divide, find_images, take_all

    gather = divide if form.calibrated else take_all
    if calibrate is not None:
        trained = {sample.path for sample in samples if sample.split == "train"}
        found = find_images(calibrate, kind.name, trained, screen)
        return gather(found, classes, Path(calibrate).name or calibrate)
    held_out = [sample for sample in samples if sample.split != "train" and sample.path.exists()]
    if not held_out:
        gone = "those that the run held out are gone" if samples else "this model has none"
        raise ValueError(
            f"{form.precision} is judged on images, and {gone}; name some: --calibrate DATA"
        )
    return gather(held_out, classes, "the run")


def _export_float32(
    opened: Model, target: Path, samples: Sequence[Sample], screen: Screen
) -> dict[str, Any]:
    from resnets.run.outcome import export_outcome

    held_out = [sample for sample in samples if sample.split != "train"]
    there = [sample for sample in held_out if sample.path.is_file()]
    if not there:
        screen.say(
            "verified on the sample images of this package"
            + ("; those of the run are gone" if held_out else "")
        )
    proven = export_outcome(opened, target, there)
    screen.say(str(proven))
    return {**vars(proven), "path": str(proven.path), "engines": list(proven.engines)}
