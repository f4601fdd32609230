"""A model or an exported file, measured on images: what `val` does."""

from __future__ import annotations

from pathlib import Path

from resnets.data.check import look_at
from resnets.data.findings import UNUSABLE, about_files, about_left_out_files
from resnets.data.loader import PreparedImages
from resnets.data.readers import Found
from resnets.data.splits import read_split, refuse_unknown_classes, samples_to_measure
from resnets.data.windows import to_windows
from resnets.evaluation import EVALUATORS
from resnets.evaluation.metrics import Metrics
from resnets.modelfile import Model
from resnets.run.folder import RunFolder
from resnets.run.outcome import measure_model
from resnets.run.reporting import Account, write_outcome_report
from resnets.runtime import load
from resnets.screen import Screen
from resnets.training.device import memory_for_images


def measure_file(path: Path, engine: str, data: str, split: str | None, screen: Screen) -> Metrics:
    """NAME.onnx on whole images, as anybody would use it.

    Raises:
        ValueError: No usable image, or no such part of the data.
    """
    predictor = load(path, engine)
    found, samples, part = samples_to_measure(data, split, predictor.kind.name)
    _tell_left_out(found, screen)
    refuse_unknown_classes(samples, predictor.classes)
    kind, evidence = predictor.kind, []
    evaluator = EVALUATORS[kind.name]
    with screen.progress("measuring", len(samples)) as bar:
        predictions = predictor.predict(sample.path for sample in samples)
        for done, (sample, prediction) in enumerate(zip(samples, predictions, strict=True), 1):
            if prediction.error is not None:
                screen.warn(f"  skipped: {sample.name}: {prediction.error}")
            else:
                (truth,) = kind.ground_truth([sample], predictor.classes)
                evidence.append(evaluator.compare(truth, prediction))
            bar.update(done)
    if not evidence:
        raise ValueError(f"{data}: no usable image")
    screen.say(f"{path} on {part} of {data}, {len(evidence):,} images")
    return evaluator.measure(evidence, predictor.classes, None)


def measure_and_report(
    model: Model,
    path: Path,
    data: str | None,
    split: str | None,
    report: Path | None,
    screen: Screen,
) -> Metrics:
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
        _tell_left_out(found, screen)
    facts = look_at(samples, kind=model.task.kind)
    for finding in about_files(samples, facts):
        if finding.topic == UNUSABLE:
            screen.warn(f"  {finding.text}")
    usable = [sample for sample, fact in zip(samples, facts, strict=True) if not fact.error]
    if not usable:
        raise ValueError(f"{data}: no usable image in {part}")
    shown, sampling = to_windows(usable, model.sampling), model.sampling
    images = PreparedImages(shown, model.preprocessing, memory_for_images(None), sampling=sampling)
    with screen.progress("measuring", len(shown)) as bar:
        measured = measure_model(model, images, bar.update)
    screen.say(f"{model.network_name} ({path}) on {part} of {data}, {len(usable):,} images")
    if report:
        about = [("model", str(path)), ("data", f"{part} of {data}")]
        title, command = f"{model.network_name} on {Path(data).name}", f"resnets val {path} {data}"
        account = Account(title, command, tuple(about))
        write_outcome_report(report, model, measured, images, account)
        screen.say(f"report: {report}")
    return measured.metrics


def _tell_left_out(found: Found, screen: Screen) -> None:
    for finding in about_left_out_files(found):
        screen.warn(f"  {finding.text}")
