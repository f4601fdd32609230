"""What a billion images cost, reckoned from what is measured here.

    python benchmarks/scale.py resnet18.onnx photos/ [--cores 64] [--images 1e9] [--rounds 3]

PHOTOS has a subfolder for each class. Measured on this machine: images a second that one core decodes
(`read_input`, the photos as they are and 20 of them enlarged to 12 megapixels), images a second that the
network computes in batches with all cores busy (`resnets bench`, the faster engine), divided by the cores;
seconds of `resnets predict` as a new process for 1,024 and 2,048 images, in one process and with
`--ray local`; bytes of the Parquet files for each image; and how many blocks a second Ray hands out,
of --blocks in which there is nothing to do. The difference of 1,024 and 2,048 images tells what an image costs, and
what is left is the start.

Reckoned, and printed: an image takes the time to decode it, the time to compute it, and the share that whole
runs with Ray take beyond both, here. So many core hours, days of machines with --cores physical cores each,
bytes of input at the mean size of a file, bytes of output, and bytes a second that each machine reads. That
cores of a larger machine are as fast as these, and its disks and its network too, is for the reader to
measure: the script takes minutes.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as parquet
from PIL import Image
from predict_folder import enlarge, processor

from resnets.preprocessing import Preprocessing
from resnets.runtime import cluster
from resnets.runtime.bench import Way, measure_speeds
from resnets.runtime.blocks import SIZE, Block
from resnets.runtime.cores import usable_cores
from resnets.runtime.decoding import read_input
from resnets.runtime.engines import available_engines
from resnets.runtime.onnxfile import read_onnx

COUNTS = 1024, 2048  # images of a run: one and two blocks for each of two cores
LARGE, FEW = 12, 20  # megapixels, and how many photos are enlarged
MACHINES = 1, 10, 100
DAY = 24 * 60 * 60


class Photos(NamedTuple):
    """Photos of one size.

    Args:
        name: How large they are.
        size: Bytes of a file, on average.
        decoded: Images a second that a core decodes.
    """

    name: str
    size: float
    decoded: float


class Runs(NamedTuple):
    """Whole runs of `resnets predict` on all cores.

    Args:
        start: Seconds that do not depend on how many images there are.
        rate: Images a second beyond that.
    """

    start: float
    rate: float

    @classmethod
    def of(cls, fewer: float, more: float) -> Runs:
        """From the seconds for either of `COUNTS`.

        Raises:
            ValueError: More images took less time.
        """
        if more <= fewer:
            raise ValueError(
                f"{COUNTS[1]:,} images took {more:.1f} s and {COUNTS[0]:,} took {fewer:.1f} s:"
                " something else runs here; repeat it alone, or with more --rounds"
            )
        rate = (COUNTS[1] - COUNTS[0]) / (more - fewer)
        return cls(more - COUNTS[1] / rate, rate)


class Cost(NamedTuple):
    """What a number of images costs.

    Args:
        rate: Images a second and core.
        core_hours: Of all images.
        stored: Bytes of the input.
        written: Bytes of the output.
    """

    rate: float
    core_hours: float
    stored: float
    written: float

    def days(self, machines: int, cores: int) -> float:
        """Of machines with so many cores each."""
        return self.core_hours / 24 / machines / cores


def reckon(images: float, photos: Photos, computed: float, beyond: float, row: float) -> Cost:
    """What images cost.

    Args:
        images: How many.
        photos: Their size.
        computed: Images a second and core by the network.
        beyond: Time of whole runs by that of decoding and computing alone.
        row: Bytes that are written for each.
    """
    rate = 1 / ((1 / photos.decoded + 1 / computed) * beyond)
    return Cost(rate, images / rate / 3600, images * photos.size, images * row)


def main() -> None:
    """Measures, reckons and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=float, default=1e9)
    parser.add_argument("--cores", type=int, default=64, help="physical cores of a machine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    given = parser.parse_args()
    here = usable_cores()
    files = sorted(given.photos.glob("*/*"))
    value = read_onnx(given.file).preprocessing
    ways = [Way(given.file, engine) for engine in available_engines()]
    speeds = measure_speeds(ways, given.rounds)
    best = max(speeds, key=lambda speed: statistics.median(speed.rates))
    computed = statistics.median(best.rates) / here
    print(f"{processor()}; {given.file.name}, {best.way.engine} {best.version.partition('-')[0]}")
    print(f"network: {computed:.1f} images/s a core, in batches, {here} cores busy")
    large = enlarged(files[:FEW], given.out / "large")
    sizes = [
        look(name, some, value, given.rounds)
        for name, some in (("photos", files), (f"{LARGE} megapixels", large))
    ]
    one, ray, row = whole_runs(given, files, best.way.engine)
    beyond = here / ray.rate / (1 / sizes[0].decoded + 1 / computed)
    for name, runs in (("in one process", one), ("with --ray local", ray)):
        print(
            f"{name}: {runs.rate / here:.1f} images/s a core, after {runs.start:.1f} s of start;"
            f" decoding and computing alone: {1 / (1 / sizes[0].decoded + 1 / computed):.1f}"
        )
    print(f"written: {row:.1f} bytes an image")
    seconds = hand_out(given.blocks)
    print(
        f"handed out: {given.blocks / seconds:.0f} blocks/s without work in them, of {SIZE} images"
    )
    for photos in sizes:
        tell(reckon(given.images, photos, computed, beyond, row), photos.name, given)


def tell(cost: Cost, name: str, given: argparse.Namespace) -> None:
    """The reckoning for photos of one size."""
    print(
        f"{given.images:,.0f} images ({name}) at {cost.rate:.1f} a second and core:"
        f" {cost.core_hours:,.0f} core hours; input {cost.stored / 1e12:,.1f} TB, output"
        f" {cost.written / 1e9:,.1f} GB"
    )
    for machines in MACHINES:
        days = cost.days(machines, given.cores)
        read = cost.stored / (days * DAY) / machines
        blocks = cost.rate * given.cores * machines / SIZE
        print(
            f"  {machines:3} x {given.cores} cores: {days:5.2f} days ({24 * days:.1f} hours); each"
            f" reads {read / 1e6:,.0f} MB/s, together {blocks:.1f} blocks/s"
        )


def enlarged(files: Sequence[Path], folder: Path) -> list[Path]:
    """Some photos with `LARGE` megapixels."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [folder / f"{file.stem}.jpg" for file in files]
    for file, target in zip(files, found, strict=True):
        if not target.exists():
            enlarge(file, target, LARGE)
    return found


def look(name: str, files: Sequence[Path], value: Preprocessing, rounds: int) -> Photos:
    """Measures how large photos are and how fast they are decoded."""
    size = statistics.mean(file.stat().st_size for file in files)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for file in files:
            read_input(file, value)
        times.append(time.perf_counter() - began)
    rates = [len(files) / seconds for seconds in times]
    print(
        f"{name}: {size / 1000:.0f} KB a file; decoded {statistics.median(rates):.1f} images/s on"
        f" one core ({min(rates):.1f} to {max(rates):.1f})"
    )
    return Photos(name, size, statistics.median(rates))


def whole_runs(
    given: argparse.Namespace, files: Sequence[Path], engine: str
) -> tuple[Runs, Runs, float]:
    """Runs in one process, runs with Ray, and bytes that these write for an image."""
    command = [sys.executable, "-m", "resnets", "predict", str(given.file)]
    times: dict[tuple[str, int], list[float]] = {}
    for _, count in itertools.product(range(given.rounds), COUNTS):
        folder = repeated(files, given.out / str(count), count)
        for name, options in (("one", ()), ("ray", ("--ray", "local"))):
            target = given.out / ("rows" if options else "rows.parquet")
            shutil.rmtree(target, ignore_errors=True)
            for old in given.out.glob("rows.parquet*"):
                old.unlink()
            began = time.perf_counter()
            subprocess.run(
                [*command, str(folder), "--engine", engine, *options, "-o", str(target)],
                check=True,
                stderr=subprocess.DEVNULL,
            )
            times.setdefault((name, count), []).append(time.perf_counter() - began)
    written = list((given.out / "rows").glob("*.parquet"))
    rows = sum(parquet.read_metadata(file).num_rows for file in written)
    assert rows == COUNTS[-1], f"{rows} rows of {COUNTS[-1]} images"
    one, ray = (
        Runs.of(*(statistics.median(times[name, count]) for count in COUNTS))
        for name in ("one", "ray")
    )
    return one, ray, sum(file.stat().st_size for file in written) / rows


def repeated(files: Sequence[Path], folder: Path, count: int) -> Path:
    """So many images: after the photos themselves, the same without their first columns, so that
    no two have the same row."""
    if folder.exists():
        return folder
    for number, file in enumerate(itertools.islice(itertools.cycle(files), count)):
        target = folder / file.parent.name / f"{number:05}_{file.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        left = number // len(files)
        if left:
            with Image.open(file) as image:
                seen = image.convert("RGB").crop((left, 0, image.width, image.height))
            seen.save(target, quality=90)
        else:
            shutil.copy(file, target)
    return folder


class Idle:
    """A worker that has nothing to do."""

    def __init__(self, task: Any) -> None:
        pass

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        """Counts the block."""
        return {"images": row["count"], "failed": 0}


def hand_out(count: int) -> float:
    """Seconds for so many blocks, beyond those for one."""

    def seconds(blocks: Sequence[Block]) -> float:
        began = time.perf_counter()
        done: Iterator[dict[str, int]] = cluster._hand_out(None, blocks, "local")
        assert sum(one["images"] for one in done) == SIZE * len(blocks)
        return time.perf_counter() - began

    cluster.Worker = Idle
    blocks = [Block(number, SIZE, (), "names.txt", 20_000 * number) for number in range(count)]
    return seconds(blocks) - seconds(blocks[:1])


if __name__ == "__main__":
    main()
