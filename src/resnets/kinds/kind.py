"""The row that a kind of task is, for all code that names none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from resnets.kinds.prediction import Outputs, Prediction
from resnets.kinds.sample import Finding, Sample


@dataclass(frozen=True)
class Output:
    """One output of the exported graph.

    Args:
        shape: Its dimensions by name ("N, classes"), for people and tests.
        place: `points` (x and y in turn, in the last dimension) or `pixels` (rows and columns in
            the last two) of the input, to be brought back to the image; empty for all else.
        always: Whether every network of the kind has it.
        golden: Whether it is stored with the golden images of a file.
    """

    shape: str
    place: str = ""
    always: bool = True
    golden: bool = False

    @property
    def dimensions(self) -> list[str]:
        """Names of its dimensions."""
        return self.shape.split(", ")


class Difference(NamedTuple):
    """How far the outputs of an engine are from those of the model.

    Args:
        values: By name, each to be held against the limit of that name; the first is the one that
            people are told.
        agreeing: Images for which both come to the same decision.
    """

    values: dict[str, float]
    agreeing: int


@dataclass(frozen=True)
class Kind:
    """What a prediction of one kind of task is.

    Args:
        name: `classes`, `labels`, ...; also that of its task, evaluator and recipes.
        prediction: The type of a prediction, and of ground truth.
        outputs: Of the exported graph, in order.
        fits: How an image may be made to fit the input, of `preprocessing.FITS`: cropping would cut
            away what is to be found.
        fewest_classes: That can be told apart.
        limits: By the precision of the weights, what each value of a `Difference` may be; under
            `any`, what the file itself may allow at most.
        options: Checks what a file says of its task (`{"thresholds": [...]}`) against its classes,
            and gives it in the types that `unbatch` takes; ValueError where it does not fit.
        check: What is wrong with the annotations of some samples, whose sizes in pixels (width,
            height) are known.
        ground_truth: Samples to what is true of them, by the names of the classes.
        unbatch: Outputs, names of files, classes and options to a prediction for each image.
        differences: Outputs of an engine and of the model, as far as both are there, compared;
            with the options of the task.
        takes: What a prediction is made of, and the input of its graph is called: `image`, uint8
            (N, H, W, C), or `clip`, (N, T, H, W, C), images of a video in their order.
    """

    name: str
    prediction: type[Prediction]
    outputs: Mapping[str, Output]
    fits: tuple[str, ...]
    fewest_classes: int
    limits: Mapping[str, Mapping[str, float]]
    options: Callable[[Mapping[str, Any], Sequence[str]], Mapping[str, Any]]
    check: Callable[[Sequence[Sample], Sequence[tuple[int, int]]], list[Finding]]
    ground_truth: Callable[[Sequence[Sample], tuple[str, ...]], list[Prediction]]
    unbatch: Callable[
        [Outputs, Sequence[str], tuple[str, ...], Mapping[str, Any]], list[Prediction]
    ]
    differences: Callable[[Outputs, Outputs, Mapping[str, Any]], Difference]
    takes: str = "image"

    @property
    def small(self) -> Kind:
        """The same without outputs that are larger than a list of numbers for each image, as far
        as a prediction can do without them."""
        small = {
            name: output
            for name, output in self.outputs.items()
            if output.always or len(output.dimensions) <= 2
        }
        return replace(self, outputs=small)

    @property
    def light(self) -> Kind:
        """The same without large outputs that no golden image has: what an engine has to give to
        predict and to be proved."""
        small = self.small.outputs
        kept = {name: one for name, one in self.outputs.items() if one.golden or name in small}
        return replace(self, outputs=kept)


def check_outputs(kind: Kind, outputs: Outputs, images: int, classes: Sequence[str]) -> None:
    """Whether the outputs of a network are what its kind says.

    Args:
        kind: What the network predicts.
        outputs: By name.
        images: How many images they are of.
        classes: Names of the classes.

    Raises:
        ValueError: One that every network has is missing, one has another shape, or holds what is
            not a number, which would be the largest of all.
    """
    sizes = {"N": images, "classes": len(classes)}
    for name, output in kind.outputs.items():
        array = outputs.get(name)
        if array is None:
            if output.always:
                raise ValueError(f"the network gave no {name}")
            continue
        wanted = [sizes.get(dimension) for dimension in output.dimensions]
        fits = len(wanted) == array.ndim and all(
            size in (None, found) for size, found in zip(wanted, array.shape, strict=True)
        )
        if not fits:
            of = "one image" if images == 1 else f"{images} images"
            raise ValueError(
                f"the network gave {name} of shape {array.shape} for {of} and {len(classes)}"
                " classes"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"the network gave {name} that are not finite numbers")


def select_outputs(kind: Kind, outputs: Outputs, large: bool) -> Outputs:
    """The outputs that a kind knows, in its order.

    Args:
        kind: What the network predicts.
        outputs: By name.
        large: Whether those are among them that are larger than a list of numbers for each image,
            and that a prediction can do without.
    """
    wanted = kind.outputs if large else kind.small.outputs
    return {name: outputs[name] for name in wanted if name in outputs}
