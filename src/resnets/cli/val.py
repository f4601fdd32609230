"""`resnets val`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.inputs import Crop, Fit, Interpolation, Mean, Size, Std, input_changes
from resnets.cli.options import DATA, MODEL, OUTPUT, Classes, Engine, Json, Network
from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.evaluation.metrics import Metrics
    from resnets.screen import Screen


SPLITS = ("train", "val", "test")
MOST = 30  # classes in the table
EXAMPLES = """
resnets val runs/train/1
resnets val photos.onnx
resnets val photos.onnx photos/ --json
resnets val weights.pth photos/ --model resnet18 --classes names.txt
"""


def val(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="NAME.onnx (needs no PyTorch), the folder of a run, a model file, a state dict, or"
            " published weights (torchvision:TAG, timm:NAME.TAG).",
            rich_help_panel=MODEL,
        ),
    ],
    data: Annotated[
        str | None,
        Argument(
            metavar="DATA",
            help="Labelled images to evaluate on, laid out as for training.",
            show_default="the images that the run held out; for NAME.onnx, none",
            rich_help_panel=DATA,
        ),
    ] = None,
    split: Annotated[
        str | None,
        Option(
            metavar="|".join(SPLITS),
            help="Split to evaluate on, if the data have splits.",
            show_default="test, or val if there is no test split",
            rich_help_panel=DATA,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Write a report of the evaluation to this HTML file.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    engine: Engine = None,
    network: Network = None,
    classes: Classes = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    interpolation: Interpolation = None,
    fit: Fit = None,
    crop: Crop = None,
    json: Json = False,
) -> None:
    """Evaluate a model: accuracy, balanced accuracy and macro F1 with 95 % confidence intervals,
    and precision and recall of each class.

    For NAME.onnx, verify first that it gives the stored predictions on the images inside it.
    """
    from resnets.loading import check_arguments, is_onnx
    from resnets.screen import Screen
    from resnets.settings import nearest

    if split is not None and split not in SPLITS:
        raise ValueError(f"--split {split}: {nearest(split, SPLITS)}")
    changes = input_changes(
        model, size=size, mean=mean, std=std, interpolation=interpolation, fit=fit, crop=crop
    )
    check_arguments(model, engine, None, network, classes)
    screen = Screen()
    path = Path(model)
    if is_onnx(path) and (report or (split and not data)):
        option, needs = ("--report", "a run or a model file") if report else ("--split", "DATA")
        raise ValueError(f"{option} does not apply to {model} alone: it needs {needs}")
    values: dict[str, Any] = {"model": model}
    metrics = None
    if is_onnx(path):
        engine = engine or "onnxruntime"
        values |= _prove(path, engine, screen)
        if data:
            from resnets.measuring import measure_file

            metrics = measure_file(path, engine, data, split, screen)
    else:
        from resnets.run.measure import measure_and_report
        from resnets.run.opening import open_model

        metrics = measure_and_report(
            open_model(model, network, classes, screen, changes), path, data, split, report, screen
        )
    if metrics is not None:
        _show(metrics, screen)
        values["metrics"] = metrics.to_dict()
    if json:
        print_json(values)


def _prove(path: Path, engine: str, screen: Screen) -> dict[str, Any]:
    from typer import Exit

    from resnets.runtime import load
    from resnets.runtime.onnxfile import read_onnx
    from resnets.runtime.proof import prove

    proof = prove(load(path, engine), read_onnx(path))
    (screen.say if proof.ok else screen.warn)(f"{path}: {proof}")
    if not proof.ok:
        raise Exit(1)
    return {"proof": {**vars(proof), "ok": proof.ok}}


def _show(metrics: Metrics, screen: Screen) -> None:
    from resnets.evaluation.metrics import title

    screen.table((), [(title(name), str(one)) for name, one in metrics.numbers.items()])
    screen.say("")
    names = list(metrics.per_class[0].estimates)
    rows = [
        (one.name, *(str(one.estimates[name] or "-") for name in names))
        for one in metrics.per_class[:MOST]
    ]
    screen.table(("class", *map(title, names)), rows)
    if len(metrics.per_class) > MOST:
        screen.say(f"and {len(metrics.per_class) - MOST:,} more classes (--json has all)")
