"""What a report shows between its head and its end: sections, each with a template of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from resnets.evaluation.metrics import Metrics
from resnets.kinds.prediction import Prediction

# beyond it nobody reads a matrix or a table in its order
MANY_CLASSES = 20
MOST_PAIRS = 60  # of classes that are confused
WORST, WORST_OPEN = 60, 12  # images shown; of them at once, the others on demand
WORST_LARGE, LARGE_OPEN = 40, 8  # the same, where each is shown larger
TEMPLATES = ("matrix", "classes", "cases", "pairs", "lines")


@dataclass(frozen=True)
class Case:
    """One measured image: what is true, and what was predicted.

    Args:
        truth: Ground truth.
        prediction: Of the same type.
        thumbnail: The image, JPEG; of a video an animation, WebP.
        heat: Where the main class was seen (`maps.overlay`), JPEG.
        drawn: The image with the truth drawn on it, and with the prediction; in place of the other
            two, where both say where something is.
    """

    truth: Prediction
    prediction: Prediction
    thumbnail: bytes | None = None
    heat: bytes | None = None
    drawn: tuple[bytes, bytes] | None = None


class Twin(NamedTuple):
    """One image of a pair: its file, what is said of it, and the image, JPEG."""

    file: str
    about: str
    thumbnail: bytes


class Twins(NamedTuple):
    """Two images that look alike, how they do, and whether they are labelled differently."""

    images: tuple[Twin, Twin]
    how: str
    differ: bool


class Caption(NamedTuple):
    """A line below an image: its role (`said`, `said wrong`, `true`), text, and a share in bold."""

    role: str
    text: str
    share: float | None = None


@dataclass(frozen=True)
class Figure:
    """An image in the page.

    Args:
        case: What it shows.
        captions: Below it.
        heat_title: What its map shows.
        cell: Of a matrix, the cell that opens it: "0-1" is row 0, column 1.
    """

    case: Case
    captions: tuple[Caption, ...]
    heat_title: str = ""
    cell: str = ""


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Args:
        template: Of `TEMPLATES`.
        title: Its heading.
        hint: What a reader should know of it.
        values: What its template shows.
        hidden: Images that are shown when a cell is opened.
    """

    template: str
    title: str
    hint: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise ValueError(
                f"section {self.title}: template {self.template!r}; allowed: {', '.join(TEMPLATES)}"
            )


def case_section(title: str, hint: str, figures: Sequence[Figure], large: bool = False) -> Section:
    """Images, the first of them at once and the others on demand.

    Args:
        title: Its heading.
        hint: Their order, or why there is none.
        figures: In that order.
        large: Whether something small is drawn on them.
    """
    first = LARGE_OPEN if large else WORST_OPEN
    grid = "large" if large else "pairwise" if any(one.case.heat for one in figures) else ""
    values = {"open": figures[:first], "more": figures[first:], "grid": grid}
    return Section("cases", title, hint, values)


def pair_section(pairs: Sequence[Twins]) -> Section:
    """Images that look alike, side by side, in the order given."""
    hint = (
        "Found by the data check; those with different labels come first: at most one of the two"
        " labels can be right. An automatic split keeps images that look alike on one side."
    )
    values = {"open": pairs[:WORST_OPEN], "more": pairs[WORST_OPEN:]}
    return Section("pairs", "Images that look alike", hint, values)


def matrix_section(metrics: Metrics, parts: str = "", hidden: tuple[Figure, ...] = ()) -> Section:
    """The confusion matrix; of many classes the pairs that are confused most.

    Args:
        metrics: With `confusion`, (k, k) counts, in their detail.
        parts: What is counted, if it is parts of what was measured; then only shares are shown.
        hidden: Images that are shown when a cell is opened.
    """
    counts, k = metrics.detail["confusion"], len(metrics.classes)
    wrong = counts * (1 - np.eye(k, dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(flat), k) for flat in order]
    shown = {
        "names": metrics.classes,
        "matrix": k <= MANY_CLASSES,
        "shares": (counts / np.maximum(counts.sum(1, keepdims=True), 1)).tolist(),
        "pairs": [(i, j) for i, j in pairs if wrong[i, j]],
        "confused": int(np.count_nonzero(wrong)),
        **({"unit": parts} if parts else {"counts": counts.tolist()}),
    }
    title = "Confusion matrix" if k <= MANY_CLASSES else "Most confused classes"
    return Section("matrix", title, values=shown, hidden=hidden)


def class_section(metrics: Metrics, title: str, hint: str, estimates: tuple[str, ...]) -> Section:
    """Some estimates of each class as bars; of many classes the lowest F1 comes first."""
    many = len(metrics.classes) > MANY_CLASSES
    entries = sorted(metrics.per_class, key=attrgetter("f1")) if many else metrics.per_class
    values = {"many": many, "entries": entries, "estimates": estimates}
    return Section("classes", title, hint, values)
