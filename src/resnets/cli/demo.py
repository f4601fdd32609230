"""`resnets demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from resnets.cli.output import print_json


def demo(
    output: Annotated[Path, Option("--output", "-o", help="Where the run goes.")] = Path(
        "runs/demo"
    ),
    json: Annotated[
        bool, Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Train on the blood cells that ship with the package: the whole way in about two minutes on
    two cores."""
    from resnets.demo import run_demo

    summary = run_demo(output)
    if json:
        print_json(summary)
