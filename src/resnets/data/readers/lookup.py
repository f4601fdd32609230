"""What all readers of boxes and masks share: images found by what other files call them, the part
of the data that a folder stands for, and the last steps to what was found."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from resnets.data.readers.naming import NAMED, SPLIT_NAMES, read_labels
from resnets.data.readers.reader import Found, Source
from resnets.kinds.sample import Finding, Sample
from resnets.listing import NO_SUFFIX, counted, suffix_of
from resnets.settings import listed

PEEK = 20  # files of one kind that are looked into before a layout is said not to be there


def read_text(path: Path, most: int = -1) -> str:
    """The text of a file, or its first bytes.

    Raises:
        ValueError: It cannot be read, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig", "strict" if most < 0 else "replace")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save it as UTF-8") from None


def split_of(folders: Iterable[str]) -> str:
    """The part of the data that one of some folders is called by (`valid`, `val2017`), or
    empty."""
    names = (re.sub(r"[\d_-]+$", "", folder.lower()) for folder in folders)
    return next((SPLIT_NAMES[name] for name in names if name in SPLIT_NAMES), "")


def split_of_file(name: str) -> str:
    """The part of the data that a file lies in, by the folders on its way."""
    return split_of(name.split("/")[:-1])


class Images:
    """The images of a source by what files of annotations call them: with or without folders, with
    those of another machine, without a suffix.

    Args:
        names: Of all images, relative to the source.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._whole: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._stems: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name in names:
            spelled = unicodedata.normalize("NFC", name)
            stem = os.path.splitext(spelled)[0]  # noqa: PTH122 - of hundreds of thousands
            self._whole[spelled.rpartition("/")[2]].append((spelled, name))
            self._stems[stem.rpartition("/")[2]].append((stem, name))

    def find(self, name: str, beside: str, split: str = "") -> str | None:
        """The image that is meant, or None where it is not there.

        Args:
            name: What a file calls it.
            beside: That file, relative to the source: of two images the nearer one is taken.
            split: The part of the data that the file is about; by default as its folders say. An
                image in a folder of another part is not the one.

        Raises:
            ValueError: Several images may be meant.
        """
        parts = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/"))).parts
        wanted = split or split_of_file(name) or split_of_file(beside)
        if not parts:
            return None
        for known in (self._whole, self._stems):
            candidates = [
                one
                for one in known.get(parts[-1], ())
                if not wanted or split_of_file(one[1]) in ("", wanted)
            ]
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                ending = [own for full, own in candidates if f"/{full}".endswith(f"/{end}")]
                if ending:
                    return _nearest(ending, name, beside)
            parts = (*parts[:-1], os.path.splitext(parts[-1])[0])  # noqa: PTH122
        return None


def _nearest(names: Sequence[str], name: str, beside: str) -> str:
    """The one in the folder of a file, else the one that shares most folders with it."""
    folder = beside.rpartition("/")[0]
    names = [one for one in names if one.rpartition("/")[0] == folder] or names
    common = [_folders_in_common(one, beside) for one in names]
    nearest = [one for one, n in zip(names, common, strict=True) if n == max(common)]
    if len(nearest) > 1:
        raise ValueError(
            f"{beside}: {name} may be {' or '.join(nearest[:NAMED])}; give the images different"
            " names, or name the folder as well"
        )
    return nearest[0]


def _folders_in_common(one: str, other: str) -> int:
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return sum(1 for _ in itertools.takewhile(_are_equal, pairs))


def _are_equal(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


def read_parts(source: Source, files: Mapping[str, str]) -> dict[str, str]:
    """The part of the data of each line in some lists.

    Args:
        source: What the lists lie in.
        files: Lists of names, and the part that each stands for.

    Raises:
        ValueError: A name is in two parts.
    """
    parts: dict[str, str] = {}
    for file, part in files.items():
        for line in read_text(source.path / file).splitlines():
            name = line.strip()
            if name and parts.setdefault(name, part) != part:
                raise ValueError(
                    f"{source.path}: {name} is in the list of {parts[name]} and, in {file}, in that"
                    f" of {part}; leave it in one"
                )
    return parts


def read_image_sets(source: Source, use: str) -> dict[tuple[str, str], str]:
    """The parts in ImageSets/Main or ImageSets/Segmentation: by the folder that ImageSets lies in,
    and the name of an image without its suffix. What `trainval` names alone is for training."""
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for name in source.contents.others:
        above, _, last = name.rpartition(f"ImageSets/{use}/")
        stem, dot, suffix = last.partition(".")
        part = SPLIT_NAMES.get(stem, "train" if stem == "trainval" else "")
        if name.endswith(f"ImageSets/{use}/{last}") and (dot + suffix) == ".txt" and part:
            folders[above.rstrip("/")][name] = part
    parts: dict[tuple[str, str], str] = {}
    for above, files in folders.items():
        both = [name for name in files if name.endswith("trainval.txt")]
        own = read_parts(source, {name: part for name, part in files.items() if name not in both})
        rest = read_parts(source, dict.fromkeys(both, "train"))
        parts |= {(above, name): part for name, part in (rest | own).items()}
    return parts


def about_images(severity: str, names: Sequence[str], what: str) -> list[Finding]:
    """One finding on some images or files, or none where there are none."""
    if not names:
        return []
    return [Finding(severity, f"{what} ({listed(names, NAMED)})", tuple(names))]


def finish(found: Found, source: Source, used: Collection[str]) -> Found:
    """What a reader found, with its samples in order, their labels as classes are called, and a
    word on all that is not used.

    Args:
        found: Samples in any order, labels as they stand in the data, parts as far as they are
            known. Where some have one, those without are left out.
        source: Where it was found.
        used: Files that annotations were read from.

    Raises:
        ValueError: An image is there twice, or a name of a class is not UTF-8.
    """
    twice = [name for name, count in Counter(s.name for s in found.samples).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source.path}: annotated in two places: {listed(twice, NAMED)}; leave each image in"
            " one"
        )
    labels, joined = read_labels((one for s in found.samples for one in s.labels), source.path)
    samples = [
        replace(sample, annotations=tuple(replace(a, label=labels[a.label]) for a in annotations))
        for sample in sorted(found.samples, key=_name_of)
        for annotations in (sample.annotations,)
    ]
    loose = [s.name for s in samples if not s.split] if any(s.split for s in samples) else []
    taken = {s.name for s in samples}
    unlisted = [name for name in source.contents.images if name not in taken | set(used)]
    notes = [*found.notes, *joined]
    for names, why in ((loose, "in no part of the data"), (unlisted, "without annotations")):
        if names:
            notes.append(
                f"left out, {why}: {counted(len(names), 'image')} ({listed(names, NAMED)})"
            )
    others = (name for name in source.contents.others if name not in used)
    return replace(
        found,
        samples=tuple(s for s in samples if s.split or not loose),
        notes=tuple(notes),
        left_out=Counter(suffix_of(name) or NO_SUFFIX for name in others),
    )


def _name_of(sample: Sample) -> str:
    return sample.name
