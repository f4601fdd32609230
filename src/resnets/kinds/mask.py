"""A class for each pixel of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from resnets.images import BadImage, reading
from resnets.kinds.classes import CLASSES, place_of
from resnets.kinds.drawing import color_of, write_lines
from resnets.kinds.kind import Difference, Output
from resnets.kinds.prediction import Cell, Outputs, Prediction, Share
from resnets.kinds.sample import Finding, Sample
from resnets.kinds.view import NOT_JUDGED, View
from resnets.settings import listed

MOST_CLASSES = NOT_JUDGED  # what a byte can tell apart beside pixels that are not judged
OPACITY = 0.5  # of colours over the image
NAMED = 5  # files that are named in a line


@dataclass(frozen=True, eq=False, repr=False)
class MaskPrediction(Prediction):
    """The class of each pixel of one image.

    Args:
        file: The image, as it was named.
        classes: Names of the classes, at most 255.
        mask: (H, W) uint8 positions among the classes, for each pixel of the upright image; in
            ground truth 255 where nothing is known. None for a file that could not be read.
        error: Why there is no prediction.
        notes: What was done to read the image.
    """

    columns: ClassVar[Mapping[str, type]] = {"number": int, "of": int, "label": str, "share": Share}
    keys: ClassVar[tuple[str, ...]] = ("shares",)
    has_places: ClassVar[bool] = True

    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.mask is None) == (self.error is None):
            raise ValueError(f"{self.file}: a prediction has either a mask or an error")
        if self.mask is not None and (self.mask.ndim != 2 or self.mask.dtype != np.uint8):
            raise ValueError(
                f"{self.file}: a mask of shape {self.mask.shape} and type {self.mask.dtype}; (H, W)"
                " uint8 was expected"
            )

    @property
    def shares(self) -> dict[str, float]:
        """The part of the image that each class covers, the largest first; without those that are
        not there."""
        if self.mask is None:
            return {}
        counts = np.bincount(self.mask.ravel(), minlength=256)[: len(self.classes)]
        order = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
        return {self.classes[place]: float(counts[place] / self.mask.size) for place in order}

    def summary(self) -> str:
        """See `Prediction`."""
        return ", ".join(f"{share:.0%} {label}" for label, share in self.shares.items())

    def rows(self) -> list[dict[str, Cell]]:
        """A row for each class that is there."""
        if self.error is not None or not self.shares:
            return [{**dict.fromkeys(self.columns), "number": 0, "of": 0}]
        shares = list(self.shares.items())
        return [
            {"number": number, "of": len(shares), "label": label, "share": share}
            for number, (label, share) in enumerate(shares, 1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """See `Prediction`: `shares` by class."""
        return {"shares": None if self.error is not None else self.shares}

    def seen(self, view: View) -> Self:
        """The classes of the pixels of the view."""
        return self if self.mask is None else replace(self, mask=view.pixels(self.mask))

    def drawn(self, image: Image.Image) -> Image.Image:
        """Colours of classes over the image, and their names."""
        if self.mask is None or (indexed := self.indexed()) is None:
            return image
        known = Image.fromarray(self.mask < len(self.classes))
        mixed = Image.blend(image, indexed.convert("RGB"), OPACITY)
        drawn = Image.composite(mixed, image, known)
        return write_lines(drawn, [(label, self.classes.index(label)) for label in self.shares])

    def indexed(self) -> Image.Image | None:
        """The mask in the colours of the classes."""
        if self.mask is None:
            return None
        image = Image.fromarray(self.mask, "P")
        palette = [value for place in range(len(self.classes)) for value in color_of(place)]
        image.putpalette(palette + [0] * (3 * 256 - len(palette)))  # a shorter one cuts values off
        return image


def read_mask(sample: Sample, classes: tuple[str, ...]) -> np.ndarray:
    """(H, W) uint8 positions among the classes; 255 for values that no annotation names.

    Raises:
        ValueError: There is no mask, it cannot be read, or a class that the model does not know.
    """
    if sample.mask is None:
        raise ValueError(f"{sample.name}: has no mask")
    values = stored_values(sample.mask)
    mask = np.full(values.shape, NOT_JUDGED, np.uint8)
    for annotation in sample.annotations:
        mask[values == annotation.value] = place_of(annotation.label, classes)
    return mask


def stored_values(path: Path) -> np.ndarray:
    """(H, W) int64, the values of the pixels of a mask: indices, levels of grey, or of a mask in
    colour red * 65536 + green * 256 + blue.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        with reading(path) as image:
            image.load()
            if image.mode.startswith(("I", "F")):
                return np.asarray(image).astype(np.int64)
            if image.mode in ("P", "PA"):
                return np.asarray(image if image.mode == "P" else image.convert("P"), np.int64)
            if image.mode in ("1", "L", "LA", "La"):
                return np.asarray(image.convert("L"), np.int64)
            red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int64), 2, 0)
            return np.asarray(red << 16 | green << 8 | blue)
    except BadImage as error:
        raise ValueError(f"{path}: a mask that cannot be read ({error})") from None


