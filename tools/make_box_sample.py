"""Make the sample of microscope images with boxes that ships with the package, from the BCCD data
set.

    python tools/make_box_sample.py BCCD src/resnets/sample_boxes

BCCD is a copy of https://github.com/Shenggan/BCCD_Dataset: the folder that holds LICENSE and
BCCD/Annotations. Images that show part of another one again are left out (`make_cells.SHOWN_AGAIN`).
"""

import argparse
import csv
import random
import shutil
from collections import Counter
from pathlib import Path

from make_cells import SHOWN_AGAIN, Box, read_boxes
from PIL import Image

COUNT, HELD_OUT = 100, 28
SIDES = (320, 240)  # of an image: half of the microscope image's
QUALITY = 75
SEED = 0

ATTRIBUTION = """\
# Blood cells with boxes: the sample for detection

{images} microscope images ({counts}) of the [BCCD Dataset](https://github.com/Shenggan/BCCD_Dataset) by Shenggan et al., which is
under the MIT licence (see `LICENSE`), reduced from 640 × 480 to {width} × {height} pixels.

| | |
|---|---|
| Made by | `python tools/make_box_sample.py BCCD src/resnets/sample_boxes` |
| `boxes.csv` | `file_name`, `xmin`, `ymin`, `xmax`, `ymax` (pixels, from the edge of the image), `label`, `split` |

**BCCD's boxes are incomplete**: not every cell has one, so precision is a little higher than measured. Not for diagnosis.
"""


def main() -> None:
    """Writes images, table, licence and attribution."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder that holds BCCD/")
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    annotations = sorted((options.source / "BCCD" / "Annotations").glob("*.xml"))
    images = [[box for box in read_boxes(one) if box.area] for one in annotations]
    chosen = choose([boxes for boxes in images if boxes])
    shutil.rmtree(options.target, ignore_errors=True)
    (options.target / "images").mkdir(parents=True)
    with (options.target / "boxes.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file_name", "xmin", "ymin", "xmax", "ymax", "label", "split"))
        for place, boxes in enumerate(chosen):
            name = f"images/{boxes[0].number:05}.jpg"
            shrink(
                options.source / "BCCD" / "JPEGImages" / f"{boxes[0].image}.jpg",
                options.target / name,
            )
            part = "val" if place < HELD_OUT else "train"
            for box in boxes:
                table.writerow((name, *corners(box), box.label, part))
    shutil.copy(options.source / "LICENSE", options.target / "LICENSE")
    counts = Counter(box.label for boxes in chosen for box in boxes)
    text = ATTRIBUTION.format(
        images=len(chosen),
        counts=", ".join(f"{count:,} {label}" for label, count in sorted(counts.items())),
        width=SIDES[0],
        height=SIDES[1],
    )
    (options.target / "ATTRIBUTION.md").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in options.target.rglob("*") if path.is_file())
    print(f"{len(chosen)} images, {dict(counts)}, {size / 1e6:.2f} MB")


def choose(images: list[list[Box]]) -> list[list[Box]]:
    """Images with rare cells first: with platelets as well as a white one, then with either."""
    sound = [boxes for boxes in images if boxes[0].number not in SHOWN_AGAIN]
    drawn = random.Random(SEED).sample(sound, len(sound))
    drawn.sort(key=lambda boxes: -len({box.label for box in boxes}))
    return random.Random(SEED).sample(drawn[:COUNT], COUNT)


def corners(box: Box) -> list[float]:
    """Left, top, right, bottom in the reduced image; Pascal VOC counts pixels from 1."""
    left, top, right, bottom = box.corners
    scale = SIDES[0] / box.image_size[0]
    return [round(side * scale, 1) for side in (left - 1, top - 1, right, bottom)]


def shrink(source: Path, target: Path) -> None:
    """An image at half of its size."""
    with Image.open(source) as image:
        small = image.convert("RGB").resize(SIDES, Image.Resampling.LANCZOS)
    small.save(target, quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
