"""Where the rows of a run go besides results.csv: to trackers of experiments, if they are named.

Each is a package of its own, imported only then; none of them is asked for anything.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from resnets.run.work import Job
from resnets.settings import nearest, to_dict
from resnets.training.loop import Row


class Logger(Protocol):
    """A tracker of experiments; made of the run's folder and settings."""

    def on_row(self, row: Row) -> None:
        """Takes a row of results.csv; what was not measured is None."""

    def close(self) -> None:
        """The run is over."""


def _measured(row: Row) -> tuple[int, dict[str, float]]:
    numbers = {name: value for name, value in row.items() if value is not None and name != "step"}
    return int(row["step"] or 0), numbers


class TensorBoard:
    """Event files in the folder of the run, for `tensorboard --logdir runs`."""

    package = "tensorboard"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def on_row(self, row: Row) -> None:
        step, numbers = _measured(row)
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """A run of MLflow, wherever MLFLOW_TRACKING_URI says; a resumed run is another one."""

    package = "mlflow"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        import mlflow

        self.mlflow: Any = mlflow
        mlflow.start_run(run_name=str(folder))
        mlflow.log_params(dict(settings))

    def on_row(self, row: Row) -> None:
        step, numbers = _measured(row)
        self.mlflow.log_metrics(numbers, step=step)

    def close(self) -> None:
        self.mlflow.end_run()


class WeightsAndBiases:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it on this machine."""

    package = "wandb"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self.run: Any = wandb.init(name=str(folder), dir=str(folder), config=dict(settings))

    def on_row(self, row: Row) -> None:
        step, numbers = _measured(row)
        self.run.log(numbers, step=step)

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, Any] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}


def loggers_of(names: str) -> list[Any]:
    """The classes of names with commas between them; none for `none`.

    Raises:
        ValueError: There is none of a name, or its package is not installed.
    """
    found = []
    for name in names.replace(" ", "").split(",") if names != "none" else ():
        if name not in LOGGERS:
            raise ValueError(f"log={names}: no logger {name!r}; {nearest(name, LOGGERS)}, or none")
        package = LOGGERS[name].package
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"log={names} needs {package}: pip install 'resnets[{package}]'")
        found.append(LOGGERS[name])
    return found


@contextmanager
def logged(job: Job) -> Iterator[Job]:
    """The job, whose rows go to the loggers that are named as well; these are closed at the end,
    also after an error."""
    settings = job.spec.settings
    with ExitStack() as stack:
        made: list[Logger] = []
        for kind in loggers_of(settings.log):
            made.append(kind(job.folder.path, to_dict(settings)))
            stack.callback(made[-1].close)
        yield replace(job, callbacks=(*job.callbacks, *(one.on_row for one in made)))
