"""A verified float32 file to one in int8 beside it, which is kept only where held-out images show
that it is no worse than allowed, and faster."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from resnets.evaluation.verdict import NOT_PROVEN, REFUSED, Verdict, decide
from resnets.export.calibration import Images, read_inputs
from resnets.export.exporter import GOLDEN, ProofFailed, check_target
from resnets.export.judging import Beside, judge_beside
from resnets.export.quantiser import METHOD, quantise
from resnets.export.speed import Speed, measure_speed
from resnets.formats import FORMAT
from resnets.kinds import Kind
from resnets.kinds.sample import Sample
from resnets.runtime import load
from resnets.runtime.engines import ENGINES, available_engines, make_engine
from resnets.runtime.file_engine import EngineError
from resnets.runtime.golden import to_image, write_golden
from resnets.runtime.onnxfile import PROPERTY, OnnxFile, read_onnx, seal, write_onnx
from resnets.screen import Screen

REFERENCE = "onnxruntime"  # the engine that gives the golden outputs, and the numbers of float32
BATCHES = (1, 2, 5)  # at which every engine is held against it
TRIED = 10  # images for that
TIMED = 8  # images of the batch of which the throughput is measured
HEADER = ["", "float32", "int8", "difference"]


@dataclass(frozen=True)
class Judgement:
    """An int8 graph beside its float32 file.

    Args:
        beside: By engine, on the images that it was judged on.
        speeds: By engine, of float32 and of int8.
        sizes: Bytes of float32 and of int8.
        verdict: What follows.
    """

    beside: Mapping[str, Beside]
    speeds: Mapping[str, Sequence[Speed]]
    sizes: tuple[int, int]
    verdict: Verdict

    @property
    def rows(self) -> list[list[str]]:
        """The table for people, below `HEADER`."""
        rows = []
        for name, one in self.beside.items():
            title, (number, value) = ENGINES[name].title, one.reference.main
            change, low, high = (
                f"{100 * part:+z.1f}"
                for part in (one.comparison.difference, one.comparison.low, one.comparison.high)
            )
            cells = [str(value), str(one.metrics.main[1]), f"{change} points [{low}, {high}]"]
            rows.append([f"{number}, {title}", *cells])
            if one.agreement:
                rows.append([f"same decision, {title}", "", str(one.agreement), ""])
        for name, (before, after) in self.speeds.items():
            title = ENGINES[name].title
            times = [f"{1000 * speed.latency:.2f} ms" for speed in (before, after)]
            rates = [f"{speed.throughput:.1f} images/s" for speed in (before, after)]
            alone, together = _gains([(before, after)])
            rows.append([f"one image, {title}", *times, f"{alone:.2f} x as fast"])
            rows.append([f"batch of {after.batch}, {title}", *rates, f"{together:.2f} x as fast"])
        megabytes = [f"{size / 1e6:.1f} MB" for size in self.sizes]
        return [*rows, ["size", *megabytes, f"{self.sizes[1] / self.sizes[0]:.2f} x as large"]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go into JSON."""
        return {
            "verdict": self.verdict.word,
            "reason": self.verdict.reason,
            "bytes": dict(zip(("float32", "int8"), self.sizes, strict=True)),
            "engines": {
                name: {
                    "float32": {**one.reference.to_dict(), **vars(self.speeds[name][0])},
                    "int8": {**one.metrics.to_dict(), **vars(self.speeds[name][1])},
                    "difference": one.comparison.to_dict(),
                    "agreement": vars(one.agreement) if one.agreement else None,
                }
                for name, one in self.beside.items()
            },
        }


def check_int8(kind: Kind, name: str, precision: str = "float32") -> None:
    """Whether an int8 file can be made of a model, before any work is done for it.

    Args:
        kind: What it predicts.
        name: Of the model or the file.
        precision: Of its weights.

    Raises:
        ValueError: It is in int8 already, or nobody has measured how far engines are apart for its
            task in int8, so that such a file could not be verified.
    """
    if precision != "float32":
        raise ValueError(f"{name}: in {precision} already; name the float32 file or the model")
    if "int8" not in kind.limits:
        raise ValueError(
            f"{name}: no int8 for the task {kind.name}: nobody has measured how far engines are"
            " apart, so that such a file could not be verified; leave out --int8"
        )


