"""One image of a data set as its annotator left it: by name, before any class has a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

Span = tuple[float, float]  # begin and end in seconds from the first image of a video


@dataclass(frozen=True, slots=True)
class Annotation:
    """One thing that an annotator said of an image.

    Args:
        label: Name of its class.
        box: Left, top, right, bottom of the thing, in pixels of the upright image from its edge on;
            None where no place was said.
        difficult: Neither right nor wrong to find: a crowd (COCO), hard to see (Pascal VOC).
        value: Of the pixels that show the class in the mask of the image; of a mask in colour, red
            * 65536 + green * 256 + blue.
    """

    label: str
    box: tuple[float, float, float, float] | None = None
    difficult: bool = False
    value: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """What was said, for JSON: fields that say no more than their default are left out."""
        values = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Annotation:
        """What `to_dict` gave, read from JSON.

        Raises:
            ValueError: A field that is missing, unknown or of another type.
        """
        known = [one.name for one in fields(cls)]
        sound = {
            "label": isinstance(values.get("label"), str),
            "box": values.get("box") is None or _is_box(values["box"]),
            "difficult": isinstance(values.get("difficult", False), bool),
            "value": type(values.get("value", 0)) is int,
        }
        if not set(values) <= set(known) or not all(sound.values()):
            raise ValueError(f"an annotation has {', '.join(known)}, but not {dict(values)}")
        lists = {name: tuple(one) for name, one in values.items() if isinstance(one, list)}
        return cls(**{**values, **lists})


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 4
        and all(type(side) in (int, float) and math.isfinite(side) for side in value)
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: where it lies, what was said of it, and to which part of the data it belongs.

    Args:
        path: The file.
        name: The file relative to the data, with forward slashes: how people and tables call it.
        annotations: What it shows; none is a statement too.
        split: `train`, `val` or `test`; empty until it is decided.
        group: Images of one group (a patient, a microscope image) stay on one side of a split;
            empty: a group of its own.
        mask: An image of the same size whose pixels say what each pixel shows, by the values of the
            annotations; any other value is not judged.
        size: Width and height of the upright image as its annotations say, to be compared with the
            file; None where they say nothing.
        span: The window of a video that is meant; None for all of it, and for images.
    """

    path: Path
    name: str
    annotations: tuple[Annotation, ...]
    split: str = ""
    group: str = ""
    mask: Path | None = None
    size: tuple[int, int] | None = None
    span: Span | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of classes, one for each annotation."""
        return tuple(annotation.label for annotation in self.annotations)

    @property
    def unique_labels(self) -> tuple[str, ...]:
        """Names of classes, each once: images are counted, stratified and compared by them."""
        return tuple(dict.fromkeys(self.labels))


def annotate(*labels: str) -> tuple[Annotation, ...]:
    """Annotations that say no more than a label each."""
    return tuple(map(Annotation, labels))


@dataclass(frozen=True)
class Finding:
    """One line of what was found in a data set.

    Args:
        severity: `error`, `warning` or `note`.
        text: What is said to people; nothing is decided by its wording.
        files: Names of the images it is about.
        topic: What it is about, for code to choose by: one of those in `data.findings`, or empty.
    """

    severity: str
    text: str
    files: tuple[str, ...] = ()
    topic: str = ""
