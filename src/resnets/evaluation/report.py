"""One page that shows what was trained, how well it does and where it fails. One file, no request
to anywhere."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from resnets.evaluation.curves import charts
from resnets.evaluation.metrics import Estimate, Metrics

# classes; beyond it nobody reads a matrix, and the most confused pairs are listed instead
LARGEST_MATRIX = 20
MOST_PAIRS = 60
WORST = 60  # mistakes shown in the page itself
WORST_OPEN = 12  # of them at once, the others on demand
BAND = 6  # images a cell gets before the next cell has its turn


@dataclass(frozen=True)
class Case:
    """One image as the report shows it.

    Args:
        file: Its name.
        label: The true class.
        predicted: The most probable class.
        probability: Of the predicted class.
        label_probability: Of the true class.
        thumbnail: The image, JPEG.
        heat: Where the predicted class was seen (`maps.overlay`), JPEG.
    """

    file: str
    label: str
    predicted: str
    probability: float
    label_probability: float
    thumbnail: bytes | None = None
    heat: bytes | None = None


@dataclass(frozen=True)
class Report:
    """All that goes into the page.

    Args:
        title: Its heading.
        command: What repeats the run, as typed.
        facts: What was trained on what: (name, value) pairs.
        metrics: Of the images the network did not see in training.
        rows: Of results.csv; may be empty.
        cases: Images worth a look, those of `choose_cases`.
        findings: What the check of the data found: (`error`, `warning` or `note`; text).
        notes: What else a reader must know.
        diagram: The network as SVG.
    """

    title: str
    command: str
    facts: tuple[tuple[str, str], ...]
    metrics: Metrics
    rows: list[dict[str, Any]]
    cases: tuple[Case, ...]
    findings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    diagram: str = ""

    def __post_init__(self) -> None:
        known = set(self.metrics.classes)
        unknown = {name for case in self.cases for name in (case.label, case.predicted)} - known
        if unknown:
            raise ValueError(
                f"report: cases of class {sorted(unknown)[0]!r}, which is none of the {len(known)}"
                " classes measured"
            )
        if odd := {severity for severity, _ in self.findings} - {"error", "warning", "note"}:
            raise ValueError(
                f"report: a finding of severity {min(odd)!r}; allowed: error, warning, note"
            )


def choose_cases(
    probabilities: np.ndarray,
    labels: np.ndarray,
    per_cell: int = 24,
    worst: int = 60,
    most: int = 1200,
) -> np.ndarray:
    """Positions of the images worth keeping in the page.

    First the mistakes with the highest loss. Then every cell of the confusion matrix gets its
    images, highest loss first, a few at a time, so that no cell starves when there are many:
    mistakes before right predictions, the fullest cells first.

    Args:
        probabilities: (n, k).
        labels: (n,) integers.
        per_cell: Images of one cell, at the most (more where the worst mistakes share a cell).
        worst: Mistakes taken first.
        most: Images in all.
    """
    k = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    order = np.argsort(probabilities[np.arange(len(labels)), labels], kind="stable")
    cell = (np.asarray(labels, np.int64) * k + predicted)[order]
    right = (predicted == labels)[order]
    grouped = np.argsort(cell, kind="stable")
    _, start, size = np.unique(cell[grouped], return_index=True, return_counts=True)
    place, fill = np.empty((2, len(cell)), np.int64)
    place[grouped] = np.arange(len(cell)) - np.repeat(start, size)  # of each image within its cell
    fill[grouped] = np.repeat(size, size)
    first = np.flatnonzero(~right)[:worst]
    turn = np.lexsort((place, cell, -fill, right, place // BAND))
    turn = turn[place[turn] < per_cell]
    return order[np.concatenate([first, turn[~np.isin(turn, first)]])[:most]]


def write_report(path: Path, report: Report) -> None:
    """Writes the page: complete under its name, or not at all."""
    page = _render(report).encode("utf-8", "replace")  # file names need not be valid Unicode
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_bytes(page)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _render(report: Report) -> str:
    import jinja2
    from markupsafe import Markup

    def text(suffix: str) -> str:
        return files(__package__).joinpath(f"report.{suffix}").read_text("utf-8")

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"percent": _percent, "between": _between, "jpeg": _jpeg, "svg": _svg}
    script = text("js")
    # Only this very script may run, so that not even a hole in the escaping would let a file name
    # run its own.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(text("html.j2")).render(
        report=report,
        metrics=report.metrics,
        css=Markup(text("css")),
        script=Markup(script),
        digest=digest,
        **_arranged(report),
    )


def _arranged(report: Report) -> dict[str, Any]:
    """What the template needs beyond the report itself: cells, pairs, curves and images in their
    order."""
    metrics = report.metrics
    index = {name: i for i, name in enumerate(metrics.classes)}
    cases = [
        (f"{index[case.label]}-{index[case.predicted]}", case)
        for case in sorted(report.cases, key=attrgetter("label_probability"))
    ]
    mistakes = [pair for pair in cases if pair[1].label != pair[1].predicted][:WORST]
    shown = {id(case) for _, case in mistakes}
    counts, k = metrics.confusion, len(metrics.classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    wrong = counts * (1 - np.eye(k, dtype=np.int64))
    pairs = [
        divmod(int(flat), k) for flat in np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    ]
    per_class = (
        metrics.per_class
        if k <= LARGEST_MATRIX
        else tuple(sorted(metrics.per_class, key=attrgetter("f1")))
    )
    severities = [severity for severity, _ in report.findings]
    serious = [
        f"{n} {name}{'s' if n > 1 else ''}"
        for name in ("error", "warning")
        if (n := severities.count(name))
    ]
    return {
        "headline": (
            [("Balanced accuracy", metrics.balanced_accuracy), ("Macro F1", metrics.macro_f1)]
            + [(f"Among the first {top}", estimate) for top, estimate in metrics.top_k.items()]
        ),
        "serious": " and ".join(serious),
        "matrix": k <= LARGEST_MATRIX,
        "shares": shares.tolist(),
        "counts": counts.tolist(),
        "pairs": [(i, j) for i, j in pairs if wrong[i, j]],
        "confused": int(np.count_nonzero(wrong)),
        "n_mistakes": int(wrong.sum()),
        "open": mistakes[:WORST_OPEN],
        "more": mistakes[WORST_OPEN:],
        "others": [pair for pair in cases if id(pair[1]) not in shown],
        "per_class": per_class,
        "charts": charts(report.rows),
        "epochs": [row for row in report.rows if row.get("val_loss") is not None],
    }


def _percent(value: float | Estimate | None) -> str:
    if value is None:
        return "–"
    return f"{100 * (value.value if isinstance(value, Estimate) else value):.1f}\N{NO-BREAK SPACE}%"


def _between(estimate: Estimate) -> str:
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def _svg(text: str) -> str:
    """As an image of its own, so that its style stays inside."""
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def _jpeg(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
