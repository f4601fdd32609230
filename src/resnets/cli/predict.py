"""`resnets predict`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from typer import Argument, Exit, Option

if TYPE_CHECKING:
    from resnets.results import Prediction
    from resnets.runtime import Predictor
    from resnets.runtime.outputs import Output
    from resnets.screen import Screen

LARGE = 2_000_000  # bytes of a table; more takes a second or longer to read


def predict(
    model: Annotated[
        str,
        Argument(help="NAME.onnx (needs no torch), a run folder, a model file, or timm:NAME.TAG."),
    ],
    inputs: Annotated[list[Path], Argument(help="Images and folders.")],
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            help="Table to write: FILE.csv, .jsonl or .parquet. One that is there is continued:"
            " failed and changed images are predicted again. Default: a table in a terminal, CSV"
            " into a pipe.",
        ),
    ] = None,
    probabilities: Annotated[
        bool, Option("--probs", help="Write a column with the probability of every class.")
    ] = False,
    heat: Annotated[
        Path | None, Option(help="Folder for class activation maps, drawn over the images.")
    ] = None,
    engine: Annotated[
        str | None,
        Option(help="Engine for NAME.onnx: onnxruntime or openvino. Default: onnxruntime."),
    ] = None,
    threads: Annotated[
        int | None, Option(min=0, help="Threads for NAME.onnx. Default: 0, all cores.")
    ] = None,
    network: Annotated[
        str | None, Option("--model", "-m", help="Network of a bare state dict, or timm:NAME.")
    ] = None,
    classes: Annotated[
        str | None, Option(help="Classes of a bare state dict: a text file, or imagenet.")
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but warnings.")] = False,
) -> None:
    """Predict the classes of images, with one row for each file."""
    from resnets.loading import check_arguments, load
    from resnets.runtime.folders import count_pictures, find_pictures
    from resnets.runtime.outputs import open_output
    from resnets.screen import Screen

    screen = Screen(quiet)
    check_arguments(model, engine, threads, network, classes)
    _check(output, probabilities, heat)
    count_pictures(inputs)
    predictor = load(model, engine, threads, model=network, classes=classes, screen=screen)
    tally = _Tally(predictor, heat, screen)
    columns = predictor.classes if probabilities else ()
    files = find_pictures(inputs)
    if output is None:
        _print(tally, files, columns)
    else:
        source = {"model": model, "sha256": predictor.sha256}
        _announce(output, screen)
        with open_output(output, files, source, columns) as opened:
            _write(tally, opened, screen)
    tally.judge()


def _check(output: Path | None, probabilities: bool, heat: Path | None) -> None:
    """Refuses what cannot be written, before any work."""
    from resnets.runtime.writers import check_output

    if output is not None:
        check_output(output)
    elif sys.stdout is None:
        raise ValueError("the standard output is closed; name an output: -o FILE.csv")
    elif probabilities and sys.stdout.isatty():
        raise ValueError("--probs is for tables in files: add -o FILE.csv, or leave it out")
    if heat is not None and heat.exists() and not heat.is_dir():
        raise ValueError(f"--heat {heat}: a file, not a folder; name another")


def _announce(output: Path, screen: Screen) -> None:
    """Says that a large table is read, which takes seconds."""
    from resnets.screen import printable

    if output.exists() and output.stat().st_size > LARGE:
        screen.say(f"reading {printable(str(output))}, to continue it")


def _print(tally: _Tally, files: Iterable[str], columns: tuple[str, ...]) -> None:
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
        show_best(next(predictions))
    else:
        show_predictions(predictions, ledger.planned(), tally.predictor.classes)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream that is no file of the system, as in a notebook
        return False


def _write(tally: _Tally, output: Output, screen: Screen) -> None:
    from resnets.screen import printable

    name, ledger = printable(str(output.table.path)), output.ledger
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

    def __init__(self, predictor: Predictor, heat: Path | None, screen: Screen) -> None:
        self.predictor, self.heat, self.screen = predictor, heat, screen
        self.good = self.failed = self.finished = 0

    def predict(
        self, files: Iterator[str], update: Callable[[int], None] = lambda done: None
    ) -> Iterator[Prediction]:
        """Predictions for files; draws their maps."""
        for prediction in self.predictor.predict(files, heat=self.heat is not None):
            self.failed += prediction.error is not None
            self.good += prediction.error is None
            if self.heat is not None and prediction.error is None:
                self._draw(prediction, self.heat)
            yield prediction
            update(self.good + self.failed)

    def judge(self) -> None:
        """Says how many failed; exit code 1 where none is good."""
        if self.failed:
            total = self.good + self.failed
            self.screen.warn(f"{self.failed:,} of {total:,} images could not be predicted")
            if not self.good and not self.finished:
                raise Exit(1)

    def _draw(self, prediction: Prediction, folder: Path) -> None:
        """Writes the map of the predicted class as FILE.heat.jpg."""
        from resnets.evaluation.maps import draw_map
        from resnets.preprocessing import BadImage
        from resnets.screen import printable

        if prediction.heat is None or prediction.index is None:
            raise ValueError(
                f"{self.predictor.name} gives no class activation maps; leave out --heat"
            )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            draw_map(Path(prediction.file), prediction.heat[prediction.index], folder)
        except BadImage as error:  # it was removed or changed a moment ago
            self.screen.warn(f"{printable(prediction.file)}: no map ({error})")
