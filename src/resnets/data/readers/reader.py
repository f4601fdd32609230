"""What a reader is, what it is given, and what it gives."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from resnets.kinds.sample import Finding, Sample
from resnets.listing import is_image, walk


class Contents(NamedTuple):
    """Everything below a folder, by names relative to it, with forward slashes, in the order of the
    walk."""

    images: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # files that are not read as images
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A folder, or a file that describes data. The folder is walked through once at most, however
    many readers look at it.

    Args:
        path: Where it is.
    """

    path: Path

    @cached_property
    def contents(self) -> Contents:
        """What is below the folder; nothing below a file.

        Raises:
            ValueError: A folder cannot be read.
        """
        if not self.path.is_dir():
            return Contents()
        begin, folders = len(os.path.join(self.path, "")), list[str]()  # noqa: PTH118
        images, others = list[str](), list[str]()
        for file in walk(str(self.path), folders):
            (images if is_image(file) else others).append(file[begin:].replace(os.sep, "/"))
        below = (folder[begin:].replace(os.sep, "/") for folder in folders[1:])
        return Contents(tuple(images), tuple(others), tuple(below))


@dataclass(frozen=True)
class Found:
    """What a reader found.

    Args:
        layout: How it is laid out, as text for people.
        samples: All of them, sorted by name.
        kind: Name of the kind of task that their annotations are for, of `KINDS`.
        reader: Name of the reader, of `READERS`.
        notes: What is to be said of how they were found.
        left_out: Files that are not read as images, by suffix.
        findings: What is to be said of single files, or is more than a note.
    """

    layout: str
    samples: tuple[Sample, ...]
    kind: str
    reader: str
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, from training data alone where the parts are known, sorted."""
        training = [
            sample for sample in self.samples if sample.split in ("", "train")
        ] or self.samples
        return tuple(sorted({label for sample in training for label in sample.labels}))

    def counts(self) -> dict[str, Counter[str]]:
        """Images with each class in each part."""
        counts: dict[str, Counter[str]] = {}
        for sample in self.samples:
            counts.setdefault(sample.split or "all", Counter()).update(sample.unique_labels)
        return counts


@dataclass(frozen=True)
class Reader:
    """What reads one layout of data.

    Args:
        name: Of its module, and for `--format`.
        kinds: Of task, whose annotations it can give.
        expects: What it looks for, as text: "CLASS/*.jpg".
        matches: Whether a source is laid out so, from names alone, and the header of a table.
        read: A source to its samples, of the kind that is asked for; None: as the data say.
            ValueError where they cannot be read.
        likely: Whether images that are looked at speak for it, where nobody has asked for it.
    """

    name: str
    kinds: tuple[str, ...]
    expects: str
    matches: Callable[[Source], bool]
    read: Callable[[Source, str | None], Found]
    likely: Callable[[Source], bool] = lambda _: True
