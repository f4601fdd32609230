"""Where pictures and labels come from: folders, tables, torchvision's data sets. Nothing is copied
or moved.

To add a layout: one function from a place to `Found`, and one line in `find_data`.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from resnets.data.downloads import TORCHVISION_SETS, torchvision_folder
from resnets.imagenet import class_name
from resnets.preprocessing import IMAGE_SUFFIXES
from resnets.settings import nearest

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
TABLES = ("labels.csv", "labels.tsv", "metadata.csv", "metadata.tsv")
FILE_COLUMNS = ("file_name", "filename", "file", "path", "image")
LABEL_COLUMNS = ("label", "class")


@dataclass(frozen=True)
class Sample:
    """One picture: where it lies, what it shows, and to which part it belongs.

    Args:
        path: The file.
        name: The file relative to the data, with forward slashes: how people and tables call it.
        label: Name of its class.
        split: `train`, `val` or `test`; empty until it is decided.
        group: Pictures of one group (a patient, a microscope image) stay on one side of a split;
            empty: a group of its own.
    """

    path: Path
    name: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Found:
    """What lies at a place: how it is laid out, in words, and all its samples, sorted by name."""

    layout: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, from training data alone where the parts are known, sorted."""
        training = [
            sample for sample in self.samples if sample.split in ("", "train")
        ] or self.samples
        return tuple(sorted({sample.label for sample in training}))

    def counts(self) -> dict[str, Counter[str]]:
        """Pictures of each class in each part."""
        counts: dict[str, Counter[str]] = {}
        for sample in self.samples:
            counts.setdefault(sample.split or "all", Counter())[sample.label] += 1
        return counts


def find_data(source: str | Path) -> Found:
    """Looks at a place and says what is there.

    Args:
        source: A folder of class folders, a folder of `train`, `val`, `test` with class folders in
            each, a CSV or TSV file with columns file_name, label and perhaps split and group (or a
            folder with one called labels.csv), or the name of a torchvision data set such as
            `cifar10`, which is then downloaded.

    Raises:
        ValueError: Nothing usable is there; the message says what was looked for.
    """
    path = Path(source)
    if path.is_dir():
        for table in TABLES:
            if (path / table).is_file():
                return _read_table(path / table)
        return _read_folder(path)
    if path.is_file():
        if path.suffix.lower() in (".csv", ".tsv"):
            return _read_table(path)
        raise ValueError(
            f"{path} is a file; data are a folder of class folders, or a .csv or .tsv with"
            " file_name and label"
        )
    if str(source).lower() in TORCHVISION_SETS:
        return _read_folder(torchvision_folder(str(source).lower()))
    if os.sep in str(source) or "." in str(source):
        raise ValueError(f"no such folder or file: {source}")
    raise ValueError(
        f"no such folder, and no data set of that name: {source};"
        f" {nearest(str(source), TORCHVISION_SETS)}"
    )


def sample_folder() -> Path:
    """The blood cells that ship with the package: labels.csv and a folder for each kind."""
    return Path(str(files("resnets"))) / "sample"


def walk(root: Path) -> Iterator[Path]:
    """All files below a folder, sorted, hidden ones left out; links are followed, but no folder is
    entered twice on one way."""
    pending: list[tuple[Path, frozenset[str]]] = [(root, frozenset((os.path.realpath(root),)))]
    while pending:
        here, above = pending.pop()
        entries = sorted(
            (entry for entry in os.scandir(here) if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
        folders = [entry.path for entry in entries if _is_folder(entry)]
        yield from (Path(entry.path) for entry in entries if not _is_folder(entry))
        for folder in reversed(folders):
            real = os.path.realpath(folder)
            if real not in above:
                pending.append((Path(folder), above | {real}))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        Path(entry.path)
        for entry in os.scandir(folder)
        if _is_folder(entry) and not entry.name.startswith(".")
    )


def _label(class_folder: Path) -> str:
    try:
        class_folder.name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{class_folder}: this name is not UTF-8, and classes are written by name into files;"
            " rename it"
        ) from None
    return class_name(class_folder.name)


def _read_folder(root: Path) -> Found:
    folders = _subfolders(root)
    parts = {
        folder: SPLIT_NAMES[folder.name.lower()]
        for folder in folders
        if folder.name.lower() in SPLIT_NAMES
    }
    if "train" in parts.values() or len(parts) == len(folders) > 0:
        split_folders = list(parts.items())
        layout = f"{' | '.join(folder.name for folder in parts)} / CLASS / pictures"
        left = [folder.name for folder in folders if folder not in parts]
        notes = [f"left out, no part of the data: {', '.join(left)}"] if left else []
    else:
        split_folders, layout, notes = [(root, "")], "CLASS / pictures", []
    samples: list[Sample] = []
    for folder, split in split_folders:
        loose = sum(
            path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in folder.iterdir()
        )
        if loose:
            notes.append(f"left out, in no class folder: {loose} of the files in {folder.name}")
        for class_folder in _subfolders(folder):
            label = _label(class_folder)
            found = [
                Sample(path, path.relative_to(root).as_posix(), label, split)
                for path in walk(class_folder)
                if path.suffix.lower()
                in IMAGE_SUFFIXES
                | {".gif"}  # a GIF is listed as unusable by the check, not passed over
            ]
            if not found:
                notes.append(f"no pictures in {class_folder.relative_to(root).as_posix()}")
            samples += found
    if not samples:
        raise ValueError(
            f"no class folder with pictures in {root}: looked for CLASS/*.jpg (or png, webp, bmp,"
            " tif) and train|val|test/CLASS/*; put the pictures of each class into a folder of"
            " its own"
        )
    return Found(layout, tuple(sorted(samples, key=lambda sample: sample.name)), tuple(notes))


def _read_table(path: Path) -> Found:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            columns = [column.strip().lower() for column in next(reader, [])]
            rows = [
                (reader.line_num, dict(zip(columns, cells, strict=False)))
                for cells in reader
                if cells
            ]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save the table as UTF-8") from None
    except csv.Error as error:
        raise ValueError(
            f"{path}: not a table with {'tabs' if path.suffix.lower() == '.tsv' else 'commas'}"
            f" ({error})"
        ) from None
    file_column = next((column for column in FILE_COLUMNS if column in columns), None)
    label_column = next((column for column in LABEL_COLUMNS if column in columns), None)
    if file_column is None or label_column is None:
        raise ValueError(
            f"{path}: columns are {', '.join(columns) or 'missing'}; file_name and label are needed"
            " (split, group may follow)"
        )
    samples = []
    for number, row in rows:
        name, label, split, group = (
            row.get(column, "").strip() for column in (file_column, label_column, "split", "group")
        )
        if not name or not label:
            raise ValueError(
                f"{path}, line {number}: a file name and a label are needed in every line"
            )
        if split and split.lower() not in SPLIT_NAMES:
            raise ValueError(
                f"{path}, line {number}: split {split!r}; {nearest(split.lower(), SPLIT_NAMES)}"
            )
        samples.append(
            Sample(
                path.parent / name,
                name,
                class_name(label),
                SPLIT_NAMES.get(split.lower(), ""),
                group,
            )
        )
    if not samples:
        raise ValueError(f"{path}: the table has no lines below its header")
    if 0 < sum(not sample.split for sample in samples) < len(samples):
        raise ValueError(
            f"{path}: some lines have a split and some have none; give it in all of them, or drop"
            " the column"
        )
    return Found(f"table {path.name}", tuple(sorted(samples, key=lambda sample: sample.name)))
