"""`resnets val`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.evaluation.metrics import Metrics
    from resnets.screen import Screen


def val(
    model: Annotated[Path, Argument(help="NAME.onnx (needs no torch), a run folder, a model file, or a state dict with --model.")],
    data: Annotated[str | None, Argument(help="What to measure on; a run knows its own, NAME.onnx proves itself without.")] = None,
    split: Annotated[str | None, Option(help="train | val | test; by default test, else val.")] = None,
    report: Annotated[Path | None, Option(help="Write report.html there.")] = None,
    engine: Annotated[str, Option(help="For NAME.onnx: onnxruntime | openvino")] = "onnxruntime",
    network: Annotated[str | None, Option("--model", "-m", help="The network of a bare state dict.")] = None,
    classes: Annotated[str | None, Option(help="Its classes: FILE, or imagenet.")] = None,
    json: Annotated[bool, Option("--json", help="One JSON object as the last line of stdout.")] = False,
) -> None:
    """Measure a model with error bars; for NAME.onnx, repeat the proof on the images inside it."""
    from resnets.screen import Screen

    screen = Screen()
    values: dict[str, Any] = {"model": str(model)}
    if model.suffix == ".onnx":
        values |= _prove(model, engine, screen)
        metrics = _measure_file(model, engine, data, split, screen) if data else None
    else:
        metrics = _measure_model(model, data, split, report, network, classes, screen)
    if metrics is not None:
        _show(metrics, screen)
        values["metrics"] = metrics.to_dict()
    if json:
        print_json(values)


def _prove(path: Path, engine: str, screen: Screen) -> dict[str, Any]:
    from typer import Exit

    from resnets.runtime import load
    from resnets.runtime.onnxfile import read_onnx
    from resnets.runtime.proof import prove

    proof = prove(load(path, engine), read_onnx(path))
    words = f"{proof.images} golden images in {proof.engine}: differ by up to {proof.difference:.2g} (allowed {proof.limit})"
    (screen.say if proof.ok else screen.warn)(f"{path}: {'proven' if proof.ok else 'NOT PROVEN'}, {words}")
    if not proof.ok:
        raise Exit(1)
    return {"proof": {**vars(proof), "ok": proof.ok}}


def _measure_file(path: Path, engine: str, data: str, split: str | None, screen: Screen) -> Metrics:
    """The file on whole pictures, as anybody would use it."""
    import numpy as np

    from resnets.data.splits import class_indices, samples_to_measure
    from resnets.evaluation.metrics import measure
    from resnets.runtime import load

    predictor = load(path, engine)
    _, samples, part = samples_to_measure(data, split)
    labels = class_indices(samples, predictor.classes)
    rows, kept = [], []
    with screen.progress("measuring", len(samples)) as bar:
        for place, prediction in enumerate(predictor.predict(sample.path for sample in samples)):
            if prediction.probabilities is None:
                screen.warn(f"  skipped: {samples[place].name}: {prediction.error}")
            else:
                rows.append(prediction.probabilities)
                kept.append(place)
            bar.update(place + 1)
    if not rows:
        raise ValueError(f"{data}: no usable picture")
    screen.say(f"{path} on {part} of {data}, {len(rows):,} pictures")
    return measure(np.stack(rows), labels[kept], predictor.classes)


def _measure_model(
    path: Path, data: str | None, split: str | None, report: Path | None, network: str | None, classes: str | None, screen: Screen
) -> Metrics:
    from resnets.cli.output import open_model
    from resnets.data.check import check_pictures
    from resnets.data.loader import Pictures
    from resnets.data.sources import Found
    from resnets.data.splits import read_split, samples_to_measure
    from resnets.run.outcome import measure_model, write_outcome_report
    from resnets.training.recipe import memory_for_pictures

    model = open_model(path, network, classes)
    own = path / "split.csv"
    if data is None and own.is_file():
        samples = read_split(own)
        part = split or ("test" if any(sample.split == "test" for sample in samples) else "val")
        samples, data = [sample for sample in samples if sample.split == part], str(own)
    elif data is None:
        raise ValueError(f"{path} does not know its data; name them: resnets val {path} DATA")
    else:
        _, samples, part = samples_to_measure(data, split)
    result = check_pictures(Found("", tuple(samples)))
    for finding in result.findings:
        if finding.text.startswith("unusable"):
            screen.warn(f"  {finding.text}")
    usable = [sample for sample, fact in zip(samples, result.facts, strict=True) if not fact.error]
    if not usable:
        raise ValueError(f"{data}: no usable picture in {part}")
    pictures = Pictures(usable, model.preprocessing, None, memory_for_pictures(None))
    with screen.progress("measuring", len(usable)) as bar:
        answers = measure_model(model, pictures, bar.update)
    screen.say(f"{model.network_name} ({path}) on {part} of {data}, {len(usable):,} pictures")
    if report:
        facts = [("model", str(path)), ("data", f"{part} of {data}")]
        write_outcome_report(
            report,
            answers,
            pictures,
            title=f"{model.network_name} on {Path(data).name}",
            command=f"resnets val {path} {data}",
            facts=facts,
        )
        screen.say(f"report: {report}")
    return answers.metrics


def _show(metrics: Metrics, screen: Screen) -> None:
    rows = [
        ("accuracy", str(metrics.accuracy)),
        ("balanced accuracy", str(metrics.balanced_accuracy)),
        ("macro F1", str(metrics.macro_f1)),
    ]
    rows += [(f"top-{k}", str(estimate)) for k, estimate in metrics.top_k.items()]
    screen.table((), rows)
    if len(metrics.classes) <= 30:
        screen.table(
            ("class", "recall", "precision"), [(c.name, str(c.recall or "-"), str(c.precision or "-")) for c in metrics.per_class]
        )
