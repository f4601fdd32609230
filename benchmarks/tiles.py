"""Whether the seams between tiles of a large image matter.

    python benchmarks/tiles.py runs/train/1 camvid/ --images 32

Large images are made from the validation images of a data set with masks: some are put side by side,
and a window is cut whose borders lie anywhere. Each is predicted as a whole, in tiles with the overlap
that `--tiles` has, with less and with none, and as one input as large as the image is at the scale of training,
which a network of convolutions takes and in which there is no seam. For each, mIoU; for tiles the
pixels that are another class than in the one large input, and the wrong pixels within `NEAR` pixels of
a seam, less those of the one large input at the same places, with the 95 % interval of the mean over
images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnets.data.sources import find_data
from resnets.evaluation.mask import compare, quick
from resnets.kinds.inverse import InverseTransform
from resnets.kinds.mask import MASK, MaskPrediction
from resnets.kinds.view import NOT_JUDGED
from resnets.modelfile import load_model
from resnets.runtime import tiles
from resnets.runtime.predictor import Predictor
from resnets.torch_engine import TorchEngine

SIDE = 4  # images beside and below one another; the window is one less
NEAR = 8  # pixels of the input


def make_image(samples, size, classes, rng):
    """A large image and its mask, put together from some of one size (height, width)."""
    chosen = [samples[place] for place in rng.choice(len(samples), SIDE**2, replace=False)]
    masks = [one.mask for one in MASK.ground_truth(chosen, classes)]
    images = [np.asarray(Image.open(one.path).convert("RGB")) for one in chosen]
    top, left = (int(rng.integers(side)) for side in size)
    window = np.s_[top : top + (SIDE - 1) * size[0], left : left + (SIDE - 1) * size[1]]
    return tuple(
        np.concatenate([np.concatenate(parts[i : i + SIDE], 1) for i in range(0, SIDE**2, SIDE)])[
            window
        ]
        for parts in (images, masks)
    )


def in_one(engine, plan, image):
    """The mask of one input as large as the image, and that input."""
    whole = plan.pixels(Image.fromarray(image))
    with torch.inference_mode():
        (found,) = engine.inference(torch.from_numpy(plan.normalise(whole[None])))
    return whole, found.numpy()


def near_seams(shape, size):
    """(H, W) bool."""
    near = np.zeros(shape, bool)
    for axis in (0, 1):
        for cut in list(tiles.cuts(shape[axis], size[axis]))[1:]:
            place = [slice(None), slice(None)]
            place[axis] = slice(cut.kept.start - NEAR, cut.kept.start + NEAR)
            near[tuple(place)] = True
    return near


def miou(truths, masks, classes):
    """Of all images together."""
    pairs = [
        [MaskPrediction("", classes, mask=one) for one in pair]
        for pair in zip(truths, masks, strict=True)
    ]
    return quick([compare(*pair) for pair in pairs]).main


def main():
    """Prints the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    model = load_model(options.model)
    engine, classes = TorchEngine(model), model.classes
    predictor = Predictor(engine, classes, model.preprocessing, model.metadata, MASK)
    plan = tiles.Tiles.of(model.preprocessing, model.metadata)
    samples = [one for one in find_data(options.data).samples if one.split == "val"]
    samples = [one for one in samples if Image.open(one.path).size == plan.image_size[::-1]]
    rng = np.random.default_rng(0)
    made = [make_image(samples, plan.image_size, classes, rng) for _ in range(options.images)]
    truths = [mask for _, mask in made]
    print(f"{len(made)} images of {truths[0].shape[1]} x {truths[0].shape[0]} pixels")
    whole = [predictor.predict_image(image).mask for image, _ in made]
    print(f"as a whole: mIoU {miou(truths, whole, classes):.4f}")
    inputs = [in_one(engine, plan, image) for image, _ in made]
    inverse = InverseTransform(*plan.axes(*truths[0].shape))
    seamless = [inverse.pixels(found)[0] for _, found in inputs]
    print(f"as one large input: mIoU {miou(truths, seamless, classes):.4f}")
    for overlap, stride in ((0.0, 1), (0.25, tiles.STRIDE), (tiles.OVERLAP, tiles.STRIDE)):
        tiles.OVERLAP, tiles.STRIDE = overlap, stride
        tiled = tiles.TiledEngine(engine, model.preprocessing.size, MASK)
        found = [tiled(one[None])["mask"] for one, _ in inputs]
        masks = [inverse.pixels(one)[0] for one in found]
        others = np.mean([(one != two).mean() for one, (_, two) in zip(found, inputs, strict=True)])
        near = inverse.pixels(near_seams(found[0].shape[1:], model.preprocessing.size))
        worse = np.array(
            [
                ((one != truth)[judged].mean() - (two != truth)[judged].mean())
                for one, two, truth in zip(masks, seamless, truths, strict=True)
                for judged in [near & (truth != NOT_JUDGED)]
            ]
        )
        reach = 1.96 * worse.std(ddof=1) / len(worse) ** 0.5
        print(
            f"in tiles, overlap {overlap:.0%}: mIoU {miou(truths, masks, classes):.4f}; {others:.1%} of the"
            f" pixels are another class than in the large input; near seams {100 * worse.mean():+.2f}"
            f" points of wrong pixels [{100 * (worse.mean() - reach):+.2f}, {100 * (worse.mean() + reach):+.2f}]"
        )


if __name__ == "__main__":
    main()
