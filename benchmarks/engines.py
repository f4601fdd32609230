"""A file of `resnets export` beside the engines as people use them by hand, one image at a time.

    python benchmarks/engines.py resnet18.onnx --weights resnet18.safetensors --model resnet18
    python benchmarks/engines.py resnet50.onnx --weights resnet50.safetensors --precision bfloat16

By hand: torchvision's network with the same weights, (1, 3, height, width) float32 that are normalised
already. ONNX Runtime and OpenVINO open what `torch.onnx.export` writes of it for inputs of this one size;
torch.compile takes the network itself, channels last, with the weights frozen in, in bfloat16 by autocast.
Ours: FILE in each engine, opened as `resnets predict` opens it for one image, from uint8
pixels to probabilities, of an image that its graph need not scale. OpenVINO has the hint LATENCY and the
precision that is asked for on both sides; ONNX Runtime computes in float32 alone. All have the same
threads.

Each contestant is a process of its own, as in `resnets bench`: in one process the thread pools of five
engines would wait for work on the cores of the one that is measured, and their memory would be of one
heap. They take turns, the order is turned round in every other round, and a turn begins after a pause in
which threads that spin fall asleep.

Printed, and with --csv FILE written: milliseconds for one image (the median of the rounds' medians, lowest
and highest round), and for each of ours how fast the fastest one by hand is beside it in the same round: 1
is as fast, below 1 is slower. Then what each says of the image, so that nobody measures another network.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from predict_folder import processor

from resnets.runtime.bench import Asked, answer, time_singles
from resnets.runtime.cores import usable_cores
from resnets.runtime.decoding import read_input
from resnets.runtime.engines import ENGINES, PRECISIONS, available_engines
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.opening import open_engine
from resnets.runtime.packages import import_onnxruntime, import_openvino

PAUSE = 0.3  # seconds; OpenMP's threads spin for 0.2 s at most
COLUMNS = ("contestant", "precision", "threads", "round", "median_ms", "lowest_ms", "highest_ms")
Values = Callable[[], np.ndarray]  # one prediction: a number for each class


class Setup(NamedTuple):
    """What a contestant is made from.

    Args:
        name: A key of `BY_HAND`, or of `ENGINES` behind "resnets ".
        file: Of `resnets export`.
        folder: With the same network exported by hand, and the image as both sides take it.
        weights: torchvision's state dict.
        model: torchvision's name of the network.
        precision: A key of `PRECISIONS`.
        threads: That compute.
    """

    name: str
    file: str
    folder: str
    weights: str
    model: str
    precision: str
    threads: str

    @property
    def by_hand(self) -> Path:
        """The network exported by hand."""
        return Path(self.folder, "by-hand.onnx")

    @property
    def image(self) -> np.ndarray:
        """(1, 3, height, width) float32, normalised."""
        return np.load(Path(self.folder, "normalised.npy"))

    @property
    def framed(self) -> np.ndarray:
        """(1, height, width, 3) uint8, which the graph of `file` need not scale."""
        return np.load(Path(self.folder, "framed.npy"))


def onnxruntime(setup: Setup) -> Values:
    """ONNX Runtime with its default settings."""
    library = import_onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads = int(setup.threads)
    session = library.InferenceSession(setup.by_hand, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: setup.image}
    return lambda: session.run(None, inputs)[0][0]


def openvino(setup: Setup) -> Values:
    """OpenVINO with its hint for one image at a time."""
    core = import_openvino().Core()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISIONS[setup.precision],
        "INFERENCE_NUM_THREADS": int(setup.threads),
    }
    request = core.compile_model(setup.by_hand, "CPU", options).create_infer_request()
    image = setup.image
    return lambda: request.infer([image])[0][0]


def torch_compile(setup: Setup) -> Values:
    """torch.compile as PyTorch advises for inference on processors."""
    import torch
    from torch._inductor import config

    torch.set_num_threads(int(setup.threads))
    config.freezing = True  # weights are constants; batch norms are folded into convolutions
    net = torch.compile(network(setup).to(memory_format=torch.channels_last))
    image = torch.from_numpy(setup.image).to(memory_format=torch.channels_last)
    shorter = setup.precision == "bfloat16"

    @torch.inference_mode()
    def predict() -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16, enabled=shorter):
            return net(image)[0].float().numpy()

    return predict


BY_HAND: Mapping[str, Callable[[Setup], Values]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torch.compile": torch_compile,
}


def ours(setup: Setup) -> Values:
    """FILE as `resnets predict` opens it for one image."""
    file, name = read_onnx(setup.file), setup.name.removeprefix("resnets ")
    engine = open_engine(file, name, int(setup.threads), setup.precision)
    image = setup.framed
    return lambda: engine(image)["probabilities"][0]


class Contestant:
    """One side, in a process of its own."""

    def __init__(self, setup: Setup) -> None:
        self._own = setup.name not in BY_HAND
        self._predict = ours(setup) if self._own else BY_HAND[setup.name](setup)

    def values(self) -> dict[str, list[float]]:
        """The probabilities of the classes."""
        found = self._predict().astype(np.float64)
        if not self._own:
            found = np.exp(found - found.max())
            found /= found.sum()
        return {"probabilities": found.tolist()}

    def singles(self) -> dict[str, list[float]]:
        """Seconds of one image, time and again."""
        return {"seconds": time_singles(self._predict)}


def network(setup: Setup):
    """torchvision's, with the weights."""
    import safetensors.torch
    import torchvision

    net = torchvision.models.get_model(setup.model, weights=None).eval()
    net.load_state_dict(safetensors.torch.load_file(setup.weights))
    return net


