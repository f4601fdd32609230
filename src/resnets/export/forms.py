"""A verified float32 file to one in another precision beside it, which is kept only where held-out
images show that it is no worse than allowed, and faster."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from resnets.evaluation.verdict import NOT_PROVEN, REFUSED
from resnets.export.calibration import FEWEST, Images, read_inputs
from resnets.export.exporter import GOLDEN, ProofFailed, check_target
from resnets.export.judgement import FLOAT32, REFERENCE, Judgement, judge
from resnets.export.quantiser import METHOD, quantise
from resnets.formats import FORMAT
from resnets.kinds import Kind
from resnets.runtime import load
from resnets.runtime.engines import available_engines, engines_for, make_engine, precision_in
from resnets.runtime.file_engine import EngineError
from resnets.runtime.golden import to_image, write_golden
from resnets.runtime.onnxfile import PROPERTY, OnnxFile, read_onnx, seal, write_onnx
from resnets.runtime.packages import import_openvino
from resnets.screen import Screen

BATCHES = (1, 2, 5)  # at which every engine is held against the golden one
TRIED = 10  # images for that
TIMED = 8  # images of the batch of which the throughput is measured


@dataclass(frozen=True)
class Form:
    """A precision in which a float32 file may be had besides.

    Args:
        precision: Of the files, and the row of `Kind.limits`.
        suffix: The file is called `NAME-SUFFIX.onnx`.
        build: Content of the float32 file, and inputs for some images, to the graph.
        method: How images make the graph; empty where it needs none.
    """

    precision: str
    suffix: str
    build: Callable[[bytes, Sequence[np.ndarray]], onnx.ModelProto]
    method: str = ""

    @property
    def calibrated(self) -> bool:
        """Whether images make its graph."""
        return bool(self.method)

    @property
    def engine(self) -> str:
        """The one that gives its golden outputs."""
        return engines_for(self.precision)[0]

    def beside(self, path: Path) -> Path:
        """The file of this form beside a float32 file."""
        return path.with_name(f"{path.stem}-{self.suffix}.onnx")


def _same_graph(content: bytes, inputs: Sequence[np.ndarray]) -> onnx.ModelProto:
    return onnx.load_model_from_string(content)


FORMS = {
    form.precision: form
    for form in (
        Form("int8", "int8", quantise, METHOD),
        Form("bfloat16", "bf16", _same_graph),
    )
}


def check_form(form: Form, kind: Kind, name: str, precision: str = FLOAT32) -> None:
    """Whether a file of a form can be made of a model, before any work is done for it.

    Args:
        form: A value of `FORMS`.
        kind: What the model predicts.
        name: Of the model or the file.
        precision: That it is in.

    Raises:
        ValueError: It is in another precision already, no engine for it is installed, or nobody has
            measured how far engines are apart for its task, so that such a file could not be
            verified.
    """
    if precision != FLOAT32:
        raise ValueError(f"{name}: in {precision} already; name the float32 file or the model")
    if form.precision not in kind.limits:
        raise ValueError(
            f"{name}: no {form.precision} for the task {kind.name}: nobody has measured how far"
            " engines are apart, so that such a file could not be verified; export it in float32"
            f" alone, without --precision {form.suffix}"
        )
    if not set(engines_for(form.precision)).intersection(available_engines()):
        import_openvino()  # the one engine that has other precisions; says how to install it


def export_form(
    form: Form,
    paths: tuple[Path, Path],
    images: Images,
    max_drop: float,
    accept: bool,
    screen: Screen,
) -> Judgement:
    """Writes a file of a form, if the verdict is that it is kept.

    Args:
        form: A value of `FORMS`.
        paths: A float32 file of `export_model`, and the file to write; an older one is removed
            where the new one is not kept.
        images: What it is calibrated with and judged on.
        max_drop: What it may lose of the main number, 0 to 1.
        accept: Whether it is kept where that is not proven.
        screen: Told of the table and the verdict.

    Raises:
        ValueError: The file cannot be quantised, or too few images can be read.
        ProofFailed: It is refused or not proven, or engines give different predictions.
        OSError: It cannot be written.
    """
    source, target = paths
    check_target(target)
    file = read_onnx(source)
    check_form(form, file.kind, str(source), file.precision)
    screen.say(f"{form.precision}: {images}")
    inputs = _read(form, source, images, screen)
    graph = form.build(source.read_bytes(), inputs)
    try:
        metadata = _metadata(form, file, graph, inputs)
        draft = _with_metadata(graph, metadata)
        check_engines(form, seal(draft), file, inputs)
        batch = np.resize(np.concatenate(inputs[:TIMED]), (TIMED, *inputs[0].shape[1:]))
        judgement = judge(source, draft, images.judged, batch, max_drop, screen)
    except (EngineError, ProofFailed) as error:
        target.unlink(missing_ok=True)
        raise ProofFailed(f"{target} was not written: {error}") from None
    header, *rows = judgement.table
    screen.table(header, rows, right=range(1, len(header)))
    verdict = judgement.verdict
    if verdict.word == REFUSED or (verdict.word == NOT_PROVEN and not accept):
        target.unlink(missing_ok=True)
        hint = "; to keep it all the same: --accept-unproven" if verdict.word == NOT_PROVEN else ""
        raise ProofFailed(f"{target} was not written: {verdict}{hint}")
    metadata["judgement"] = {
        "verdict": verdict.word,
        "reason": verdict.reason,
        "images": "; ".join(filter(None, (str(images), form.method))),
        "table": judgement.table,
    }
    metadata["metrics"] = judgement.beside[form.engine].metrics.to_dict()
    write_onnx(target, _with_metadata(graph, metadata))
    screen.say(f"{target} ({judgement.sizes[1] / 1e6:.1f} MB), {verdict}")
    return judgement


def check_engines(form: Form, sealed: bytes, file: OnnxFile, inputs: Sequence[np.ndarray]) -> None:
    """Holds every installed engine, at several batch sizes, against the one that gives the golden
    outputs; those that compute in the precision of the form in float32 too, which they take on
    processors that lack it.

    Args:
        form: A value of `FORMS`.
        sealed: The file of this form.
        file: The float32 file.
        inputs: Images, or clips, as batches of one.

    Raises:
        ProofFailed: One is farther from it than the limits of the form allow.
        EngineError: One fails.
    """
    images, kind = np.concatenate(inputs[:TRIED]), file.kind
    limits, shape = kind.limits[form.precision], images.shape[1:]
    best = precision_in(form.engine, form.precision)
    expected = make_engine(form.engine, sealed, 0, kind, (1, *shape), best)(images)
    for name in available_engines():
        for precision in dict.fromkeys((precision_in(name, form.precision), FLOAT32)):
            for count in BATCHES:
                engine = make_engine(name, sealed, 0, kind, (count, *shape), precision)
                found = kind.differences(engine(images), expected, file.options)
                beyond = [
                    f"its {what} by {value:.3g} (allowed: {limits[what]})"
                    for what, value in found.values.items()
                    if not value <= limits[what]
                ]
                if beyond:
                    raise ProofFailed(
                        f"in {name} {engine.version} ({precision}) at batch {count} it differs from"
                        f" {form.engine} in {'; '.join(beyond)}"
                    )


def _read(form: Form, source: Path, images: Images, screen: Screen) -> list[np.ndarray]:
    """What the graph is given: images that make it, or a few of those that judge it."""
    chosen, fewest = images.calibration, FEWEST
    if not form.calibrated:
        step = max(1, len(images.judged) // TRIED)  # spread over the classes
        chosen, fewest = images.judged[::step][:TRIED], 1
    return read_inputs(load(source, REFERENCE), chosen, fewest, screen)


def _metadata(
    form: Form, file: OnnxFile, graph: onnx.ModelProto, inputs: Sequence[np.ndarray]
) -> dict[str, Any]:
    """All that the file says beside its graph, not judged yet.

    Raises:
        ProofFailed: The processor does not compute in this precision.
    """
    kind, name = file.kind, form.engine
    wanted, content = precision_in(name, form.precision), graph.SerializeToString()
    engine = make_engine(name, content, 0, kind, inputs[0].shape, wanted)
    if engine.precision != wanted:
        raise ProofFailed(
            f"{REFUSED}: it is not faster here, since this processor does not compute in {wanted}"
        )
    golden = [
        write_golden(kind, [to_image(one) for one in image.reshape(-1, *image.shape[-3:])], outputs)
        for image, outputs in ((image, engine(image)) for image in inputs[:GOLDEN])
    ]
    versions = file.metadata.get("versions")
    return {
        **file.metadata,
        "format": FORMAT,
        "precision": form.precision,
        "limits": dict(kind.limits[form.precision]),
        "golden": golden,
        "versions": {**(versions if isinstance(versions, dict) else {}), name: engine.version},
        "judgement": {"verdict": "not judged", "reason": "", "images": "", "table": []},
    }


def _with_metadata(graph: onnx.ModelProto, metadata: Mapping[str, Any]) -> bytes:
    del graph.metadata_props[:]
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    onnx.helper.set_model_props(graph, {PROPERTY: text})
    onnx.checker.check_model(graph)
    return graph.SerializeToString(deterministic=True)
