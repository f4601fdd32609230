"""Predictions as a table for people, in a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size

from resnets.kinds.classes import ClassPrediction
from resnets.screen import printable

TOP = 3  # classes that are told of a single image
_PROBABILITY = len("probability")
_GAP = "  "


def show_predictions(
    predictions: Iterable[ClassPrediction], files: Iterable[str], classes: Sequence[str]
) -> None:
    """Prints a line for each prediction, as it comes; the best classes of a single image.

    Args:
        predictions: What `Predictor.predict` gives.
        files: Names of the same files, for the width of their column.
        classes: Names of all classes, for the width of theirs.
    """
    names = [printable(name) for name in classes]
    width = shutil.get_terminal_size().columns
    labels = min(_widest(["label", *names], width), width // 3)
    room = max(8, width - labels - _PROBABILITY - 2 * len(_GAP))
    column = _widest(["file", *map(printable, files)], room)
    _line(_left("file", column), _left("label", labels), "probability")
    for prediction in predictions:
        file = _left(_end(printable(prediction.file), column), column)
        if prediction.error:
            _line(file, _start(printable(prediction.error), width - column - len(_GAP)))
        for label, probability in prediction.top(1):
            shown = _left(_start(printable(label), labels), labels)
            _line(file, shown, f"{100 * probability:.1f} %".rjust(_PROBABILITY))


def show_best(prediction: ClassPrediction) -> None:
    """Prints the most probable classes of one image."""
    width = shutil.get_terminal_size().columns
    _line(_end(printable(prediction.file), width))
    if prediction.error:
        _line(f"  {_start(printable(prediction.error), width - 2)}")
    best = [(printable(label), value) for label, value in prediction.top(TOP)]
    labels = _widest([label for label, _ in best], width - 12)
    for label, probability in best:
        shown = _left(_start(label, labels), labels)
        _line(f"  {shown}", f"{100 * probability:.1f} %".rjust(7))


def _line(*cells: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"  # a terminal may lack the letters of a name
    text = _GAP.join(cells).rstrip().encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _widest(texts: Iterable[str], limit: int) -> int:
    widest = 0
    for text in texts:
        widest = max(widest, cell_len(text))
        if widest >= limit:
            return limit
    return widest


def _left(text: str, width: int) -> str:
    return set_cell_size(text, width)


def _start(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…"


def _end(text: str, width: int) -> str:
    """The end of a name, where files of one folder differ."""
    if cell_len(text) <= width:
        return text
    while cell_len(text) >= width:
        text = text[1 + max(0, (cell_len(text) - width) // 2) :]
    return "…" + text
