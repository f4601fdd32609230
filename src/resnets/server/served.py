"""A file that is served: proved when it is opened, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from resnets.kinds.prediction import Prediction
from resnets.runtime import Predictor, load
from resnets.runtime.bench import time_singles
from resnets.runtime.engines import AUTO, available_engines, engines_for
from resnets.runtime.onnxfile import OnnxFile, read_onnx
from resnets.runtime.proof import prove


class ProofFailed(RuntimeError):
    """A file that does not give here what the trained network gave."""


class Served:
    """A file that was proved.

    Args:
        name: By which it is asked for.
        predictor: Runs it.
        types: Of its outputs, by name.
        draws: What can be drawn of its predictions; the first says most.
    """

    def __init__(self, name: str, predictor: Predictor, types: Mapping[str, str]) -> None:
        self.name, self.predictor, self.types = name, predictor, types
        self.draws = _draws(predictor)

    def describe(self) -> dict[str, Any]:
        """What the file is, as JSON."""
        predictor, metadata = self.predictor, self.predictor.metadata
        data = metadata.get("training", {}).get("data")
        return {
            "name": self.name,
            "network": metadata.get("model"),
            "task": predictor.kind.name,
            "takes": predictor.kind.takes,
            "classes": list(predictor.classes),
            "preprocessing": predictor.preprocessing.to_dict(),
            # a name and not a path, which would tell of the machine it was trained on
            "data": Path(data).name if isinstance(data, str) else None,
            "measured": measured(metadata),
            "engine": f"{predictor.engine.name} {predictor.engine.version}",
            "draws": list(self.draws),
            "sha256": predictor.sha256,
        }


def _draws(predictor: Predictor) -> tuple[str, ...]:
    kind = predictor.kind.prediction
    if predictor.kind.takes != "image":
        return ()
    found = ["overlay"]
    if "heat" in predictor.outputs and kind.heat_map is not Prediction.heat_map:
        found.append("heat")
    if kind.indexed is not Prediction.indexed:
        found.append("mask")
    return tuple(found)


def measured(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """The metrics in the metadata of a file: their n, and each with its interval, first the one
    that chose the weights; None where nothing was measured."""
    metrics = metadata.get("metrics")
    if not isinstance(metrics, dict):
        return None
    chosen = metadata.get("weights")
    names = [name for name in metrics if f"{name}_interval" in metrics]
    names.sort(key=lambda name: not (isinstance(chosen, dict) and name in chosen))
    values = [
        {"name": name, "value": metrics[name], "interval": metrics[f"{name}_interval"]}
        for name in names
        if metrics[name] is not None
    ]
    return {"n": metrics.get("n"), "metrics": values} if values else None


def open_model(path: str | Path, engine: str = AUTO, threads: int = 1) -> Served:
    """Opens a file of `resnets export` and runs its golden images.

    Args:
        path: `NAME.onnx`; it is served as `NAME`.
        engine: As of `resnets.runtime.load`; `auto` times those that are installed, on one image,
            and takes the fastest.
        threads: Threads of one prediction; 0 takes all cores.

    Raises:
        ValueError: As `resnets.runtime.load`.
        ProofFailed: It does not give here what the trained network gave.
    """
    file = read_onnx(path)
    known = engines_for(file.precision) if engine == AUTO else []
    first, *others = [name for name in known if name in available_engines()] or [engine]
    opened = [_open(path, file, first, threads)]
    for name in others:
        with suppress(ValueError, ProofFailed):
            opened.append(_open(path, file, name, threads))
    predictor = min(opened, key=lambda one: _seconds(one, file)) if others else opened[0]
    outputs = predictor.outputs_for(file.golden[0].image)  # all, so that no request opens them
    types = {name: array.dtype.name for name, array in outputs.items()}
    return Served(Path(path).stem, predictor, types)


def _open(path: str | Path, file: OnnxFile, engine: str, threads: int) -> Predictor:
    predictor = load(path, engine, threads)
    proof = prove(predictor, file)
    if not proof.ok:
        raise ProofFailed(f"{path}: {proof}; it is not served")
    return predictor


def _seconds(predictor: Predictor, file: OnnxFile) -> float:
    """Of one image: the least of some times."""
    images = file.golden[0].image[None]
    return min(time_singles(lambda: predictor.engine(images)))


def check_names(paths: Sequence[str | Path]) -> None:
    """Files are asked for by name, so that no two may share one.

    Raises:
        ValueError: Two do.
    """
    names: dict[str, str | Path] = {}
    for path in paths:
        name = Path(path).stem
        if name in names:
            raise ValueError(
                f"{names[name]} and {path} would both be served as {name}; rename one of them"
            )
        names[name] = path
