"""One walk over folders: which files below them are images, and what is left out of them.

A file is judged by its suffix, and by its first bytes where it has none; nothing is decoded here.
Whatever is left out is counted by suffix, so that no image is passed over in silence.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".avif",
    )
)
HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))  # read where pillow-heif is installed
HEIC_CURE = "pip install 'resnets[heic]'"
VIDEO_SUFFIXES = frozenset(
    (
        ".mp4",
        ".m4v",
        ".mov",
        ".webm",
        ".mkv",
        ".avi",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".ogv",
        ".gif",
    )
)
VIDEO_CURE = "pip install 'resnets[video]'"
# Suffixes of images that are not read: leaving one out is a warning, leaving out a text is not
UNREAD_IMAGES = frozenset(
    (
        ".gif",
        ".eps",
        ".svg",
        ".psd",
        ".jxl",
        ".tga",
        ".exr",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".raf",
        ".rw2",
        ".dcm",
    )
)
NO_SUFFIX = "without a suffix"
MOST = 12  # suffixes that are named before the rest is counted together
# ISO 14496-12: a box `ftyp` and the brand of what follows
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MAGIC = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n"
    rb"|BM.{4}\0\0\0\0"
    rb"|RIFF.{4}WEBP"
    rb"|II\*\0|MM\0\*"  # TIFF
    rb"|P[1-6]\s"  # PPM
    rb"|\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51"  # JPEG 2000
    rb"|.{4}ftyp(?:avi[fs]|mif1|msf1)",  # AVIF; the last two may also be HEIC
    re.DOTALL,
)
HEAD = 16  # bytes that are enough for all of them


def walk(folder: str, folders: list[str] | None = None) -> Iterator[str]:
    """All files below a folder, sorted by name; hidden files and folders are passed over.

    Links are followed, but never into a folder that is being walked through already. Each folder is
    opened once, and only the names of those on the way down are held.

    Args:
        folder: Where to begin.
        folders: Told of every folder that is entered.

    Raises:
        ValueError: A folder cannot be read.
    """
    levels: list[tuple[str, Iterator[str], frozenset[str]]] = []
    above: list[tuple[int, int]] = []

    def enter(folder: str) -> None:
        try:
            status = os.stat(folder)  # noqa: PTH116 - names stay as they were given
            if (identity := (status.st_dev, status.st_ino)) in above:
                return
            names, inner = [], []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        names.append(entry.name)
                        inner += [entry.name] if _is_folder(entry) else []
        except OSError as error:
            raise ValueError(
                f"{folder}: this folder cannot be read ({error.strerror}); allow it, or move it"
                " elsewhere"
            ) from None
        levels.append((folder, iter(sorted(names)), frozenset(inner)))
        above.append(identity)
        if folders is not None:
            folders.append(folder)

    enter(folder)
    while levels:
        parent, names, inner = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
            above.pop()
        elif name in inner:
            enter(os.path.join(parent, name))  # noqa: PTH118
        else:
            yield os.path.join(parent, name)  # noqa: PTH118


def is_image(path: str) -> bool:
    """Whether a file is read as an image: by its suffix, or by its first bytes if it has none."""
    suffix = suffix_of(path)
    if suffix:
        return suffix in IMAGE_SUFFIXES or (suffix in HEIC_SUFFIXES and heic_installed())
    head = _head(path)
    return bool(_MAGIC.match(head)) or (is_heic(head) and heic_installed())


def suffix_of(path: str) -> str:
    """The suffix in lower case, with its dot; empty without one."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - of hundreds of thousands of names