def export_int8(
    source: Path, target: Path, images: Images, max_drop: float, accept: bool, screen: Screen
) -> Judgement:
    """Writes an int8 file, if the verdict is that it is kept.

    Args:
        source: A float32 file of `export_model`.
        target: `NAME-int8.onnx`; an older one is removed where the new one is not kept.
        images: What it is calibrated with and judged on.
        max_drop: What it may lose of the main number, 0 to 1.
        accept: Whether it is kept where that is not proven.
        screen: Told of the table and the verdict.

    Raises:
        ValueError: The file cannot be quantised, or too few images can be read.
        ProofFailed: It is refused or not proven, or engines give different predictions.
        OSError: It cannot be written.
    """
    check_target(target)
    file = read_onnx(source)
    check_int8(file.kind, str(source), file.precision)
    screen.say(
        f"int8: calibrated with {len(images.calibration):,} images of {images.source}, judged on"
        f" {len(images.judged):,} others"
    )
    inputs = read_inputs(load(source, REFERENCE), images.calibration, screen)
    graph = quantise(source.read_bytes(), inputs)
    metadata = _metadata(
        file, graph, inputs, f"{len(images.calibration)} images of {images.source}"
    )
    draft = _with_metadata(graph, metadata)
    try:
        check_engines(seal(draft), file, inputs)
        judgement = _judge(source, draft, images.judged, inputs, max_drop, screen)
    except (EngineError, ProofFailed) as error:
        target.unlink(missing_ok=True)
        raise ProofFailed(f"{target} was not written: {error}") from None
    screen.table(HEADER, judgement.rows, right=range(1, len(HEADER)))
    verdict = judgement.verdict
    if verdict.word == REFUSED or (verdict.word == NOT_PROVEN and not accept):
        target.unlink(missing_ok=True)
        hint = "; to keep it all the same: --accept-unproven" if verdict.word == NOT_PROVEN else ""
        raise ProofFailed(f"{target} was not written: {verdict}{hint}")
    account = {"verdict": verdict.word, "reason": verdict.reason}
    metadata["quantisation"] |= {**account, "table": [HEADER, *judgement.rows]}
    metadata["metrics"] = judgement.beside[REFERENCE].metrics.to_dict()
    write_onnx(target, _with_metadata(graph, metadata))
    screen.say(f"{target} ({judgement.sizes[1] / 1e6:.1f} MB), {verdict}")
    return judgement


def check_engines(sealed: bytes, file: OnnxFile, inputs: Sequence[np.ndarray]) -> None:
    """Holds every installed engine, at several batch sizes, against the one that gives the golden
    outputs.

    Args:
        sealed: The int8 file.
        file: The float32 file.
        inputs: Images, or clips, as batches of one.

    Raises:
        ProofFailed: One is farther from it than the limits of int8 allow.
        EngineError: One fails.
    """
    images, kind, limits = np.concatenate(inputs[:TRIED]), file.kind, file.kind.limits["int8"]
    shape = images.shape[1:]
    expected = make_engine(REFERENCE, sealed, 0, kind, (1, *shape))(images)
    for name in available_engines():
        for count in BATCHES:
            engine = make_engine(name, sealed, 0, kind, (count, *shape))
            found = kind.differences(engine(images), expected, file.options)
            beyond = [
                f"its {what} by {value:.3g} (allowed: {limits[what]})"
                for what, value in found.values.items()
                if not value <= limits[what]
            ]
            if beyond:
                raise ProofFailed(
                    f"in {name} {engine.version} at batch {count} it differs from {REFERENCE} in"
                    f" {'; '.join(beyond)}"
                )


def _judge(
    source: Path,
    draft: bytes,
    samples: Sequence[Sample],
    inputs: Sequence[np.ndarray],
    max_drop: float,
    screen: Screen,
) -> Judgement:
    """The draft beside the float32 file on samples; what is timed runs on inputs."""
    engines, sources = available_engines(), (source.read_bytes(), seal(draft))
    reference = load(source, REFERENCE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        write_onnx(path, draft)
        others = [load(path, name) for name in engines]
        beside = dict(zip(engines, judge_beside(reference, others, samples, screen), strict=True))
    batch = np.concatenate(inputs[:TIMED])
    speeds = {name: measure_speed(name, sources, reference.kind, batch) for name in engines}
    comparisons = {ENGINES[name].title: beside[name].comparison for name in engines}
    verdict = decide(comparisons, _gains(list(speeds.values())), max_drop)
    return Judgement(beside, speeds, (len(sources[0]), len(sources[1])), verdict)


def _gains(speeds: Sequence[Sequence[Speed]]) -> tuple[float, float]:
    """How many times as fast int8 is with one image and in batches, each in its fastest engine."""
    latencies = [min(one.latency for one in side) for side in zip(*speeds, strict=True)]
    throughputs = [max(one.throughput for one in side) for side in zip(*speeds, strict=True)]
    return latencies[0] / latencies[1], throughputs[1] / throughputs[0]


def _metadata(
    file: OnnxFile, graph: onnx.ModelProto, inputs: Sequence[np.ndarray], calibration: str
) -> dict[str, Any]:
    """All that the int8 file says beside its graph, not judged yet."""
    kind = file.kind
    engine = make_engine(REFERENCE, graph.SerializeToString(), 0, kind, inputs[0].shape)
    golden = [
        write_golden(kind, [to_image(one) for one in image.reshape(-1, *image.shape[-3:])], outputs)
        for image, outputs in ((image, engine(image)) for image in inputs[:GOLDEN])
    ]
    versions = file.metadata.get("versions")
    return {
        **file.metadata,
        "format": FORMAT,
        "precision": "int8",
        "limits": dict(kind.limits["int8"]),
        "golden": golden,
        "versions": {**(versions if isinstance(versions, dict) else {}), REFERENCE: engine.version},
        "quantisation": {
            "calibration": f"{calibration}; {METHOD}",
            "verdict": "not judged",
            "reason": "",
            "table": [],
        },
    }


def _with_metadata(graph: onnx.ModelProto, metadata: Mapping[str, Any]) -> bytes:
    del graph.metadata_props[:]
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    onnx.helper.set_model_props(graph, {PROPERTY: text})
    onnx.checker.check_model(graph)
    return graph.SerializeToString(deterministic=True)
