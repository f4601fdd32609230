"""The folder of a run: its name, and the files in it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from resnets.files import write_file

COLUMNS = (
    *(
        "step",
        "epoch",
        "seconds",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "images_per_second",
    ),
    *("val_loss", "val_accuracy", "val_accuracy_ema"),
)


class RunFolder:
    """Paths of a run's files.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.args = path / "args.yaml"
        self.best = path / "weights" / "best.safetensors"
        self.last = path / "weights" / "last.safetensors"
        self.results = path / "results.csv"
        self.split = path / "split.csv"
        self.predictions = path / "predictions.csv"
        self.report = path / "report.html"
        self.card = path / "model_card.md"
        self.summary = path / "summary.json"

    def write_results(self, rows: Sequence[dict[str, float | None]]) -> None:
        """results.csv, whole: one line a row, empty where nothing was measured."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_file(self.results, text.getvalue())


def choose_folder(
    output: Path | None, name: str | None, exist_ok: bool, kind: str = "train"
) -> Path:
    """Where a run goes: `output`, or `runs/KIND/NAME`, by default the next free number.

    Raises:
        ValueError: The folder exists and holds something, and `exist_ok` was not given.
    """
    if output is None:
        parent = Path("runs") / kind
        numbers = (
            [int(entry.name) for entry in parent.iterdir() if entry.name.isdigit()]
            if parent.is_dir()
            else []
        )
        output = parent / (name or str(max(numbers, default=0) + 1))
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; name a folder for the run")
    if output.is_dir() and any(not entry.is_dir() for entry in output.rglob("*")) and not exist_ok:
        raise ValueError(
            f"{output} is not empty, and nothing is overwritten: name another folder, or add"
            " --exist-ok"
        )
    return output


@contextmanager
def claimed(path: Path) -> Iterator[RunFolder]:
    """A new run's folder, there from the start so that a missing permission is found before the
    work; gone again after an error as long as nothing was written into it.

    Raises:
        ValueError: It cannot be made or written to.
    """
    made = []
    try:
        for folder in [*reversed(path.parents), path, path / "weights"]:
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied", str(path))
    except OSError as error:
        _remove(made)
        raise ValueError(
            f"{path} cannot be written to ({error.strerror}); name another folder with --output"
        ) from None
    try:
        yield RunFolder(path)
    except BaseException:
        _remove(made)
        raise


def _remove(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):  # not empty: what is in it was worth keeping
            folder.rmdir()
