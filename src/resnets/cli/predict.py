"""`resnets predict`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from typer import Argument, Exit, Option

from resnets.cli.cascade import Agreement, Calibrate, Second, Sure, check_cascade, open_cascade
from resnets.cli.cluster import Ray, predict_on_cluster
from resnets.cli.drawings import Drawings
from resnets.cli.inputs import Crop, Fit, Interpolation, Mean, Size, Std, input_changes
from resnets.cli.options import DATA, MODEL, OUTPUT, Classes, Engine, Network, Quiet

if TYPE_CHECKING:
    from resnets.kinds.prediction import Prediction
    from resnets.runtime import Predictor
    from resnets.runtime.outputs import Output
    from resnets.runtime.rows import Columns
    from resnets.screen import Screen

LARGE = 2_000_000  # bytes of a table; more takes a second or longer to read
EXAMPLES = """
resnets predict photos.onnx photo.jpg
resnets predict photos.onnx new/ -o new.csv
resnets predict runs/train/1 new/ -o new.parquet --probs --heat maps/
resnets predict cells.onnx new/ -o new.jsonl --draw drawn/
resnets predict small.onnx new/ --cascade large.onnx --sure 0.9 > new.csv
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
        Argument(
            metavar="INPUT...",
            help="Images, and folders for all images in them and below; or videos and folders of"
            " frames.",
            rich_help_panel=DATA,
        ),
    ],
    engine: Engine = None,
    threads: Annotated[
        int | None,
        Option(
            metavar="INT",
            min=0,
            help="Threads that compute, with NAME.onnx; 0 for one per CPU core. [0 or more"
            " threads]",
            show_default="0",
            rich_help_panel=MODEL,
        ),
    ] = None,
    network: Network = None,
    classes: Classes = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    interpolation: Interpolation = None,
    fit: Fit = None,
    crop: Crop = None,
    tiles: Annotated[
        bool,
        Option(
            "--tiles",
            help="Predict large images in overlapping tiles, at the scale of the training images;"
            " for networks that give each pixel a class.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    cascade: Second = None,
    sure: Sure = None,
    calibrate: Calibrate = None,
    agreement: Agreement = None,
    exact: Annotated[
        bool,
        Option(
            "--exact",
            help="Decode large JPEG files as they are stored, and not at a half, quarter or eighth"
            " of their size as far as that suffices; compute images one by one, not in batches.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Table to write: FILE.csv, FILE.jsonl or FILE.parquet. One that exists is"
            " continued: only new, changed and failed images are predicted.",
            show_default="a table in a terminal, CSV in a pipe",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        Option(
            "--probs",
            help="Write the probability of every class, one column per class.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    unknown: Annotated[
        bool,
        Option(
            "--unknown",
            help="Say `none of these` of images that are less familiar than 95 % of the held-out"
            " ones, in place of a class.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    heat: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Folder for class activation maps, drawn over the images.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Folder for images with their predictions drawn on them; of videos, animations.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Folder for masks, of networks that give them: PNG, each pixel the number of its"
            " class, in colours.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    ray: Ray = None,
    quiet: Quiet = False,
) -> None:
    """Predict what images show: one row for each file, box or class of pixels."""
    from resnets.listing import Listing, about_left_out, images_left_out
    from resnets.loading import check_arguments, load
    from resnets.runtime.outputs import open_output
    from resnets.runtime.rows import Columns
    from resnets.screen import Screen

    changes = input_changes(
        model, size=size, mean=mean, std=std, interpolation=interpolation, fit=fit, crop=crop
    )
    if ray is not None:
        options = {"engine": engine, "unknown": unknown, "probs": probabilities}
        others = {
            "threads": threads,
            "model": network,
            "classes": classes,
            "tiles": tiles,
            "cascade": cascade,
            "exact": exact,
            "heat": heat,
            "draw": draw,
            "masks": masks,
        }
        return predict_on_cluster(
            model, inputs, output, ray, {**options, **others, **changes}, quiet
        )
    screen = Screen(quiet)
    check_arguments(model, engine, threads, network, classes)
    check_cascade(cascade, sure, calibrate, agreement)
    drawings = Drawings(heat, draw, masks)
    drawings.check()
    _check(output, probabilities)
    predictor = load(
        model, engine, threads, model=network, classes=classes, changes=changes, screen=screen
    )
    predictor = predictor.tiled() if tiles else predictor
    if cascade is not None:
        second = load(cascade, engine, threads, screen=screen)
        predictor = open_cascade(predictor, second, sure, calibrate, agreement, screen)
    predictor = predictor.naming_unknown() if unknown else predictor
    predictor = predictor.exactly() if exact else predictor
    drawings.fit(predictor)
    files = Listing(map(str, inputs), predictor.kind.takes)
    if files.left_out:
        tell = screen.warn if images_left_out(files.left_out) else screen.say
        tell(about_left_out(files.left_out))
    tally = _Tally(predictor, drawings, screen)
    objects = output is not None and output.suffix.lower() == ".jsonl"
    each = predictor.classes if probabilities else ()
    columns = Columns.of(predictor.kind, each, objects, predictor.outputs)
    if output is None:
        _print(tally, files, columns)
    else:
        source = {"model": predictor.name, "sha256": predictor.sha256}
        _announce(output, screen)
        with open_output(output, files, source, columns) as opened:
            _write(tally, opened, output, screen)
    tally.judge()


def _check(output: Path | None, probabilities: bool) -> None:
    """Refuses what cannot be written, before any work."""
    from resnets.runtime.writers import check_output

    if output is not None:
        check_output(output)
    elif getattr(sys.stdout, "name", "") == os.devnull:  # put there by `cli.output.open_streams`
        raise ValueError("the standard output is closed; name an output: -o FILE.csv")
    elif probabilities and sys.stdout.isatty():
        raise ValueError("--probs is for tables in files: add -o FILE.csv, or leave it out")


def _announce(output: Path, screen: Screen) -> None:
    """Says that a large table is read, which takes seconds."""
    from resnets.screen import printable

    if output.exists() and output.stat().st_size > LARGE:
        screen.say(f"reading {printable(str(output))}, to continue it")


def _print(tally: _Tally, files: Iterable[str], columns: Columns) -> None:
    from resnets.cli.terminal import show_best, show_predictions
    from resnets.runtime.ledger import Ledger
    from resnets.runtime.writers import print_predictions
    from resnets.screen import Screen

    ledger = Ledger()
    total = ledger.plan(files)
    if not sys.stdout.isatty():
        # What reads from a pipe may write to the terminal that the bar would be drawn in.
        screen = tally.screen if _is_file(sys.stdout) else Screen(quiet=True)
        with screen.progress("predicting", total) as bar:
            print_predictions(tally.predict(ledger.planned(), bar.update), columns)
        return
    predictions = tally.predict(ledger.planned())
    if total == 1:
        show_best(next(predictions), columns)
    else:
        show_predictions(predictions, ledger.planned(), columns, tally.predictor.classes)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream that is no file of the system, as in a notebook
        return False


def _write(tally: _Tally, output: Output, named: Path, screen: Screen) -> None:
    from resnets.screen import printable

    name, ledger = printable(str(named)), output.ledger
    tally.finished = ledger.finished
    if ledger.finished:
        screen.say(f"{name}: {ledger.finished:,} files are predicted already")
    if ledger.outdated:
        screen.say(f"{name}: {ledger.outdated:,} failed or changed files are predicted again")
    with screen.progress("predicting", output.total) as bar:
        written = output.write(tally.predict(output.files(), bar.update))
    screen.say(f"{written:,} rows written to {name}")


class _Tally:
    """Predicts, and counts what came of it."""

    def __init__(self, predictor: Predictor, drawings: Drawings, screen: Screen) -> None:
        self.predictor, self.drawings, self.screen = predictor, drawings, screen
        self.good = self.failed = self.finished = 0

    def predict(
        self, files: Iterator[str], update: Callable[[int], None] = lambda done: None
    ) -> Iterator[Prediction]:
        """Predictions for files, which are drawn if that is wanted."""
        heat = self.drawings.heat is not None
        for prediction in self.predictor.predict(files, heat=heat):
            self.failed += prediction.error is not None
            self.good += prediction.error is None
            if prediction.error is None:
                self.drawings.write(prediction, self.predictor, self.screen)
            yield prediction
            update(self.good + self.failed)

    def judge(self) -> None:
        """Says which engine was faster, and how many images failed; exit code 1 where none is
        good."""
        if self.predictor.remark:
            self.screen.say(self.predictor.remark)
        if self.failed:
            total = self.good + self.failed
            self.screen.warn(f"{self.failed:,} of {total:,} images could not be predicted")
            if not self.good and not self.finished:
                raise Exit(1)
