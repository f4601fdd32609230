"""A range of values as text and as two numbers: `0-4095`, `-1000:3000`. Without NumPy, so that help
is there at once."""

from __future__ import annotations

import math
import re

Range = tuple[float, float]
FULL: Range = (0, 65535)
_RANGE = re.compile(
    r"\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*(?:-|:)\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*", re.I
)


def parse_range(text: str) -> Range | None:
    """`0-4095` or `-1000:3000` to its two ends; nothing for `auto`.

    Raises:
        ValueError: It is no range.
    """
    if text == "auto":
        return None
    found = _RANGE.fullmatch(text)
    try:
        low, high = (float(end) for end in found.groups()) if found else (0.0, 0.0)
    except ValueError:  # two points in a number
        low, high = 0.0, 0.0
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(
            f"range is {text!r}; allowed: auto, or the values that become black and white as"
            " LOW-HIGH (0-1, 0-4095, -1000:3000)"
        )
    return low, high


def check_range(value: object) -> None:
    """Refuses what is no range: two finite numbers, the smaller one first."""
    good = (
        isinstance(value, tuple)
        and len(value) == 2
        and all(type(end) in (int, float) and -1e300 < end < 1e300 for end in value)
        and value[0] < value[1]
    )
    if not good:
        raise ValueError(
            f"preprocessing: deep_range is {value!r}; allowed: two finite numbers, the smaller one"
            " first"
        )


def format_range(value: Range, digits: int = 17) -> str:
    """A range as `parse_range` reads it; with all its digits if not told otherwise."""
    low, high = (number(float(f"{end:.{digits}g}")) for end in value)
    return f"{low}{'-' if low.isdigit() else ':'}{high}"


def number(value: float) -> str:
    """A value in as few digits as give it back."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
