"""How much memory `resnets predict` takes, with every process it starts.

    python benchmarks/memory.py [--huge 4] [--engines onnxruntime,openvino]

Makes 50 photos of 12 megapixels (JPEG, 4000 x 3000) and a PNG of 13,000 x 13,000 with transparency in a
temporary folder, and a ResNet-20 file. Predicts the photos, then the huge image, then all of them
together, and prints the peak of the resident memory of the process tree (summed over its processes
every 5 ms, from /proc, so Linux only) and the seconds. Exits with 1 where a peak is above what is
promised: 300 MB for the photos, 1 GB for anything.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnets import create_model
from resnets.export import export_model
from resnets.modelfile import Model, describe_network
from resnets.models import Network
from resnets.preprocessing import Preprocessing

PROMISED = {"photos": 300, "huge": 1000, "together": 1000}  # megabytes


def write_photos(folder: Path, count: int) -> None:
    """Soft noise at 12 megapixels; each is another one."""
    folder.mkdir()
    for number in range(count):
        values = np.random.default_rng(number).integers(0, 256, (75, 100, 3), np.uint8)
        Image.fromarray(values).resize((4000, 3000)).save(folder / f"{number:02d}.jpg", quality=90)


def write_huge(folder: Path, count: int) -> None:
    """13,000 x 13,000 pixels with transparency; one colour, so that the file is small."""
    folder.mkdir()
    Image.new("RGBA", (13_000, 13_000), (200, 30, 30, 128)).save(folder / "0.png", compress_level=1)
    for number in range(1, count):
        shutil.copy(folder / "0.png", folder / f"{number}.png")


def write_model(path: Path) -> None:
    """A ResNet-20 with random weights, made for photos."""
    torch.manual_seed(0)
    network = Network.parse("resnet20", 10)
    net = create_model("resnet20", num_classes=10)
    names = tuple(map(str, range(10)))
    model = Model(net, names, Preprocessing(), describe_network(network, net, 10, 3))
    export_model(model, path, [Image.new("RGB", (320, 240), "gray")])


def tree(process: int) -> list[int]:
    """A process and all below it."""
    found = [process]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:  # it has ended
                continue
    return found


def resident(process: int) -> int:
    """Bytes of memory, 0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def measure(command: list[str]) -> tuple[float, float]:
    """The peak in megabytes and the seconds of a command."""
    started, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            peak = max(peak, sum(map(resident, tree(running.pid))))
            time.sleep(0.005)
    assert running.returncode == 0, f"{command} ended with {running.returncode}"
    return peak / 1e6, time.monotonic() - started


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--huge", type=int, default=1, help="huge images; each is decoded alone")
    parser.add_argument("--engines", default="onnxruntime,openvino")
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", given.photos)
        write_huge(folder / "huge", given.huge)
        write_model(folder / "resnet20.onnx")
        parts = {"photos": ["photos"], "huge": ["huge"], "together": ["photos", "huge"]}
        print(f"{'engine':12} {'images':9} {'peak MB':>8} {'promised':>9} {'seconds':>8}")
        for engine in given.engines.split(","):
            for part, inputs in parts.items():
                command = [sys.executable, "-m", "resnets", "predict", f"{folder}/resnet20.onnx"]
                command += [str(folder / name) for name in inputs]
                command += ["--engine", engine, "-o", f"{folder}/{engine}-{part}.csv"]
                peak, seconds = measure(command)
                failed |= peak > PROMISED[part]
                print(
                    f"{engine:12} {part:9} {peak:8.0f} {PROMISED[part]:9} {seconds:8.1f}",
                    flush=True,
                )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