def prepare(setup: Setup, photo: Path | None) -> None:
    """Writes the image as both sides take it, and the network exported by hand."""
    import torch

    file = read_onnx(setup.file)
    value = file.preprocessing
    framed = read_input(photo, value).framed if photo else file.golden[0].image
    vertical, horizontal = value.axes(*framed.shape[:2])
    seen = framed[
        vertical.offset : vertical.offset + vertical.size,
        horizontal.offset : horizontal.offset + horizontal.size,
    ]
    image = np.ascontiguousarray(value.normalise(seen[None]))
    np.save(Path(setup.folder, "framed.npy"), framed[None])
    np.save(Path(setup.folder, "normalised.npy"), image)
    torch.onnx.export(
        network(setup),
        (torch.from_numpy(image),),
        setup.by_hand,
        external_data=False,
        verbose=False,
    )


def main() -> None:
    """Starts the contestants, runs the rounds and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--photo", type=Path, help="an image; default: the first one in FILE")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    engines = [
        name
        for name in available_engines()
        if given.precision == "float32" or name != "onnxruntime"
    ]
    names = [name for name in BY_HAND if name in engines or name not in ENGINES]
    names += [f"resnets {name}" for name in engines]
    threads = str(given.threads or usable_cores())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        common = (given.file, folder, given.weights, given.model, given.precision, threads)
        prepare(Setup("", *common), given.photo)
        processes, said = {}, {}
        for name in names:
            command = [sys.executable, __file__, "--contestant", name, *common]
            processes[name] = stack.enter_context(Asked(command))
            said[name] = np.array(processes[name].ask("values")["probabilities"])
        found = {name: [] for name in names}
        for number in range(given.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                time.sleep(PAUSE)
                found[name].append(processes[name].ask("singles")["seconds"])
    print(f"{processor()}; {Path(given.file).name}, {given.precision}, {threads} threads")
    tell(found)
    compare(said, read_onnx(given.file).classes)
    if given.csv:
        write(given.csv, found, given.precision, threads)


def tell(found: Mapping[str, list[list[float]]]) -> None:
    """A line for each contestant: seconds by round."""
    medians = {name: [*map(statistics.median, rounds)] for name, rounds in found.items()}
    for name, values in medians.items():
        low, middle, high = (1000 * f(values) for f in (min, statistics.median, max))
        print(f"{name:20} {middle:7.2f} ms ({low:.2f} to {high:.2f})")
    best = min(BY_HAND.keys() & medians, key=lambda name: statistics.median(medians[name]))
    for name in medians.keys() - BY_HAND.keys():
        ratios = [one / own for one, own in zip(medians[best], medians[name], strict=True)]
        print(
            f"{name}: {statistics.median(ratios):.3f} times as fast as {best}"
            f" ({min(ratios):.3f} to {max(ratios):.3f}), {len(ratios)} rounds"
        )


def compare(said: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> None:
    """What each says of the image, and how far it is from the first one."""
    first = next(iter(said.values()))
    for name, values in said.items():
        place = int(values.argmax())
        print(
            f"{name:20} {classes[place]} {values[place]:.4f}, largest difference"
            f" {np.abs(values - first).max():.1e}"
        )


def write(
    target: Path, found: Mapping[str, list[list[float]]], precision: str, threads: str
) -> None:
    """A row for each contestant and round."""
    with target.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, rounds in found.items():
            for number, seconds in enumerate(rounds):
                times = (f"{1000 * f(seconds):.3f}" for f in (statistics.median, min, max))
                writer.writerow((name, precision, threads, number, *times))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        answer(lambda: Contestant(Setup(*sys.argv[2:])), ("values", "singles"))
    else:
        main()
