"""Predictions as a table for people, in a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.cells import cell_len, set_cell_size

from resnets.kinds.prediction import Cell, Prediction, Share
from resnets.runtime.rows import NUMBER, OF, Columns
from resnets.screen import printable

TOP = 3  # classes that are told of a single image
BELOW = "below its threshold"
SMALLEST = 8  # columns of the screen for a text
_GAP = "  "


def show_predictions(
    predictions: Iterable[Prediction],
    files: Iterable[str],
    columns: Columns,
    classes: Sequence[str],
) -> None:
    """Prints the rows of each prediction, as it comes.

    Args:
        predictions: What `Predictor.predict` gives.
        files: Names of the same files, for the width of their column.
        columns: Of the table.
        classes: Names of all classes, for the width of theirs.
    """
    width, own = shutil.get_terminal_size().columns, _shown(columns)
    widths = _widths(own, classes, width)
    room = max(SMALLEST, width - sum(len(_GAP) + one for one in widths.values()))
    column = _widest(["file", *map(printable, files)], room)
    _line(_left("file", column), *_names(own, widths))
    for prediction in predictions:
        file = _left(_end(printable(prediction.file), column), column)
        if prediction.error:
            _line(file, _start(printable(prediction.error), width - column - len(_GAP)))
            continue
        for row in prediction.rows():
            _line(file, *_cells(row, own, widths, prediction.summary()))


def show_best(prediction: Prediction, columns: Columns) -> None:
    """Prints the most probable classes of one image, and all that it is said to have; or its rows
    where classes have no numbers."""
    width = shutil.get_terminal_size().columns
    _line(_end(printable(prediction.file), width))
    if prediction.error:
        _line(f"  {_start(printable(prediction.error), width - 2)}")
        return
    numbers = prediction.by_class()
    if numbers is None:
        own = _shown(columns)
        widths = _widths(own, prediction.classes, width)
        _line("", *_names(own, widths))
        for row in prediction.rows():
            _line("", *_cells(row, own, widths, prediction.summary()))
        return
    if prediction.remark:
        _line(f"  {printable(prediction.remark)}")
    chosen = prediction.chosen()
    count = TOP if chosen is None else max(TOP, int(chosen.sum()))
    order = np.argsort(-numbers, kind="stable")
    if chosen is not None:
        order = order[np.argsort(~chosen[order], kind="stable")]
    order = order[:count]
    names = [printable(prediction.classes[place]) for place in order]
    labels = _widest(names, width - (12 if chosen is None else 14 + len(BELOW)))
    for place, name in zip(order, names, strict=True):
        share = f"{100 * float(numbers[place]):.1f} %".rjust(7)
        remark = "" if chosen is None or chosen[place] else BELOW
        _line(f"  {_left(_start(name, labels), labels)}", share, remark)
    (row, *_) = prediction.rows()
    for name in prediction.further:
        if (value := row.get(name)) is not None:
            _line(f"  {_left(name, labels)}", f"{100 * float(value):.1f} %".rjust(7))


def _shown(columns: Columns) -> dict[str, type]:
    """The columns that people are shown: without those that count rows."""
    counting = (NUMBER, OF) if OF in columns.own else ()
    return {name: kind for name, kind in columns.own.items() if name not in counting}


def _widths(own: Mapping[str, type], classes: Sequence[str], width: int) -> dict[str, int]:
    """How wide each column is: numbers as their names, texts as the names of classes need, or as
    may be where there are several of them."""
    texts = {name: kind for name, kind in own.items() if issubclass(kind, str)}
    numbers = {name: max(len(name), len("100.0 %")) for name in own if name not in texts}
    left = width - SMALLEST - sum(numbers.values()) - len(_GAP) * len(own)
    limit = min(width // (2 + len(texts)), max(SMALLEST, left // max(1, len(texts))))
    one = _widest(map(printable, classes), limit)
    return {
        name: min(max(len(name), one if kind is str else limit), limit)
        if name in texts
        else numbers[name]
        for name, kind in own.items()
    }


def _names(own: Mapping[str, type], widths: Mapping[str, int]) -> list[str]:
    """The line above, those of numbers on the right like these."""
    return [
        _left(name, widths[name]) if issubclass(kind, str) else name.rjust(widths[name])
        for name, kind in own.items()
    ]


def _cells(
    row: Mapping[str, Cell], own: Mapping[str, type], widths: Mapping[str, int], summary: str
) -> list[str]:
    """The cells of a row, as wide as their columns; the summary where they are empty."""
    if all(row.get(name) is None for name in own):
        return [printable(summary)]
    cells = []
    for name, kind in own.items():
        value, width = row.get(name), widths[name]
        if isinstance(value, float):
            shown = f"{100 * value:.1f} %" if kind is Share else f"{value:.1f}"
            cells.append(shown.rjust(width))
        elif isinstance(value, int):
            cells.append(str(value).rjust(width))
        else:
            text = "" if value is None else printable(str(value))
            cells.append(_left(_start(text, width), width))
    return cells


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
