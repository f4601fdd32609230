"""How each kind of task is learnt: head, loss, inference. One file a task, one row of `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from resnets.settings import change, nearest, to_dict
from resnets.tasks.boxes import Detection
from resnets.tasks.classes import Classification
from resnets.tasks.clips import ClipClassification
from resnets.tasks.labels import MultiLabel
from resnets.tasks.mask import Segmentation
from resnets.tasks.task import Limit, Targets, Task

TASKS: dict[str, type[Task]] = {
    task.kind.name: task
    for task in (Classification, MultiLabel, Detection, Segmentation, ClipClassification)
}

__all__ = ["TASKS", "Limit", "Targets", "Task", "describe_task", "make_task", "options_of"]


def options_of(name: str) -> tuple[str, ...]:
    """Names of the options of a task."""
    task: Any = TASKS[name]
    return tuple(field.name for field in fields(task))


def describe_task(task: Task) -> dict[str, Any]:
    """A task as files keep it: its name and its options."""
    return {"name": task.kind.name, **to_dict(task)}


def make_task(description: Mapping[str, Any]) -> Task:
    """The task that `describe_task` described.

    Raises:
        ValueError: No such task, or an option that it does not have or cannot take.
    """
    options = dict(description)
    name = options.pop("name", None)
    if name not in TASKS:
        raise ValueError(f"task: no task {name!r:.60}; {nearest(name, TASKS)}")
    for key in options:
        if key not in (known := options_of(name)):
            raise ValueError(f"the task {name} has no option {key!r:.60}: {nearest(key, known)}")
    return change(TASKS[name](), options)
