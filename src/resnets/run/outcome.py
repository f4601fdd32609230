"""What comes of a trained model: measured on images it has not seen, shown with its mistakes,
exported and proven."""

from __future__ import annotations

import csv
import io
import platform
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnets.data.loader import PreparedImages
from resnets.data.sources import find_data, sample_folder
from resnets.data.splits import class_indices
from resnets.evaluation.maps import overlay, thumbnail
from resnets.evaluation.metrics import Metrics, measure
from resnets.evaluation.report import Case, Report, choose_cases, write_report
from resnets.export import Proven, export_model
from resnets.files import write_file
from resnets.kinds.sample import Sample
from resnets.modelfile import Model
from resnets.models import Network
from resnets.preprocessing import Preprocessing
from resnets.runtime.engines import Answer
from resnets.screen import printable
from resnets.settings import listed
from resnets.summary.diagram import draw

PROOF_IMAGES = 16  # whole images of the data that an export is compared on


@dataclass(frozen=True)
class Answers:
    """What a model said of some samples.

    Args:
        samples: The samples.
        labels: (n,) index of the true class.
        probabilities: (n, classes) float32.
        heat: (n, h, w) float16, the map of the predicted class; None where the network has no maps.
        metrics: All of it, measured.
    """

    samples: tuple[Sample, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    heat: np.ndarray | None
    metrics: Metrics

    def to_csv(self) -> str:
        """predictions.csv: what was said of each image."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("file", "label", "predicted", "probability", "label_probability"))
        classes = self.metrics.classes
        for sample, label, row in zip(self.samples, self.labels, self.probabilities, strict=True):
            table.writerow(
                (
                    sample.name,
                    sample.labels[0],
                    classes[row.argmax()],
                    f"{row.max():.6f}",
                    f"{row[label]:.6f}",
                )
            )
        return text.getvalue()


class NotFinite(ValueError):
    """A network says NaN, which is no prediction: as a number it would count for class 0."""


def answer_all(
    answer: Callable[[np.ndarray], Answer],
    pictures: PreparedImages,
    progress: Callable[[int], None] = lambda done: None,
) -> Answer:
    """Probabilities (n, classes) of all images, and the map of each one's predicted class as heat
    (n, h, w).

    Raises:
        NotFinite: Some of them are NaN.
    """
    size = 64 if max(pictures.preprocessing.size) >= 96 else 256
    probabilities, heat = [], []
    for places, pixels in pictures.batches(size):
        said = answer(pixels)
        good = np.isfinite(said.probabilities).all(1)
        if not good.all():
            name = pictures.samples[places[good.argmin()]].name
            raise NotFinite(f"the probabilities of {name} are not finite numbers")
        probabilities.append(said.probabilities)
        if said.heat is not None:
            heat.append(
                said.heat[np.arange(len(places)), said.probabilities.argmax(1)].astype(np.float16)
            )
        progress(int(places[-1]) + 1)
    return Answer(np.concatenate(probabilities), heat=np.concatenate(heat) if heat else None)


def measure_model(
    model: Model, pictures: PreparedImages, progress: Callable[[int], None] = lambda done: None
) -> Answers:
    """Evaluates a model on samples."""
    labels = class_indices(pictures.samples, model.classes)
    said = answer_all(model.answer, pictures, progress)
    groups = np.array([sample.group for sample in pictures.samples])
    metrics = measure(
        said.probabilities, labels, model.classes, groups=groups if _clustered(groups) else None
    )
    return Answers(tuple(pictures.samples), labels, said.probabilities, said.heat, metrics)


def show_cases(answers: Answers, pictures: PreparedImages) -> tuple[Case, ...]:
    """The images worth a look, with their maps."""
    classes = answers.metrics.classes
    cases = []
    for place in choose_cases(answers.probabilities, answers.labels):
        pixels = pictures.read(int(place))
        pixels = (pixels // 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
        row, sample = answers.probabilities[place], answers.samples[place]
        heat = (
            None
            if answers.heat is None
            else _jpeg(overlay(pixels, answers.heat[place].astype(np.float32)))
        )
        case = Case(
            sample.name,
            classes[answers.labels[place]],
            classes[row.argmax()],
            float(row.max()),
            float(row[answers.labels[place]]),
        )
        cases.append(Case(**{**vars(case), "thumbnail": thumbnail(pixels), "heat": heat}))
    return tuple(cases)


def write_outcome_report(
    path: Path,
    model: Model,
    answers: Answers,
    pictures: PreparedImages,
    *,
    title: str,
    command: str,
    facts: Iterable[tuple[str, str]],
    rows: Sequence[dict[str, Any]] = (),
    findings: Iterable[tuple[str, str]] = (),
    notes: Iterable[str] = (),
) -> None:
    """report.html of an evaluation."""
    cases = show_cases(answers, pictures)
    diagram = ""
    if model.network["kind"] == "family":
        network = Network.parse(
            model.network["name"], model.network["classes"], model.network["channels"]
        )
        diagram = draw(network, model.preprocessing.size[0])
    report = Report(
        title,
        command,
        tuple(facts),
        answers.metrics,
        list(rows),
        cases,
        tuple(findings),
        tuple(notes),
        diagram,
    )
    write_report(path, report)


def proof_images(preprocessing: Preprocessing, samples: Sequence[Sample] = ()) -> list[Image.Image]:
    """Whole images to prove an export on: of the data, spread over them, or of the sample that
    ships with the package."""
    if not samples:
        samples = find_data(sample_folder()).samples
    places = np.unique(np.linspace(0, len(samples) - 1, PROOF_IMAGES).astype(int))
    return [preprocessing.open(samples[place].path) for place in places]


def export_outcome(model: Model, path: Path, samples: Sequence[Sample] = ()) -> Proven:
    """Exports a model, proven on whole images of its data where they are at hand."""
    return export_model(model, path, proof_images(model.preprocessing, samples))


def write_card(
    path: Path, name: str, facts: Iterable[tuple[str, str]], metrics: Metrics, proven: Proven
) -> None:
    """model_card.md: what the model is, for whoever finds the file later."""
    classes = [markdown(one) for one in metrics.classes]
    lines = [
        f"# {markdown(name)}",
        "",
        f"Image classifier with {len(classes):,} classes: {listed(classes, 20)}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {markdown(key)} | {markdown(value)} |" for key, value in facts),
        "",
        "## Measured on images it was not trained on",
        "",
        "| | value [95 % interval] |",
        "|---|---|",
        f"| accuracy | {metrics.accuracy} |",
        f"| balanced accuracy | {metrics.balanced_accuracy} |",
        f"| macro F1 | {metrics.macro_f1} |",
        "",
        "## Use",
        "",
        f"    resnets predict {printable(shlex.quote(proven.path.name))} IMAGES/ -o new.csv",
        "",
        "The file takes whole images (uint8, any size); resizing, normalisation and softmax are",
        "part of it. It always predicts one of its classes, also for an image of something else,",
        "and the numbers above hold for images like those it was trained on.",
        "",
        markdown(f"Made with {platform.system()}, Python {platform.python_version()}; {proven}"),
    ]
    write_file(path, "\n".join(lines) + "\n")


def markdown(text: str) -> str:
    """A text as Markdown that shows it as it is: names of classes and files may hold marks. An
    underscore within a word is none."""
    return re.sub(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", printable(text))


def _clustered(groups: np.ndarray) -> bool:
    named = groups[groups != ""]
    return len(named) == len(groups) and len(np.unique(named)) < len(named)


def _jpeg(image: Image.Image) -> bytes:
    return thumbnail(np.asarray(image))
