"""Makes the small files of the present formats that must open for ever: tests/data/formatN/, to be
committed and never made again.

usage: python tools/make_format_files.py [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from resnets.export import export_model
from resnets.formats import FORMAT
from resnets.modelfile import (
    describe_network,
    load_model,
    write_model,
)
from resnets.models import Network
from resnets.preprocessing import Preprocessing
from resnets.runtime import load
from resnets.tasks import TASKS, describe_task
from resnets.torch_engine import TorchEngine

CLASSES = ("ant", "bee", "Wespe mit Öl")


def make_picture() -> Image.Image:
    """A soft pattern, larger than the input and not square."""
    y, x = np.mgrid[0:31, 0:44]
    waves = [np.sin(x / (3 + color) + color) * np.cos(y / (5 - color)) for color in range(3)]
    return Image.fromarray(np.round(127.5 + 120 * np.stack(waves, 2)).astype(np.uint8))


def make_model(folder: Path) -> Path:
    """The model file of a network with weights from a seed; its answers are far from even."""
    network = Network.parse("resnet20 depths=1-1 widths=4-8", len(CLASSES))
    torch.manual_seed(1)
    net = network.build()
    for name, statistics in net.named_buffers():
        if not name.endswith("num_batches_tracked"):
            nn.init.uniform_(
                statistics, *((-0.2, 0.2) if name.endswith("running_mean") else (0.5, 1.5))
            )
    nn.init.normal_(net.fc.weight, std=1.0)
    metadata = {
        "network": describe_network(network, net, len(CLASSES), 3),
        "classes": list(CLASSES),
        "preprocessing": Preprocessing.square(16, 0.875).to_dict(),
        "task": describe_task(TASKS["classes"]()),
        "training": {"data": "made", "epochs": 0},
        "source": "tools/make_format_files.py",
    }
    write_model(folder / "tiny.safetensors", net.state_dict(), metadata)
    return folder / "tiny.safetensors"


def main() -> None:
    """Writes the files, unless they are there."""
    default = Path(__file__).parents[1] / "tests" / "data" / f"format{FORMAT}"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(
            f"{folder} is not empty: files of a format are made once; a change of the format is a"
            " new number"
        )
    picture = make_picture()
    picture.save(folder / "picture.png")
    model = load_model(make_model(folder))
    export_model(model, folder / "tiny.onnx", [picture])
    answers = {
        "tiny.safetensors": TorchEngine(model)(np.asarray(picture)[None])["probabilities"][0],
        "tiny.onnx": load(folder / "tiny.onnx").predict_image(picture).probabilities,
    }
    text = json.dumps(
        {name: [float(f"{value:.7g}") for value in values] for name, values in answers.items()},
        indent=1,
    )
    (folder / "answers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
