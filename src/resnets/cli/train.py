"""`resnets train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from resnets.cli.config import merged, read_config, show_recipes
from resnets.cli.options import Json, Quiet, with_settings
from resnets.cli.output import print_json
from resnets.training.settings import OUTPUT, TRAINING, TrainSettings

EXAMPLES = """
resnets train photos/ --minutes 5
resnets train photos/ --model "resnet50 attention=eca" --epochs 20
resnets train photos/ --weights none --size 64 --flip both
resnets train photos/ --recipe probe
resnets train --config runs/train/1/args.yaml --seed 1
resnets train --resume runs/train/1
"""


def train(
    config: Annotated[
        Path | None,
        Option(
            "--config",
            "-c",
            metavar="FILE",
            help="YAML file of settings, named as in docs/settings.md, or args.yaml of an earlier"
            " run, to repeat it; options that are given win.",
            show_default="none",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Continue the interrupted run in this folder with its own settings; takes no other"
            " setting.",
            show_default="none",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder of the run.",
            show_default="runs/train/NAME",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    name: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Name of the run below runs/train.",
            show_default="the next free number",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    exist_ok: Annotated[
        bool,
        Option(
            "--exist-ok",
            help="Write into a folder that is not empty, replacing an earlier run's files.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
    **settings: Any,
) -> None:
    """Train a network on a folder of images, evaluate it, write a report, and export it as one ONNX
    file that is verified to give the same predictions.

    Settings left open are chosen from the data and the weights, and printed with the reason.
    """
    if settings.get("recipe") == "list":
        show_recipes()
        return
    given = {"output": output, "name": name, "exist_ok": exist_ok or None, **settings}
    given = {key: value for key, value in given.items() if value is not None}  # 0 is a value
    from resnets.cli import STARTED
    from resnets.screen import Screen

    with Screen(quiet).progress("loading PyTorch", 1):  # which may take seconds
        from resnets import run

    if resume is not None:
        if config is not None:
            given["config"] = config
        if others := sorted(set(given) - {"model"}):
            raise ValueError(
                "--resume takes no other flag, the run knows its settings; leave out:"
                f" {', '.join(others)}"
            )
        done = run.resume(resume, given.get("model"), quiet=quiet)
    else:
        given = merged(read_config(config), given) if config else given
        if "data" not in given:
            raise ValueError(
                "no data: resnets train FOLDER, a folder with one folder of images per class"
            )
        done = run.train(**given, quiet=quiet, started=STARTED)
    if json:
        print_json(done.to_dict())
    elif not quiet:
        screen = Screen()
        screen.say("")
        screen.say(f"next: resnets predict {done.proven.path} NEW_IMAGES/ -o new.csv")


with_settings(TrainSettings, train)
