"""Numbers of a classifier: accuracy, balanced accuracy and macro F1, precision and recall of each
class, each with its interval; and the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resnets.evaluation.confusion import choose_cases, sections, suspect_section
from resnets.evaluation.evaluator import Evaluator, Quick, Suspicion
from resnets.evaluation.majority import doubts, stuck
from resnets.evaluation.metrics import RESAMPLES, Estimate, Metrics, PerClass, percentile, wilson
from resnets.kinds.prediction import Cell, Prediction

TOP = 5


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Metrics:
    """Compares what a network said with what is true.

    Args:
        probabilities: (n, k), a row for each image that sums to 1.
        labels: (n,) integers, positions in `classes`.
        classes: Names of the k classes.
        groups: (n,) of any sortable type; images of equal value belong together.
        seed: Of the bootstrap.
    """
    probabilities, labels = _checked(np.asarray(probabilities), np.asarray(labels), classes, groups)
    n, k = probabilities.shape
    predicted = probabilities.argmax(1)
    confusion = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    right, support, guessed = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    in_top = _rank(probabilities, labels, predicted) < TOP
    balanced, macro = _means(right, support, guessed)

    drawn_right, drawn_support, drawn_guessed, drawn_top = _bootstrap(
        labels, predicted, in_top, groups, k, seed
    )
    drawn_balanced, drawn_macro = _means(drawn_right, drawn_support, drawn_guessed)
    units = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1
    per_class = np.bincount(np.unique(units * k + labels) % k)  # units that hold a class
    n_balanced = min(
        n_units, np.count_nonzero(per_class) ** 2 / (1 / per_class[per_class > 0]).sum()
    )

    def proportion(hits: np.ndarray, drawn: np.ndarray) -> Estimate:
        if groups is None:
            return wilson(int(hits.sum()), n)
        return percentile(float(hits.sum() / n), drawn / drawn_support.sum(1), n, n_units)

    numbers = {
        "accuracy": proportion(right, drawn_right.sum(1)),
        "balanced_accuracy": percentile(float(balanced), drawn_balanced, n, n_balanced),
        "macro_f1": percentile(float(macro), drawn_macro, n, n_balanced),
    }
    if k > TOP:
        numbers[f"top_{TOP}"] = proportion(in_top, drawn_top)
    rows = zip(classes, right, support, guessed, strict=True)
    return Metrics(
        numbers,
        n,
        _loss(probabilities, labels),
        tuple(_per_class(*row) for row in rows),
        {"confusion": confusion},
    )


def _checked(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The arrays in floating point and int64, or a ValueError that names what is wrong."""
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(
            f"measure: probabilities of shape {probabilities.shape}; (n, {len(classes)}) was"
            " expected"
        )
    n, k = probabilities.shape
    if n == 0 or k == 0:
        raise ValueError(
            "measure: no images (or no classes) to evaluate on; is the folder or the split empty?"
        )
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"measure: labels of shape {labels.shape} and type {labels.dtype}; ({n},) integers were"
            " expected"
        )
    if labels.min() < 0 or labels.max() >= k:
        raise ValueError(
            f"measure: labels from {labels.min()} to {labels.max()}; allowed are 0 to {k - 1}, one"
            " for each class"
        )
    if groups is not None and np.shape(groups) != (n,):
        raise ValueError(
            f"measure: groups of shape {np.shape(groups)}; ({n},) was expected, one for each image"
        )
    if not np.issubdtype(probabilities.dtype, np.floating):
        probabilities = probabilities.astype(np.float64)
    if not (
        probabilities.min() >= 0 and np.abs(probabilities.sum(1, dtype=np.float64) - 1).max() < 0.01
    ):  # NaN lands here too
        raise ValueError(
            "measure: rows of probabilities must be finite, not negative and sum to 1; are these"
            " logits? Apply softmax"
        )
    return probabilities, labels.astype(np.int64)