def is_heic(head: bytes) -> bool:
    """Whether a file that begins so is HEIC, whatever its name."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def is_video(path: str) -> bool:
    """Whether a file is read as a video, or as an animation."""
    return suffix_of(path) in VIDEO_SUFFIXES


@functools.cache
def video_installed() -> bool:
    """Whether the extra that reads videos is installed; it is not imported for that."""
    return importlib.util.find_spec("tensorcodec") is not None


@functools.cache
def heic_installed() -> bool:
    """Whether the extra that reads HEIC is installed; it is not imported for that."""
    return importlib.util.find_spec("pillow_heif") is not None


class Listing:
    """The images below some folders, listed once: they can be counted, and iterated in order.

    Held are names without their folders, so that a million images take some tens of megabytes.

    Args:
        inputs: Files, taken as they are, and folders, for every image below them.
        takes: `image`, or `clip`: videos and folders of frames are listed instead.

    Raises:
        ValueError: An input is missing, or a folder cannot be read or holds no image.
    """

    def __init__(self, inputs: Iterable[str], takes: str = "image") -> None:
        self.left_out: Counter[str] = Counter()
        self._runs: list[tuple[str, list[str]]] = []  # a folder, and names in it in a row
        self._count = 0
        for path in inputs:
            before = self._count
            for file in BELOW[takes](path, self.left_out) if _is_there(path) else (path,):
                self._add(file)
            if self._count == before:
                suffixes = IMAGE_SUFFIXES if takes == "image" else VIDEO_SUFFIXES
                raise ValueError(
                    f"{path}: no {takes} in this folder or below it; read are"
                    f" {' '.join(sorted(suffixes))}; {about_left_out(self.left_out)}"
                )

    def _add(self, file: str) -> None:
        folder, name = os.path.split(file)
        if not self._runs or self._runs[-1][0] != folder:
            self._runs.append((folder, []))
        self._runs[-1][1].append(name)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (os.path.join(folder, name) for folder, names in self._runs for name in names)  # noqa: PTH118

    def __contains__(self, file: object) -> bool:
        return any(file == one for one in self)


def images_below(folder: str, left_out: Counter[str]) -> Iterator[str]:
    """The images below a folder, sorted by name; what is none is counted by suffix.

    Raises:
        ValueError: A folder cannot be read.
    """
    for file in walk(folder):
        if is_image(file):
            yield file
        else:
            left_out[suffix_of(file) or NO_SUFFIX] += 1


def clips_below(folder: str, left_out: Counter[str]) -> Iterator[str]:
    """The videos below a folder, and the folders there with several images, its frames, sorted by
    name; what is neither is counted by suffix.

    Raises:
        ValueError: A folder cannot be read.
    """
    found, frames = list[str](), Counter[str]()
    for file in walk(folder):
        if is_video(file):
            found.append(file)
        elif is_image(file):
            frames[os.path.dirname(file)] += 1  # noqa: PTH120
        else:
            left_out[suffix_of(file) or NO_SUFFIX] += 1
    yield from sorted([*found, *(name for name, count in frames.items() if count > 1)])


BELOW = {"image": images_below, "clip": clips_below}


def about_left_out(left_out: Mapping[str, int]) -> str:
    """What was left out, by suffix, and how to have it read: "left out: 20 .heic, 3 .txt"."""
    if not left_out:
        return "nothing was left out"
    rows = sorted(left_out.items(), key=lambda row: (-row[1], row[0]))
    text = ", ".join(f"{count:,} {suffix}" for suffix, count in rows[:MOST])
    if len(rows) > MOST:
        text += f" and {sum(count for _, count in rows[MOST:]):,} of other suffixes"
    cures = []
    if HEIC_SUFFIXES & set(left_out):
        cures.append(f"to read HEIC: {HEIC_CURE}")
    if UNREAD_IMAGES & set(left_out):
        cures.append("convert what is not read to PNG or JPEG")
    return f"left out: {text}" + (f" ({'; '.join(cures)})" if cures else "")


def images_left_out(left_out: Mapping[str, int]) -> bool:
    """Whether there are images among what was left out."""
    return bool((HEIC_SUFFIXES | UNREAD_IMAGES) & set(left_out))


def counted(count: int, noun: str) -> str:
    """A number and what it counts: "1 image", "1,200 images"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _is_there(path: str) -> bool:
    """Whether an input is a folder; what is neither that nor a file is missing."""
    if os.path.isdir(path):  # noqa: PTH112 - says no where a path cannot be looked at
        return True
    if not os.path.exists(path):  # noqa: PTH110
        raise ValueError(f"{path}: no such file or folder")
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link that leads to itself makes entry.is_dir() raise; os.path.isdir() says no, but asks the
    # disk for every file.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112


def _head(path: str) -> bytes:
    """The first bytes of a file; none of what cannot be read, a pipe or a device."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113
            return b""
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
