"""Videos, animations and folders of frames to images at some times.

Frames are chosen by their time stamps, so that a variable frame rate changes nothing. Whatever
cannot be read is a `BadImage`, whose message is the reason. NumPy and Pillow; for files of video
the extra `video` (tensorcodec, whose FFmpeg is built without GPL codecs).
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from resnets.images import UNREADABLE, BadImage, open_image, reading, to_mode
from resnets.listing import VIDEO_CURE, is_image, video_installed

FRAMES_PER_SECOND = 25.0  # of a folder of frames, which says nothing of time
UNSAID = 0.1  # seconds of a frame in an animation that gives it none, as browsers show it
TOGETHER = 64_000_000  # bytes of frames decoded at once
# Below this part of what a file announces it was cut off; the last frame may be announced longer
WHOLE = 0.9
QUIET = -8  # FFmpeg's level of remarks for none


class Video(Protocol):
    """An opened video.

    Attributes:
        seconds: From its first frame to the end of its last one.
        frames: How many it has.
        size: Width and height, upright.
        notes: Remarks on how it was read.
    """

    seconds: float
    frames: int
    size: tuple[int, int]
    notes: list[str]

    def images(self, times: np.ndarray) -> Iterator[Image.Image]:
        """The image that is shown at each of some times, in rising order."""


def read_clip(video: Video, times: np.ndarray, channels: int = 3) -> Iterator[Image.Image]:
    """The images at some times (rising, in seconds), RGB or grayscale."""
    for image in video.images(times):
        yield image if channels == 3 else image.convert("L")


def spread(
    source: Path | str | bytes, apart: float, most: int
) -> Iterator[tuple[float, Image.Image]]:
    """Images spread evenly over a whole video, RGB, each with its second.

    Args:
        source: As `open_video` takes it.
        apart: Seconds between two of them; more where there would be too many.
        most: How many there are at most.

    Raises:
        BadImage: It cannot be read; the message is the reason.
    """
    with open_video(source) as video:
        count = max(1, min(most, round(video.seconds / apart)))
        times = (np.arange(count) + 0.5) * video.seconds / count
        yield from zip(times.tolist(), read_clip(video, times), strict=True)


@contextmanager
def open_video(source: Path | str | bytes) -> Iterator[Video]:
    """A video, an animated GIF, or a folder of frames in the order of their names.

    Args:
        source: A file, its content, or a folder.

    Raises:
        BadImage: Here or within: it cannot be read; the message is the reason.
    """
    if not isinstance(source, bytes) and Path(source).is_dir():
        yield _Folder(Path(source))
    elif _head(source).startswith((b"GIF87a", b"GIF89a")):
        with reading(source) as image:
            yield _Animation(image)
    else:
        with _encoded(source) as video:
            yield video


def _head(source: Path | str | bytes) -> bytes:
    if isinstance(source, bytes):
        head = source[:6]
    elif not Path(source).exists():
        raise BadImage("no such file")
    elif not Path(source).is_file():
        raise BadImage("a pipe or a device, not a file")
    else:
        try:
            with Path(source).open("rb") as file:
                head = file.read(6)
        except OSError as error:
            raise BadImage(error.strerror or "not readable") from None
    if not head:
        raise BadImage("empty file")
    return head


class _Timed:
    """What animations and folders share: frames that are decoded one after the other, each shown
    from `starts` on."""

    starts: np.ndarray  # (frames,) seconds

    def places(self, times: np.ndarray) -> np.ndarray:
        """The frame that is shown at each time."""
        found = np.searchsorted(self.starts, times, side="right") - 1
        return np.clip(found, 0, len(self.starts) - 1)


class _Folder(_Timed):
    def __init__(self, folder: Path) -> None:
        self._files = in_order(path for path in folder.iterdir() if is_image(str(path)))
        if not self._files:
            raise BadImage("no frames in this folder: no image that can be read")
        self.frames = len(self._files)
        self.starts = np.arange(self.frames) / FRAMES_PER_SECOND
        self.seconds = self.frames / FRAMES_PER_SECOND
        first, _, _ = open_image(self._files[0])
        self.size = first.size
        self.notes = _about_frames(self.frames)

    def images(self, times: np.ndarray) -> Iterator[Image.Image]:
        for place in self.places(times):
            try:
                image = open_image(self._files[place])[0]
            except BadImage as error:
                raise BadImage(f"frame {self._files[place].name}: {error}") from None
            if image.size != self.size:
                raise BadImage(
                    f"frame {self._files[place].name} of {image.width} x {image.height} pixels"
                    f" among frames of {self.size[0]} x {self.size[1]}"
                )
            yield image


def in_order(paths: Iterator[Path]) -> list[Path]:
    """Frames in the order of the numbers in their names: 2 comes before 10."""

    def key(path: Path) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", path.stem)
        return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]

    return sorted(paths, key=lambda path: (key(path), path.name))


class _Animation(_Timed):
    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self.size = image.size
        durations, cut_off = _durations(image)
        ends = np.cumsum(durations)
        self.frames, self.seconds = len(ends), float(ends[-1])
        self.starts = ends - durations
        self.notes = _about_frames(self.frames)
        self.notes += ["cut off: the end of the file is missing"] if cut_off else []

    def images(self, times: np.ndarray) -> Iterator[Image.Image]:
        for place in self.places(times):
            self._image.seek(int(place))
            yield to_mode(self._image.copy(), 3, 255, self.notes)


def _durations(image: Image.Image) -> tuple[list[float], bool]:
    """Seconds of each frame that can be decoded, and whether the file ends before its frames do."""
    durations: list[float] = []
    while True:
        try:
            image.seek(len(durations))
            image.load()
        except EOFError:
            return durations, False
        except UNREADABLE:
            if not durations:
                raise
            return durations, True
        milliseconds = image.info.get("duration", 0)
        durations.append(milliseconds / 1000 if milliseconds > 10 else UNSAID)


def _about_frames(count: int) -> list[str]:
    return ["a single frame: nothing moves in it"] if count == 1 else []


class _Encoded:
    """A file of video, of which tensorcodec decodes the frames that are asked for."""

    def __init__(self, decoder: Any, announced: float | None) -> None:
        self._decoder, about = decoder, decoder.metadata
        self._begin, self._end = about.begin_stream_seconds, about.end_stream_seconds
        self.seconds, self.frames = about.duration_seconds, about.num_frames
        self.size = about.width, about.height
        self.notes = _about_frames(self.frames)
        if about.rotation:
            self.notes.append("turned upright (display matrix)")
        if announced and self.seconds < WHOLE * announced:
            self.notes.append(f"cut off: {self.seconds:.1f} s of {announced:.1f} s could be read")

    def images(self, times: np.ndarray) -> Iterator[Image.Image]:
        together = max(1, TOGETHER // (3 * self.size[0] * self.size[1]))
        # the last moment is no part of the video
        times = np.clip(self._begin + times, self._begin, np.nextafter(self._end, self._begin))
        for start in range(0, len(times), together):
            frames = self._decoder.get_frames_played_at(times[start : start + together])
            yield from map(Image.fromarray, frames.data)


@contextmanager
def _encoded(source: Path | str | bytes) -> Iterator[_Encoded]:
    if not video_installed():
        raise BadImage(f"a video: to read it, {VIDEO_CURE}; or give a folder of its frames")
    try:
        decoder_type = _decoder_type()
        file = source if isinstance(source, bytes) else str(source)
        with decoder_type(file, dimension_order="NHWC") as decoder:
            announced = decoder.metadata.duration_seconds_from_header
            if announced is None:  # of the whole file then, which this way of opening reads
                with decoder_type(file, seek_mode="approximate") as unread:
                    announced = unread.metadata.duration_seconds
            yield _Encoded(decoder, announced)
    except ImportError:
        raise BadImage(
            "a video: there is no decoder for this system; give a folder of its frames, or a GIF"
        ) from None
    except (RuntimeError, ValueError, NotImplementedError, OverflowError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(_reason(str(error))) from None


@functools.cache
def _decoder_type() -> Any:
    from tensorcodec.decoders import VideoDecoder

    _silence()
    return VideoDecoder


REASONS = (  # what the decoder says, and what that means
    ("no valid stream", "no video in it, sound only or nothing"),
    ("no frames", "a video without frames"),
    ("display matri", "mirrored or tilted by its display matrix; save it upright"),
    ("display rotation", "tilted by its display matrix; save it upright"),
    ("no decoder", "of a codec that is not read; convert it to H.264 or VP9"),
    ("dimensions", "its frames change their size; convert it to one size"),
)


def _reason(text: str) -> str:
    """Why a video cannot be read: equal reasons are counted together."""
    for piece, reason in REASONS:
        if piece in text:
            return reason
    reason = text.partition(":")[0]
    return f"not readable as a video: damaged, cut off, or of another format ({reason})"


def _silence() -> None:
    """FFmpeg's own remarks on damaged files, which it prints, would tear up a progress bar. Its
    libraries are loaded already, and each has its level once."""
    folder = Path(importlib.import_module("tensorcodec_av._av").__file__ or "").parent
    for library in folder.parent.glob("tensorcodec_av.libs/libavutil*"):
        ctypes.CDLL(str(library)).av_log_set_level(QUIET)
