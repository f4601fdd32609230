"""Photos of single things, cut out of street scenes: images of natural resolution with a class each.
Of CamVid, 171 of the 233 frames to test on are of a drive that none to train on is of.

    python tools/make_crops.py camvid/ street/

CAMVID has train|val|test/images/*, train|val|test/masks/* and classes.txt, as `resnets train camvid`
takes it. A crop has 120 to 200 pixels a side and the class of at least half of its middle; classes
with fewer than 50 crops to train on, or none to test on, are left out. Written: OUT/train/CLASS/*.jpg
(from train and val) and OUT/test/CLASS/*.jpg.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

LIMITS = {"train": 220, "test": 100}  # crops of a class
SIDES, ROUNDS, FEWEST = (120, 200), 40, 50


def main() -> None:
    """Cuts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="CAMVID")
    parser.add_argument("target", type=Path, metavar="OUT")
    options = parser.parse_args()
    classes = (options.source / "classes.txt").read_text().split()
    rng, counts = np.random.default_rng(0), {}
    for part, sources in (("train", ("train", "val")), ("test", ("test",))):
        frames = [
            frame
            for source in sources
            for frame in sorted((options.source / source / "images").iterdir())
        ]
        counts[part] = cut(frames, classes, options.target / part, LIMITS[part], rng)
    for name in classes:
        if counts["train"][name] < FEWEST or not counts["test"][name]:
            for part in LIMITS:
                shutil.rmtree(options.target / part / name, ignore_errors=True)
        else:
            print(f"{name}: {counts['train'][name]} to train on, {counts['test'][name]} to test on")


def cut(
    frames: list[Path], classes: list[str], target: Path, most: int, rng: np.random.Generator
) -> Counter[str]:
    """Crops of each class from all frames in turn, and how many there are."""
    count = Counter[str]()
    for _ in range(ROUNDS):
        for frame in (frames[place] for place in rng.permutation(len(frames))):
            (file,) = (frame.parents[1] / "masks").glob(f"{frame.stem}*")
            mask, side = np.asarray(Image.open(file)), int(rng.integers(*SIDES))
            top, left = (int(rng.integers(0, length - side + 1)) for length in mask.shape)
            quarter = side // 4
            middle = mask[top : top + side, left : left + side][quarter:-quarter, quarter:-quarter]
            found = np.bincount(middle[middle < len(classes)], minlength=len(classes))
            name = classes[int(found.argmax())]
            if found.max() < middle.size / 2 or count[name] >= most:
                continue
            (target / name).mkdir(parents=True, exist_ok=True)
            crop = Image.open(frame).convert("RGB").crop((left, top, left + side, top + side))
            crop.save(target / name / f"{frame.stem}_{count[name]}.jpg", quality=92)
            count[name] += 1
    return count


if __name__ == "__main__":
    main()
