"""What `resnets train` takes from elsewhere: a file of settings or of an earlier run (`--config`),
and recipes by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnets.settings import about, change, nearest, read_yaml
from resnets.training.papers import PAPERS, filled
from resnets.training.settings import TrainSettings

OUTPUT = ("output", "name")
INSTEAD = {"epochs": "minutes", "minutes": "epochs"}  # one of which says how long a run is


def read_config(path: Path) -> dict[str, Any]:
    """Keywords of `resnets.train` from a file of settings, or from args.yaml of a run: then as they
    were decided there, so that the run is repeated.

    Raises:
        ValueError: It is neither, or a value cannot be.
    """
    values = read_yaml(path)
    if "settings" in values:
        values = _of_run(path, values)
    allowed = {*about(TrainSettings), *OUTPUT}
    for key in values:
        if key not in allowed:
            raise ValueError(
                f"{path}: unknown setting {key!r}: {nearest(str(key), allowed)}; a file of settings"
                " or args.yaml of a run expected"
            )
    try:
        change(TrainSettings("-"), {key: one for key, one in values.items() if key not in OUTPUT})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return values


def _of_run(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in args.yaml but for those that stayed open."""
    settings, network = values["settings"], values.get("network")
    if not isinstance(settings, dict) or not isinstance(network, dict):
        raise ValueError(
            f"{path}: settings and network, both mappings, expected in args.yaml of a run; in a"
            " file of settings, these stand by themselves"
        )
    given = {key: value for key, value in settings.items() if value is not None}
    if "model" not in given:
        raise ValueError(
            f"{path}: the network of this run was a module passed from Python"
            f" ({network.get('name')}); repeat it there, with resnets.train"
        )
    return given


def merged(file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a file and of the command line, which wins: its minutes also over the epochs of
    the file, and the values of its recipe over all that the file says."""
    asked = filled(given)
    without = {INSTEAD[key] for key in asked if key in INSTEAD}
    return {**{key: value for key, value in file.items() if key not in without}, **asked}


def show_recipes() -> None:
    """Prints what each recipe is for, how long it takes, and where it is from."""
    from rich.console import Console
    from rich.table import Table

    table = Table("Recipe", "What it is for", "Epochs", "Source", show_lines=True)
    for name, paper in PAPERS.items():
        table.add_row(name, paper.purpose, f"{paper.values['epochs']:g}", paper.source)
    Console(highlight=False).print(table)
