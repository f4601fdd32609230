"""Make masks of blood cells from images with boxes, such as the sample that ships with the package.

    python tools/make_masks.py OUT src/resnets/sample_boxes

OUT gets classes.txt and train|val/images and masks. A pixel belongs to a cell where green light is
absorbed (Otsu's threshold in each image) or near the middle of a red cell, which is pale; the class
is that of the box in which it lies deepest. What is dark and in no box is not judged (255): boxes
are incomplete. So the masks are derived, not drawn by a person: they show that a task works, and
are no ground truth about cells.
"""

import argparse
import csv
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("background", "Platelets", "RBC", "WBC")
NOT_JUDGED = 255
REACH = 1.15  # of the ellipse in a box that may belong to the cell; annotators cut corners
PALE = 0.6  # of the radius of a red cell, which is filled whatever its colour

Box = tuple[float, float, float, float, int]  # left, top, right, bottom, class


def otsu(values: np.ndarray) -> int:
    """The grey level that parts values into two groups, each as alike as may be."""
    counts = np.bincount(values.ravel(), minlength=256).astype(float)
    below, total = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    apart = total[-1] * below - below[-1] * total
    spread = np.where((below > 0) & (above > 0), apart**2 / np.maximum(below * above, 1), 0)
    return int(spread.argmax())


def mask_of(image: Image.Image, boxes: list[Box]) -> np.ndarray:
    """(H, W) uint8 of the classes."""
    green = np.asarray(image.convert("RGB"))[..., 1]
    dark = green <= otsu(green)
    y, x = np.mgrid[: green.shape[0], : green.shape[1]] + 0.5
    nearest, label = np.full(green.shape, np.inf), np.zeros(green.shape, np.uint8)
    for left, top, right, bottom, place in boxes:
        across = (2 * x - left - right) / (right - left)
        down = (2 * y - top - bottom) / (bottom - top)
        radius = np.hypot(across, down)
        closer = radius < nearest
        nearest[closer], label[closer] = radius[closer], place
    pale = (nearest < PALE) & (label == CLASSES.index("RBC"))
    mask = np.where((dark & (nearest < REACH)) | pale, label, 0)
    mask[dark & (nearest >= REACH)] = NOT_JUDGED
    return mask.astype(np.uint8)


def read_boxes(table: Path) -> dict[tuple[str, str], list[Box]]:
    """The boxes of each image, by its part and name."""
    found: dict[tuple[str, str], list[Box]] = defaultdict(list)
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            left, top, right, bottom = (
                float(row[side]) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            box = (left, top, right, bottom, CLASSES.index(row["label"]))
            found[row["split"], row["file_name"]].append(box)
    return found


def main() -> None:
    """Writes images, masks and names of classes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("source", type=Path, help="folder with boxes.csv and images")
    options = parser.parse_args()
    found = read_boxes(options.source / "boxes.csv")
    for (part, name), boxes in found.items():
        images, masks = (options.output / part / kind for kind in ("images", "masks"))
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(exist_ok=True)
        source = options.source / name
        shutil.copy(source, images / source.name)
        with Image.open(source) as image:
            mask = Image.fromarray(mask_of(image, boxes))
        mask.save(masks / f"{source.stem}.png", optimize=True)
    (options.output / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    shutil.copy(options.source / "LICENSE", options.output / "LICENSE")
    print(f"{len(found)} images with masks of {len(CLASSES)} classes in {options.output}")


if __name__ == "__main__":
    main()