def ground_truth(samples: Sequence[Sample], classes: tuple[str, ...]) -> list[Prediction]:
    """Samples with their masks, as predictions that are certain.

    Raises:
        ValueError: A mask is missing or cannot be read, or a class that the model does not know.
    """
    return [
        MaskPrediction(sample.name, classes, mask=read_mask(sample, classes)) for sample in samples
    ]


def unbatch(
    outputs: Outputs, files: Sequence[str], classes: tuple[str, ...], options: Mapping[str, Any]
) -> list[Prediction]:
    """Outputs of a network for some images to a prediction for each."""
    return [
        MaskPrediction(file, classes, mask=mask.astype(np.uint8))
        for file, mask in zip(files, outputs["mask"], strict=True)
    ]


def differences(found: Outputs, expected: Outputs, options: Mapping[str, Any]) -> Difference:
    """The largest part of the pixels of an image that are of another class; images agree where
    there is none."""
    if found["mask"].shape != expected["mask"].shape:
        return Difference({"pixels": 1.0}, 0)
    others = (found["mask"] != expected["mask"]).mean((1, 2))
    return Difference({"pixels": float(others.max())}, int((others == 0).sum()))


def options(values: Mapping[str, Any], classes: Sequence[str]) -> Mapping[str, Any]:
    """None: masks have no options.

    Raises:
        ValueError: More classes than a byte can tell apart.
    """
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"{len(classes):,} classes; a mask tells {MOST_CLASSES} apart")
    return {}


def check(samples: Sequence[Sample], sizes: Sequence[tuple[int, int]]) -> list[Finding]:
    """Masks of another size than their image, and images of which nothing is judged."""
    turned, other, empty = list[str](), list[str](), list[str]()
    for sample, size in zip(samples, sizes, strict=True):
        if sample.mask is None:
            continue
        try:
            with reading(sample.mask) as image:
                found = image.size
        except BadImage:
            continue
        if found != size:
            (turned if found == size[::-1] else other).append(sample.name)
        if not sample.annotations:
            empty.append(sample.name)
    findings = []
    if (many := len({label for sample in samples for label in sample.labels})) > MOST_CLASSES:
        text = f"{many:,} classes, of which a mask tells {MOST_CLASSES} apart; merge some"
        findings.append(Finding("error", text))
    if turned:
        text = (
            "masks lie on their side: the images are turned by EXIF, and the masks are not; turn"
            " the masks, or save the images upright"
        )
        findings.append(Finding("error", f"{text}: {listed(turned, NAMED)}", tuple(turned)))
    if other:
        text = "masks of another size than their image; save both in one size"
        findings.append(Finding("error", f"{text}: {listed(other, NAMED)}", tuple(other)))
    if empty:
        text = "images of which no pixel is of a known class, so that nothing is learnt of them"
        findings.append(Finding("warning", f"{text}: {listed(empty, NAMED)}", tuple(empty)))
    return findings


# int8, bfloat16: about four times what
# `python benchmarks/proof_limits.py camvid/ --form PRECISION camvid.onnx` finds: 0.012 and 0.0056
MASK = replace(
    CLASSES,
    name="mask",
    prediction=MaskPrediction,
    outputs={"mask": Output("N, H, W", place="pixels", golden=True)},
    fits=("pad", "stretch"),
    fewest_classes=2,
    limits={
        "float32": {"pixels": 1e-3},
        "any": {"pixels": 1e-2},
        "int8": {"pixels": 0.05},
        "bfloat16": {"pixels": 0.02},
    },
    options=options,
    check=check,
    ground_truth=ground_truth,
    unbatch=unbatch,
    differences=differences,
)
