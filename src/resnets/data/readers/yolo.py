"""YOLO: a text file for each image, with a line for each box: the number of its class, and centre
and size as shares of the image. Names of the classes lie in data.yaml or classes.txt."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from resnets.data.readers.lookup import PEEK, about_images, finish, read_text, split_of_file
from resnets.data.readers.naming import NAMED
from resnets.data.readers.reader import Found, Reader, Source
from resnets.data.readers.yolo_files import About, described_by, is_description, root_of
from resnets.images import BadImage, reading, upright_size
from resnets.kinds.sample import Annotation, Sample
from resnets.listing import counted
from resnets.settings import listed

FARTHEST = 2.0  # shares of the image: what is larger was meant in pixels
Size = tuple[int, int]


class Lines(NamedTuple):
    """The lines of one file: number of the class, and left, top, right, bottom as shares of the
    image; and whether some were polygons."""

    boxes: list[tuple[int, tuple[float, float, float, float]]]
    polygons: int


def matches(source: Source) -> bool:
    """Whether images have a text file each, and the first of them have numbers in it; or a file is
    a data.yaml."""
    if not source.path.is_dir():
        return is_description(source.path)
    with_text = [text for _, text in _pairs(source)]
    return any(_looks_right(source.path / name) for name in with_text[:PEEK])


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; an image with an empty file, or without one beside others that have one, shows
    none. Only the size of images is read.

    Raises:
        ValueError: A file cannot be read, or a line of it.
    """
    description = None if source.path.is_dir() else source.path
    source = Source(root_of(source.path))
    about = described_by(source, description)
    text_of = dict(_pairs(source))
    folders = {PurePosixPath(image).parent for image in text_of}
    inside = [one for one in source.contents.images if PurePosixPath(one).parent in folders]
    lines = {image: _lines(source.path / text, about.names) for image, text in text_of.items()}
    sizes = _sizes(source, [image for image in inside if image in lines and lines[image].boxes])
    samples = [
        Sample(
            source.path / image,
            image,
            _annotations(lines[image], sizes.get(image), about.names) if image in lines else (),
            about.parts.get(image, "") if about.parts else split_of_file(image),
        )
        for image in inside
    ]
    lost, silent = _lost(source, text_of, about), [one for one in inside if one not in lines]
    notes = list(about.notes)
    if silent:
        count = counted(len(silent), "image")
        notes.append(f"{count} without a text file: no object in them ({listed(silent, NAMED)})")
    if polygons := sum(one.polygons for one in lines.values()):
        notes.append(f"{counted(polygons, 'polygon')} read as the box around each")
    found = Found(
        layout=f"YOLO: {counted(len(text_of), 'text file')}",
        samples=tuple(samples),
        kind="boxes",
        reader=YOLO.name,
        notes=tuple(notes),
        findings=tuple(about_images("warning", lost, "text files without an image, left out")),
    )
    return finish(found, source, {*text_of.values(), *lost, *about.files})


def _pairs(source: Source) -> list[tuple[str, str]]:
    """Images and their text files: in the same place below `labels` in place of `images`, or beside
    them."""
    texts = {one for one in source.contents.others if one.endswith(".txt")}
    pairs = []
    for image in source.contents.images if texts else ():
        path = PurePosixPath(image).with_suffix(".txt")
        parts = list(path.parts)
        if "images" in parts[:-1]:  # the last one, as ultralytics does
            parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        text = next((one for one in ("/".join(parts), str(path)) if one in texts), None)
        if text:
            pairs.append((image, text))
    return pairs


def _looks_right(path: Path) -> bool:
    """Whether the first line is a number of a class and others: captions may lie there too."""
    words = read_text(path, 4096).partition("\n")[0].split()
    try:
        return len(words) > 3 and float(words[0]) == int(float(words[0])) and bool(_floats(words))
    except (ValueError, OverflowError):
        return False


def _floats(words: Sequence[str]) -> list[float]:
    return [float(word) for word in words]


def _lines(path: Path, names: Sequence[str] | None) -> Lines:
    boxes, polygons = list[tuple[int, tuple[float, float, float, float]]](), 0
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not (words := line.split()):
            continue
        where = f"{path}, line {number}"
        try:
            numbers = _floats(words)
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)) or numbers[0] != int(numbers[0]):
            raise ValueError(f"{where}: {line.strip()!r}; {SHAPE}")
        if len(numbers) != 5 and (len(numbers) < 7 or len(numbers) % 2 == 0):
            more = "; a sixth number is a score: a prediction, no annotation"
            raise ValueError(
                f"{where}: {len(numbers)} numbers; {SHAPE}{more if len(numbers) == 6 else ''}"
            )
        if max(map(abs, numbers[1:])) > FARTHEST:
            raise ValueError(
                f"{where}: {max(numbers[1:], key=abs):g} is far outside the image; centre and size"
                " are shares of its width and height, 0 to 1: divide pixels by them"
            )
        label = int(numbers[0])
        if label < 0 or (names is not None and label >= len(names)):
            known = f"there are {len(names)} names, for 0 to {len(names) - 1}" if names else ""
            raise ValueError(f"{where}: class {label}; {known or 'numbers begin at 0'}")
        boxes.append((label, _edges(numbers[1:])))
        polygons += len(numbers) > 5
    return Lines(boxes, polygons)


SHAPE = "a box is: number of its class, x and y of its centre, width, height"


def _edges(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a box, or around a polygon."""
    if len(numbers) > 4:
        xs, ys = numbers[::2], numbers[1::2]
        return min(xs), min(ys), max(xs), max(ys)
    x, y, width, height = numbers
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _sizes(source: Source, images: Sequence[str]) -> dict[str, Size | None]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(
            zip(images, pool.map(_size, (source.path / one for one in images)), strict=True)
        )


def _size(path: Path) -> Size | None:
    """Width and height of an upright image; None where it cannot be read, which the check of the
    data tells."""
    try:
        with reading(path) as image:
            return upright_size(image)
    except BadImage:
        return None


def _annotations(
    lines: Lines, size: Size | None, names: Sequence[str] | None
) -> tuple[Annotation, ...]:
    """The boxes of an image in its pixels; without a place where its size is not known."""
    annotations = []
    for label, (left, top, right, bottom) in lines.boxes:
        name = names[label] if names else str(label)
        if size is None:
            annotations.append(Annotation(name))
            continue
        width, height = size
        box = (left * width, top * height, right * width, bottom * height)
        annotations.append(Annotation(name, box))
    return tuple(annotations)


def _lost(source: Source, text_of: Mapping[str, str], about: About) -> list[str]:
    """Text files beside those of images that belong to none."""
    used = {*text_of.values(), *about.files}
    folders = {PurePosixPath(one).parent for one in text_of.values()}
    return [
        one
        for one in source.contents.others
        if one.endswith(".txt") and one not in used and PurePosixPath(one).parent in folders
    ]


YOLO = Reader(
    name="yolo",
    kinds=("boxes",),
    expects="labels/*.txt of YOLO beside images, with data.yaml or classes.txt",
    matches=matches,
    read=read,
)
