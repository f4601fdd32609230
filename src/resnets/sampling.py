"""Which images of a video are one input of a network: a clip, images at evenly spaced times of a
window."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnets.kinds.sample import Span

MOST_FRAMES = 1024
SLACK = 0.25  # of a window: so much longer a video may be and still be one window


@dataclass(frozen=True)
class Sampling:
    """Which images of a video are one input.

    Args:
        frames: Images of a clip, at evenly spaced times.
        seconds: Length of the window that they are from; all of a shorter video.
    """

    frames: int
    seconds: float

    def __post_init__(self) -> None:
        whole = type(self.frames) is int and 1 <= self.frames <= MOST_FRAMES
        if not whole or type(self.seconds) not in (int, float) or not 0 < self.seconds < 1e6:
            raise ValueError(
                f"sampling: {self.frames!r:.20} frames of {self.seconds!r:.20} seconds; allowed: 1"
                f" to {MOST_FRAMES} frames, and a number of seconds above 0"
            )

    @classmethod
    def from_dict(cls, values: Any) -> Sampling | None:
        """The value again from `to_dict`; None from None, where single images are the input.

        Raises:
            ValueError: It is not what `to_dict` gives.
        """
        if values is None:
            return None
        if not isinstance(values, dict) or set(values) != {"frames", "seconds"}:
            raise ValueError(f"sampling is {values!r:.80}; wanted frames and seconds")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        return dataclasses.asdict(self)

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.frames} images of {self.seconds:.3g} s"

    def times(self, span: Span) -> np.ndarray:
        """(frames,) seconds: the middles of equal parts of a span, so that a clip played backwards
        has the same images in the other order."""
        begin, end = span
        return begin + (np.arange(self.frames) + 0.5) / self.frames * (end - begin)

    def windows(self, length: float, step: float = 1.0, most: int | None = None) -> list[Span]:
        """Spans that together cover a video, evenly spaced.

        Args:
            length: Of the video, in seconds.
            step: From one to the next at most, as a part of a window.
            most: How many are taken, spread over all of them.
        """
        size = min(length, self.seconds)
        rest = max(0.0, length - size)
        count = 1 + max(0, math.ceil((rest / size - SLACK) / step)) if rest else 1
        begins = np.linspace(0, rest, count) if count > 1 else np.array([rest / 2])
        if most is not None and count > most:
            begins = begins[np.linspace(0, count - 1, most).round().astype(int)]
        return [(float(begin), float(begin + size)) for begin in begins]


def read_sampling(values: Any, takes: str) -> Sampling | None:
    """What a file says of it.

    Args:
        values: Of `to_dict`, or None.
        takes: What its kind of prediction is made of: a `clip` needs a sampling, an `image` has
            none.

    Raises:
        ValueError: It does not fit.
    """
    if (values is None) != (takes == "image"):
        raise ValueError(f"sampling is {values!r:.60}; wanted for {takes}: frames and seconds")
    return Sampling.from_dict(values)
