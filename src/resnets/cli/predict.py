"""`resnets predict`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.inputs import Crop, Fit, Interpolation, Mean, Size, Std, input_changes

if TYPE_CHECKING:
    from resnets.results import Prediction
    from resnets.runtime import Predictor
    from resnets.screen import Screen


def predict(
    model: Annotated[
        str,
        Argument(help="NAME.onnx (needs no torch), a run folder, a model file, or timm:NAME.TAG."),
    ],
    inputs: Annotated[list[Path], Argument(help="Pictures and folders.")],
    output: Annotated[
        Path | None,
        Option("--output", "-o", help="FILE.csv, .jsonl or .parquet; goes on where it stopped."),
    ] = None,
    probabilities: Annotated[bool, Option("--probs", help="A column for every class.")] = False,
    heat: Annotated[
        Path | None, Option(help="Folder for class activation maps as pictures.")
    ] = None,
    engine: Annotated[str, Option(help="onnxruntime | openvino")] = "onnxruntime",
    threads: Annotated[int, Option(help="0: all cores.")] = 0,
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
    quiet: Annotated[bool, Option("--quiet", "-q")] = False,
) -> None:
    """Answer for pictures and folders, with one row for each file."""
    from resnets.runtime.folders import count_pictures
    from resnets.runtime.writers import done, write_predictions
    from resnets.screen import Screen

    changes = input_changes(
        model, size=size, mean=mean, std=std, interpolation=interpolation, fit=fit, crop=crop
    )
    screen = Screen(quiet)
    predictor = _open(model, engine, threads, network, classes, changes, screen)
    finished = done(output) if output else set()
    if finished:
        screen.say(f"{output}: {len(finished):,} files are answered already")
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
    model: str,
    engine: str,
    threads: int,
    network: str | None,
    classes: str | None,
    changes: dict[str, Any],
    screen: Screen,
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

    opened = open_model(model, network, classes, screen, changes)
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
