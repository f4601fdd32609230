"""The version of both formats of files, and what files of older ones mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resnets.kinds import KINDS, Kind
from resnets.ranges import FULL

FORMAT = 2  # of NAME.safetensors and NAME.onnx
FIRST_TASK = "classes"  # of files that name none: there was no other


class Newer(ValueError):
    """A file of a later version of this package; the message says what is later."""


def check_format(number: int) -> None:
    """Whether files of this format are known here.

    Raises:
        Newer: They are not.
    """
    if number > FORMAT:
        raise Newer(f"(format {number}); this one reads up to {FORMAT}")


def upgrade(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a file with what the present format has besides. What is not as it should be is
    left for the reader to refuse.

    Args:
        metadata: With a whole number as `format`.

    Raises:
        Newer: The format is not known here.
    """
    check_format(metadata["format"])
    values = dict(metadata)
    if values["format"] < 2 and isinstance(values.get("preprocessing"), dict):
        # images with more than 8 bits were read as 0 to 65535
        values["preprocessing"] = {"deep_range": list(FULL), **values["preprocessing"]}
    if "task" in values:
        return values
    values["task"] = {"name": FIRST_TASK}
    if "limit" in values:
        values["limits"] = {"probability": values.pop("limit")}
    if isinstance(values.get("golden"), list):
        values["golden"] = [_golden(entry) for entry in values["golden"]]
    return values


def _golden(entry: Any) -> Any:
    """A golden image with its outputs by name."""
    if not isinstance(entry, dict) or "probabilities" not in entry:
        return entry
    png = {"png": [entry["png"]]} if "png" in entry else {}
    return png | {"outputs": {"probabilities": entry["probabilities"]}}


def read_task(value: Any, classes: Sequence[str]) -> tuple[Kind, Mapping[str, Any]]:
    """The kind of a task and its options, from `task` in the metadata of a file.

    Raises:
        Newer: The task is not known here.
        ValueError: It is no task, or its options do not fit the classes.
    """
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(f"task is {value!r:.60}; wanted a JSON object with a name")
    options = {key: option for key, option in value.items() if key != "name"}
    if value["name"] not in KINDS:
        known = ", ".join(KINDS)
        raise Newer(f"(task {value['name']!r:.60}); this one knows {known}")
    kind = KINDS[value["name"]]
    return kind, kind.options(options, classes)
