"""Make a multi-label data set with exact labels from a single-label one: each image is a mosaic of
two by two tiles, and its labels are the classes of these tiles.

    python tools/make_mosaics.py eurosat/ mosaics/

`eurosat/` has a folder of tiles for each class (RGB, https://arxiv.org/abs/1709.00029, 64 x 64
pixels). Writes images/NNNNN.jpg and labels.csv (file_name, label, split; labels as `River|Forest`).

Tiles are divided into train, val and test before any mosaic is made, so no tile is in two parts; in
val and test none is used twice, in train once more where there are too few. Of tiles that look
alike one is left out (in the 10,000 tiles of 10 classes one pair, the same crossroads 2 pixels
apart). Flat ones, mostly of forest and sea, cannot be told from one another in this way. Edges of
tiles fit one another no better than mirrored edges do: neighbours on the ground are rare, if any.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from resnets.data.duplicates import find_pairs, thumbnail

SHARES = (0.1, 0.2, 0.3, 0.4)  # of mosaics with 1, 2, 3 and 4 classes
SPARE = 12  # tiles of each class: 3 that cannot fill a mosaic, and a choice of classes at the end
QUALITY = 95  # of JPEG, at full resolution of colour


def find_tiles(folder: Path) -> dict[str, list[Path]]:
    """The tiles of each class, without those that look like another one.

    Raises:
        ValueError: There are not four classes at least.
    """
    files = sorted(folder.glob("*/*.jpg"))
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
    pairs = find_pairs(digests, np.stack([thumbnail(Image.open(file)) for file in files]))
    for pair in pairs:
        print(f"left out: {files[pair.second].name}, {pair.kind} {files[pair.first].name}")
    again = {pair.second for pair in pairs}
    tiles: dict[str, list[Path]] = {}
    for number, file in enumerate(files):
        if number not in again:
            tiles.setdefault(file.parent.name, []).append(file)
    if len(tiles) < len(SHARES):
        raise ValueError(f"{folder}: {len(tiles)} folders with .jpg files; at least 4 are needed")
    return tiles


def divide(
    tiles: dict[str, list[Path]], counts: dict[str, int], rng: np.random.Generator
) -> dict[str, dict[str, list[Path]]]:
    """The tiles of each part and class: as many for val and test as their mosaics need, the rest to
    train on.

    Raises:
        ValueError: Nothing is left to train on.
    """
    needed = {part: math.ceil(4 * counts[part] / len(tiles)) + SPARE for part in ("test", "val")}
    parts: dict[str, dict[str, list[Path]]] = {part: {} for part in counts}
    for label, files in tiles.items():
        if len(files) < sum(needed.values()) + 4:
            raise ValueError(
                f"{label}: {len(files)} tiles, but val and test need {sum(needed.values())}: ask"
                " for fewer mosaics (--val, --test)"
            )
        test, val, train = np.split(rng.permutation(len(files)), np.cumsum(list(needed.values())))
        for part, chosen in {"train": train, "val": val, "test": test}.items():
            parts[part][label] = [files[number] for number in chosen]
    return parts


def choose_cells(
    tiles: dict[str, list[Path]], count: int, again: bool, rng: np.random.Generator
) -> list[list[tuple[str, Path]]]:
    """Four tiles with their classes for each of `count` mosaics.

    Classes of which most tiles are left are chosen most often, so that all are about as frequent.

    Args:
        tiles: Of each class.
        count: Of mosaics.
        again: Whether a class starts from the beginning when fewer than four tiles are left.
        rng: Decides.
    """
    left = {label: list(files) for label, files in tiles.items()}
    mosaics = []
    for _ in range(count):
        for label, files in left.items():
            if again and len(files) < 4:
                left[label] = [tiles[label][i] for i in rng.permutation(len(tiles[label]))]
        usable = [label for label, files in left.items() if len(files) >= 4]
        weights = np.array([len(left[label]) for label in usable])
        number = min(len(usable), 1 + rng.choice(len(SHARES), p=SHARES))
        labels = list(rng.choice(usable, number, replace=False, p=weights / weights.sum()))
        labels += list(rng.choice(labels, 4 - number))
        mosaics.append([(str(label), left[label].pop()) for label in rng.permutation(labels)])
    return mosaics


def join(files: Sequence[Path]) -> Image.Image:
    """Four tiles of one size as a mosaic of two by two."""
    a, b, c, d = (np.asarray(Image.open(file).convert("RGB")) for file in files)
    return Image.fromarray(np.vstack([np.hstack([a, b]), np.hstack([c, d])]))


def main() -> None:
    """Writes the images and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tiles", type=Path, help="a folder of .jpg files for each class")
    parser.add_argument("output", type=Path, help="a new folder")
    parser.add_argument("--train", type=int, default=1500, help="mosaics to train on")
    parser.add_argument("--val", type=int, default=500, help="mosaics to validate on")
    parser.add_argument("--test", type=int, default=600, help="mosaics to test on")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    counts = {"train": given.train, "val": given.val, "test": given.test}
    parts = divide(find_tiles(given.tiles), counts, rng)
    mosaics = [
        (part, cells)
        for part, count in counts.items()
        for cells in choose_cells(parts[part], count, part == "train", rng)
    ]
    (given.output / "images").mkdir(parents=True)
    rows = []
    for number, place in enumerate(rng.permutation(len(mosaics))):  # names tell nothing
        part, cells = mosaics[place]
        name = f"images/{number:05}.jpg"
        image = join([file for _, file in cells])
        image.save(given.output / name, quality=QUALITY, subsampling=0)
        rows.append((name, "|".join(sorted({label for label, _ in cells})), part))
    with (given.output / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("file_name", "label", "split"), *rows])
    print(f"{given.output}: " + ", ".join(f"{count:,} {part}" for part, count in counts.items()))


if __name__ == "__main__":
    main()
