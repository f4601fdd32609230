"""Make the sample of satellite images that ships with the package from the EuroSAT data set.

    python tools/make_sample.py EUROSAT src/resnets/sample

EUROSAT is a folder with LICENSE and a folder of JPEG tiles for each kind of land, as
https://github.com/phelber/EuroSAT has them (RGB).
"""

import argparse
import random
import shutil
from pathlib import Path

from PIL import Image

COUNT = 150  # tiles of each class
SIDE = 64  # pixels of a tile
SEED = 0

ATTRIBUTION = """\
# Kinds of land: the sample

{total:,} of the 27,000 tiles of [EuroSAT](https://github.com/phelber/EuroSAT), {count} of each of its {classes} classes, drawn by a seed
from {pool:,} of them and copied as they are: RGB, {side} × {side} pixels at 10 m a pixel, JPEG. EuroSAT is under the MIT licence (see `LICENSE`):

> Patrick Helber, Benjamin Bischke, Andreas Dengel, Damian Borth: *EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use
> and Land Cover Classification*, IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing, 2019,
> [arXiv:1709.00029](https://arxiv.org/abs/1709.00029).

The tiles contain modified Copernicus Sentinel data: they were cut from images of Sentinel-2.

| | |
|---|---|
| Made by | `python tools/make_sample.py EUROSAT src/resnets/sample` |
| File | `CLASS/CLASS_NUMBER.jpg`, as in EuroSAT: the name of a tile tells its class wherever it lies |

**Where a tile was cut is not known**, so tiles of one place may stand on both sides of a split. A few labels of EuroSAT are open to
doubt: pasture and crops, or a highway and a river, may look alike at 10 m a pixel.
"""


def lot(tile: Path) -> float:
    """Draws the lot of a tile by its name, so that it does not depend on which others there are."""
    return random.Random(f"{SEED}/{tile.name}").random()


def copy_class(source: Path, target: Path) -> None:
    """Copies some tiles of a class.

    Raises:
        SystemExit: There are too few, or one is not what it should be.
    """
    tiles = sorted(sorted(source.glob("*.jpg"), key=lot)[:COUNT])
    if len(tiles) < COUNT:
        raise SystemExit(f"{source}: {len(tiles)} tiles; {COUNT} are needed")
    target.mkdir(parents=True)
    for tile in tiles:
        with Image.open(tile) as image:
            if (image.format, image.mode, image.size) != ("JPEG", "RGB", (SIDE, SIDE)):
                raise SystemExit(f"{tile}: {image.format}, {image.mode}, {image.size}")
        shutil.copyfile(tile, target / tile.name)


def main() -> None:
    """Makes the sample anew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("eurosat", type=Path, help="folder of the EuroSAT data set")
    parser.add_argument("output", type=Path, help="folder of the sample, made anew")
    args = parser.parse_args()

    classes = sorted(path for path in args.eurosat.iterdir() if path.is_dir())
    shutil.rmtree(args.output, ignore_errors=True)
    for folder in classes:
        copy_class(folder, args.output / folder.name)
    shutil.copyfile(args.eurosat / "LICENSE", args.output / "LICENSE")
    text = ATTRIBUTION.format(
        total=COUNT * len(classes),
        count=COUNT,
        classes=len(classes),
        pool=sum(1 for _ in args.eurosat.glob("*/*.jpg")),
        side=SIDE,
    )
    (args.output / "ATTRIBUTION.md").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{COUNT} tiles of each of {len(classes)} classes, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
