"""Make the crops of blood cells that tests train on from the BCCD data set.

    python tools/make_cells.py BCCD tests/data/cells

BCCD is a copy of https://github.com/Shenggan/BCCD_Dataset: the folder that holds LICENSE and
BCCD/Annotations.
"""

import argparse
import csv
import random
import shutil
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# pixels of the microscope image: a red blood cell (about 105) and a little of its surroundings
WINDOW = 128
SIDE = 64  # pixels of a crop
QUALITY = 92
MAX_SHIFT = WINDOW / 8  # more, and another cell may stand at the centre
MIN_SIDE = 16  # of a box; the smallest platelet that can be recognized
MAX_IOU = 0.5
SEED = 0
# Unequal on purpose: the crops have to show what class imbalance does.
WANTED = {"Platelets": 240, "RBC": 700, "WBC": 330}
# Images that show again part of the slide that a kept image shows: their cells would stand on both
# sides of a split. Found by phase correlation of all pairs; the common parts of these pairs
# correlate at 0.89 or more, those of the next best pair at 0.66.
SHOWN_AGAIN = {
    *(
        19,
        38,
        41,
        45,
        108,
        161,
        193,
        204,
        205,
        206,
        228,
        229,
        233,
        239,
        242,
        247,
        248,
        250,
        252,
        253,
        255,
        256,
        257,
        260,
        261,
    ),
    *(262, 263, 264, 277, 279, 364, 365, 382, 384, 391, 397, 400),
}
# Errors of the annotation, seen by eye: (image, index of the box).
MISLABELLED = {
    (133, 9),  # a white blood cell, marked as platelets
    (135, 8),  # the same
    (171, 6),  # a smudged, granular cell, marked as a red one
    # Red blood cells under a platelet that has no box: two cells at the centre.
    *((5, 20), (26, 6), (30, 14), (124, 6), (166, 3), (273, 3), (301, 12), (319, 6), (349, 5)),
}

ATTRIBUTION = """\
# Blood cells: crops for the tests

{total:,} crops of blood cells ({counts}) cut from {groups} microscope images of the
[BCCD Dataset](https://github.com/Shenggan/BCCD_Dataset) by Shenggan et al., which is under the MIT licence (see `LICENSE`).

| | |
|---|---|
| Made by | `python tools/make_cells.py BCCD tests/data/cells` |
| Scale | a window of {window} × {window} pixels of the microscope image, reduced to {side} × {side} (factor {factor:g}) |
| File | `CLASS/IMAGE_K.jpg`: box K (from 0) of the annotation of the microscope image IMAGE |
| `labels.csv` | `file_name`, `label` and `group`, the microscope image |

## What to know

- **Split by group.** Crops of one microscope image share its light, its stain and, often, their pixels.
- **The class is that of the cell at the centre.** A crop's neighbourhood may show other cells.
- **The scale is fixed**, so size is evidence: a platelet is small, and a white blood cell may be larger than its crop.
- **At an edge of the microscope image the window is shifted inside**, by at most {shift:g} pixels of the microscope image.
- **BCCD's boxes are incomplete**: not every cell of an image has one, so these numbers say nothing about blood counts.
- **Left out** are boxes of no area or under {min_side} pixels, boxes too near an edge to shift the window, boxes that coincide
  with another (IoU above {iou:g}), boxes of another class whose centre lies inside the box of a white blood cell,
  {mislabelled} boxes with a wrong class or a second, unmarked cell at the centre, and {again} microscope images that show again
  part of what another shows.
- **Imbalanced on purpose.** Not for diagnosis.
"""


