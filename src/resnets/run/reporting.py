"""What people read of a measurement: report.html and model_card.md."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnets.data.findings import differ
from resnets.data.loader import PreparedImages
from resnets.evaluation import EVALUATORS
from resnets.evaluation.maps import overlay, thumbnail
from resnets.evaluation.metrics import Metrics, heading, title
from resnets.evaluation.report import Report, write_report
from resnets.evaluation.sections import Case, Section, Twin, Twins, pair_section
from resnets.export import Proven
from resnets.files import write_file
from resnets.kinds.prediction import Prediction
from resnets.kinds.sample import Sample
from resnets.kinds.view import View
from resnets.modelfile import Model
from resnets.models import Network
from resnets.models.features import Features
from resnets.run.outcome import Measured
from resnets.run.spec import Spec
from resnets.screen import printable
from resnets.settings import listed, to_yaml
from resnets.summary.diagram import draw

STRANGE = 24  # images shown that are least like those of training
DRAWN = 480  # pixels of the longer side of an image on which something is drawn


@dataclass(frozen=True)
class Account:
    """What is told of a measurement beside its numbers.

    Args:
        data: What was measured on.
        command: What repeats it, as typed.
        facts: (name, value) pairs.
        rows: Of results.csv; empty where nothing was trained.
        findings: What the check of the data found: severity and text.
        notes: What else a reader must know.
        steps: What to do next.
        files: What else was written, relative to the report.
    """

    data: str
    command: str
    facts: tuple[tuple[str, str], ...]
    rows: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def write_outcome_report(
    path: Path,
    model: Model,
    measured: Measured,
    images: PreparedImages,
    account: Account,
    more: Sequence[Section] = (),
) -> None:
    """report.html of an evaluation, with more sections after those of its evaluator."""
    evaluator = EVALUATORS[model.task.kind.name]
    places = evaluator.worst(measured.evidence)
    cases = [_case(int(place), model, measured, images) for place in places]
    strange = _least_familiar(model, measured, images)
    report = Report(
        _title(model, account),
        account.command,
        account.facts,
        measured.metrics,
        [dict(row) for row in account.rows],
        (*evaluator.sections(measured.metrics, cases), *more, *strange),
        len(cases),
        account.findings,
        account.notes,
        _diagram(model),
        evaluator.unit,
        account.steps,
        evaluator.baseline(measured.metrics),
        account.files,
    )
    write_report(path, report)


def _least_familiar(model: Model, measured: Measured, images: PreparedImages) -> list[Section]:
    """The images that are least like those of training, where predictions say how like they are."""
    strangeness = EVALUATORS[model.task.kind.name].strangeness
    if strangeness is None:
        return []
    truths = model.task.kind.ground_truth(measured.samples, model.classes)
    scored = [
        (score, place)
        for place, pair in enumerate(zip(truths, measured.predictions, strict=True))
        if (score := strangeness.score(*pair)) is not None
    ]
    if not scored:
        return []
    places = [place for _, place in sorted(scored, key=lambda one: (-one[0], one[1]))[:STRANGE]]
    cases = [_case(place, model, measured, images) for place in places]
    return [strangeness.section(cases, len(scored))]


def _case(place: int, model: Model, measured: Measured, images: PreparedImages) -> Case:
    pixels, size = images.load(place)
    pixels = as_bytes(pixels)
    heat, prediction = measured.maps[place], measured.predictions[place]
    (whole,) = model.task.kind.ground_truth([measured.samples[place]], model.classes)
    truth = whole.seen(images.view(size, pixels.shape[-3:-1]))
    if prediction.has_places:
        drawn = _drawn(truth, pixels), _drawn(prediction, pixels)
        return Case(truth, prediction, drawn=drawn)
    map_ = None if heat is None else overlay(pixels, heat.astype(np.float32))
    shown = None if map_ is None else thumbnail(np.asarray(map_))
    return Case(truth, prediction, thumbnail(pixels), shown)


def duplicate_sections(spec: Spec, samples: Sequence[Sample]) -> list[Section]:
    """The pairs that the check found, as pictures; none where there are none to show.

    Args:
        spec: Of the run.
        samples: All of its images.
    """
    places = {sample.name: place for place, sample in enumerate(samples)}
    pairs = [pair for pair in spec.pairs if {*pair[:2]} <= {*places}]
    if not pairs or spec.sampling:
        return []
    images = PreparedImages(samples, spec.preprocessing, 0, spec.settings.workers or None)

    def twin(name: str) -> Twin:
        sample = samples[places[name]]
        about = f"{', '.join(sample.unique_labels) or 'no label'} ({sample.split})"
        return Twin(name, about, thumbnail(as_bytes(images.read(places[name]))))

    shown = [
        Twins(
            (twin(first), twin(second)),
            how,
            differ(samples[places[first]], samples[places[second]]),
        )
        for first, second, how in pairs
    ]
    return [pair_section(shown)]


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels of any depth as uint8, to be shown."""
    return (pixels // 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def _drawn(prediction: Prediction, pixels: np.ndarray) -> bytes:
    """On the input, enlarged or reduced first, so that names can be read."""
    height, width = pixels.shape[:2]
    scale = DRAWN / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    image = Image.fromarray(np.broadcast_to(pixels, (height, width, 3))).resize(size[::-1])
    seen = prediction.seen(View((0, 0, width, height), size))
    return thumbnail(np.asarray(seen.drawn(image)), DRAWN)


def _diagram(model: Model) -> str:
    if model.network["kind"] != "family":
        return ""
    network = Network.parse(
        model.network["name"], model.network["classes"], model.network["channels"]
    )
    backbone = any(isinstance(one, Features) for one in model.net.modules())
    # a network for images takes those of a clip one by one
    frames = (model.sampling.frames,) if model.sampling and network.is_clip else ()
    return draw(network, (*frames, *model.preprocessing.size), backbone)


def write_card(
    path: Path, model: Model, account: Account, metrics: Metrics, proven: Proven
) -> None:
    """model_card.md: what the model is, for whoever finds the file later."""
    evaluator = EVALUATORS[model.task.kind.name]
    classes = [markdown(one) for one in metrics.classes]
    lines = [
        *_front_matter(model, account, metrics),
        f"# {markdown(_title(model, account))}",
        "",
        f"{evaluator.model} with {len(classes):,} classes: {listed(classes, 20)}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {markdown(name)} | {markdown(value)} |" for name, value in account.facts),
        "",
        "## Measured on images it was not trained on",
        "",
        "| | value [95 % interval] |",
        "|---|---|",
        *(f"| {title(name)} | {one} |" for name, one in metrics.numbers.items()),
        "",
        *(f"- {markdown(note)}" for note in (evaluator.baseline(metrics), *account.notes) if note),
        "",
        *_class_table(metrics),
        "## Use",
        "",
        f"    resnets predict {printable(shlex.quote(proven.path.name))} IMAGES/ -o new.csv",
        "",
        "The file takes whole images (uint8, any size): preprocessing and decoding are part of it.",
        f"{evaluator.caution}, and the numbers",
        "above hold for images like those it was trained on.",
        "",
        markdown(f"Made with {platform.system()}, Python {platform.python_version()}; {proven}"),
    ]
    write_file(path, "\n".join(lines) + "\n")


