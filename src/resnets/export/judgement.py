"""A file in another precision beside the float32 file that it was made from: predictions, speeds,
sizes, and the verdict that follows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnets.evaluation.verdict import Verdict, decide
from resnets.export.judging import Beside, judge_beside
from resnets.export.speed import Speed, Timed, fastest, gains, measure_speeds
from resnets.kinds.sample import Sample
from resnets.runtime import load
from resnets.runtime.engines import ENGINES, available_engines, engines_for, precision_in
from resnets.runtime.onnxfile import read_onnx, seal, write_onnx
from resnets.screen import Screen

REFERENCE = "onnxruntime"  # the engine that gives the numbers of float32
FLOAT32 = "float32"


@dataclass(frozen=True)
class Judgement:
    """A file in another precision beside its float32 file.

    Args:
        precision: Of the file.
        beside: By engine, on the images that it was judged on.
        before: By engine, the speed of float32.
        after: By engine, the speed of the file; there may be fewer of them.
        sizes: Bytes of float32 and of the file.
        verdict: What follows.
    """

    precision: str
    beside: Mapping[str, Beside]
    before: Mapping[str, Speed]
    after: Mapping[str, Speed]
    sizes: tuple[int, int]
    verdict: Verdict

    @property
    def table(self) -> list[list[str]]:
        """For people; the first row is the header."""
        rows = [["", FLOAT32, self.precision, "difference"]]
        for name, one in self.beside.items():
            title, (number, value) = ENGINES[name].title, one.reference.main
            change, low, high = (
                f"{100 * part:+z.1f}"
                for part in (one.comparison.difference, one.comparison.low, one.comparison.high)
            )
            cells = [str(value), str(one.metrics.main[1]), f"{change} points [{low}, {high}]"]
            rows.append([f"{number}, {title}", *cells])
            if one.agreement:
                rows.append([f"same decision, {title}", "", str(one.agreement), ""])
        for name, speed in self.before.items():
            rows += _speed_rows(ENGINES[name].title, speed, self.after.get(name))
        if len(self.before) > 1:
            sides = [fastest([*one.values()]) for one in (self.before, self.after)]
            rows += _speed_rows("the fastest engine of each", *sides)
        megabytes = [f"{size / 1e6:.1f} MB" for size in self.sizes]
        return [*rows, ["size", *megabytes, f"{self.sizes[1] / self.sizes[0]:.2f} x as large"]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go into JSON."""
        return {
            "verdict": self.verdict.word,
            "reason": self.verdict.reason,
            "bytes": dict(zip((FLOAT32, self.precision), self.sizes, strict=True)),
            "engines": {
                name: self._account(self.beside[name], name)
                if name in self.beside
                else {FLOAT32: speed.to_dict()}
                for name, speed in self.before.items()
            },
        }

    def _account(self, one: Beside, name: str) -> dict[str, Any]:
        """What was measured in an engine that runs both."""
        return {
            FLOAT32: {**one.reference.to_dict(), **self.before[name].to_dict()},
            self.precision: {**one.metrics.to_dict(), **self.after[name].to_dict()},
            "difference": one.comparison.to_dict(),
            "agreement": vars(one.agreement) if one.agreement else None,
        }


def _speed_rows(title: str, before: Speed, after: Speed | None) -> list[list[str]]:
    """One image and a batch, in an engine that may run the float32 file alone."""
    sides = [one for one in (before, after) if one]
    alone = [f"{1000 * one.latency:.2f} ms" for one in sides]
    together = [f"{one.throughput:.1f} images/s" for one in sides]
    if after:
        one, many = (f"{gain:.2f} x as fast" for gain in gains(before, after))
    else:
        one = many = ""
        alone, together = [*alone, ""], [*together, ""]
    return [
        [f"one image, {title}", *alone, one],
        [f"batch of {before.batch}, {title}", *together, many],
    ]


def judge(
    source: Path,
    draft: bytes,
    samples: Sequence[Sample],
    batch: np.ndarray,
    max_drop: float,
    screen: Screen,
) -> Judgement:
    """A file beside its float32 file, in every installed engine that is made for it.

    Args:
        source: The float32 file.
        draft: The other one, not sealed yet.
        samples: What both predict.
        batch: Images that graphs need not scale; with them they are timed.
        max_drop: What the file may lose of the main number, 0 to 1.
        screen: Told how far it is.

    Raises:
        ValueError: No image can be read, or one is of a class that they do not know.
        EngineError: The file has no prediction for an image that float32 has one for.
    """
    reference, content, sealed = load(source, REFERENCE), source.read_bytes(), seal(draft)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "judged.onnx"
        write_onnx(path, draft)
        precision = read_onnx(path).precision
        engines = [name for name in available_engines() if name in engines_for(precision)]
        others = [load(path, name) for name in engines]
        beside = dict(zip(engines, judge_beside(reference, others, samples, screen), strict=True))
    old = {name: Timed(name, content, FLOAT32) for name in available_engines()}
    new = {name: Timed(name, sealed, precision_in(name, precision)) for name in engines}
    speeds = measure_speeds([*old.values(), *new.values()], reference.kind, batch)
    before, after = speeds[: len(old)], speeds[len(old) :]
    comparisons = {ENGINES[name].title: beside[name].comparison for name in engines}
    return Judgement(
        precision,
        beside,
        dict(zip(old, before, strict=True)),
        dict(zip(new, after, strict=True)),
        (len(content), len(sealed)),
        decide(comparisons, gains(fastest(before), fastest(after)), max_drop),
    )