@dataclass(frozen=True)
class Box:
    """A cell that somebody marked in a microscope image."""

    image: str
    index: int
    label: str
    corners: tuple[int, int, int, int]
    image_size: tuple[int, int]

    @property
    def number(self) -> int:
        """Number of the microscope image: 12 of BloodImage_00012."""
        return int(self.image.rpartition("_")[2])

    @property
    def area(self) -> int:
        """Area in pixels of the microscope image."""
        left, top, right, bottom = self.corners
        return max(right - left, 0) * max(bottom - top, 0)

    @property
    def centre(self) -> tuple[float, float]:
        """Centre as (x, y)."""
        left, top, right, bottom = self.corners
        return (left + right) / 2, (top + bottom) / 2

    @property
    def window(self) -> tuple[int, int, int, int]:
        """The square to cut: centred on the cell, shifted where it would leave the picture."""
        left, top = (
            min(max(round(middle - WINDOW / 2), 0), size - WINDOW)
            for middle, size in zip(self.centre, self.image_size, strict=True)
        )
        return left, top, left + WINDOW, top + WINDOW

    @property
    def shift(self) -> float:
        """How far the cell lies off the middle of its window, along the worse axis."""
        left, top, _, _ = self.window
        return max(abs(self.centre[0] - left - WINDOW / 2), abs(self.centre[1] - top - WINDOW / 2))

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether a point lies inside."""
        left, top, right, bottom = self.corners
        return left <= point[0] <= right and top <= point[1] <= bottom

    def iou(self, other: "Box") -> float:
        """Intersection over union with another box."""
        left, top = (max(a, b) for a, b in zip(self.corners[:2], other.corners[:2], strict=True))
        right, bottom = (
            min(a, b) for a, b in zip(self.corners[2:], other.corners[2:], strict=True)
        )
        common = max(right - left, 0) * max(bottom - top, 0)
        return common / max(self.area + other.area - common, 1)


def read_boxes(annotation: Path) -> list[Box]:
    """Reads the boxes of one Pascal VOC file."""
    root = ET.parse(annotation).getroot()
    size = int(root.findtext("size/width", "0")), int(root.findtext("size/height", "0"))
    boxes = []
    for index, element in enumerate(root.iter("object")):
        left, top, right, bottom = (
            int(element.findtext(f"bndbox/{side}", "0"))
            for side in ("xmin", "ymin", "xmax", "ymax")
        )
        boxes.append(
            Box(
                annotation.stem,
                index,
                element.findtext("name", ""),
                (left, top, right, bottom),
                size,
            )
        )
    return boxes


def fault(box: Box, neighbours: list[Box]) -> str | None:
    """Says why a box gives no clean crop, if it does not; neighbours are all boxes of its image."""
    left, top, right, bottom = box.corners
    if box.number in SHOWN_AGAIN:
        return "shown again"
    if min(right - left, bottom - top) < MIN_SIDE:
        return "degenerate"
    if (box.number, box.index) in MISLABELLED:
        return "mislabelled"
    if box.shift > MAX_SHIFT:
        return "off the middle"
    for other in neighbours:
        # Of two boxes of one class on one cell, the first is as good as both.
        if box.iou(other) > MAX_IOU and (other.label != box.label or other.index < box.index):
            return "coincides with another"
        if other.label == "WBC" != box.label and other.holds(box.centre):
            return "inside a WBC"
    return None


def lot(box: Box) -> float:
    """Draws the lot of a box: by its name, so that leaving out one box does not change what is
    drawn for the others."""
    return random.Random(f"{SEED}/{box.image}/{box.index}").random()


def spread(boxes: list[Box], number: int) -> list[Box]:
    """Picks boxes at random: one from every image before a second from any."""
    drawn: Counter[str] = Counter()
    turns: list[tuple[int, Box]] = []
    for box in sorted(boxes, key=lot):
        turns.append((drawn[box.image], box))
        drawn[box.image] += 1
    return [box for _, box in sorted(turns, key=lambda turn: turn[0])][:number]


def choose(annotations: list[Path]) -> Iterator[Box]:
    """Chooses the boxes to cut and prints what was left out."""
    clean: dict[str, list[Box]] = defaultdict(list)
    faults: Counter[tuple[str, str]] = Counter()
    for annotation in annotations:
        boxes = read_boxes(annotation)
        for box in boxes:
            if reason := fault(box, boxes):
                faults[box.label, reason] += 1
            else:
                clean[box.label].append(box)
    for (label, reason), number in sorted(faults.items()):
        print(f"left out: {number:4} {label}, {reason}")
    for label, number in WANTED.items():
        print(f"clean: {len(clean[label]):4} {label}")
        yield from spread(clean[label], number)


def cut(box: Box, images: Path, target: Path) -> None:
    """Cuts one crop out of its microscope image and reduces it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(images / f"{box.image}.jpg") as image:
        # LANCZOS of a reduction is antialiased in Pillow: its support grows with the factor.
        crop = image.convert("RGB").crop(box.window).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    crop.save(target, quality=QUALITY, optimize=True)


def attribution(boxes: list[Box]) -> str:
    """Writes what the crops are, in numbers that are their own."""
    counts = Counter(box.label for box in boxes)
    return ATTRIBUTION.format(
        total=len(boxes),
        counts=", ".join(f"{counts[label]} {label}" for label in WANTED),
        groups=len({box.image for box in boxes}),
        window=WINDOW,
        side=SIDE,
        factor=WINDOW / SIDE,
        shift=MAX_SHIFT,
        min_side=MIN_SIDE,
        iou=MAX_IOU,
        mislabelled=len(MISLABELLED),
        again=len(SHOWN_AGAIN),
    )


def main() -> None:
    """Makes the crops."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bccd", type=Path, help="folder of the BCCD data set")
    parser.add_argument(
        "output", type=Path, help="folder of the crops; its class folders are made anew"
    )
    args = parser.parse_args()

    boxes = list(choose(sorted((args.bccd / "BCCD" / "Annotations").glob("*.xml"))))
    for label in WANTED:
        shutil.rmtree(args.output / label, ignore_errors=True)
    rows = []
    for box in boxes:
        name = f"{box.label}/{box.image}_{box.index}.jpg"
        cut(box, args.bccd / "BCCD" / "JPEGImages", args.output / name)
        rows.append((name, box.label, box.image))
    with (args.output / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("file_name", "label", "group"), *sorted(rows)])
    shutil.copyfile(args.bccd / "LICENSE", args.output / "LICENSE")
    (args.output / "ATTRIBUTION.md").write_text(attribution(boxes), encoding="utf-8")

    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{len(boxes)} crops, {size:,} bytes: {dict(Counter(box.label for box in boxes))}")


if __name__ == "__main__":
    main()
