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
    model: Annotated[
        str,
        Argument(
            help=(
                "NAME.onnx (needs no torch), a run folder, a model file, a state dict,"
                " timm:NAME.TAG."
            )
        ),
    ],
    data: Annotated[
        str | None,
        Argument(help="What to measure on; a run knows its own, NAME.onnx proves itself without."),
    ] = None,
    split: Annotated[
        str | None, Option(help="train | val | test; by default test, else val.")
    ] = None,
    report: Annotated[Path | None, Option(help="Write report.html there.")] = None,
    engine: Annotated[str, Option(help="For NAME.onnx: onnxruntime | openvino")] = "onnxruntime",
    network: Annotated[
        str | None, Option("--model", "-m", help="The network of a bare state dict, or timm:NAME.")
    ] = None,
    classes: Annotated[str | None, Option(help="Its classes: FILE, or imagenet.")] = None,
    json: Annotated[
        bool, Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Measure a model with error bars; NAME.onnx is verified first, on the images inside it."""
    from resnets.screen import Screen

    screen = Screen()
    path = Path(model)
    values: dict[str, Any] = {"model": model}
    metrics = None
    if path.suffix == ".onnx":
        values |= _prove(path, engine, screen)
        if data:
            from resnets.run.measure import measure_file

            metrics = measure_file(path, engine, data, split, screen)
    else:
        from resnets.run.measure import measure_and_report
        from resnets.run.opening import open_model

        metrics = measure_and_report(
            open_model(model, network, classes, screen), path, data, split, report, screen
        )
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
    (screen.say if proof.ok else screen.warn)(f"{path}: {proof}")
    if not proof.ok:
        raise Exit(1)
    return {"proof": {**vars(proof), "ok": proof.ok}}


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
            ("class", "recall", "precision"),
            [(c.name, str(c.recall or "-"), str(c.precision or "-")) for c in metrics.per_class],
        )
