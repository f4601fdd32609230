"""`resnets predict`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from resnets.cli.options import DATA, MODEL, OUTPUT, Classes, Network, Quiet

if TYPE_CHECKING:
    from resnets.results import Prediction
    from resnets.runtime import Predictor
    from resnets.screen import Screen


EXAMPLES = """
resnets predict photos.onnx photo.jpg
resnets predict photos.onnx new/ -o new.csv
resnets predict runs/train/1 new/ -o new.parquet --probs --heat maps/
resnets predict timm:resnet50.a1_in1k new/ > new.csv
"""


def predict(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="NAME.onnx (needs no PyTorch), the folder of a run, a model file, a state dict, or"
            " published weights (torchvision:TAG, timm:NAME.TAG).",
            rich_help_panel=MODEL,
        ),
    ],
    inputs: Annotated[
        list[Path],
        Argument(metavar="INPUT...", help="Images and folders of images.", rich_help_panel=DATA),
    ],
    engine: Annotated[
        str,
        Option(
            metavar="onnxruntime|openvino",
            help="Engine that runs NAME.onnx.",
            rich_help_panel=MODEL,
        ),
    ] = "onnxruntime",
    threads: Annotated[
        int,
        Option(
            metavar="INT",
            min=0,
            help="Threads that run NAME.onnx; 0 for all CPU cores. [0 or more threads]",
            rich_help_panel=MODEL,
        ),
    ] = 0,
    network: Network = None,
    classes: Classes = None,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Table to write: FILE.csv, .jsonl or .parquet. An existing one is continued.",
            show_default="CSV on stdout",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        Option(
            "--probs",
            help="Write a column with the probability of every class.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    heat: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Draw the class activation map over each image, into this folder.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Predict the classes of images, with one row per file."""
    from resnets.runtime.folders import count_pictures
    from resnets.runtime.writers import done, write_predictions
    from resnets.screen import Screen

    screen = Screen(quiet)
    predictor = _open(model, engine, threads, network, classes, screen)
    finished = done(output) if output else set()
    if finished:
        screen.say(f"{output}: {len(finished):,} files are predicted already")
    total = max(0, count_pictures(inputs) - len(finished))
    with screen.progress("predicting", total) as bar:
        predictions = predictor.predict(inputs, heat=heat is not None, skip=finished)
        if heat:
            predictions = _with_maps(predictions, heat)
        counted = _counted(predictions, bar.update)
        written = write_predictions(counted, output, probabilities)
    if output:
        screen.say(f"{written:,} rows written to {output}")


def _open(
    model: str, engine: str, threads: int, network: str | None, classes: str | None, screen: Screen
) -> Predictor:
    from resnets.runtime import Predictor, load

    path = Path(model)
    if path.suffix == ".onnx":
        return load(path, engine, threads)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        return load(path, engine, threads)  # which refuses it, with the cure
    from resnets.run.opening import open_model

    opened = open_model(model, network, classes, screen)
    return Predictor(opened, opened.classes, opened.preprocessing, opened.metadata)


def _counted(predictions: Iterator[Prediction], update: object) -> Iterator[Prediction]:
    for number, prediction in enumerate(predictions, 1):
        yield prediction
        update(number)  # type: ignore[operator]


def _with_maps(predictions: Iterator[Prediction], folder: Path) -> Iterator[Prediction]:
    """Writes the map of the predicted class of each picture as FILE.heat.jpg."""
    from resnets.evaluation.maps import draw_map

    folder.mkdir(parents=True, exist_ok=True)
    for prediction in predictions:
        if prediction.heat is not None and prediction.index is not None:
            draw_map(Path(prediction.file), prediction.heat[prediction.index], folder)
        yield prediction
