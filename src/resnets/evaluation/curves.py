"""The curves of a training run: as results.png, and as the same lines for the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnets.evaluation.metrics import heading, title

Rows = Iterable[Mapping[str, float | None]]

LINES = {  # name -> column of results.csv
    "training": "train_{}",
    "validation": "val_{}",
    "validation, averaged weights": "val_{}_ema",
}
MOST_POINTS = 240  # of a line in the report; more cannot be told apart


def panels(rows: Rows) -> dict[str, dict[str, str]]:
    """What was measured over a run, by name, the loss first; of each the lines that there are, and
    their columns in results.csv."""
    known = dict.fromkeys(key for row in rows for key in row)
    numbers = [key.partition("_")[2] for key in known if key.startswith(("train_", "val_"))]
    names = dict.fromkeys(name.removesuffix("_ema") for name in numbers)  # as they come
    ordered = sorted(names, key=lambda name: name != "loss")
    every = {
        name: {line: column.format(name) for line, column in LINES.items()} for name in ordered
    }
    return {
        name: {line: column for line, column in lines.items() if column in known}
        for name, lines in every.items()
    }


def columns(rows: Rows) -> list[tuple[str, str]]:
    """Columns of results.csv, and what a table calls them: `Validation accuracy, averaged
    weights`."""
    found = []
    for name, lines in panels(rows).items():
        for label, column in lines.items():
            first, *more = label.split(",")
            found.append((column, ",".join((f"{first.capitalize()} {title(name)}", *more))))
    return found


def line(rows: Rows, column: str) -> list[tuple[float, float]]:
    """(epoch, value) wherever the column has a finite value."""
    pairs = ((row.get("epoch"), row.get(column)) for row in rows)
    return [
        (x, y)
        for x, y in pairs
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
    ]


def plot_curves(rows: Rows, path: Path) -> None:
    """Draws loss and accuracy over epochs.

    Args:
        rows: Of results.csv; validation columns are None except at the end of an epoch.
        path: A .png file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(rows)
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    found = panels(rows) or {"loss": {}}
    all_axes = np.atleast_1d(figure.subplots(1, len(found)))
    for axes, (name, lines) in zip(all_axes, found.items(), strict=True):
        for (label, column), style in zip(lines.items(), ("-", "--", ":"), strict=False):
            points = line(rows, column)
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    label=label,
                    marker="." if len(points) < 3 else None,
                )
        axes.set(title=heading(name), xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(path)


def plot_search(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    chosen: float,
    path: Path,
) -> None:
    """Draws the loss over the learning rate, and the rate that was chosen.

    Args:
        rates: Of each step, on a logarithmic axis.
        losses: Of each step.
        smoothed: The same, without most of the noise.
        chosen: Among the rates, or near them.
        path: A .png file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.semilogx(rates, losses, ".", alpha=0.4, label="of each step")
    axes.semilogx(rates, smoothed, "-", label="smoothed")
    axes.axvline(chosen, color="black", linestyle="--", label=f"chosen: {chosen:g}")
    # a last step far above the others would leave nothing to be seen of them
    low, high = min(smoothed), max(smoothed[0], min(smoothed))
    span = max(high - low, 0.01 * abs(high)) + 0.01
    axes.set_ylim(low - 0.2 * span, high + 0.6 * span)
    axes.set(title="Learning rate finder", xlabel="learning rate", ylabel="training loss")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, last value and points as SVG writes them ("x,y x,y ...")."""

    name: str
    last: float
    points: str


@dataclass(frozen=True)
class Chart:
    """Geometry of one panel, in the units of its `width` x `height` view; ticks are (position,
    text)."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_title: str = "epoch"
    width: int = 440
    height: int = 250
    left: int = 46
    right: int = 12
    top: int = 10
    bottom: int = 40


def charts(rows: Rows) -> list[Chart]:
    """The panels that have something to show, for the report to draw."""
    rows = list(rows)
    found = []
    for name, named in panels(rows).items():
        lines = {label: points for label, column in named.items() if (points := line(rows, column))}
        if lines:
            found.append(chart(heading(name), lines, percent=name != "loss"))
    return found


def chart(
    name: str,
    lines: Mapping[str, list[tuple[float, float]]],
    percent: bool = False,
    x_title: str = "epoch",
    y_range: tuple[float, float] | None = None,
) -> Chart:
    """The geometry of some lines.

    Args:
        name: Of the panel.
        lines: (x, y) by name; at least one point in all.
        percent: Whether y is a fraction, written as a percentage.
        x_title: What x is.
        y_range: What the axis of y shows at least; by default what there is.
    """
    from matplotlib.ticker import MaxNLocator

    every = [point for points in lines.values() for point in points]
    round_numbers = MaxNLocator(5, steps=[1, 2, 5, 10])
    x_ticks = round_numbers.tick_values(0, max(x for x, _ in every))
    heights = [*(y for _, y in every), *(y_range or ())]
    low, high = min(heights), max(heights)
    if low == high:  # ticks around a single value are so close that they are written alike
        apart = max(0.1 * abs(low), 0.01)
        low, high = low - apart, min(high + apart, 1.0) if percent else high + apart
    y_ticks = round_numbers.tick_values(low, high)
    empty = Chart(name, (), (), ())

    def across(x: float) -> float:
        span = empty.width - empty.left - empty.right
        return round(empty.left + span * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), 1)

    def down(y: float) -> float:
        span = empty.height - empty.top - empty.bottom
        return round(empty.top + span * (y_ticks[-1] - y) / (y_ticks[-1] - y_ticks[0]), 1)

    def drawn(name: str, points: list[tuple[float, float]]) -> Line:
        kept = points[:: math.ceil(len(points) / MOST_POINTS)] + points[-1:]
        return Line(name, points[-1][1], " ".join(f"{across(x)},{down(y)}" for x, y in kept))

    return Chart(
        name,
        tuple(drawn(name, points) for name, points in lines.items()),
        tuple((across(x), f"{x:g}") for x in x_ticks),
        tuple((down(y), f"{100 * y:g} %" if percent else f"{y:g}") for y in y_ticks),
        x_title,
    )
