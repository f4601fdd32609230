"""One image of a data set as its annotator left it: by name, before any class has a number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Annotation:
    """One thing that an annotator said of an image.

    Args:
        label: Name of its class.
    """

    label: str


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
        """Names of classes, one for each annotation: what is counted, stratified and checked."""
        return tuple(annotation.label for annotation in self.annotations)


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
        topic: What it is about, for code to choose by: `unusable`, `pairs` or another of
            `data.findings`.
    """

    severity: str
    text: str
    files: tuple[str, ...] = ()
    topic: str = ""
