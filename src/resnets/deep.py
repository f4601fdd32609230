"""Images with more than 8 bits a value: which of their values become black and white.

A file of 16 bits may hold 12, one of floats 0 to 1, 0 to 255 or degrees Celsius; its type does not
say. So the values are measured, one range is decided for all of the training data, and it is kept
in `Preprocessing.deep_range`. An image that stands alone is judged by its own values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from resnets.ranges import Range, format_range

TOPS = (1, 255, 1023, 4095, 16383, 65535)  # of floats, and of 8, 10, 12, 14 and 16 bits
USED = 16  # the least part of such a range that its data fill: else it is not theirs
DARK = 64  # an image that fills less than this part of the range keeps under 4 of 256 levels
MANY = 0.1  # part of the images that may be so dark before their ranges are called mixed
DIGITS = 6  # of a value in a message
ROWS = 256  # of an image that are scaled at a time
SAMPLE = 65536  # values of an image that its quantiles are taken from


class NoValues(ValueError):
    """An image without a single finite value."""


@dataclass(frozen=True)
class Levels:
    """What the values of one image are.

    Args:
        low: The smallest finite one.
        high: The largest finite one.
        inner: Between which 96 % of them lie.
        gaps: Whether some are not finite.
    """

    low: float
    high: float
    inner: Range
    gaps: bool = False

    @property
    def span(self) -> float:
        """The largest less the smallest value."""
        return self.high - self.low


def measure(values: np.ndarray) -> Levels:
    """The levels of an image's values.

    Raises:
        NoValues: Not one of them is finite.
    """
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    if not finite.size:
        raise NoValues("not one of its values is a finite number")
    some = finite[:: max(1, finite.size // SAMPLE)]
    inner = np.quantile(some.astype(np.float64), (0.02, 0.98)).tolist()
    return Levels(
        float(finite.min()), float(finite.max()), (inner[0], inner[1]), finite.size < values.size
    )


def judge(levels: Iterable[Levels]) -> Range:
    """The range of some images: the usual one that they fill, else from their smallest to their
    largest value."""
    levels = list(levels)
    low, high = min(one.low for one in levels), max(one.high for one in levels)
    top = next((top for top in TOPS if high <= top), math.inf)
    if low >= 0 and top < math.inf and (low == high or (high - low) * USED > top):
        return 0, top
    return (low, high) if low < high else (low, low + 1)


def decide_range(levels: Sequence[Levels], names: Sequence[str]) -> Range:
    """One range for all images, which is asked for where none is given.

    Args:
        levels: Of each image, at least one.
        names: Of the images, for the message.

    Raises:
        ValueError: All values are equal, the images hold values of different ranges, or a few
            values lie far from all others; with what was measured and the cure.
    """
    low, high = judge(levels)
    least, most = min(one.low for one in levels), max(one.high for one in levels)
    if least == most:
        raise ValueError(
            f"the {len(levels)} images with more than 8 bits hold one value only,"
            f" {_short(least)}: there is nothing to tell apart"
        )
    dark = [place for place, one in enumerate(levels) if 0 < one.span * DARK < high - low]
    if len(dark) > MANY * len(levels):
        first, widest = dark[0], max(range(len(levels)), key=lambda place: levels[place].span)
        cure = format_range(judge([levels[place] for place in dark]), DIGITS)
        raise ValueError(
            f"images with more than 8 bits hold values of different ranges: {len(dark)} of"
            f" {len(levels)} would be nearly of one colour between {_short(low)} and"
            f" {_short(high)}, for instance {names[first]} ({_of(levels[first])}) beside"
            f" {names[widest]} ({_of(levels[widest])}); convert them to one range, or say which"
            f" one counts: --range {cure}"
        )
    spans = [one.inner[1] - one.inner[0] for one in levels]
    if (low, high) == (least, most) and 0 < float(np.median(spans)) * DARK < high - low:
        inner = tuple(np.median([one.inner for one in levels], axis=0).tolist())
        raise ValueError(
            f"images with more than 8 bits hold values from {_short(low)} to {_short(high)}, but"
            f" nearly all of them lie between {_short(inner[0])} and {_short(inner[1])}; say which"
            f" are meant: --range {format_range(inner, DIGITS)}"
        )
    return low, high


def scale(values: np.ndarray, deep_range: Range, value_range: int) -> np.ndarray:
    """Values to whole numbers from 0 to `value_range`, of type uint8 or uint16; what lies outside
    of the range is cut, and what is no number becomes black."""
    low, high = deep_range
    out = np.empty(values.shape, np.uint8 if value_range == 255 else np.uint16)
    for top in range(0, len(values), ROWS):  # not a second image in float64
        part = values[top : top + ROWS].astype(np.float64) - low
        part *= value_range / (high - low)
        np.nan_to_num(part, copy=False, nan=0.0, posinf=value_range, neginf=0.0)
        out[top : top + ROWS] = np.round(np.clip(part, 0, value_range, out=part), out=part)
    return out


def remarks(levels: Levels, wanted: Range | None, value_range: int) -> list[str]:
    """What is to be said of an image that becomes one of 0 to `value_range`, with the range of its
    network, or judged alone."""
    low, high = wanted or judge([levels])
    usual = wanted is not None or (low == 0 and high in TOPS)
    values = (
        f"values {format_range((low, high))}"
        if usual
        else "values from the smallest to the largest"
    )
    notes = [f"{values} scaled to 8 bits"] if value_range == 255 else []
    if levels.gaps:
        notes.append("values that are not finite made black or white")
    if wanted and (levels.low < low or levels.high > high):
        notes.append(f"values outside of {format_range(wanted)}, the range of the model, were cut")
    if wanted and 0 < levels.span * DARK < high - low and levels.high <= high:
        notes.append(f"nearly of one colour in {format_range(wanted)}, the range of the model")
    return notes


def _of(levels: Levels) -> str:
    return f"{_short(levels.low)} to {_short(levels.high)}"


def _short(value: float) -> str:
    return f"{value:.{DIGITS}g}"
