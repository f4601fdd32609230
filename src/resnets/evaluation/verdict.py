"""Whether another form of a model may take its place: from the paired difference of their main
number, and from how much faster it is, to one of three verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resnets.evaluation.comparison import NOT_WORSE, UNDECIDED, WORSE, Comparison
from resnets.evaluation.metrics import heading

KEPT, NOT_PROVEN, REFUSED = "kept", "not proven", "refused"
WORDS = {NOT_WORSE: KEPT, UNDECIDED: NOT_PROVEN, WORSE: REFUSED}  # from better to worse
MOST_IMAGES = 10**9  # nobody has more
FASTER = 1.05  # times as fast as float32: more than that, as less may be noise


@dataclass(frozen=True)
class Verdict:
    """What becomes of the other form.

    Args:
        word: `kept`, `not proven` or `refused`.
        reason: Why, in a sentence with the numbers.
    """

    word: str
    reason: str

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"


def decide(
    comparisons: Mapping[str, Comparison], gains: Sequence[float], max_drop: float
) -> Verdict:
    """The verdict over all engines: that of the engine in which the other form does worst.

    Args:
        comparisons: By the name of an engine, the other form less the model.
        gains: How many times as fast as the model it is, with one image and in batches.
        max_drop: What it may lose of the main number, 0 to 1.
    """
    words = {name: WORDS[one.verdict(max_drop)] for name, one in comparisons.items()}
    order = list(WORDS.values())
    engine = max(words, key=lambda name: (order.index(words[name]), -comparisons[name].low))
    if words[engine] != REFUSED and not any(gain > FASTER for gain in gains):
        found = " and ".join(f"{gain:.2f}" for gain in gains)
        return Verdict(
            REFUSED,
            f"it is not faster here: {found} times as fast as float32 (one image, batches); more"
            f" than {FASTER} is needed",
        )
    return Verdict(words[engine], _reason(words[engine], engine, comparisons[engine], max_drop))


def images_needed(comparison: Comparison, max_drop: float) -> int | None:
    """How many images in all would decide, if further ones were like these; None where no number
    would, since the loss is as large as what is allowed.

    Args:
        comparison: The other form less the model.
        max_drop: What it may lose, 0 to 1.
    """

    def is_open(factor: float) -> bool:
        return comparison.scaled(factor).verdict(max_drop) == UNDECIDED

    enough = 1.0
    while is_open(enough):
        enough *= 2
        if enough * comparison.n > MOST_IMAGES:
            return None
    few = enough / 2
    while enough > 1 and (enough - few) * comparison.n > 1:
        middle = (few + enough) / 2
        few, enough = (middle, enough) if is_open(middle) else (few, middle)
    return math.ceil(enough * comparison.n)


def _reason(word: str, engine: str, comparison: Comparison, max_drop: float) -> str:
    low, change, high = (
        f"{100 * value:+z.1f}" for value in (comparison.low, comparison.difference, comparison.high)
    )
    found = (
        f"{heading(comparison.number)} changes by {change} points [{low}, {high}] in {engine}, n ="
        f" {comparison.n:,}"
    )
    allowed = f"a loss of {100 * max_drop:g} points is allowed"
    if word != NOT_PROVEN:
        return f"{found}; {allowed}"
    needed = images_needed(comparison, max_drop)
    further = (
        "no number of images like these would decide it"
        if needed is None
        else f"about {needed - comparison.n:,} more images like these would decide it"
    )
    return f"{found}; {allowed}, and the interval reaches beyond it: {further}"
