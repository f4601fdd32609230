"""Class folders: CLASS/images, or train|val|test/CLASS/images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from resnets.data.readers.naming import NAMED, SPLIT_NAMES, read_labels
from resnets.data.readers.reader import Found, Reader, Source
from resnets.data.readers.rows import is_label_table
from resnets.data.readers.table import TABLES, tables_in
from resnets.kinds.sample import Sample, annotate
from resnets.listing import NO_SUFFIX, counted, suffix_of
from resnets.settings import listed

BESIDE = 0.1  # images beside a folder `train`, as a part of those in it, that are no trifle


def matches(source: Source) -> bool:
    """Whether there is an image in a class folder."""
    parts = find_parts(source.path, source.contents.images)
    return any(in_class_folder(name.split("/"), parts) for name in source.contents.images)


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; folders are for classes, whatever was asked for."""
    root, parts = source.path, find_parts(source.path, source.contents.images)
    depth = 2 if parts else 1  # folders above an image, the last one its class
    images = [name.split("/") for name in source.contents.images]
    inside = [one for one in images if in_class_folder(one, parts)]
    labels, notes = read_labels((one[depth - 1] for one in inside), root)
    samples = []
    for one in inside:
        name, label = "/".join(one), labels[one[depth - 1]]
        samples.append(Sample(root / name, name, annotate(label), parts.get(one[0], "")))
    beside = sorted({one[0] for one in images if parts and len(one) > 1 and one[0] not in parts})
    passed_over = {*beside, *TABLES}
    left_out = Counter(
        suffix_of(name) or NO_SUFFIX
        for name in source.contents.others
        if name.partition("/")[0] not in passed_over
    )
    notes += [f"left out, not part of the data: {listed(beside, NAMED)}"] if beside else []
    loose = Counter(one[0] if len(one) == 2 else "" for one in images if len(one) <= depth)
    notes += [
        f"left out, in no class folder: {counted(count, 'image')} in {folder or root.name}"
        for folder, count in sorted(loose.items())
        if folder not in beside
    ]
    notes += _empty_folders(source, parts, {"/".join(one[:depth]) for one in inside})
    notes += [
        f"{table.name} is not used: it has no columns file_name and label"
        for table in tables_in(source)
        if not is_label_table(table)
    ]
    layout = f"{' | '.join(parts)} / CLASS / images" if parts else "CLASS / images"
    ordered = tuple(sorted(samples, key=lambda sample: sample.name))
    return Found(layout, ordered, "classes", FOLDERS.name, tuple(notes), left_out)


def in_class_folder(image: Sequence[str], parts: dict[str, str]) -> bool:
    """Whether an image, by the folders on its way and its name, has a class."""
    return len(image) > 2 and image[0] in parts if parts else len(image) > 1


def find_parts(root: Path, names: Sequence[str]) -> dict[str, str]:
    """The folders that are parts of the data, and which; none where folders are classes.

    A class may be called `train` as well. A part holds its images in class folders, a class mostly
    by itself.

    Args:
        root: Where they lie.
        names: Of the images below it, with forward slashes.

    Raises:
        ValueError: It may be either.
    """
    depths = [name.count("/") for name in names]
    firsts = [name.partition("/")[0] for name in names]
    direct = Counter(first for first, depth in zip(firsts, depths, strict=True) if depth == 1)
    nested = Counter(first for first, depth in zip(firsts, depths, strict=True) if depth > 1)
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
        raise ValueError(_may_be_either(root, train, others))
    return named


def _may_be_either(root: Path, train: str, others: Sequence[str]) -> str:
    return (
        f"{root}: {train} holds folders with images, and so do {listed(others, NAMED)} beside it."
        f" If {train} is a part of the data, move the others elsewhere; if it is a class, give"
        f" its folder another name ({train}_class)"
    )


def _empty_folders(source: Source, parts: dict[str, str], full: set[str]) -> list[str]:
    """A note for each folder that would be a class, had it images."""
    return [
        f"no images in {folder}"
        for folder in source.contents.folders
        if folder.count("/") == (1 if parts else 0)
        and folder not in full
        and (not parts or folder.partition("/")[0] in parts)
    ]


FOLDERS = Reader(
    name="folders",
    kinds=("classes",),
    expects="CLASS/*.jpg (or png, webp, avif, bmp, tif) and train|val|test/CLASS/*",
    matches=matches,
    read=read,
)
