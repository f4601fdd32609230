"""Files and folders to the names of images, one after the other; nothing is opened."""

# ruff: noqa: PTH112 - os.path says no where a path cannot be looked at; Path raises

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from resnets.listing import BELOW, Listing

Inputs = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def find_images(inputs: Inputs, takes: str = "image") -> Listing | Iterator[str]:
    """Names of the images, as they were given and in that order; for `takes` "clip" those of videos
    and folders of frames.

    A folder stands for every image in it and below it, sorted by name; anything else is taken for a
    file. What is there already is listed at once and can be counted. The items of a generator are
    looked at one after the other, as they come.

    Raises:
        ValueError: An input is missing, or a folder cannot be read or holds no image.
    """
    if isinstance(inputs, Listing):
        return inputs
    if isinstance(inputs, (str, os.PathLike)):
        return Listing([str(Path(inputs))], takes)
    names = (str(Path(path)) for path in inputs)
    return Listing(names, takes) if isinstance(inputs, Collection) else _one_by_one(names, takes)


def count_images(inputs: Inputs) -> int:
    """How many images `find_images` will give.

    Raises:
        ValueError: As there.
    """
    return sum(1 for _ in find_images(inputs))


def _one_by_one(names: Iterable[str], takes: str) -> Iterator[str]:
    for name in names:
        if os.path.isdir(name):
            yield from BELOW[takes](name, Counter())
        else:
            yield name
