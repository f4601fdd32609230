"""For the tests of files in other precisions: images of three colours, a network that tells them
apart, and speeds that are made up."""

import numpy as np
import torch
from PIL import Image
from test_export import make_model

from resnets.export import export_model, judgement
from resnets.export.speed import Speed
from resnets.preprocessing import Preprocessing

COLOURS = {"ant": (200, 60, 50), "bee": (50, 180, 60), "Öl": (40, 60, 200)}
CLASSES = tuple(COLOURS)  # of `make_model`


def write_images(folder):
    """120 images of three colours, in a folder of classes."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(40):
            pixels = np.clip(np.array(colour) + rng.normal(0, 40, (40, 36, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.png")
    return folder


def export_fitted(images, path):
    """A network whose head is fitted to the images, as a float32 file."""
    model = make_model("resnet20 widths=16-32-64", Preprocessing.square(32, 0.875))
    opened = [
        (place, model.preprocessing.pixels(model.preprocessing.open(file)))
        for place, name in enumerate(CLASSES)
        for file in sorted((images / name).iterdir())[:20]
    ]
    inputs = torch.from_numpy(
        model.preprocessing.normalise(np.stack([pixels for _, pixels in opened]))
    )
    with torch.no_grad():
        features = model.net.forward_features(inputs).mean((2, 3))
        wanted = torch.nn.functional.one_hot(torch.tensor([place for place, _ in opened])).float()
        middle = features.mean(0)
        weight = torch.linalg.lstsq(features - middle, 8 * (wanted - 1 / 3)).solution.T
        model.net.fc.weight.copy_(weight)
        model.net.fc.bias.copy_(-weight @ middle)
    file = next((images / "bee").iterdir())
    export_model(model, path, [model.preprocessing.open(file)])
    return path


def make_up_speeds(patch, gain):
    """As of a machine on which the other file is so many times as fast as that in float32; how fast
    they are here is to decide no test."""

    def measure(timed, kind, images):
        seconds = [0.002 / (1 if one.source == timed[0].source else gain) for one in timed]
        return [Speed((one,), (one * len(images),), len(images)) for one in seconds]

    patch.setattr(judgement, "measure_speeds", measure)
