"""`resnets train`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from resnets.cli.output import print_json


def train(
    data: Annotated[
        str | None,
        Argument(help="CLASS/* folders, train|val|test/CLASS/*, a CSV, or a torchvision data set."),
    ] = None,
    model: Annotated[
        str | None,
        Option(
            "--model",
            "-m",
            help='"resnet50", "resnet50 shortcut=none", timm:NAME or FILE.py:FUNCTION.',
        ),
    ] = None,
    weights: Annotated[
        str | None, Option(help="auto | none | FILE | torchvision:TAG | timm:NAME.TAG")
    ] = None,
    epochs: Annotated[
        float | None, Option("--epochs", "-e", help="Passes over the training pictures.")
    ] = None,
    minutes: Annotated[
        float | None, Option(help="End within this time instead, all included.")
    ] = None,
    size: Annotated[
        int | None, Option("--size", "--img-size", help="Side of the input in pixels.")
    ] = None,
    fit: Annotated[str | None, Option(help="crop | pad | stretch")] = None,
    channels: Annotated[int | None, Option(help="3, or 1 for grayscale.")] = None,
    bits: Annotated[int | None, Option(help="8, or 16 to keep 16-bit grayscale as it is.")] = None,
    batch_size: Annotated[int | None, Option("--batch-size", "-b")] = None,
    lr: Annotated[float | None, Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, Option()] = None,
    momentum: Annotated[float | None, Option()] = None,
    warmup: Annotated[float | None, Option(help="Part of the steps.")] = None,
    smoothing: Annotated[float | None, Option(help="Of labels.")] = None,
    average: Annotated[
        float | None, Option(help="Horizon of weight averaging, as a part of the run; 0: off.")
    ] = None,
    norms: Annotated[str | None, Option(help="train | frozen: BatchNorm.")] = None,
    crop: Annotated[str | None, Option(help="resized | shift | none")] = None,
    smallest: Annotated[float | None, Option(help="Area of the smallest resized crop.")] = None,
    flip: Annotated[str | None, Option(help="none | horizontal | both")] = None,
    val_fraction: Annotated[
        float | None, Option(help="Held out where the data name no validation pictures.")
    ] = None,
    seed: Annotated[int | None, Option()] = None,
    device: Annotated[str | None, Option(help="auto | cpu | cuda | mps")] = None,
    workers: Annotated[
        int | None, Option("--workers", "-j", help="Threads that decode; 0: one a core.")
    ] = None,
    cache_gb: Annotated[
        float | None, Option(help="Memory for decoded pictures; by default a quarter of all.")
    ] = None,
    config: Annotated[
        Path | None, Option("--config", "-c", help="YAML of settings; the command line wins.")
    ] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", help="The run's folder; by default runs/train/NAME.")
    ] = None,
    name: Annotated[str | None, Option(help="NAME; by default the next number.")] = None,
    exist_ok: Annotated[
        bool, Option("--exist-ok", help="Write into a folder that is not empty.")
    ] = False,
    resume: Annotated[
        Path | None, Option(help="Go on with an interrupted run; takes no other flag.")
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q")] = False,
    json: Annotated[
        bool, Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Train on a folder of photos, measure, report, and export one proven file."""
    given = {
        key: value for key, value in locals().items() if value is not None and value is not False
    }  # 0 is a value
    for key in ("quiet", "json"):
        given.pop(key, None)
    from resnets.cli import STARTED
    from resnets.screen import Screen

    with Screen(quiet).progress("loading PyTorch", 1):  # which may take seconds
        from resnets import run

    if resume is not None:
        if others := sorted(set(given) - {"resume", "model"}):
            raise ValueError(
                "--resume takes no other flag, the run knows its settings; leave out:"
                f" {', '.join(others)}"
            )
        done = run.resume(resume, model, quiet=quiet)
    else:
        given.pop("config", None)
        settings = {**(_read_config(config) if config else {}), **given}
        if "data" not in settings:
            raise ValueError(
                "no data: resnets train FOLDER, a folder with one folder of photos for each class"
            )
        done = run.train(**settings, quiet=quiet, started=STARTED)
    if json:
        print_json(done.to_dict())
    elif not quiet:
        Screen().say(f"\nnext: resnets predict {done.proven.path} NEW_PHOTOS/ -o new.csv")


def _read_config(path: Path) -> dict[str, Any]:
    from resnets.settings import nearest, read_yaml
    from resnets.training.recipe import TrainSettings

    values = read_yaml(path)
    allowed = {field.name for field in fields(TrainSettings)} | {"output", "name"}
    for key in values:
        if key not in allowed:
            raise ValueError(f"{path}: unknown setting {key!r}: {nearest(str(key), allowed)}")
    return values
