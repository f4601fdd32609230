"""`resnets demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from resnets.cli.options import DATA, OUTPUT, Json
from resnets.cli.output import print_json

EXAMPLES = """
resnets demo
resnets demo -o /tmp/demo --json
resnets demo --task boxes
"""


def demo(
    task: Annotated[
        str,
        Option(
            metavar="classes|boxes",
            help="What is learnt: the kind of land in a satellite image, or where the cells of a"
            " microscope image are.",
            show_default="classes",
            rich_help_panel=DATA,
        ),
    ] = "classes",
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder of the run.",
            show_default="runs/demo, runs/demo-boxes",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train on the images that come with the package, from the check to predictions with the
    exported file. For classes, wrong labels, duplicates and a truncated file are planted in a copy
    first; the end tells which were found. Takes two or three minutes on two CPU cores.
    """
    from resnets.demo import DEMOS
    from resnets.settings import nearest

    if task not in DEMOS:
        raise ValueError(f"no demonstration of {task!r}; {nearest(task, DEMOS)}")
    usual = "runs/demo" if task == next(iter(DEMOS)) else f"runs/demo-{task}"
    summary = DEMOS[task](output or Path(usual))
    if json:
        print_json(summary)
