"""How fast files of `resnets export` are here, in each engine: a process for each way to run one,
so that none has the memory or the threads of another, and a round of each in turn.

    python -m resnets.runtime.bench photos.onnx openvino float32 0

is such a process; it answers each line on its standard input with a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from resnets.runtime.cores import usable_cores
from resnets.runtime.engines import precision_in
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.opening import open_engine
from resnets.runtime.streams import batch_size

WARM = 3  # predictions before the first one that counts
SINGLES = 20  # predictions of a round, one after the other
BATCHES = 3  # of a round, in each thread
QUANTILES = (50, 95, 99)


class Way(NamedTuple):
    """How a file is run.

    Args:
        file: `NAME.onnx`.
        engine: A key of `engines.ENGINES`.
        precision: A key of `engines.PRECISIONS`, as of `make_engine`; empty for that of the file,
            as far as the engine computes in it.
        threads: That compute; 0 takes all cores.
    """

    file: Path
    engine: str
    precision: str = "float32"
    threads: int = 0


@dataclass
class Speed:
    """What was measured of a way.

    Args:
        way: What was run.
        version: Of the engine.
        start: Seconds from the start of a process to its first prediction.
        latencies: Seconds of single predictions for an image that is decoded and scaled.
        rates: Images a second in batches on all cores, of each round.
        peak: The most memory the process took, in bytes.
    """

    way: Way
    version: str
    start: float
    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    peak: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and tables."""
        found = np.percentile(self.latencies, QUANTILES).tolist()
        latency = {
            f"latency_p{quantile}_ms": round(seconds * 1000, 2)
            for quantile, seconds in zip(QUANTILES, found, strict=True)
        }
        return {
            "file": str(self.way.file),
            "engine": f"{self.way.engine} {self.version.partition('-')[0]}",
            "precision": self.way.precision,
            **latency,
            "images_per_second": round(float(np.median(self.rates)), 1),
            "images_per_second_range": [round(min(self.rates), 1), round(max(self.rates), 1)],
            "start_seconds": round(self.start, 2),
            "peak_megabytes": round(self.peak / 1e6),
            "file_megabytes": round(self.way.file.stat().st_size / 1e6, 1),
        }


def measure_speeds(
    ways: Sequence[Way], rounds: int, done: Callable[[int], None] = lambda count: None
) -> list[Speed]:
    """Runs each way in a process of its own, a round of each in turn.

    Args:
        ways: What is compared.
        rounds: How often each is measured.
        done: Told after each round how many there were.

    Raises:
        ValueError: A file is refused, or its engine is missing or cannot run it.
    """
    with contextlib.ExitStack() as stack:
        pairs = []
        for way in ways:
            began = time.perf_counter()
            command = [sys.executable, "-m", __name__, *map(str, way)]
            process = stack.enter_context(Asked(command))
            found = process.ask("predict")
            # the processor may lack what was asked for
            way = way._replace(precision=found["precision"])
            pairs.append((process, Speed(way, found["version"], time.perf_counter() - began)))
        for number in range(1, rounds + 1):
            for process, speed in pairs:
                speed.latencies += process.ask("singles")["seconds"]
                speed.rates.append(process.ask("batches")["rate"])
                speed.peak = process.ask("memory")["peak"]
            done(number)
        return [speed for _, speed in pairs]


class Asked:
    """A process that measures when it is asked (`answer`); it ends with the context.

    Args:
        command: What is run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()  # closes its input, upon which it ends

    def ask(self, what: str) -> dict[str, Any]:
        """What one of its methods gives.

        Raises:
            ValueError: It could not start to measure, or has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(what, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        found = json.loads(line or '{"error": "the process that measures has ended"}')
        if "error" in found:
            raise ValueError(found["error"])
        return dict(found)


def answer(make: Callable[[], object], methods: Sequence[str]) -> None:
    """The other end of `Asked`: answers each line on the standard input, the name of a method, with
    what that gives, as a line of JSON.

    Args:
        make: Opens what has the methods; why it cannot (ValueError) is the answer then.
        methods: Their names.
    """
    try:
        made = make()
    except ValueError as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201
        return
    asked = {name: getattr(made, name) for name in methods}
    for line in sys.stdin:
        print(json.dumps(asked[line.strip()]()), flush=True)  # noqa: T201


class Measured:
    """What is measured in such a process.

    Args:
        way: How its file is run.

    Raises:
        ValueError: As `measure_speeds`.
    """

    def __init__(self, way: Way) -> None:
        file = read_onnx(way.file)
        self.threads = way.threads or usable_cores()
        precision = way.precision or precision_in(way.engine, file.precision)
        self.engine = open_engine(file, way.engine, way.threads, precision)
        _, *shape = file.framed_shape
        self.size = batch_size(*file.preprocessing.framed_shape[:2])
        self._shape = (self.size, *shape)
        noise = np.random.default_rng(0).integers(0, 256, self._shape)
        self.images = noise.astype(file.preprocessing.dtype)
        self._batches: Callable[[np.ndarray], object] | None = None

    def predict(self) -> dict[str, Any]:
        """One image."""
        self.engine(self.images[:1])
        return {"version": self.engine.version, "precision": self.engine.precision}

    def singles(self) -> dict[str, Any]:
        """Seconds of images, one after the other."""
        return {"seconds": time_singles(lambda: self.engine(self.images[:1]))}

    def batches(self) -> dict[str, Any]:
        """Images a second in batches, on all cores at once."""
        engine = self._batches = self._batches or self.engine.for_batches(self._shape)
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(engine, [self.images] * self.threads))
            images = [self.images] * (BATCHES * self.threads)
            seconds = _seconds(lambda: list(pool.map(engine, images)))
        return {"rate": len(images) * self.size / seconds}

    def memory(self) -> dict[str, Any]:
        """The most memory that this process had, in bytes."""
        import resource  # not there on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def time_singles(predict: Callable[[], object]) -> list[float]:
    """Seconds of predictions for one image, one after the other."""
    for _ in range(WARM):
        predict()
    return [_seconds(predict) for _ in range(SINGLES)]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    _file, _engine, _precision, _threads = sys.argv[1:]
    _way = Way(Path(_file), _engine, _precision, int(_threads))
    answer(lambda: Measured(_way), ("predict", "singles", "batches", "memory"))
