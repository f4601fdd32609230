"""`resnets check`."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Exit, Option

from resnets.cli.output import print_json


def check(
    data: Annotated[str, Argument(help="What you would train on.")],
    json: Annotated[
        bool, Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
    workers: Annotated[
        int | None, Option("--workers", "-j", min=1, help="Threads that decode.")
    ] = None,
    range: Annotated[
        str,
        Option(
            help="Of images with more than 8 bits, the values that become black and white: auto,"
            " or LOW-HIGH (0-1, 0-4095, -1000:3000)."
        ),
    ] = "auto",
) -> None:
    """Look for broken files, duplicates, leaks between parts, and odd classes."""
    from resnets.data.check import check_pictures
    from resnets.data.sources import find_data
    from resnets.screen import Screen

    screen = Screen()
    found = find_data(data)
    with screen.progress("checking", len(found.samples)) as bar:
        result = check_pictures(found, bar.update, workers, range)
    values = result.to_dict()
    screen.say(
        f"{data}: {found.layout}, {values['pictures']:,} files, {values['unusable']} unusable"
    )
    counts = found.counts()
    classes = sorted({label for counter in counts.values() for label in counter})
    rows = [(label, *(str(counts[part][label]) for part in counts)) for label in classes]
    screen.table(("class", *counts), rows[:40], right=[place for place, _ in enumerate(counts, 1)])
    if len(rows) > 40:
        screen.say(f"and {len(rows) - 40} more classes (--json has all)")
    sizes = (f"{name} {size[0]} x {size[1]}" for name, size in values["size"].items())
    if values["unusable"] < values["pictures"]:
        screen.say(f"width x height: {', '.join(sizes)}")
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
