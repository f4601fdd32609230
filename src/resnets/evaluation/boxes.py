"""Numbers of a detector: average precision as COCO counts it, and recall and precision of the boxes
that are given, each with its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from resnets.evaluation.average_precision import (
    ALL,
    AREAS,
    RECALLS,
    Boxes,
    Matches,
    Ranked,
    match,
    precision_over_recall,
    precisions,
)
from resnets.evaluation.curves import chart
from resnets.evaluation.evaluator import Evaluator, Quick, Rows
from resnets.evaluation.metrics import (
    Estimate,
    Metrics,
    PerClass,
    draw_images,
    mean_of_known,
    part_of,
    resampled,
)
from resnets.evaluation.sections import (
    WORST_LARGE,
    Caption,
    Case,
    Figure,
    Section,
    case_section,
    class_section,
)
from resnets.kinds.overlap import MATCH, matched, overlaps
from resnets.kinds.prediction import Cell, Prediction

SIZES = ("small", "medium", "large")  # of things: below 32, below 96, and from 96 pixels square on
AP50, AP75 = 0, 5  # positions among the overlaps
MOST_CHARTS = 12  # classes with a chart of their own
MOST_NAMED = 6  # classes of an image that are counted below it


class BoxEvidence(NamedTuple):
    """What is kept of one image.

    Args:
        labels: (n,) classes of the boxes.
        scores: (n,) falling.
        given: (n,) bool: whether the score reaches the threshold.
        matches: Which boxes are right.
        things: (m,) classes of what is to be found.
    """

    labels: np.ndarray
    scores: np.ndarray
    given: np.ndarray
    matches: Matches
    things: np.ndarray


def compare(truth: Prediction, prediction: Prediction) -> BoxEvidence:
    """Which of the boxes are right."""
    found = Boxes(prediction.boxes, prediction.labels)
    matches = match(found, Boxes(truth.boxes, truth.labels), _difficult(truth))
    given = prediction.scores >= prediction.threshold
    return BoxEvidence(prediction.labels, prediction.scores, given, matches, truth.labels)


def _difficult(truth: Prediction) -> np.ndarray:
    """A prediction says nothing of it."""
    found = truth.difficult
    return np.zeros(len(truth.labels), bool) if found is None else np.asarray(found)


def _ranked(evidence: Sequence[BoxEvidence], label: int, area: int = ALL) -> Ranked:
    """The boxes of one class."""
    parts = [one.labels == label for one in evidence]
    images = np.repeat(np.arange(len(evidence)), [int(part.sum()) for part in parts])
    pairs = list(zip(evidence, parts, strict=True))
    scores = np.concatenate([one.scores[part] for one, part in pairs])
    right = np.concatenate([one.matches.right[area][:, part] for one, part in pairs], 1)
    ignored = np.concatenate([one.matches.ignored[area][:, part] for one, part in pairs], 1)
    order = np.argsort(-scores, kind="stable")
    things = [int((one.matches.counted[area] & (one.things == label)).sum()) for one in evidence]
    return Ranked(
        images[order], scores[order], right[:, order], ignored[:, order], np.array(things)
    )


def quick(evidence: Sequence[BoxEvidence]) -> Quick:
    """Average precision over overlaps and classes; there is no loss of decoded boxes."""
    labels = sorted({int(label) for one in evidence for label in one.things})
    once = np.ones((1, len(evidence)), np.int64)
    values = [precisions(_ranked(evidence, label), once).mean() for label in labels]
    known = [value for value in values if not math.isnan(value)]
    return Quick(float(np.mean(known)) if known else 0.0, None)


def measure(
    evidence: Sequence[BoxEvidence], classes: Sequence[str], groups: np.ndarray | None
) -> Metrics:
    """See `Evaluator`. Intervals are of images, or groups, drawn with replacement."""
    n = len(evidence)
    drawn = np.concatenate([np.ones((1, n), np.int64), draw_images(n, groups, 0)])
    units = n if groups is None else len(np.unique(groups))
    ranked = [_ranked(evidence, label) for label in range(len(classes))]
    found = np.stack([precisions(one, drawn) for one in ranked], 1)  # (drawn, classes, overlaps)
    counts = np.stack([_counted(evidence, label) for label in range(len(classes))])
    sums = np.einsum("rn,kcn->rkc", drawn, counts).astype(np.float64)  # right, given, wanted

    def estimate(values: np.ndarray) -> Estimate:
        return resampled(values, n, units)

    numbers = {
        "map": estimate(mean_of_known(found.mean(2))),
        "ap50": estimate(mean_of_known(found[..., AP50])),
        "ap75": estimate(mean_of_known(found[..., AP75])),
        "recall": estimate(part_of(sums[..., 0].sum(1), sums[..., 2].sum(1))),
        "precision": estimate(part_of(sums[..., 0].sum(1), sums[..., 1].sum(1))),
    }
    for area, size in enumerate(SIZES, 1):
        ones = [_ranked(evidence, label, area) for label in range(len(classes))]
        if any(one.things.any() for one in ones):
            of_size = np.stack([precisions(one, drawn).mean(1) for one in ones], 1)
            numbers[f"ap_{size}"] = estimate(mean_of_known(of_size))
    per_class = tuple(
        _class(name, ranked[k], found[:, k], sums[:, k], estimate) for k, name in enumerate(classes)
    )
    detail = {
        "precision_at": precision_over_recall(ranked),
        "boxes": [int(one.things.sum()) for one in ranked],
    }
    return Metrics(numbers, n, None, per_class, detail)


def _counted(evidence: Sequence[BoxEvidence], label: int) -> np.ndarray:
    """(3, n) boxes of one class in each image: rightly given, given, and to be found."""
    rows = []
    for one in evidence:
        right, ignored = (values[ALL, 0] for values in one.matches[:2])
        said = (one.labels == label) & one.given & ~ignored
        wanted = (one.things == label) & one.matches.counted[ALL]
        rows.append([(said & right).sum(), said.sum(), wanted.sum()])
    return np.array(rows).T


def _class(
    name: str,
    ranked: Ranked,
    found: np.ndarray,
    sums: np.ndarray,
    estimate: Callable[[np.ndarray], Estimate],
) -> PerClass:
    """How one class fares."""
    right, given, wanted = sums.T
    some, said = wanted[0] > 0, given[0] > 0
    estimates = {
        "ap": estimate(found.mean(1)) if some else None,
        "ap50": estimate(found[:, AP50]) if some else None,
        "recall": estimate(part_of(right, wanted)) if some else None,
        "precision": estimate(part_of(right, given)) if said else None,
    }
    f1 = float(2 * right[0] / max(1.0, given[0] + wanted[0]))
    return PerClass(name, int((ranked.things > 0).sum()), estimates, f1)


def _mistakes(evidence: Sequence[BoxEvidence]) -> np.ndarray:
    """(n,) things that were not found and boxes that are wrong, of those that are given."""
    found = []
    for one in evidence:
        right, ignored = (values[ALL, 0] & one.given for values in one.matches[:2])
        missed = int(one.matches.counted[ALL].sum()) - int(right.sum())
        found.append(missed + int((one.given & ~right & ~ignored).sum()))
    return np.array(found)


def worst(evidence: Sequence[BoxEvidence]) -> np.ndarray:
    """Images with mistakes, most of them first."""
    mistakes = _mistakes(evidence)
    order = np.argsort(-mistakes, kind="stable")
    return order[mistakes[order] > 0][:WORST_LARGE]


def row(truth: Prediction, prediction: Prediction) -> dict[str, Cell]:
    """Of predictions.csv: counts of boxes."""
    found = matched(truth, prediction, prediction.threshold)
    right, missed = int(found.right.sum()), int(found.missed.sum())
    wrong = int((~found.right & ~found.ignored).sum())
    return {"things": right + missed, "right": right, "missed": missed, "wrong": wrong}


def doubts(rows: Rows, evidence: Sequence[BoxEvidence], classes: Sequence[str]) -> list[str]:
    """A sentence where next to nothing is found."""
    values = [row.get(name) for row in rows for name in ("val_map", "val_map_ema")]
    reached = [value for value in values if value is not None]
    if not reached or max(reached) > 0.05:
        return []
    return [
        f"the validation mAP never rose above {max(reached):.1%}: the network finds next to"
        " nothing. Perhaps the run was too short, things are too small for the input (--size), or"
        " boxes do not lie where things are (resnets check)"
    ]


def sections(metrics: Metrics, cases: Sequence[Case]) -> list[Section]:
    """Bars of each class, precision over recall, and the images with most mistakes."""
    bars = class_section(
        metrics,
        "Classes",
        "Average precision over overlaps from 0.5 to 0.95, and at 0.5; recall and precision of the"
        " boxes that are given, at 0.5. With 95 % confidence intervals. Images: those that show"
        " the class.",
        ("ap", "ap50", "recall", "precision"),
    )
    figures = [_figure(case) for case in cases]
    mistakes = case_section(
        "Worst images",
        "Most mistakes first: things that were missed, boxes where there is nothing, and boxes of"
        " the wrong class."
        if figures
        else f"Everything was found in all {metrics.n} images, and nothing else.",
        figures,
        large=True,
    )
    return [bars, _lines(metrics), mistakes]


def _lines(metrics: Metrics) -> Section:
    charts = []
    named = zip(metrics.classes, metrics.detail["precision_at"], strict=True)
    for name, values in list(named)[:MOST_CHARTS]:
        if np.isfinite(values).all():
            points = [(float(x), float(y)) for x, y in zip(RECALLS, values, strict=True)]
            lines = {"precision": points}
            charts.append(chart(name, lines, percent=True, x_title="recall", y_range=(0, 1)))
    hint = (
        "The more things of a class are to be found (recall), the more boxes are wrong (precision)."
        " At an overlap of 0.5."
    )
    return Section("lines", "Precision over recall", hint, {"charts": charts, "over": "recall"})


def _figure(case: Case) -> Figure:
    truth, said, names = case.truth, case.prediction, case.prediction.classes
    found = matched(truth, said, said.threshold)
    kept = said.scores >= said.threshold
    labels = said.labels[kept]
    near = overlaps(said.boxes[kept], truth.boxes).max(1, initial=0) >= MATCH
    bad, right = ~found.right & ~found.ignored, int(found.right.sum())
    missed = truth.labels[found.missed]
    captions = [
        Caption("said", f"{right} of {right + len(missed)} found"),
        *_counts("true", "missed:", missed, names),
        *_counts("said wrong", "nothing there:", labels[bad & ~near], names),
        *_counts("said wrong", "of another class, or twice:", labels[bad & near], names),
    ]
    return Figure(case, tuple(captions))


def _counts(role: str, text: str, labels: np.ndarray, names: Sequence[str]) -> list[Caption]:
    """How many things of each class, the most first; nothing where there is none."""
    counts = Counter(names[label] for label in labels).most_common()
    named = ", ".join(f"{count} {name}" for name, count in counts[:MOST_NAMED])
    more = f" and {len(counts) - MOST_NAMED} more classes" if len(counts) > MOST_NAMED else ""
    return [Caption(role, f"{text} {named}{more}")] if counts else []


EVALUATOR = Evaluator(
    main="map",
    compare=compare,
    quick=quick,
    measure=measure,
    worst=worst,
    sections=sections,
    pipeline="object-detection",
    row=row,
    doubts=doubts,
    model="Object detector",
    caution="It finds nothing but these, 100 things in an image at most",
)
assert len(AREAS) == len(SIZES) + 1
