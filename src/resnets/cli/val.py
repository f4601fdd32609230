"""`resnets val`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from resnets.cli.inputs import Crop, Fit, Interpolation, Mean, Size, Std, input_changes
from resnets.cli.options import DATA, MODEL, OUTPUT, Classes, Engine, Json, Network
from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.evaluation.comparison import Comparison
    from resnets.evaluation.metrics import Metrics
    from resnets.kinds.sample import Sample
    from resnets.measuring import Judged
    from resnets.screen import Screen


SPLITS = ("train", "val", "test")
MOST = 30  # classes in the table
EXAMPLES = """
resnets val runs/train/1
resnets val photos.onnx
resnets val photos.onnx photos/ --json
resnets val runs/train/2 --against runs/train/1 --margin 0.5
resnets val weights.pth photos/ --model resnet18 --classes names.txt
"""


def val(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="NAME.onnx (needs no PyTorch), the folder of a run, a model file, a state dict, or"
            " published weights (torchvision:TAG, timm:NAME.TAG).",
            rich_help_panel=MODEL,
        ),
    ],
    data: Annotated[
        str | None,
        Argument(
            metavar="DATA",
            help="Labelled images to evaluate on, laid out as for training.",
            show_default="the images that the run held out; for NAME.onnx, none",
            rich_help_panel=DATA,
        ),
    ] = None,
    split: Annotated[
        str | None,
        Option(
            metavar="|".join(SPLITS),
            help="Split to evaluate on, if the data have splits.",
            show_default="test, or val if there is no test split",
            rich_help_panel=DATA,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Write a report of the evaluation to this HTML file.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    against: Annotated[
        str | None,
        Option(
            metavar="MODEL",
            help="A baseline to compare with on the same images: a run, a model file or NAME.onnx.",
            show_default="none",
            rich_help_panel=MODEL,
        ),
    ] = None,
    margin: Annotated[
        float,
        Option(
            metavar="POINTS",
            min=0,
            max=100,
            help="By how many percentage points MODEL may be worse than the baseline: beyond that"
            " the exit code is 1, if the 95 % interval of the difference says so.",
            rich_help_panel=MODEL,
        ),
    ] = 0.0,
    engine: Engine = None,
    network: Network = None,
    classes: Classes = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    interpolation: Interpolation = None,
    fit: Fit = None,
    crop: Crop = None,
    json: Json = False,
) -> None:
    """Evaluate a model: accuracy, balanced accuracy and macro F1 with 95 % confidence intervals,
    and precision and recall of each class.

    For NAME.onnx, verify first that it gives the stored predictions on the images inside it. With
    --against, tell too how much better or worse than a baseline it is: worse, not worse or not
    decided.
    """
    from resnets.loading import check_arguments, is_onnx
    from resnets.runtime.engines import AUTO
    from resnets.screen import Screen
    from resnets.settings import nearest

    if split is not None and split not in SPLITS:
        raise ValueError(f"--split {split}: {nearest(split, SPLITS)}")
    changes = input_changes(
        model, size=size, mean=mean, std=std, interpolation=interpolation, fit=fit, crop=crop
    )
    check_arguments(model, engine, None, network, classes)
    screen = Screen()
    path = Path(model)
    if is_onnx(path) and (report or (split and not data)):
        option, needs = ("--report", "a run or a model file") if report else ("--split", "DATA")
        raise ValueError(f"{option} does not apply to {model} alone: it needs {needs}")
    values: dict[str, Any] = {"model": model}
    judged = None
    if is_onnx(path):
        engine = engine or AUTO
        values |= _prove(path, engine, screen)
        if data:
            from resnets.measuring import measure_file

            judged = measure_file(path, engine, data, split, screen)
    else:
        from resnets.run.measure import measure_and_report
        from resnets.run.opening import open_model

        judged = measure_and_report(
            open_model(model, network, classes, screen, changes), path, data, split, report, screen
        )
    if judged is not None:
        _show(judged.metrics, screen)
        values["metrics"] = judged.metrics.to_dict()
    verdict = ""
    if against is not None:
        if judged is None:
            raise ValueError(f"--against {against}: name the images: resnets val {model} DATA")
        comparison = _compare(judged, against, engine, screen)
        verdict = comparison.verdict(margin / 100)
        screen.say("")
        screen.say(f"{model} less {against}: {comparison}")
        screen.say(f"{verdict}, with a margin of {margin:g} points")
        values["against"] = {"model": against, **comparison.to_dict(), "verdict": verdict}
    if json:
        print_json(values)
    if verdict == "worse":
        raise Exit(1)


def _compare(judged: Judged, against: str, engine: str | None, screen: Screen) -> Comparison:
    """The model and a baseline, on the images that both could read."""
    from resnets.evaluation import EVALUATORS
    from resnets.evaluation.comparison import compare_paired
    from resnets.evaluation.metrics import clusters
    from resnets.loading import is_onnx

    if is_onnx(Path(against)):
        from resnets.measuring import judge_file
        from resnets.runtime import load
        from resnets.runtime.engines import AUTO

        other = judge_file(load(against, engine or AUTO), judged.whole, screen)
    else:
        from resnets.run.measure import judge_model
        from resnets.run.opening import open_model

        other = judge_model(open_model(against, None, None, screen), judged.whole, screen)
    if other.kind != judged.kind:
        raise ValueError(f"{against} predicts {other.kind}, the other model {judged.kind}")
    theirs = dict(zip(map(_key, other.samples), other.evidence, strict=True))
    pairs = [
        (sample, (evidence, theirs[_key(sample)]))
        for sample, evidence in zip(judged.samples, judged.evidence, strict=True)
        if _key(sample) in theirs
    ]
    groups = clusters([sample.group for sample, _ in pairs])
    return compare_paired(EVALUATORS[judged.kind], [evidence for _, evidence in pairs], groups)


def _key(sample: Sample) -> tuple[str, tuple[float, float] | None]:
    return sample.name, sample.span


def _prove(path: Path, engine: str, screen: Screen) -> dict[str, Any]:
    from resnets.runtime import load
    from resnets.runtime.onnxfile import read_onnx
    from resnets.runtime.proof import prove

    proof = prove(load(path, engine), read_onnx(path))
    (screen.say if proof.ok else screen.warn)(f"{path}: {proof}")
    if not proof.ok:
        raise Exit(1)
    return {"proof": {**vars(proof), "ok": proof.ok}}


def _show(metrics: Metrics, screen: Screen) -> None:
    from resnets.evaluation.metrics import title

    screen.table((), [(title(name), str(one)) for name, one in metrics.numbers.items()])
    screen.say("")
    names = list(metrics.per_class[0].estimates)
    rows = [
        (one.name, *(str(one.estimates[name] or "-") for name in names))
        for one in metrics.per_class[:MOST]
    ]
    screen.table(("class", *map(title, names)), rows)
    if len(metrics.per_class) > MOST:
        screen.say(f"and {len(metrics.per_class) - MOST:,} more classes (--json has all)")
