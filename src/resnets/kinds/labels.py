"""Any number of labels for an image, also none: each is decided by itself, at its own threshold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from resnets.kinds.classes import CLASSES, LIMITS, OUTPUTS, ClassPrediction, place_of
from resnets.kinds.drawing import write_lines
from resnets.kinds.kind import Difference
from resnets.kinds.prediction import Cell, Outputs, Prediction, Several
from resnets.kinds.sample import Finding, Sample

BETWEEN = "|"  # labels of an image in one cell of a table
THRESHOLD = 0.5  # of a label for which none was chosen
# Images in which two labels would meet by chance; from there on it is no chance that they do not
EXPECTED = 5
MOST_PAIRS = 10  # that are named


@dataclass(frozen=True, eq=False, repr=False)
class LabelPrediction(ClassPrediction):
    """The labels of one image.

    Args:
        file: The image, as it was named.
        classes: Names of the labels, in the order of the outputs.
        probabilities: (classes,) float32, each between 0 and 1. None for a file that could not be
            read.
        embedding: (features,) float32, the pooled features; None where the file gives none.
        heat: (classes, h, w) float32, class activation maps: where each label was seen.
        thresholds: (classes,) float32; a label is given from its threshold on.
        error: Why there is no prediction.
        notes: What was done to read the image.
    """

    columns: ClassVar[Mapping[str, type]] = {"labels": Several, "probabilities": Several}
    further: ClassVar[Mapping[str, type]] = {}

    thresholds: np.ndarray | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = None if self.thresholds is None else self.thresholds.shape
        if self.probabilities is not None and shape != (len(self.classes),):
            raise ValueError(
                f"{self.file}: thresholds of shape {shape} for {len(self.classes)} labels"
            )

    @property
    def given(self) -> np.ndarray:
        """(classes,) bool: which labels are given; none after an error."""
        if self.probabilities is None:
            return np.zeros(len(self.classes), bool)
        return np.asarray(self.probabilities >= self.thresholds)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that are given, in the order of the outputs."""
        return tuple(itertools.compress(self.classes, self.given))

    def chosen(self) -> np.ndarray | None:
        """See `Prediction`."""
        return None if self.probabilities is None else self.given

    def summary(self) -> str:
        """See `Prediction`."""
        return repr(self.labels)

    def drawn(self, image: Image.Image) -> Image.Image:
        """The labels and their probabilities in a corner."""
        if self.probabilities is None:
            return image
        places = np.flatnonzero(self.given).tolist()
        shares = self.probabilities.tolist()
        return write_lines(image, [(f"{self.classes[k]} {shares[k]:.0%}", k) for k in places])

    def rows(self) -> list[dict[str, Cell]]:
        """See `Prediction`; labels and their probabilities in one order, `a|b` and
        `0.9412|0.7100`."""
        if self.probabilities is None:
            return [dict.fromkeys(self.columns)]
        numbers = self.probabilities[self.given]
        return [
            {
                "labels": BETWEEN.join(self.labels),
                "probabilities": BETWEEN.join(f"{number:.4f}" for number in numbers),
            }
        ]


def ground_truth(samples: Sequence[Sample], classes: tuple[str, ...]) -> list[Prediction]:
    """Samples with any number of labels, as predictions that are certain.

    Raises:
        ValueError: A label that the model does not know.
    """
    thresholds = np.full(len(classes), THRESHOLD, np.float32)
    truths: list[Prediction] = []
    for sample in samples:
        certain = np.zeros(len(classes), np.float32)
        certain[[place_of(label, classes) for label in sample.labels]] = 1
        truths.append(LabelPrediction(sample.name, classes, certain, thresholds=thresholds))
    return truths


def unbatch(
    outputs: Outputs, files: Sequence[str], classes: tuple[str, ...], options: Mapping[str, Any]
) -> list[Prediction]:
    """Outputs of a network for some images to a prediction for each."""
    found = CLASSES.unbatch(outputs, files, classes, {})
    return [
        LabelPrediction(**vars(prediction), thresholds=options["thresholds"])
        for prediction in found
    ]


def differences(found: Outputs, expected: Outputs, options: Mapping[str, Any]) -> Difference:
    """As of classes; images agree that are given the same labels."""
    thresholds = options["thresholds"]
    same = (found["probabilities"] >= thresholds) == (expected["probabilities"] >= thresholds)
    values = CLASSES.differences(found, expected, {}).values
    return Difference(values, int(same.all(1).sum()))


def options(values: Mapping[str, Any], classes: Sequence[str]) -> Mapping[str, Any]:
    """`thresholds` (classes,) float32; `THRESHOLD` for all where none were chosen.

    Raises:
        ValueError: Not one threshold between 0 and 1 for each label.
    """
    given = values.get("thresholds", ())
    sound = isinstance(given, list | tuple) and all(
        type(one) in (int, float) and 0 <= one <= 1 for one in given
    )
    if sound and not given:
        given = [THRESHOLD] * len(classes)
    if not sound or len(given) != len(classes):
        raise ValueError(
            f"thresholds: {given!r:.200}; {len(classes)} numbers between 0 and 1 are needed, one"
            " for each label"
        )
    return {"thresholds": np.asarray(given, np.float32)}


def check(samples: Sequence[Sample], sizes: Sequence[tuple[int, int]]) -> list[Finding]:
    """Labels of which there is nothing to learn, and pairs that look like one label or like
    classes."""
    counts = Counter(label for sample in samples for label in set(sample.labels))
    together = Counter(
        pair for sample in samples for pair in itertools.combinations(sorted(set(sample.labels)), 2)
    )
    findings, total = [], len(samples)
    if always := sorted(label for label, count in counts.items() if count == total > 0):
        text = "labels of every image, so that there is nothing to tell apart"
        findings.append(Finding("warning", f"{text}: {', '.join(always)}"))
    apart, equal = [], []
    for a, b in itertools.combinations(sorted(set(counts) - set(always)), 2):
        if not together[a, b] and counts[a] * counts[b] >= EXPECTED * total:
            apart.append(f"{a} and {b}")
        if together[a, b] == counts[a] == counts[b] >= EXPECTED:
            equal.append(f"{a} and {b}")
    if apart:
        text = "labels that never occur together"
        if len(apart) * 2 == len(counts) * (len(counts) - 1):
            text = "no image has two labels; if they exclude one another: --task classes. Pairs"
        findings.append(Finding("note", f"{text}: {_some(apart)}"))
    if equal:
        findings.append(Finding("warning", f"labels that always occur together: {_some(equal)}"))
    if bare := sum(not sample.labels for sample in samples):
        findings.append(Finding("note", f"{bare:,} of {total:,} images have no label"))
    return findings


def _some(pairs: Sequence[str]) -> str:
    more = f" and {len(pairs) - MOST_PAIRS:,} more pairs" if len(pairs) > MOST_PAIRS else ""
    return "; ".join(pairs[:MOST_PAIRS]) + more


# The outputs are those of classes, and a sigmoid is no steeper than a softmax: so are the limits.
LABELS = replace(
    CLASSES,
    name="labels",
    prediction=LabelPrediction,
    outputs=OUTPUTS,
    limits=LIMITS,
    fewest_classes=1,
    options=options,
    check=check,
    ground_truth=ground_truth,
    unbatch=unbatch,
    differences=differences,
)
