"""Where images and labels come from: folders, tables, torchvision's data sets. Nothing is copied
or moved.

To add a layout: one function from a place to `Found`, and one line in `find_data`.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from resnets.data.downloads import TORCHVISION_SETS, torchvision_folder
from resnets.data.tables import Names, Row, is_label_table, read_rows
from resnets.imagenet import class_name
from resnets.kinds.sample import Sample, annotate
from resnets.listing import NO_SUFFIX, about_left_out, counted, is_image, suffix_of, walk
from resnets.settings import nearest

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
TABLES = ("labels.csv", "labels.tsv", "metadata.csv", "metadata.tsv")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
BESIDE = 0.1  # images beside a folder `train`, as a part of those in it, that are no trifle


@dataclass(frozen=True)
class Found:
    """What lies at a place.

    Args:
        layout: How it is laid out, in words.
        samples: All of them, sorted by name.
        notes: What is to be said of how they were found.
        left_out: Files that are not read as images, by suffix.
    """

    layout: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, from training data alone where the parts are known, sorted."""
        training = [
            sample for sample in self.samples if sample.split in ("", "train")
        ] or self.samples
        return tuple(sorted({label for sample in training for label in sample.labels}))

    def counts(self) -> dict[str, Counter[str]]:
        """Images of each class in each part."""
        counts: dict[str, Counter[str]] = {}
        for sample in self.samples:
            counts.setdefault(sample.split or "all", Counter()).update(sample.labels)
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
    if not str(source).strip():
        raise ValueError("data is empty; name a folder of class folders, or a table")
    path = Path(source)
    if path.is_dir():
        return _read_place(path)
    if path.is_file():
        if path.suffix.lower() in (".csv", ".tsv"):
            return _read_table(path)
        unpack = "unpack it first; " if path.suffix.lower() in ARCHIVES else ""
        raise ValueError(
            f"{path} is a file; {unpack}data are a folder of class folders, or a .csv or .tsv with"
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


def _read_place(folder: Path) -> Found:
    """A folder: its table of labels where it has one, else its class folders."""
    others = []
    for table in TABLES:
        if (folder / table).is_file():
            if is_label_table(folder / table):
                return _read_table(folder / table)
            others.append(table)
    try:
        found = _read_folder(folder)
    except ValueError:
        if others:  # then the table was meant, and what it lacks is the reason
            return _read_table(folder / others[0])
        raise
    notes = [f"{table} is not used: it has no columns file_name and label" for table in others]
    return replace(found, notes=(*found.notes, *notes))


def _label(name: str, where: Path) -> str:
    """The class that a name stands for: ImageNet's ids by their names, letters in one form of
    Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{where}: this name is not UTF-8, and classes are written by name into files; rename"
            " it"
        ) from None
    return unicodedata.normalize("NFC", class_name(name))


def _labels(names: Iterable[str], where: Path) -> tuple[dict[str, str], list[str]]:
    """The class of each name, and a note where several names are one class."""
    labels = {name: _label(name, where / name) for name in sorted(set(names))}
    spellings = Counter(labels.values())
    joined = [label for label, count in spellings.items() if count > 1]
    notes = [f"read as one class, though its name is written in several ways: {_some(joined)}"]
    return labels, notes if joined else []


def _parts(images: Sequence[list[str]], root: Path) -> dict[str, str]:
    """The folders that are parts of the data, and which; none where folders are classes.

    A class may be called `train` as well. A part holds its images in class folders, a class mostly
    by itself.

    Raises:
        ValueError: It may be either.
    """
    direct = Counter(parts[0] for parts in images if len(parts) == 2)
    nested = Counter(parts[0] for parts in images if len(parts) > 2)
    folders = sorted({*direct, *nested})
    named = {
        folder: SPLIT_NAMES[folder.lower()] for folder in folders if folder.lower() in SPLIT_NAMES
    }
    others = [folder for folder in folders if folder not in named]
    real = {part: folder for folder, part in named.items() if nested[folder] > direct[folder]}
    if not others or len(real) > 1:
        return named
    if "train" not in real:
        return {}
    train = real["train"]
    if sum(direct[other] + nested[other] for other in others) > BESIDE * nested[train]:
        raise ValueError(
            f"{root}: {train} holds folders with images, and so do {_some(others)} beside it. If"
            f" {train} is a part of the data, move the others elsewhere; if it is a class, give"
            f" its folder another name ({train}_class)"
        )
    return named


def _read_folder(root: Path) -> Found:
    begin, folders = len(str(root / "_")) - 1, list[str]()
    images: list[list[str]] = []
    others: list[list[str]] = []
    for file in walk(str(root), folders):
        (images if is_image(file) else others).append(Path(file).as_posix()[begin:].split("/"))
    parts = _parts(images, root)
    depth = 2 if parts else 1  # folders above an image, the last one its class
    inside = [one for one in images if len(one) > depth and (not parts or one[0] in parts)]
    if not inside:
        raise ValueError(_no_classes(root, images, others))
    labels, notes = _labels((one[depth - 1] for one in inside), root)
    samples = [
        Sample(
            root / "/".join(one),
            "/".join(one),
            annotate(labels[one[depth - 1]]),
            parts.get(one[0], ""),
        )
        for one in inside
    ]
    beside = sorted({one[0] for one in images if parts and len(one) > 1 and one[0] not in parts})
    loose = Counter(one[0] if len(one) == 2 else "" for one in images if len(one) <= depth)
    notes += [f"left out, not part of the data: {_some(beside)}"] if beside else []
    notes += [
        f"left out, in no class folder: {counted(count, 'image')} in {folder or root.name}"
        for folder, count in sorted(loose.items())
        if folder not in beside
    ]
    full = {tuple(one[:depth]) for one in inside}
    entered = (tuple(Path(folder).as_posix()[begin:].split("/")) for folder in folders[1:])
    notes += [
        f"no images in {'/'.join(folder)}"
        for folder in sorted(entered)
        if len(folder) == depth and folder not in full and (not parts or folder[0] in parts)
    ]
    left_out = Counter(
        suffix_of(one[-1]) or NO_SUFFIX
        for one in others
        if one[0] not in beside and one[0] not in TABLES
    )
    layout = f"{' | '.join(parts)} / CLASS / images" if parts else "CLASS / images"
    ordered = tuple(sorted(samples, key=lambda sample: sample.name))
    return Found(layout, ordered, tuple(notes), left_out)


def _no_classes(root: Path, images: Sequence[list[str]], others: Sequence[list[str]]) -> str:
    there = about_left_out(Counter(suffix_of(one[-1]) or NO_SUFFIX for one in others))
    if images:
        there = f"{counted(len(images), 'image')} in no class folder"
    return (
        f"no class folder with images in {root}; {there}; looked for CLASS/*.jpg (or png, webp,"
        " avif, bmp, tif) and train|val|test/CLASS/*: put the images of each class into a folder"
        " of its own"
    )


def _read_table(path: Path) -> Found:
    rows, notes = read_rows(path)
    labels, joined = _labels((row.label for row in rows), path)
    names, seen, repeated = Names(path.parent), dict[str, Row](), 0
    samples = []
    for row in rows:
        if row.split and row.split.lower() not in SPLIT_NAMES:
            raise ValueError(
                f"{path}, line {row.line}: split {row.split!r};"
                f" {nearest(row.split.lower(), SPLIT_NAMES)}"
            )
        name = names.find(row.file)
        first = seen.setdefault(os.path.normpath(name), row)
        if first is not row:
            if first[2:] != row[2:]:
                raise ValueError(
                    f"{path}, line {row.line}: {row.file} is {', '.join(filter(None, row[2:]))},"
                    f" and in line {first.line} it is {', '.join(filter(None, first[2:]))}; a file"
                    " has one label and one split"
                )
            repeated += 1
            continue
        split = SPLIT_NAMES.get(row.split.lower(), "")
        samples.append(
            Sample(path.parent / name, name, annotate(labels[row.label]), split, row.group)
        )
    if 0 < sum(not sample.split for sample in samples) < len(samples):
        raise ValueError(
            f"{path}: some lines have a split and some have none; give it in all of them, or drop"
            " the column"
        )
    notes += [
        *joined,
        *(f"{counted(count, 'name')} {remark}" for remark, count in names.remarks.items()),
    ]
    notes += [f"left out: {counted(repeated, 'line')} repeating another"] if repeated else []
    ordered = tuple(sorted(samples, key=lambda sample: sample.name))
    return Found(f"table {path.name}", ordered, tuple(notes))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
