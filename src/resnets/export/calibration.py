"""The images that a file in another precision is made from, and those that it is judged on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resnets.data.sources import find_data
from resnets.data.splits import refuse_unknown_classes
from resnets.kinds.prediction import Outputs
from resnets.kinds.sample import Sample
from resnets.measuring import tell_left_out
from resnets.runtime import Predictor
from resnets.runtime.file_engine import Engine
from resnets.screen import Screen

FEWEST, MOST = 50, 256  # images that ranges of activations are taken from


class Images(NamedTuple):
    """What a file is made from and judged on.

    Args:
        calibration: Images from which the ranges of activations are taken; none where the file
            needs no ranges.
        judged: Other images, which the network was not trained on either.
        source: Name of the data, for people.
    """

    calibration: list[Sample]
    judged: list[Sample]
    source: str

    def __str__(self) -> str:
        of = f"images of {self.source}"
        if not self.calibration:
            return f"judged on {len(self.judged):,} {of}"
        given = f"{len(self.calibration):,} {of}"
        return f"calibrated with {given}, judged on {len(self.judged):,} others"


def find_images(data: str, kind: str, trained: Collection[Path], screen: Screen) -> list[Sample]:
    """The images of some data, laid out as for training, without those that a network was trained
    on.

    Args:
        data: A folder or a table.
        kind: Name of the task whose annotations are needed.
        trained: Files that the network was trained on.
        screen: Told of what is left out.

    Raises:
        ValueError: Nothing usable is there.
    """
    found = find_data(data, kind=kind)
    tell_left_out(found, screen)
    samples = [one for one in found.samples if one.path.absolute() not in trained]
    if left := len(found.samples) - len(samples):
        screen.say(f"left out: {left:,} images of {data} that the network was trained on")
    return samples


def divide(samples: Sequence[Sample], classes: Sequence[str], source: str) -> Images:
    """Images in two parts. Where there is a test split, it is judged on, and calibration takes
    others. Where there is none, calibration takes a half of the validation images, or of all where
    no split is said, and 256 at most; all others are judged on. Those taken are spread evenly over
    the classes, and groups stay together.

    Args:
        samples: Of data that are split, or not.
        classes: Names that the network knows.
        source: Name of the data.

    Raises:
        ValueError: Too few for the calibration, none to judge on, or other classes.
    """
    refuse_unknown_classes(samples, classes)
    parts = {name: [one for one in samples if one.split == name] for name in ("test", "val", "")}
    if parts["test"]:
        others = parts["val"] or [one for one in samples if one.split != "test"]
        calibration, judged = _spread(others, len(others))[0], parts["test"]
    else:
        held_out = parts["val"] or parts[""]
        calibration, judged = _spread(held_out, len(held_out) // 2)
    if len(calibration) < FEWEST or not judged:
        raise ValueError(
            f"{source}: {len(calibration):,} images to calibrate int8 with and {len(judged):,} to"
            f" judge it on; at least {FEWEST} and 1 are needed, none of which the network was"
            " trained on: --calibrate DATA"
        )
    return Images(calibration, judged, source)


def take_all(samples: Sequence[Sample], classes: Sequence[str], source: str) -> Images:
    """Images that all judge, but for those of a training split.

    Args:
        samples: Of data that are split, or not.
        classes: Names that the network knows.
        source: Name of the data.

    Raises:
        ValueError: There is none, or one of another class.
    """
    refuse_unknown_classes(samples, classes)
    judged = [one for one in samples if one.split != "train"]
    if not judged:
        raise ValueError(
            f"{source}: no images that the network was not trained on, to judge it on: --calibrate"
            " DATA"
        )
    return Images([], judged, source)


def _spread(samples: Sequence[Sample], most: int) -> tuple[list[Sample], list[Sample]]:
    """At most so many images, and at most `MOST`, spread over the classes, and the others; groups
    stay together."""
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda one: (one.labels, one.name)):
        groups.setdefault(sample.group or f"\0{sample.name}", []).append(sample)
    units, wanted = list(groups.values()), min(most, MOST)
    step = max(1.0, len(samples) / max(1, wanted))
    taken: list[Sample] = []
    others: list[Sample] = []
    seen = 0
    for unit in units:
        due = len(taken) * step <= seen and len(taken) + len(unit) <= wanted
        (taken if due else others).extend(unit)
        seen += len(unit)
    return taken, others


class _Recording:
    """An engine that remembers what it was given."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name, self.version = engine, engine.name, engine.version
        self.given: list[np.ndarray] = []

    def __call__(self, image: np.ndarray) -> Outputs:
        self.given.append(image)
        return self.engine(image)


def read_inputs(
    predictor: Predictor, samples: Sequence[Sample], fewest: int, screen: Screen
) -> list[np.ndarray]:
    """What a predictor gives its engine for some images: arrays (1, height, width, channels), or
    for each window of a video (1, T, height, width, channels).

    Raises:
        ValueError: Fewer than `fewest` of them can be read.
    """
    engine = _Recording(predictor.engine)
    recorder = Predictor(
        engine,
        predictor.classes,
        predictor.preprocessing,
        predictor.metadata,
        predictor.kind,
        predictor.options,
        predictor.sampling,
    )
    read = 0
    for sample, prediction in zip(
        samples, recorder.predict(one.path for one in samples), strict=True
    ):
        if prediction.error is None:
            read += 1
        else:
            screen.warn(f"  skipped: {sample.name}: {prediction.error}")
    if read < fewest:
        raise ValueError(
            f"{read} of {len(samples)} images to make the file from can be read, fewer than"
            f" {fewest}: --calibrate DATA"
        )
    return engine.given
