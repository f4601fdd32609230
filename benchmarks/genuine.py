"""A network with genuine weights beside torchvision's own model and transforms, on the same files.

    python benchmarks/genuine.py resnet50 resnet50.safetensors photos/

The state dict is torchvision's; `photos/` is any folder of pictures. Prints how many top-1 answers
are the same, and the largest difference of a probability and of an input pixel; where there is a
folder for each WordNet id, also how often each is right.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torchvision
from PIL import Image

from resnets.imagenet import names_by_wnid
from resnets.run.opening import open_model
from resnets.runtime.folders import find_images
from resnets.screen import Screen
from resnets.torch_engine import TorchEngine


@torch.inference_mode()
def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network")
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", type=Path)
    given = parser.parse_args()
    theirs = torchvision.models.get_model(given.network, weights=None).eval()
    theirs.load_state_dict(safetensors.torch.load_file(given.weights))
    transform = torchvision.models.get_model_weights(given.network)["IMAGENET1K_V1"].transforms()
    ours = open_model(str(given.weights), given.network, None, Screen())
    run = TorchEngine(ours).run
    places = {wnid: number for number, wnid in enumerate(names_by_wnid())}
    rows = []
    for file in find_images([given.photos]):
        picture = Image.open(file).convert("RGB")
        inputs = transform(picture)[None]
        expected = theirs(inputs).softmax(1)[0].numpy()
        pixels = ours.preprocessing.pixels(ours.preprocessing.open(file))[None]
        found = run(pixels)["probabilities"][0]
        pixel = float((torch.from_numpy(ours.preprocessing.normalise(pixels)) - inputs).abs().max())
        label = places.get(Path(file).parent.name, -1)
        rows.append((expected.argmax() == found.argmax(), abs(expected - found).max(), pixel,
                     expected.argmax() == label, found.argmax() == label))  # fmt: skip
    same, probability, pixel, their_right, our_right = map(np.array, zip(*rows, strict=True))
    print(
        f"{given.network}: same top class for {same.sum()} of {len(rows)} pictures; right:"
        f" {our_right.sum()}, torchvision {their_right.sum()}; largest difference of a probability"
        f" {probability.max():.1e}, of a normalised input {pixel.max():.1e}"
    )


if __name__ == "__main__":
    main()
