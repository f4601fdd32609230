"""How far an exported graph is from its model: what the limits of the proof are made from.

    python benchmarks/proof_limits.py photos/ --weights resnet50=resnet50.safetensors

Exports members of the family, with random weights and with the state dicts that are given, for every
fit and interpolation. Each graph runs in every installed engine on whole photos, on panoramas made
from them, and on a photo smaller than the input. First how far the prepared input is off, in grey
levels: the largest mean of an image and the largest of all. Then for each network, on images that
the graph need not scale, the largest difference of a probability and of the pooled features relative
to their length; and that of a probability on the whole images, where both add up.

    python benchmarks/proof_limits.py photos/ --form int8 resnet50.onnx
    python benchmarks/proof_limits.py bccd/BCCD --form bfloat16 runs/train/1/BCCD.onnx

makes files in another precision of exported files instead, of any task, with data laid out as for
training, and tells how far every engine is, at batches of 1 and 5, from the one that gives the
golden outputs, on the images on which `resnets export --precision` would judge.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from onnxscript import ir
from PIL import Image
from torch import nn

from resnets.export import comparison, graph
from resnets.export.calibration import divide, find_images, read_inputs, take_all
from resnets.export.forms import FORMS, Form
from resnets.export.judgement import REFERENCE
from resnets.kinds.prediction import Outputs
from resnets.modelfile import Model, describe_network
from resnets.models import Network
from resnets.preprocessing import FITS, RESAMPLING, Preprocessing
from resnets.pretrained import read_state
from resnets.runtime import folders, load
from resnets.runtime.engines import available_engines, make_engine, precision_in
from resnets.runtime.golden import whole
from resnets.runtime.onnxfile import read_onnx
from resnets.screen import Screen
from resnets.torch_engine import TorchEngine

NETWORKS = (
    "resnet18",
    "resnet50",
    "resnet152",
    "resnet50d",
    "resnext50_32x4d",
    "seresnet50",
    "skresnet50",
    "resnetblur50",
    "resnetv2_50x1_bit",
    "densenet121",
    "vit_tiny_patch16_224",
    "resnet20",
    "resnet110",
    "preresnet110",
    "preresnet164",
    "wrn16_8",
    "densenet_bc_100_12",
    "resnet18 shortcut=none",
)


def images(folder: Path, count: int) -> list[np.ndarray]:
    """Photos spread over a folder, with two panoramas and one small image."""
    files = list(folders.find_images(folder))
    chosen = [files[place] for place in np.linspace(0, len(files) - 1, count).astype(int)]
    photos = [Preprocessing().open(file) for file in chosen]
    first = photos[0]
    wide = first.resize((3000, 90), Image.Resampling.BICUBIC)
    tall = photos[-1].resize((70, 2500), Image.Resampling.BICUBIC)
    small = first.resize((61, 47), Image.Resampling.BILINEAR)
    return [whole(image) for image in (*photos, wide, tall, small)]


def make_model(words: str, weights: Path | None) -> tuple[Model, int]:
    """The network with given or random weights, and the side of its input."""
    classes = 1000 if weights else 10
    network = Network.parse(words, classes)
    torch.manual_seed(0)
    net = network.build()
    if weights:
        net.load_state_dict(read_state(weights))
    side = 32 if small_input(net) else 224
    names = tuple(map(str, range(classes)))
    return Model(net, names, Preprocessing(), describe_network(network, net, classes, 3)), side


def small_input(net: nn.Module) -> bool:
    """Whether the network is one for 32 x 32 pixels: its first convolution keeps the size."""
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    return first.stride == (1, 1)


def settings(side: int) -> Iterator[Preprocessing]:
    """Every fit with every interpolation."""
    for fit, interpolation in itertools.product(FITS, RESAMPLING):
        yield Preprocessing.square(side, 0.875, fit=fit, interpolation=interpolation)


def differences(model: Model, side: int, given: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The largest differences for every engine: of a probability, of the features, of a
    probability on whole images."""
    model.preprocessing = next(settings(side))
    run, kind = TorchEngine(model), model.task.kind
    traced = ir.to_proto(graph._trace(run.inference, model.preprocessing, kind))
    graph._trace = lambda *_: ir.from_proto(traced)  # the network is traced once, not for each fit
    found = {name: np.zeros(3) for name in available_engines()}
    for value in settings(side):
        model.preprocessing = value
        content = graph.to_bytes(graph.build_graph(run.inference, value, kind), "{}")
        wholes = [image[None] for image in given]
        framed = [value.framed(value.pixels(Image.fromarray(image)))[None] for image in given]
        expected = [run(batch) for batch in framed]
        for name, largest in found.items():
            engine = make_engine(name, content)
            alone = comparison.compare_outputs(engine, framed, expected, model).values
            both = comparison.compare_outputs(engine, wholes, expected, model).values
            numbers = alone["probability"], alone.get("features", 0.0), both["probability"]
            np.maximum(largest, numbers, out=largest)
    return found


