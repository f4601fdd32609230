"""The prediction for one image, whatever the task. Ground truth is of the same type, so that
metrics and drawings know one type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from PIL import Image

from resnets.kinds.sample import Span
from resnets.kinds.view import View

Outputs = Mapping[str, np.ndarray]  # of a network, by name; the first dimension counts the images
Cell = str | float | None
UNFAMILIAR = 0.05  # share of the held-out images that are less familiar than an image has to be


class Share(float):
    """The type of a column of numbers from 0 to 1, which people are shown as percentages."""


class Several(str):
    """The type of a column of texts for any number of classes: longer than the name of one."""


@dataclass(frozen=True, eq=False, repr=False)  # arrays do not compare to one truth
class Prediction:
    """The prediction for one image, or the reason why there is none. Each kind of task adds its own
    fields.

    Args:
        file: The image, as it was named.
        classes: Names of the classes, in the order of the outputs.
        error: Why there is no prediction.
        notes: What was done to read the image ("turned upright (EXIF)").
    """

    # of a table, between `file` and `error`: str, Several, int, float or Share
    columns: ClassVar[Mapping[str, type]] = {}
    # of tables of those files whose graph has outputs of these names
    further: ClassVar[Mapping[str, type]] = {}
    # of `to_dict`, where these are others than the columns: an image may have several rows
    keys: ClassVar[tuple[str, ...]] = ()
    # whether it says where in the image something is, so that people want to see it drawn
    has_places: ClassVar[bool] = False

    file: str
    classes: tuple[str, ...]
    error: str | None = field(default=None, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def __repr__(self) -> str:
        text = f"error={self.error!r}" if self.error else self.summary()
        return f"{type(self).__name__}({self.file!r}, {text})"

    def summary(self) -> str:
        """The prediction as a short text."""
        raise NotImplementedError

    @property
    def remark(self) -> str:
        """What is said of the image before anything else; mostly nothing."""
        return ""

    def rows(self) -> list[dict[str, Cell]]:
        """Cells of a table under the names of `columns`, and of `further` where there is something
        to say: at least one row, also of an error."""
        raise NotImplementedError

    def by_class(self) -> np.ndarray | None:
        """(classes,) float32, a number for each class, where the task has one for a whole image;
        None where it has none, or after an error."""
        return None

    def chosen(self) -> np.ndarray | None:
        """(classes,) bool, which classes an image is said to have, where it may have several; None
        where it is the one with the highest number, or after an error."""
        return None

    def heat_map(self) -> np.ndarray | None:
        """(h, w) where in the input the main class was seen; None where that is not known."""
        return None

    def judged_by_familiarity(self) -> Self:
        """Without a class, where the image is less familiar than nearly all of the held-out ones;
        itself, where nothing says how familiar it is."""
        return self

    def seen(self, view: View) -> Self:
        """What is said of the part of the image that a view shows, with places in pixels of its
        input; itself, where nothing is said of places."""
        return self

    def drawn(self, image: Image.Image) -> Image.Image:
        """The prediction drawn on its image, upright and RGB, which is not changed. Places are
        those in this image: of one that was scaled, draw what is `seen` of it."""
        return image

    def at(self, second: float) -> Self:
        """What is said of one moment of a video; itself, where nothing is said of moments."""
        return self

    def indexed(self) -> Image.Image | None:
        """An image of the size of its own, whose pixels are positions among the classes; None
        where the kind has none, or after an error."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """The prediction as one JSON object, between `file` and `error`: what is under `keys`."""
        raise NotImplementedError

    @classmethod
    def joined(cls, parts: Sequence[Self], spans: Sequence[Span]) -> Self:
        """The prediction for a video from those for its windows, which begin and end at these
        seconds; of kinds that take clips."""
        raise NotImplementedError

    def light(self) -> Self:
        """What is kept of it where there are many: itself without what is large."""
        return self

    if TYPE_CHECKING:
        # A network of any task may be loaded: type checkers let the fields of its kind pass.
        def __getattr__(self, name: str) -> Any: ...
