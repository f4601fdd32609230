"""One image of a data set as its annotator left it: by name, before any class has a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Annotation:
    """One thing that an annotator said of an image.

    Args:
        label: Name of its class.
    """

    label: str

    def to_dict(self) -> dict[str, Any]:
        """What was said, for JSON: fields that say no more than their default are left out."""
        values = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Annotation:
        """What `to_dict` gave, read from JSON.

        Raises:
            ValueError: A field that is missing or unknown, or a label that is no text.
        """
        known = [one.name for one in fields(cls)]
        if not isinstance(values.get("label"), str) or not set(values) <= set(known):
            raise ValueError(f"an annotation has {', '.join(known)}, but not {dict(values)}")
        lists = {name: tuple(one) for name, one in values.items() if isinstance(one, list)}
        return cls(**{**values, **lists})


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
    """

    path: Path
    name: str
    annotations: tuple[Annotation, ...]
    split: str = ""
    group: str = ""

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
