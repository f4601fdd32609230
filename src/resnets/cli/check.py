"""`resnets check`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from resnets.cli.options import DATA, Format, Json, Task
from resnets.cli.output import print_json

if TYPE_CHECKING:
    from resnets.data.check import Check
    from resnets.kinds.sample import Finding
    from resnets.screen import Screen

CLASSES, FILES = 40, 5  # that are listed
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
    task: Task = None,
    format: Format = None,
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
    range: Annotated[
        str,
        Option(
            metavar="TEXT",
            help="Of images with more than 8 bits per channel, the values that become black and"
            " white: auto (measured), or LOW-HIGH (0-1, 0-4095, -1000:3000).",
            rich_help_panel=DATA,
        ),
    ] = "auto",
    json: Json = False,
) -> None:
    """Look for unreadable files, duplicates, leaks between splits, and classes that are too small.

    Exits with 2 if the images cannot be trained on.
    """
    from resnets.data.check import check_images
    from resnets.data.sources import find_data
    from resnets.screen import Screen

    screen = Screen()
    found = find_data(data, format, task)
    with screen.progress("checking", len(found.samples)) as bar:
        result = check_images(found, bar.update, workers, range)
    _show(data, result, screen)
    if json:
        print_json(result.to_dict())
    if any(finding.severity == "error" for finding in result.findings):
        raise Exit(2)


def _show(data: str, result: Check, screen: Screen) -> None:
    found, values = result.found, result.to_dict()
    screen.say(
        f"{data}: {found.layout}, {values['pictures']:,} files, {values['unusable']:,} unusable"
    )
    _show_classes(found.counts(), screen)
    sizes = (f"{name} {width} x {height}" for name, (width, height) in values["size"].items())
    if values["unusable"] < values["pictures"]:
        screen.say(f"width x height: {', '.join(sizes)}")
    for finding in result.findings:
        _show_finding(finding, screen)
    if not result.findings:
        screen.say("no problems found")


def _show_classes(counts: Mapping[str, Mapping[str, int]], screen: Screen) -> None:
    classes = sorted({label for counter in counts.values() for label in counter})
    rows = [(label, *(str(counts[part][label]) for part in counts)) for label in classes]
    screen.table(("class", *counts), rows[:CLASSES], right=range(1, 1 + len(counts)))
    if len(rows) > CLASSES:
        screen.say(f"and {len(rows) - CLASSES:,} more classes (--json has all)")


def _show_finding(finding: Finding, screen: Screen) -> None:
    from resnets.data.findings import PAIRS

    tell = screen.say if finding.severity == "note" else screen.warn
    tell(f"{finding.severity}: {finding.text}")
    if finding.topic == PAIRS:
        for file in finding.files[:FILES]:
            screen.say(f"    {file}")
        if len(finding.files) > FILES:
            screen.say(f"    and {len(finding.files) - FILES:,} more (--json has all)")