def _rank(probabilities: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(n,) place of the true class, 0 for the most probable; of equals the first in order stands
    first, as in `argmax`."""
    rank = np.zeros(len(labels), np.int64)
    wrong = np.flatnonzero(predicted != labels)
    rows, own = probabilities[wrong], labels[wrong, None]
    mine = np.take_along_axis(rows, own, 1)
    before = np.arange(rows.shape[1]) < own
    rank[wrong] = np.count_nonzero((rows > mine) | ((rows == mine) & before), axis=1)
    return rank


def _loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # a probability of 0 costs 87, not infinity
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def _means(
    right: np.ndarray, support: np.ndarray, guessed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracy and macro-F1, (...), from counts by class, (..., k)."""
    either = support + guessed
    recall = right / np.maximum(support, 1)  # 0 where the class does not occur
    f1 = 2 * right / np.maximum(either, 1)
    return recall.sum(-1) / (support > 0).sum(-1), f1.sum(-1) / (either > 0).sum(-1)


def _bootstrap(
    labels: np.ndarray,
    predicted: np.ndarray,
    in_top: np.ndarray,
    groups: np.ndarray | None,
    k: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws images, or whole groups, with replacement.

    Images of equal label, prediction and rank are interchangeable. So what is drawn is counted by
    such kinds, few beside the k x k cells of a confusion matrix, and each resample becomes counts
    by class in three passes over the kinds.

    Returns:
        Per resample: rightly named, shown and predicted images by class, (RESAMPLES, k) each, and
        (RESAMPLES,) in the top.
    """
    kind = (labels * k + predicted) * 2 + in_top
    if groups is None:
        # a draw from the pool names a unit: here a kind
        kinds, pool = np.unique(kind, return_inverse=True)
        unit, count = np.arange(len(kinds)), np.ones(len(kinds), np.int64)
    else:
        of_group = np.unique(groups, return_inverse=True)[1]
        # here a group, which brings some images of some kinds
        pool = np.arange(of_group.max() + 1)
        pairs, count = np.unique(of_group * (2 * k * k) + kind, return_counts=True)
        unit, kinds = np.divmod(pairs, 2 * k * k)
    true, said, top = kinds // 2 // k, kinds // 2 % k, kinds % 2
    hit = true == said
    right, support, guessed = np.zeros((3, RESAMPLES, k))
    in_top_drawn = np.zeros(RESAMPLES)
    rng = np.random.default_rng(seed)
    for i in range(RESAMPLES):
        drawn = (
            np.bincount(pool[rng.integers(len(pool), size=len(pool))], minlength=unit[-1] + 1)[unit]
            * count
        )
        right[i] = np.bincount(true[hit], drawn[hit], k)
        support[i] = np.bincount(true, drawn, k)
        guessed[i] = np.bincount(said, drawn, k)
        in_top_drawn[i] = drawn @ top
    return right, support, guessed, in_top_drawn


def _per_class(name: str, right: int, support: int, guessed: int) -> PerClass:
    estimates = {
        "recall": wilson(int(right), int(support)) if support else None,
        "precision": wilson(int(right), int(guessed)) if guessed else None,
    }
    return PerClass(name, int(support), estimates, float(2 * right / max(support + guessed, 1)))


class ClassEvidence(NamedTuple):
    """What is kept of one image."""

    label: int
    probabilities: np.ndarray


def compare(truth: Prediction, prediction: Prediction) -> ClassEvidence:
    """The true class, and what the network said."""
    return ClassEvidence(truth.index, prediction.probabilities)


def _stacked(evidence: Sequence[ClassEvidence]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) and labels (n,)."""
    labels = np.array([one.label for one in evidence], np.int64)
    return np.stack([one.probabilities for one in evidence]), labels


def quick(evidence: Sequence[ClassEvidence]) -> Quick:
    """Accuracy and loss, in the precision of the network."""
    probabilities, labels = _stacked(evidence)
    accuracy = float((probabilities.argmax(1) == labels).mean())
    own = probabilities[np.arange(len(labels)), labels]
    return Quick(accuracy, float(-np.log(np.maximum(own, 1e-12)).mean()))


def measure_evidence(
    evidence: Sequence[ClassEvidence], classes: Sequence[str], groups: np.ndarray | None
) -> Metrics:
    """See `measure`."""
    return measure(*_stacked(evidence), classes, groups)


def worst(evidence: Sequence[ClassEvidence]) -> np.ndarray:
    """See `choose_cases`."""
    return choose_cases(*_stacked(evidence))


def row(truth: Prediction, prediction: Prediction) -> dict[str, Cell]:
    """Of predictions.csv."""
    return {
        "label": truth.label,
        "predicted": prediction.label,
        "probability": f"{prediction.probability:.6f}",
        "label_probability": f"{prediction.probabilities[truth.index]:.6f}",
    }


def is_right(one: ClassEvidence) -> bool:
    """Whether the most probable class is the true one."""
    return bool(one.probabilities.argmax() == one.label)


def suspicion(truth: Prediction, prediction: Prediction) -> float | None:
    """How improbable the label is, where another one is more probable."""
    if prediction.index == truth.index:
        return None
    return 1 - float(prediction.probabilities[truth.index])


EVALUATOR = Evaluator(
    main="accuracy",
    compare=compare,
    quick=quick,
    measure=measure_evidence,
    worst=worst,
    sections=sections,
    row=row,
    doubts=doubts,
    model="Image classifier",
    caution="It always predicts one of its classes, also for an image of something else",
    stuck=stuck,
    right=is_right,
    suspicion=Suspicion(suspicion, suspect_section),
)
