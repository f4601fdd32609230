"""One page that shows what was trained, how well it does and where it fails. One file, no request
to anywhere."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from resnets.evaluation.curves import charts, columns
from resnets.evaluation.metrics import Estimate, Metrics, heading
from resnets.evaluation.sections import Section
from resnets.files import write_file


@dataclass(frozen=True)
class Report:
    """All that goes into the page.

    Args:
        title: Its heading.
        command: What repeats the run, as typed.
        facts: What was trained on what: (name, value) pairs.
        metrics: Of the images the network did not see in training.
        rows: Of results.csv; may be empty.
        sections: What the evaluator shows of them.
        shown: Images in the page.
        findings: What the check of the data found: (`error`, `warning` or `note`; text).
        notes: What else a reader must know.
        diagram: The network as SVG.
        unit: What was measured, in the plural.
        steps: What to do next, in sentences.
        baseline: What is reached without a network, in a few words.
        files: What else was written, relative to the page.
    """

    title: str
    command: str
    facts: tuple[tuple[str, str], ...]
    metrics: Metrics
    rows: list[dict[str, Any]]
    sections: tuple[Section, ...]
    shown: int = 0
    findings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    diagram: str = ""
    unit: str = "images"
    steps: tuple[str, ...] = ()
    baseline: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if odd := {severity for severity, _ in self.findings} - {"error", "warning", "note"}:
            raise ValueError(
                f"report: a finding of severity {min(odd)!r}; allowed: error, warning, note"
            )


def write_report(path: Path, report: Report) -> None:
    """Writes the page: complete under its name, or not at all."""
    write_file(path, _render(report).encode("utf-8", "replace"))  # file names need not be Unicode


def _render(report: Report) -> str:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters = {"percent": _percent, "between": _between, "jpeg": _jpeg, "svg": _svg}
    environment.filters |= filters | {"heading": heading}
    script = _text("report.js")
    # Only this very script may run, so that not even a hole in the escaping would let a file name
    # run its own.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown = columns(report.rows)
    validated = [name for name, _ in shown if name.startswith("val_")]
    measured = [row for row in report.rows if any(row.get(name) is not None for name in validated)]
    return environment.get_template("frame.html.j2").render(
        report=report,
        metrics=report.metrics,
        headline=list(islice(report.metrics.numbers.items(), 1, None)),
        serious=_serious(report),
        charts=charts(report.rows),
        columns=shown,
        epochs=measured,
        css=Markup(_text("report.css")),
        script=Markup(script),
        digest=digest,
    )


def _text(name: str) -> str:
    """A file of the page."""
    return files(__package__).joinpath("page", name).read_text("utf-8")


def _serious(report: Report) -> str:
    """How many errors and warnings the check of the data found."""
    severities = [severity for severity, _ in report.findings]
    counts = [(name, severities.count(name)) for name in ("error", "warning")]
    return " and ".join(f"{n} {name}{'s' if n > 1 else ''}" for name, n in counts if n)


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
    kind = "webp" if content.startswith(b"RIFF") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
