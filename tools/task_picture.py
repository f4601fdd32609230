"""Make the picture of a task for the README: images that a run has not learnt from, with the ground
truth drawn on them, and beside it what the exported file of the run predicts.

    python tools/task_picture.py runs/demo-boxes docs/boxes.jpg
    python tools/task_picture.py RUN docs/mask.jpg     # a run on what tools/make_masks.py makes
    python tools/task_picture.py RUN docs/clips.jpg --rows 3 --width 210    # tools/make_clips.py

The images are spread evenly over those that the run was evaluated on: none is picked by its looks.
Of a video, three moments are shown. Nothing here depends on the task.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from resnets.clip import spread
from resnets.data.splits import read_split
from resnets.images import open_image
from resnets.kinds.prediction import Prediction
from resnets.kinds.sample import Sample
from resnets.kinds.view import View
from resnets.run.folder import RunFolder
from resnets.runtime import Predictor, load

GAP = 8  # pixels between images
TITLE = 15  # pixels, height of the letters above them
MOMENTS = 3  # of a video
QUALITY = 88


def chosen(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Images of the part that was evaluated, evenly spread over it."""
    parts = {sample.split for sample in samples}
    part = [sample for sample in samples if sample.split == ("test" if "test" in parts else "val")]
    return [part[(2 * place + 1) * len(part) // (2 * count)] for place in range(count)]


def drawn(prediction: Prediction, image: Image.Image, width: int) -> Image.Image:
    """A prediction on its image, scaled before, so that names can be read."""
    size = (round(image.height * width / image.width), width)
    seen = prediction.seen(View((0, 0, image.width, image.height), size))
    return seen.drawn(image.resize(size[::-1], Image.Resampling.LANCZOS))


def row(predictor: Predictor, sample: Sample, width: int) -> list[Image.Image]:
    """The ground truth of an image, and its prediction; of a video, that of some moments."""
    (prediction,) = predictor.predict(str(sample.path))
    if prediction.error:
        raise SystemExit(f"{sample.path}: {prediction.error}")
    (truth,) = predictor.kind.ground_truth([sample], predictor.classes)
    if predictor.kind.takes == "image":
        image = open_image(sample.path)[0]
        return [drawn(one, image, width) for one in (truth, prediction)]
    moments = list(spread(sample.path, 1e-6, MOMENTS))
    said = [drawn(prediction.at(second), image, width) for second, image in moments]
    return [drawn(truth, moments[0][1], width), *said]


def composed(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Rows of images below their titles."""
    width = max(len(one) * (one[0].width + GAP) for one in rows) - GAP
    height = TITLE + GAP + sum(max(tile.height for tile in one) + GAP for one in rows) - GAP
    whole = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(TITLE)
    for place, title in enumerate(("ground truth", "prediction")):
        draw.text((place * (rows[0][0].width + GAP), 0), title, "#59626b", font)
    top = TITLE + GAP
    for tiles in rows:
        for place, tile in enumerate(tiles):
            whole.paste(tile, (place * (tiles[0].width + GAP), top))
        top += max(tile.height for tile in tiles) + GAP
    return whole


def main() -> None:
    """Predicts, draws, and writes the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run, with its exported file")
    parser.add_argument("picture", type=Path, help="FILE.jpg to write")
    parser.add_argument("--rows", type=int, default=2, help="images or videos")
    parser.add_argument("--width", type=int, default=430, help="of an image, in pixels")
    options = parser.parse_args()
    predictor = load(next(options.run.glob("*.onnx")))
    samples = chosen(read_split(RunFolder(options.run).split), options.rows)
    picture = composed([row(predictor, sample, options.width) for sample in samples])
    picture.save(options.picture, quality=QUALITY, optimize=True)
    size = options.picture.stat().st_size / 1e3
    print(f"{options.picture}: {picture.width} x {picture.height}, {size:.0f} kB")


if __name__ == "__main__":
    main()
