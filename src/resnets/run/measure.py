"""A model measured on images: what `val` does with all but exported files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resnets.data.check import look_at
from resnets.data.findings import UNUSABLE, about_files
from resnets.data.loader import PreparedImages
from resnets.data.splits import read_split, refuse_unknown_classes, samples_to_measure
from resnets.data.windows import to_windows
from resnets.kinds.sample import Sample
from resnets.measuring import Judged, tell_left_out
from resnets.modelfile import Model
from resnets.run.folder import RunFolder
from resnets.run.outcome import Measured, measure_model
from resnets.run.reporting import Account, write_outcome_report
from resnets.screen import Screen
from resnets.training.device import memory_for_images


def measure_and_report(
    model: Model,
    path: Path,
    data: str | None,
    split: str | None,
    report: Path | None,
    screen: Screen,
) -> Judged:
    """A model on some data, or on what its run held out.

    Args:
        model: What is measured.
        path: Where it came from: a run's folder knows its data.
        data: What to measure on.
        split: Which part of it; by default test, else val.
        report: Where to write report.html, if at all.
        screen: Told of what is skipped.

    Raises:
        ValueError: No data, no usable image, or no such part.
    """
    own = RunFolder(path).split
    if data is None and own.is_file():
        samples = read_split(own)
        part = split or ("test" if any(sample.split == "test" for sample in samples) else "val")
        there = sorted({sample.split for sample in samples})
        if part not in there:
            raise ValueError(f"{own} has no split {part!r}; it has {', '.join(there)}")
        samples, data = [sample for sample in samples if sample.split == part], str(own)
    elif data is None:
        raise ValueError(f"{path} does not know its data; name them: resnets val {path} DATA")
    else:
        found, samples, part = samples_to_measure(data, split, model.task.kind.name)
        tell_left_out(found, screen)
    facts = look_at(samples, kind=model.task.kind)
    for finding in about_files(samples, facts):
        if finding.topic == UNUSABLE:
            screen.warn(f"  {finding.text}")
    usable = [sample for sample, fact in zip(samples, facts, strict=True) if not fact.error]
    if not usable:
        raise ValueError(f"{data}: no usable image in {part}")
    measured, images = _measure(model, usable, screen)
    screen.say(f"{model.network_name} ({path}) on {part} of {data}, {len(usable):,} images")
    if report:
        about = [("model", str(path)), ("data", f"{part} of {data}")]
        account = Account(Path(data).name, f"resnets val {path} {data}", tuple(about))
        write_outcome_report(report, model, measured, images, account)
        screen.say(f"report: {report}")
    return _judged(model, measured)


def judge_model(model: Model, samples: Sequence[Sample], screen: Screen) -> Judged:
    """A model on images that another one was measured on.

    Raises:
        ValueError: One is of a class that it does not know.
    """
    return _judged(model, _measure(model, samples, screen)[0])


def _measure(
    model: Model, samples: Sequence[Sample], screen: Screen
) -> tuple[Measured, PreparedImages]:
    refuse_unknown_classes(samples, model.classes)
    shown, sampling = to_windows(samples, model.sampling), model.sampling
    images = PreparedImages(shown, model.preprocessing, memory_for_images(None), sampling=sampling)
    with screen.progress("measuring", len(shown)) as bar:
        return measure_model(model, images, bar.update), images


def _judged(model: Model, measured: Measured) -> Judged:
    return Judged(model.task.kind.name, measured.samples, measured.evidence, measured.metrics)
