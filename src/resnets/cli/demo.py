"""`resnets demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from resnets.cli.options import OUTPUT, Json
from resnets.cli.output import print_json

EXAMPLES = """
resnets demo
resnets demo -o /tmp/demo --json
"""


def demo(
    output: Annotated[
        Path,
        Option(
            "--output", "-o", metavar="FOLDER", help="Folder of the run.", rich_help_panel=OUTPUT
        ),
    ] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Train on the images of blood cells that come with the package, from the check to predictions
    with the exported file. Takes about two minutes on two CPU cores.
    """
    from resnets.demo import run_demo

    summary = run_demo(output)
    if json:
        print_json(summary)