def show_inputs(given: list[np.ndarray]) -> None:
    """How far the prepared input is off, for each preprocessing and engine."""
    model, _ = make_model("resnet18", None)
    inference, kind = TorchEngine(model).inference, model.task.kind
    for value in settings(224):
        model.preprocessing = value
        content = graph.front(graph.to_bytes(graph.build_graph(inference, value, kind), "{}"))
        inputs = [value.pixels(Image.fromarray(image))[None] for image in given]
        for name in available_engines():
            engine, wholes = make_engine(name, content), [image[None] for image in given]
            mean, most = comparison.compare_inputs(engine, wholes, inputs, model)
            print(f"{value.fit} {value.interpolation:9} {name:12} mean {mean:.4f} most {most:.2f}")


def show_form(form: Form, path: Path, data: str) -> None:
    """The largest differences between engines for a file in another precision, each at one image
    and in batches."""
    file, screen = read_onnx(path), Screen(quiet=True)
    kind, predictor = file.kind, load(path, REFERENCE)
    found = find_images(data, kind.name, set(), screen)
    gather = divide if form.calibrated else take_all
    images = gather(found, file.classes, data)
    content = path.read_bytes()
    ranges = read_inputs(predictor, images.calibration, 1, screen) if form.calibrated else []
    judged = np.concatenate(read_inputs(predictor, images.judged, 1, screen))
    graph = form.build(content, ranges).SerializeToString()
    print(f"{path.name}, {form.precision}, {images}")

    def run(name: str, count: int, precision: str) -> Outputs:
        shape = count, *judged.shape[1:]
        return make_engine(name, graph, 0, kind, shape, precision)(judged)

    expected = run(form.engine, 1, precision_in(form.engine, form.precision))
    for name in available_engines():
        for precision in dict.fromkeys((precision_in(name, form.precision), "float32")):
            for count in (1, 5):
                far = kind.differences(run(name, count, precision), expected, file.options)
                numbers = ", ".join(f"{what} {value:.2g}" for what, value in far.values.items())
                print(
                    f"  {name:12} {precision:9} batch {count}: {numbers}; same decision for"
                    f" {far.agreeing} of {len(judged)}",
                    flush=True,
                )


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", action="append", default=[], metavar="NETWORK=FILE")
    parser.add_argument("--count", type=int, default=5, help="photos for each network")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="with random weights")
    parser.add_argument("--form", nargs="+", metavar="PRECISION FILE.onnx")
    given = parser.parse_args()
    if given.form:
        precision, *paths = given.form
        for path in paths:
            show_form(FORMS[precision], Path(path), str(given.photos))
        return
    cases = [(name, Path(file)) for name, _, file in (w.partition("=") for w in given.weights)]
    cases += [(name, None) for name in given.networks.split(",") if name]
    photos, trace = images(given.photos, given.count), graph._trace
    print(f"{len(photos)} images; the input, in grey levels of 255")
    show_inputs(photos)
    print("probability / pooled features / probability on whole images", flush=True)
    for words, weights in cases:
        started, graph._trace = time.monotonic(), trace
        found = differences(*make_model(words, weights), photos)
        numbers = "  ".join(
            f"{name} {p:.1e} / {f:.1e} / {w:.1e}" for name, (p, f, w) in found.items()
        )
        kind = "given weights" if weights else "random"
        print(f"{words:28} {kind:14} {numbers}  ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
