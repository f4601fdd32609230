"""What to do next, in a few sentences computed from the measurement, the training and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from resnets.evaluation.evaluator import Rows
from resnets.evaluation.forecast import WORTH, Growth
from resnets.evaluation.metrics import Metrics, title

RISING = 0.01  # of the main number in the last third of the validations: worth more time
FORGETS = 1.15  # times the lowest validation loss, at the end: learning by heart
FEW = 5  # mistakes, below which no pair of classes stands out
PAIR = 0.2  # of all mistakes, from which on a pair is worth a look
MOST = 5  # sentences


@dataclass(frozen=True)
class Background:
    """What is known beside the numbers.

    Args:
        main: Name of the main number.
        rows: Of results.csv.
        counts: Training images by class.
        suspects: Images whose label may be wrong.
        growth: What more images would bring, where that was measured.
        omitted: Images that a time limit did not allow to look at.
        offline: Whether it began from scratch because weights could not be downloaded.
    """

    main: str
    rows: Rows = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    suspects: int = 0
    growth: Growth | None = None
    omitted: int = 0
    offline: bool = False


def next_steps(metrics: Metrics, known: Background, doubts: list[str]) -> list[str]:
    """Sentences, the most important first; what speaks against the training comes before all
    else.

    Args:
        metrics: Of the measurement.
        known: What is known beside it.
        doubts: Of the evaluator.
    """
    steps = [*doubts]
    if known.offline:
        steps.append(
            "Pretrained weights could not be downloaded, so the network started from scratch. The"
            " fewer the images, the more they help: train again with a connection, or with a file"
            " of them (--weights FILE)."
        )
    if known.omitted:
        steps.append(
            f"Images left out for want of time: {known.omitted:,}. A longer time limit takes more"
            f" of them.{_of_growth(known)}"
        )
    steps += _of_training(known, not doubts)
    steps += [*_of_pairs(metrics), *_of_classes(metrics, known.counts)]
    if known.suspects:
        steps.append(
            f"Suspect labels: {known.suspects:,}. Look at the first of them: either the label is"
            " wrong and you can correct it, or the network is."
        )
    if not known.omitted and (gained := _of_growth(known)):
        steps.append(f"Collect more images.{gained}")
    return steps[:MOST] or ["Nothing stands out. More images of every class would help most."]


def _of_training(known: Background, hopeful: bool) -> list[str]:
    """Whether more time would help, where there is hope, or does harm already."""
    names = (f"val_{known.main}", f"val_{known.main}_ema")
    reached: list[float] = []
    losses: list[tuple[float, float, float]] = []  # epoch, validation, training
    for row in known.rows:
        values = [value for name in names if (value := row.get(name)) is not None]
        if not values or row.get("step") == 0:  # a probe is no step
            continue
        reached.append(max(values))
        epoch, val, train = (row.get(name) for name in ("epoch", "val_loss", "train_loss"))
        if epoch is not None and val is not None and train is not None:
            losses.append((epoch, val, train))
    if len(reached) < 3:
        return []
    third = max(1, len(reached) // 3)
    gain = max(reached[-third:]) - max(reached[:-third])
    if losses:
        lowest, last = min(losses, key=lambda one: one[1]), losses[-1]
        if last[1] > FORGETS * lowest[1] and last[2] < lowest[2]:
            return [
                f"The network learns the images by heart: after epoch {lowest[0]:.0f} the"
                f" validation loss rose from {lowest[1]:.2f} to {last[1]:.2f} while the training"
                f" loss fell to {last[2]:.2f}. More images help, fewer epochs, or a smaller"
                " network."
            ]
    if hopeful and gain >= RISING:
        return [
            f"The {title(known.main)} was still rising at the end, by {100 * gain:.1f} points in"
            " the last third: train for longer."
        ]
    return []


def _of_growth(known: Background) -> str:
    """What twice as many images would bring; empty where that is little, or was not measured."""
    growth = known.growth
    if growth is None or growth.gain < WORTH:
        return ""
    return (
        f" With twice as many, the {title(growth.number)} of a linear probe would rise by about"
        f" {100 * growth.gain:.1f} points."
    )


def _of_pairs(metrics: Metrics) -> list[str]:
    """The two classes that are taken for one another most."""
    if "confusion" not in metrics.detail or len(metrics.classes) < 3:
        return []
    counts = np.array(metrics.detail["confusion"])
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    both = np.triu(wrong + wrong.T)
    first, second = np.unravel_index(int(both.argmax()), both.shape)
    mistakes, pair = int(wrong.sum()), int(both[first, second])
    if mistakes < FEW or pair < PAIR * mistakes:
        return []
    return [
        f"{pair} of {mistakes} mistakes are between {metrics.classes[first]} and"
        f" {metrics.classes[second]}: can they be told apart on these images, and are they labelled"
        " alike?"
    ]


def _of_classes(metrics: Metrics, counts: Mapping[str, int]) -> list[str]:
    """The class that is found least, where that is more than chance."""
    found = [
        (recall, one.name)
        for one in metrics.per_class
        if (recall := one.estimates.get("recall")) is not None
    ]
    if len(found) < 2:
        return []
    least, name = min(found, key=lambda pair: pair[0].value)
    middle = float(np.median([estimate.value for estimate, _ in found]))
    if least.high >= middle:
        return []
    images = f" ({counts[name]:,} to train on so far)" if name in counts else ""
    return [
        f"{name} has the lowest recall: {100 * least.value:.0f} %, against {100 * middle:.0f} % of"
        f" the median class. Add images of it{images}."
    ]
