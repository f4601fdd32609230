"""How well predictions of one kind of task fit the truth: the row that evaluation is to a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from resnets.evaluation.metrics import Metrics
from resnets.evaluation.sections import Case, Section
from resnets.kinds.prediction import Cell, Prediction

Evidence = Any  # of one image: a few numbers, so that masks and images need not be kept
Rows = Sequence[Mapping[str, float | None]]  # of results.csv


class Quick(NamedTuple):
    """A validation during training: what chooses the best weights, without intervals."""

    main: float
    loss: float | None


@dataclass(frozen=True)
class Search:
    """How images of one sort, such as those whose label may be wrong, are found and shown.

    Args:
        score: The truth and the prediction of an image to how much it is of that sort; None if it
            is not, or nobody knows.
        section: Of the report: the cases shown, and how many there are.
    """

    score: Callable[[Prediction, Prediction], float | None]
    section: Callable[[Sequence[Case], int], Section]


@dataclass(frozen=True)
class Evaluator:
    """How one kind of task is measured.

    Args:
        main: The number that chooses the best weights and heads report, card and screen.
        compare: The truth and the prediction of an image to its evidence.
        quick: Evidence to what a validation during training needs.
        measure: Evidence, classes and groups (n,) or None to all numbers with their intervals.
        worst: Positions of the images worth a look, in their order.
        sections: Numbers and cases to what the report shows of them.
        row: The truth and the prediction of an image to a row of predictions.csv, after `file`.
        doubts: Rows of results.csv and evidence of the validation images to sentences on what
            speaks against the training.
        model: What the model is, for its card.
        caution: What who uses it must know.
        unit: What is counted.
        baseline: What is reached without a network, in a few words; empty where that says nothing.
        pipeline: The task by its name on the Hugging Face hub.
        stuck: Rows of validations and evidence of the validation images to whether what was reached
            is what the most frequent answer alone gives, within its interval.
        right: Whether an image is right, where the main number is the share of those that are.
        suspicion: Which labels may be wrong, where a label is right or wrong.
        strangeness: Which images are least familiar, where predictions say that.
    """

    main: str
    compare: Callable[[Prediction, Prediction], Evidence]
    quick: Callable[[Sequence[Evidence]], Quick]
    measure: Callable[[Sequence[Evidence], Sequence[str], np.ndarray | None], Metrics]
    worst: Callable[[Sequence[Evidence]], np.ndarray]
    sections: Callable[[Metrics, Sequence[Case]], list[Section]]
    row: Callable[[Prediction, Prediction], Mapping[str, Cell]]
    doubts: Callable[[Rows, Sequence[Evidence], Sequence[str]], list[str]]
    model: str
    caution: str
    unit: str = "images"
    baseline: Callable[[Metrics], str] = lambda metrics: ""
    pipeline: str = "image-classification"
    stuck: Callable[[Rows, Sequence[Evidence]], bool] = lambda rows, evidence: False
    right: Callable[[Evidence], bool] | None = None
    suspicion: Search | None = None
    strangeness: Search | None = None
