"""`resnets check`."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Exit, Option

from resnets.cli.options import DATA, Json
from resnets.cli.output import print_json

EXAMPLES = """
resnets check photos/
resnets check labels.csv --json
"""


def check(
    data: Annotated[
        str,
        Argument(
            metavar="DATA",
            help="Images to check: what you would train on (see resnets train --help).",
            rich_help_panel=DATA,
        ),
    ],
    workers: Annotated[
        int | None,
        Option(
            "--workers",
            "-j",
            metavar="INT",
            min=1,
            help="Threads that decode images. [1 or more threads]",
            show_default="one per CPU core",
            rich_help_panel=DATA,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Look for unreadable files, duplicates, leaks between splits, and classes that are too small.

    Exits with 2 if the images cannot be trained on.
    """
    from resnets.data.check import check_pictures
    from resnets.data.sources import find_data
    from resnets.screen import Screen

    screen = Screen()
    found = find_data(data)
    with screen.progress("checking", len(found.samples)) as bar:
        result = check_pictures(found, bar.update, workers)
    values = result.to_dict()
    screen.say(
        f"{data}: {found.layout}, {values['pictures']:,} files, {values['unusable']} unusable"
    )
    counts = found.counts()
    classes = sorted({label for counter in counts.values() for label in counter})
    rows = [(label, *(str(counts[part][label]) for part in counts)) for label in classes]
    screen.table(("class", *counts), rows[:40], right=range(1, 1 + len(counts)))
    if len(rows) > 40:
        screen.say(f"and {len(rows) - 40} more classes (--json has all)")
    screen.say(
        "width x height: "
        + ", ".join(f"{name} {size[0]} x {size[1]}" for name, size in values["size"].items())
    )
    for finding in result.findings:
        (screen.say if finding.severity == "note" else screen.warn)(
            f"{finding.severity}: {finding.text}"
        )
        for file in finding.files[:5] if " alike" in finding.text else ():
            screen.say(f"    {file}")
    if not result.findings:
        screen.say("nothing found that would spoil training")
    if json:
        print_json(values)
    if any(finding.severity == "error" for finding in result.findings):
        raise Exit(2)
