"""Where images and labels come from: a folder or a file that a reader knows, or one of
torchvision's data sets. Nothing is copied or moved."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from resnets.data.downloads import TORCHVISION_SETS, torchvision_folder
from resnets.data.readers import READERS, Found, Reader, Source
from resnets.data.readers.table import TABLE, tables_in
from resnets.kinds import KINDS
from resnets.listing import NO_SUFFIX, about_left_out, counted, suffix_of
from resnets.settings import nearest

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def find_data(source: str | Path, format: str | None = None, kind: str | None = None) -> Found:
    """Looks at a place and says what is there.

    Args:
        source: A folder of class folders, a folder of `train`, `val`, `test` with class folders in
            each, a CSV or TSV file with columns file_name, label and perhaps split and group (or a
            folder with one called labels.csv), a folder with boxes of Pascal VOC, COCO or YOLO, a
            JSON file of COCO, a data.yaml of YOLO, a table of boxes, a folder of images and masks,
            or the name of a torchvision data set such as `cifar10`, which is then downloaded.
        format: Name of the reader, of `READERS`; by default the one that fits.
        kind: Of task, whose annotations are wanted, of `KINDS`; by default as the data say.

    Raises:
        ValueError: Nothing usable is there, and the message says what was looked for; or it can be
            read in several ways; or the reader has no such annotations.
    """
    for value, name, allowed in ((format, "format", READERS), (kind, "kind", KINDS)):
        if value is not None and value not in allowed:
            raise ValueError(f"no {name} {value!r}; {nearest(value, allowed)}")
    place = Source(_path(source))
    reader = _choose(place, [READERS[format]] if format else list(READERS.values()), kind)
    if kind is not None and kind not in reader.kinds:
        able = [one.expects for one in READERS.values() if kind in one.kinds]
        raise ValueError(
            f"{source}: data in the format {reader.name} give {' or '.join(reader.kinds)}, not"
            f" {kind}; {kind} are read from: {'; '.join(able) or 'no format yet'}"
        )
    return reader.read(place, kind)


def sample_folder(kind: str = "classes") -> Path:
    """The images that ship with the package: satellite images, a folder for each kind of land; for
    `boxes` whole microscope images and boxes.csv."""
    return Path(str(files("resnets"))) / ("sample_boxes" if kind == "boxes" else "sample")


def sample_photos() -> list[Path]:
    """Whole images that ship with the package, all of one size, larger than the input of small
    networks and smaller than that of large ones."""
    return sorted((sample_folder("boxes") / "images").iterdir())


def _path(source: str | Path) -> Path:
    """Where a source lies; a data set of torchvision is downloaded."""
    if not str(source).strip():
        raise ValueError("data is empty; name a folder of class folders, or a table")
    path = Path(source)
    if path.is_dir() or path.is_file():
        return path
    if str(source).lower() in TORCHVISION_SETS:
        return torchvision_folder(str(source).lower())
    if os.sep in str(source) or "." in str(source):
        raise ValueError(f"no such folder or file: {source}")
    raise ValueError(
        f"no such folder, and no data set of that name: {source};"
        f" {nearest(str(source), TORCHVISION_SETS)}"
    )


def _choose(source: Source, readers: Sequence[Reader], kind: str | None) -> Reader:
    """The one reader that fits: the last takes what no other does. Of several, the one that gives
    the kind that is asked for."""
    *others, last = readers
    matching = [reader for reader in others if reader.matches(source)]
    matching = [reader for reader in matching if kind in reader.kinds] or matching
    if kind is None and others:
        matching = [reader for reader in matching if reader.likely(source)]
    if len(matching) > 1:
        names = [reader.name for reader in matching]
        raise ValueError(
            f"{source.path} can be read as {' and as '.join(names)}: choose one with --format"
            f" ({' or '.join(names)})"
        )
    if matching or last.matches(source):
        return (*matching, last)[0]
    if TABLE in readers and tables_in(source):
        return TABLE  # a table was meant, and what it lacks is the reason
    raise ValueError(_about_nothing(source, readers))


def _about_nothing(source: Source, readers: Sequence[Reader]) -> str:
    """What is there instead, and what was looked for."""
    path, chosen = source.path, readers[0].name if len(readers) == 1 else ""
    expected = "; or ".join(reader.expects for reader in reversed(readers))
    if not path.is_dir():
        unpack = "unpack it first; " if path.suffix.lower() in ARCHIVES else ""
        usual = "data are a folder of class folders, or a .csv or .tsv with file_name and label"
        wanted = f"the format {chosen} looks for {expected}" if chosen else usual
        return f"{path} is a file; {unpack}{wanted}"
    images, others, _ = source.contents
    there = about_left_out(Counter(suffix_of(name) or NO_SUFFIX for name in others))
    if chosen:
        fitting = [one.name for one in list(READERS.values())[:-1] if one.matches(source)]
        hint = f"; it can be read as {' or '.join(fitting)}" if fitting else ""
        return f"nothing in the format {chosen} in {path}; looked for {expected}; {there}{hint}"
    if images:
        there = f"{counted(len(images), 'image')} in no class folder"
    return (
        f"no class folder with images in {path}; {there}; looked for {expected}: put the images of"
        " each class into a folder of its own"
    )
