"""How each kind of task is learnt: head, loss, inference. One file a task, one row of `TASKS`."""

from resnets.tasks.classes import Classification
from resnets.tasks.task import Targets, Task

TASKS: dict[str, type[Task]] = {task.kind.name: task for task in (Classification,)}

__all__ = ["TASKS", "Targets", "Task"]
