"""What lies beside the boxes of YOLO: names of the classes, and which images are for what."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from resnets.data.readers.lookup import read_text
from resnets.data.readers.naming import SPLIT_NAMES
from resnets.data.readers.reader import Source
from resnets.settings import read_yaml

NAME_FILES = ("classes.txt", "obj.names")


class About(NamedTuple):
    """What is known of a data set.

    Args:
        names: Of the classes, in their order; None where they have none.
        parts: Of the data, of images by their names; empty where nothing says so.
        files: That were read.
        notes: What is to be said.
    """

    names: tuple[str, ...] | None
    parts: dict[str, str]
    files: frozenset[str]
    notes: tuple[str, ...] = ()


def is_description(path: Path) -> bool:
    """Whether a file is a data.yaml."""
    text = read_text(path, 1 << 16) if _is_yaml(path.name) else ""
    return any(line.startswith("names:") for line in text.splitlines())


def root_of(path: Path) -> Path:
    """The folder of a data set, which is given as such, or as a data.yaml that may name it."""
    if path.is_dir():
        return path
    named = read_yaml(path, as_text=True).get("path") or "."
    return next(one for one in (path.parent / str(named), path.parent) if one.is_dir())


def described_by(source: Source, description: Path | None = None) -> About:
    """The names of the classes and the parts, as far as they are said.

    Args:
        source: The folder of the data set.
        description: A data.yaml that was asked for; by default the one in the folder.

    Raises:
        ValueError: A file cannot be read, names are missing, or files contradict one another.
    """
    yamls = (
        [description]
        if description
        else [
            source.path / one
            for one in source.contents.others
            if _is_yaml(one) and "/" not in one and is_description(source.path / one)
        ]
    )
    if len(yamls) > 1:
        raise ValueError(
            f"{source.path} has {yamls[0].name} and {yamls[1].name}: name the one that is meant in"
            " place of the folder"
        )
    lists = {one for one in source.contents.others if _is_list(source.path / one)}
    if yamls:
        values = read_yaml(yamls[0], as_text=True)
        parts, notes = _parts(source, yamls[0], values)
        own = {os.path.relpath(yamls[0], source.path).replace(os.sep, "/")}
        return About(_names(yamls[0], values), parts, frozenset(own | lists), notes)
    files = [one for one in source.contents.others if PurePosixPath(one).name in NAME_FILES]
    named = {one: tuple(read_text(source.path / one).split("\n")) for one in files}
    named = {one: tuple(filter(None, map(str.strip, lines))) for one, lines in named.items()}
    if len(set(named.values())) > 1:
        raise ValueError(
            f"{source.path}: {' and '.join(files)} give different names; remove all but one"
        )
    parts = dict[str, str]()
    for one in sorted(lists):
        part = SPLIT_NAMES[PurePosixPath(one).stem.lower()]
        _add(parts, _listed_in(source, source.path / one), part, source.path / one)
    note = "classes have numbers and no names: write them into classes.txt, a line each"
    names = next(iter(named.values()), None) or None
    return About(names, parts, frozenset({*files, *lists}), () if names else (note,))


def _is_yaml(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _is_list(path: Path) -> bool:
    """Whether a file is called as a part and lists images."""
    if path.suffix != ".txt" or path.stem.lower() not in SPLIT_NAMES:
        return False
    first = read_text(path, 4096).partition("\n")[0].strip()
    return bool(first) and not first[0].isdigit()


def _names(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a data.yaml: a list, or a mapping of their numbers."""
    names = values.get("names")
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        names = [names.get(number) for number in numbers]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(
            f"{path}: names are a list of texts, or a mapping of 0, 1, 2, ... to texts; without a"
            " gap"
        )
    return tuple(names)


def _parts(
    source: Source, path: Path, values: Mapping[str, Any]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The parts of a data.yaml: folders, or files that list images."""
    parts, notes = dict[str, str](), list[str]()
    for key in ("train", "val", "valid", "test"):
        entries = values.get(key) or ()
        for entry in [entries] if isinstance(entries, str) else entries:
            place = _place(source, path, str(values.get("path") or "."), str(entry))
            if place is None:
                notes.append(f"{path.name}: {key} is {entry}, which is not there")
                continue
            images = _listed_in(source, place) if place.is_file() else _below(source, place)
            if not images:
                notes.append(f"{path.name}: {key} is {entry}, where no image of the data lies")
            _add(parts, images, SPLIT_NAMES[key], path)
    return parts, tuple(notes)


def _place(source: Source, path: Path, named: str, entry: str) -> Path | None:
    """Where an entry lies. Roboflow writes ../train/images and means train/images."""
    inner = entry.replace("\\", "/")
    while inner.startswith("../"):
        inner = inner[3:]
    roots = (source.path, path.parent / named, path.parent)
    candidates = (root / one for one in (inner, entry) for root in roots)
    return next((one for one in candidates if one.exists()), None)


def _below(source: Source, folder: Path) -> list[str]:
    inner = os.path.relpath(folder, source.path).replace(os.sep, "/")
    return [one for one in source.contents.images if inner == "." or one.startswith(f"{inner}/")]


def _listed_in(source: Source, path: Path) -> list[str]:
    """The images that a file lists, by the end of their paths."""
    ends = dict[str, list[str]]()
    for image in source.contents.images:
        ends.setdefault(PurePosixPath(image).name, []).append(image)
    found = []
    for line in read_text(path).splitlines():
        called = PurePosixPath(line.strip().replace("\\", "/"))
        inner = "/".join(part for part in called.parts if part not in ("/", ".", ".."))
        own = ends.get(called.name, [])
        found += [one for one in own if one == inner or f"/{inner}".endswith(f"/{one}")]
    return found


def _add(parts: dict[str, str], images: list[str], part: str, path: Path) -> None:
    for image in images:
        if parts.setdefault(image, part) != part:
            raise ValueError(
                f"{path}: {image} is in {parts[image]} and in {part}; an image measures nothing"
                " that it was trained on: leave it in one"
            )
