"""Make clips of a moving camera from photographs: six classes that no single frame tells apart.

    python tools/make_clips.py OUT PHOTOS [PHOTOS ...]
    python tools/make_clips.py OUT PHOTOS --of 3 --format mp4 --frames 24 --size 96x128 --seed 1

A window moves over a photograph (to the left, to the right, up, down) or narrows or widens (zoom in,
zoom out). Half of the clips are made as another motion and then mirrored, played backwards or both,
and lie under the motion that they show. So mirrored or reversed clips are valid members of the
mirrored or reversed class, and whoever flips training clips without changing their class spoils it.
Where the window lies and how wide it is does not depend on the class, so that a frame says nothing.

OUT gets train/ and test/ with CLASS/PHOTOGRAPH_NUMBER below; a photograph is in one of them only.
"""

from __future__ import annotations

import argparse
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FPS = 12
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("gif", "frames", "mp4", "avi")
SMALLEST = 0.75  # a photograph whose shorter side is less of the window's is passed over
REACH = (0.12, 0.4)  # how far the window moves, as a part of its side
ZOOM = (1.25, 1.8)  # widest window over narrowest
DRIFT = 0.03  # what else the window does, as a part of its side


@dataclass(frozen=True)
class Motion:
    """What the window does: moves along x or y, or becomes wider (`out` = 1) or narrower (-1)."""

    x: int = 0
    y: int = 0
    out: int = 0

    def mirrored(self) -> Motion:
        return Motion(-self.x, self.y, self.out)

    def turned(self) -> Motion:
        """Upside down."""
        return Motion(self.x, -self.y, self.out)

    def reversed(self) -> Motion:
        return Motion(-self.x, -self.y, -self.out)


MOTIONS = {
    "pan left": Motion(x=-1),
    "pan right": Motion(x=1),
    "pan up": Motion(y=-1),
    "pan down": Motion(y=1),
    "zoom in": Motion(out=-1),
    "zoom out": Motion(out=1),
}


def clip(
    photo: Image.Image, motion: Motion, frames: int, size: tuple[int, int], rng: random.Random
) -> list[Image.Image]:
    """A clip of a motion; `size` is (width, height)."""
    mirror, turn, backwards = (rng.random() < 0.5 for _ in range(3))
    turn = turn and rng.random() < 0.5
    made = motion.mirrored() if mirror else motion
    made = made.turned() if turn else made
    made = made.reversed() if backwards else made
    shown = _window(photo, made, frames, size, rng)
    shown = [ImageOps.mirror(frame) for frame in shown] if mirror else shown
    shown = [ImageOps.flip(frame) for frame in shown] if turn else shown
    return shown[::-1] if backwards else shown


def _window(
    photo: Image.Image, motion: Motion, frames: int, size: tuple[int, int], rng: random.Random
) -> list[Image.Image]:
    """What the window sees, frame by frame."""
    ratio = size[0] / size[1]
    largest = min(photo.height, photo.width / ratio)  # height of a window as large as fits
    reach, zoom = rng.uniform(*REACH), rng.uniform(*ZOOM)
    # the same for all classes: the height in the middle of the clip, with room for any motion
    height = largest / max(1 + REACH[1] + 2 * DRIFT, ZOOM[1] ** 0.5) * rng.uniform(0.6, 1)
    time = np.linspace(-0.5, 0.5, frames)
    drift = [rng.uniform(-DRIFT, DRIFT) for _ in range(3)]
    heights = height * np.exp((motion.out * np.log(zoom) + drift[2]) * time)
    x = (motion.x * reach + drift[0]) * height * ratio * time
    y = (motion.y * reach + drift[1]) * height * time
    half_w, half_h = heights * ratio / 2, heights / 2
    left, top = (-(x - half_w).min(), -(y - half_h).min())
    right, bottom = photo.width - (x + half_w).max(), photo.height - (y + half_h).max()
    centre_x, centre_y = rng.uniform(left, max(left, right)), rng.uniform(top, max(top, bottom))
    return [
        photo.resize(
            size,
            Image.Resampling.BILINEAR,
            _inside(photo, centre_x + dx, centre_y + dy, w, h),
            reducing_gap=None,
        )
        for dx, dy, w, h in zip(x, y, half_w, half_h, strict=True)
    ]


def _inside(
    photo: Image.Image, x: float, y: float, half_w: float, half_h: float
) -> tuple[float, float, float, float]:
    return (
        max(0.0, x - half_w),
        max(0.0, y - half_h),
        min(float(photo.width), x + half_w),
        min(float(photo.height), y + half_h),
    )


def write(path: Path, frames: Sequence[Image.Image], form: str) -> None:
    """One clip as a file or a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "frames":
        path.mkdir()
        for number, frame in enumerate(frames, 1):
            frame.save(path / f"{number:05d}.jpg", quality=92)
    elif form == "gif":
        frames[0].save(
            path.with_suffix(".gif"),
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 / FPS),
            loop=0,
        )
    else:
        import cv2  # opencv-python-headless, which comes with the extra `video`

        code = cv2.VideoWriter_fourcc(*("mp4v" if form == "mp4" else "MJPG"))
        video = cv2.VideoWriter(str(path.with_suffix(f".{form}")), code, FPS, frames[0].size)
        for frame in frames:
            video.write(np.asarray(frame)[:, :, ::-1])
        video.release()


def photographs(places: Sequence[Path], least: int) -> list[Path]:
    """Every photograph below some folders that is large enough, in the order of their names."""
    found = [
        path
        for place in places
        for path in sorted(place.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    return [path for path in found if min(_size(path)) >= least]


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--of", type=int, default=2, help="clips of each photograph")
    parser.add_argument("--test", type=float, default=0.3, help="part of the photographs for test/")
    parser.add_argument("--format", choices=FORMATS, default="gif")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="128x128", help="WIDTHxHEIGHT of a frame")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    paths = photographs(arguments.photos, round(SMALLEST * min(width, height)))
    order = random.Random(arguments.seed).sample(range(len(paths)), len(paths))
    test = set(order[: round(arguments.test * len(paths))])
    names = list(MOTIONS)
    for place, path in enumerate(paths):
        rng = random.Random(f"{arguments.seed} {place}")
        source = f"{path.stem}-{zlib.crc32(str(path).encode()):08x}"
        with Image.open(path) as image:
            photo = ImageOps.exif_transpose(image).convert("RGB")
        for number in range(arguments.of):
            name = names[(place * arguments.of + number) % len(names)]
            frames = clip(photo, MOTIONS[name], arguments.frames, (width, height), rng)
            part = "test" if place in test else "train"
            write(arguments.out / part / name / f"{source}_{number}", frames, arguments.format)
    print(
        f"{len(paths) * arguments.of} clips of {len(paths)} photographs, {len(test)} of them in"
        f" test/: {arguments.out}"
    )


if __name__ == "__main__":
    main()
