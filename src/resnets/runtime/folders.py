"""Files and folders to the names of pictures, one after the other; nothing is opened."""

# ruff: noqa: PTH110, PTH112 - os.path says no where a path cannot be looked at; Path raises

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from resnets.preprocessing import IMAGE_SUFFIXES

Inputs = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def find_pictures(inputs: Inputs) -> Iterator[str]:
    """Names of the pictures, as they were given and in that order.

    A folder stands for every file in it and below it with a known suffix, sorted by name. Anything
    else is taken for a file.

    Raises:
        ValueError: A folder cannot be read.
    """
    for path in _each(inputs):
        if os.path.isdir(path):
            yield from _walk(path)
        else:
            yield path


def count_pictures(inputs: Inputs) -> int:
    """How many pictures `find_pictures` will give. Walks through the folders, so that mistakes show
    before the work starts.

    Raises:
        ValueError: An input is missing, or a folder cannot be read or holds no picture.
    """
    total = 0
    for path in _each(inputs):
        if not os.path.exists(path):
            raise ValueError(f"{path}: no such file or folder")
        found = sum(1 for _ in find_pictures(path))
        if not found:
            raise ValueError(
                f"{path}: no picture in this folder or below it; known suffixes:"
                f" {' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        total += found
    return total


def _each(inputs: Inputs) -> Iterator[str]:
    alone = isinstance(inputs, (str, os.PathLike))
    return (str(Path(path)) for path in ([inputs] if alone else inputs))  # type: ignore[union-attr, arg-type]


def _walk(folder: str) -> Iterator[str]:
    """Pictures below a folder. Links are followed, but never into a folder that is being walked
    through already."""
    levels: list[Iterator[os.DirEntry[str]]] = []
    above: list[tuple[int, int]] = []

    def enter(folder: str) -> None:
        try:
            status = Path(folder).stat()
            if (identity := (status.st_dev, status.st_ino)) not in above:
                with os.scandir(folder) as entries:
                    levels.append(iter(sorted(entries, key=lambda entry: entry.name)))
                above.append(identity)
        except OSError as error:
            raise ValueError(f"{folder}: this folder cannot be read ({error.strerror})") from None

    enter(folder)
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            above.pop()
        elif _is_folder(entry):
            enter(entry.path)
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
            yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link that leads to itself makes entry.is_dir() raise; os.path.isdir() says no, but asks the
    # disk for every file.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