def _title(model: Model, account: Account) -> str:
    return f"{model.network_name} on {account.data}"


def _front_matter(model: Model, account: Account, metrics: Metrics) -> list[str]:
    """What the Hugging Face hub reads of a card; a licence is the user's to choose."""
    pipeline = EVALUATORS[model.task.kind.name].pipeline
    task, dataset = {"type": pipeline}, {"name": account.data, "type": "custom"}
    measured = [
        {"name": title(name), "type": name, "value": round(one.value, 6)}
        for name, one in metrics.numbers.items()
    ]
    results = [{"task": task, "dataset": dataset, "metrics": measured}]
    index = [{"name": _title(model, account), "results": results}]
    values = {
        "library_name": "onnx",
        "pipeline_tag": pipeline,
        "tags": ["resnets", "residual-network"],
        "model-index": index,
    }
    return ["---", *to_yaml(values).splitlines(), "---", ""]


def _class_table(metrics: Metrics) -> list[str]:
    """The estimates of each class."""
    names = list(metrics.per_class[0].estimates)
    return [
        f"| Class | n | {' | '.join(heading(name) for name in names)} |",
        "|---|---|" + "---|" * len(names),
        *(
            f"| {markdown(one.name)} | {one.n:,} | "
            + " | ".join(str(one.estimates[name] or "-").partition(", n")[0] for name in names)
            + " |"
            for one in metrics.per_class
        ),
        "",
    ]


def markdown(text: str) -> str:
    """A text as Markdown that shows it as it is: names of classes and files may hold marks. An
    underscore within a word is none."""
    return re.sub(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", printable(text))
