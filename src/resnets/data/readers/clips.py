"""Videos, animated GIFs and folders of frames in class folders: CLASS/*.mp4, or
train|val|test/CLASS/*.mp4."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from resnets.data.readers.folders import find_parts, in_class_folder
from resnets.data.readers.naming import read_labels
from resnets.data.readers.reader import Found, Reader, Source
from resnets.images import BadImage, open_image
from resnets.kinds.sample import Sample, annotate
from resnets.listing import NO_SUFFIX, is_video, suffix_of

FEWEST_FRAMES = 4  # in each folder, for folders of numbered images to be taken for clips
# What ends a name where several clips are cut from one source: `_3`, `-c02`, `_000010_000020`
PIECE = re.compile(r"[_. -](?:c|clip|part|seg|scene|shot)?(\d+|\d{6}_\d{6})$", re.IGNORECASE)
FEWEST_SOURCES = 0.1  # of them a clip, or the numbers count something else
MOST_JUDGED, SEEN = 12, 16  # folders that are looked into, and the side at which, in pixels
# Neighbouring frames differ by less than that (of 255), as before a camera that does not move, or
# by less than that part of what images of two folders differ by.
LEVELS, ALIKE = 10.0, 0.5
NUMBERED = re.compile(r"(.*?)(\d+)")


class _Items(NamedTuple):
    """What is below a folder, by relative name."""

    videos: tuple[str, ...]  # files
    folders: Mapping[str, Sequence[str]]  # of frames, and what they are called in it
    images: tuple[str, ...]  # that are no frames

    @property
    def clips(self) -> tuple[str, ...]:
        """Everything that moves."""
        return (*self.videos, *self.folders)


def matches(source: Source) -> bool:
    """Whether there are more videos in class folders than images, or folders of frames alone."""
    items = _items(source)
    if len(items.clips) <= len(items.images):
        return False
    parts = find_parts(source.path, items.clips)
    return any(in_class_folder(name.split("/"), parts) for name in items.clips)


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`."""
    root, items = source.path, _items(source)
    parts = find_parts(root, items.clips)
    depth = 2 if parts else 1  # folders above a clip, the last one its class
    inside = [name for name in items.clips if in_class_folder(name.split("/"), parts)]
    places = {name: name.split("/") for name in inside}
    labels, notes = read_labels((place[depth - 1] for place in places.values()), root)
    own = {name: labels[place[depth - 1]] for name, place in places.items()}
    groups = sources(own)
    samples = [
        Sample(
            root / name,
            name,
            annotate(own[name]),
            parts.get(place[0], ""),
            groups.get(name, ""),
        )
        for name, place in places.items()
    ]
    rest = [name for name in source.contents.others if not is_video(name)]
    loose = [name for name in items.clips if name not in places]
    left_out = Counter(suffix_of(name) or NO_SUFFIX for name in (*rest, *items.images, *loose))
    if items.folders:
        notes.append(
            f"{len(items.folders):,} folders of numbered images are read as clips, in the order of"
            " the numbers; as images by themselves: --format folders"
        )
    if groups:
        count = len(set(groups.values()))
        notes.append(
            f"{count:,} sources by name (what stands before the last number): clips of one stay"
            " together"
        )
    what = " and ".join(
        text
        for text, some in (("videos", items.videos), ("folders of frames", items.folders))
        if some
    )
    layout = f"{' | '.join(parts)} / CLASS / {what}" if parts else f"CLASS / {what}"
    ordered = tuple(sorted(samples, key=lambda sample: sample.name))
    return Found(layout, ordered, "clips", CLIPS.name, tuple(notes), left_out)


def _items(source: Source) -> _Items:
    contents = source.contents
    videos = tuple(name for name in contents.others if is_video(name))
    inside = defaultdict[str, list[str]](list)
    for name in contents.images:
        folder, _, file = name.rpartition("/")
        inside[folder].append(file)
    frames = {folder for folder, files in inside.items() if folder.count("/") and numbered(files)}
    # where some are not, the numbers of the others count images
    if any(folder.count("/") and folder not in frames for folder in inside):
        frames = set()
    images = tuple(name for name in contents.images if name.rpartition("/")[0] not in frames)
    return _Items(videos, {folder: inside[folder] for folder in sorted(frames)}, images)


def numbered(files: Sequence[str]) -> bool:
    """Whether files are the frames of a clip by their names: one beginning, then numbers without a
    gap."""
    stems = [PurePosixPath(file).stem for file in files]
    found = [match for stem in stems if (match := NUMBERED.fullmatch(stem))]
    if len(found) < max(FEWEST_FRAMES, len(files)):
        return False
    numbers = sorted(int(match[2]) for match in found)
    return (
        len({match[1] for match in found}) == 1
        and numbers[0] <= 1
        and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    )


def continuous(source: Source) -> bool:
    """Whether neighbouring images of a folder are alike, as frames are and numbered photographs are
    not; judged by a few folders, and believed where there are videos or images cannot be read."""
    _, folders, _ = items = _items(source)
    if items.videos:
        return True
    few = list(folders)[:: math.ceil(len(folders) / MOST_JUDGED)]
    try:
        pairs = [_neighbours(source.path / folder, folders[folder]) for folder in few]
    except BadImage:
        return True
    before, after = np.array(pairs).swapaxes(0, 1)
    within = np.median(np.abs(before - after).mean((1, 2, 3)))
    between = np.median(np.abs(before - np.roll(after, 1, 0)).mean((1, 2, 3)))
    return bool(within <= max(LEVELS, ALIKE * between))


def _neighbours(folder: Path, files: Sequence[str]) -> list[np.ndarray]:
    """Two images in the middle of a folder, so small that a little motion does not matter."""
    ordered = sorted(files, key=lambda file: (len(file), file))  # by number: one beginning
    middle = len(files) // 2
    images = (open_image(folder / file, short_side=SEEN)[0] for file in ordered[middle - 1 :][:2])
    return [np.asarray(image.resize((SEEN, SEEN)), np.float32) for image in images]


def sources(labels: Mapping[str, str]) -> dict[str, str]:
    """What each clip was cut from, as far as names say so: `walk_3_01` and `walk_3_02` are pieces
    of `walk_3`.

    Args:
        labels: The class of each clip, by its name.

    Returns:
        Nothing where the number merely counts clips: too few sources, or a class with only one.
    """
    stems = {name: Path(name).stem if is_video(name) else Path(name).name for name in labels}
    # a name without a number at its end is a source of its own, whatever other classes have
    found = {name: PIECE.sub("", stem) for name, stem in stems.items()}
    found = {
        name: name if source in ("", stems[name]) else source for name, source in found.items()
    }
    by_class = defaultdict[str, set[str]](set)
    for name, source in found.items():
        by_class[labels[name]].add(source)
    count = len(set(found.values()))
    counts_clips = count < FEWEST_SOURCES * len(found) or min(map(len, by_class.values())) < 2
    return {} if counts_clips or count == len(found) else found


CLIPS = Reader(
    name="clips",
    kinds=("clips",),
    expects="CLASS/*.mp4 (or webm, mov, mkv, avi, gif), folders of frames CLASS/CLIP/*.jpg, and"
    " train|val|test/CLASS/*",
    matches=matches,
    likely=continuous,
    read=read,
)
