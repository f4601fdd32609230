"""The folder of a run: its name, and the files in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from resnets.files import csv_text, locked, write_file

# Of results.csv: these first, then what else is known of the training, its speed, the validation
FIRST = ("step", "epoch", "phase", "seconds", "learning_rate", "train_loss")
SPEED, LOSS = "images_per_second", "val_loss"


def columns_of(rows: Sequence[Mapping[str, float | None]]) -> list[str]:
    """The columns that rows have, in an order that does not depend on theirs: a resumed run has
    read them from a file that sorts its keys."""
    there = {name for row in rows for name in row}
    others = sorted(there - {*FIRST, SPEED, LOSS})
    training = [name for name in others if name.startswith("train_")]
    validation = [name for name in others if not name.startswith("train_")]
    ordered = [*FIRST, *training, SPEED, LOSS, *validation]
    return [name for name in ordered if name in there]


class RunFolder:
    """Paths of a run's files.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / ".lock"
        self.args = path / "args.yaml"
        self.best = path / "weights" / "best.safetensors"
        self.last = path / "weights" / "last.safetensors"
        self.results = path / "results.csv"
        self.search = path / "lr_finder.csv"
        self.search_curve = path / "lr_finder.png"
        self.split = path / "split.csv"
        self.predictions = path / "predictions.csv"
        self.suspects = path / "suspects.csv"
        self.learning_curve = path / "learning_curve.csv"
        self.report = path / "report.html"
        self.card = path / "model_card.md"
        self.summary = path / "summary.json"

    def read_summary(self) -> dict[str, Any]:
        """What summary.json says; nothing where there is none.

        Raises:
            ValueError: It is not what `finish` writes.
        """
        cure = "restore the file as the run wrote it; without it the run counts as unfinished"
        if not self.summary.is_file():
            return {}
        try:
            values = json.loads(self.summary.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.summary}: not readable as JSON ({error}); {cure}") from None
        if not isinstance(values, dict) or not isinstance(values.get("stopped"), bool):
            raise ValueError(
                f"{self.summary}: an object with stopped, true or false, expected; {cure}"
            )
        return values

    def forget(self) -> None:
        """Removes what an earlier run in this folder said at its end, and a new one may not say."""
        for file in (self.summary, self.suspects, self.learning_curve):
            file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes what a run writes before its first validation."""
        for file in (self.args, self.split, self.last, self.results):
            file.unlink(missing_ok=True)
        self.forget_search()

    def forget_search(self) -> None:
        """Removes what a search for the learning rate wrote: another run has another one, or
        none."""
        for file in (self.search, self.search_curve):
            file.unlink(missing_ok=True)

    def write_results(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        """results.csv, whole: one line a row, empty where nothing was measured."""
        write_file(self.results, csv_text(rows, columns_of(rows)))


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
            [int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()]
            if parent.is_dir()
            else []
        )
        output = parent / (name or str(max(numbers, default=0) + 1))
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; name a folder for the run")
    if not exist_ok:
        _refuse_full(output)
    return output


def _refuse_full(path: Path) -> None:
    lock = RunFolder(path).lock
    if path.is_dir() and any(
        not entry.is_dir() and entry != lock for entry in path.rglob("*")
    ):  # a lock alone is what a killed run leaves
        raise ValueError(
            f"{path} is not empty, and nothing is overwritten: name another folder, or add"
            " --exist-ok"
        )


@contextmanager
def claim(
    output: Path | None, name: str | None, exist_ok: bool, kind: str = "train"
) -> Iterator[RunFolder]:
    """The folder of a new run, and of no other one until it ends; of two that want the next number
    at once, one gets the number after it.

    Raises:
        ValueError: As of `choose_folder` and `claimed`.
    """
    with ExitStack() as stack:
        while True:
            path = choose_folder(output, name, exist_ok, kind)
            with suppress(FileExistsError):  # another run took the number in between
                anew = output is None and name is None
                folder = stack.enter_context(claimed(path, exist_ok, anew))
                break
        yield folder


@contextmanager
def claimed(path: Path, exist_ok: bool = False, anew: bool = False) -> Iterator[RunFolder]:
    """A new run's folder, there and locked from the start, so that a missing permission or another
    run is found before the work; gone again after an error as long as nothing was written into it.

    Args:
        path: The folder.
        exist_ok: Whether it may hold something.
        anew: Whether it must not be there yet.

    Raises:
        ValueError: It cannot be made or written to, another run is at work in it, or it has been
            filled meanwhile.
        FileExistsError: It is there, and `anew` was asked for.
    """
    files, made = RunFolder(path), []
    try:
        made = _make_folders(path, anew)
        with held(files, "wait for it, or name another folder with --output"):
            if not exist_ok:
                _refuse_full(path)
            made += _make_folders(files.best.parent)
            yield files
    except BaseException:
        _remove(made)
        raise


@contextmanager
def held(files: RunFolder, cure: str) -> Iterator[None]:
    """Keeps other runs out of a folder that is there.

    Raises:
        ValueError: Another one is in it already (`Locked`), or it cannot be written to.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(files.lock, cure))
        except OSError as error:
            raise _unwritable(files.path, error) from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that is open
                files.lock.unlink()


def _make_folders(path: Path, anew: bool = False) -> list[Path]:
    """Makes a folder with its parents; gives those that were not there."""
    made: list[Path] = []
    try:
        for folder in [*reversed(path.parents), path]:
            if not folder.exists():
                with suppress(FileExistsError):  # made by another in between
                    folder.mkdir()
                    made.append(folder)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied", str(path))
    except OSError as error:
        _remove(made)
        raise _unwritable(path, error) from None
    if anew and path not in made:
        raise FileExistsError(17, "File exists", str(path))
    return made


def _unwritable(path: Path, error: OSError) -> ValueError:
    return ValueError(
        f"{path} cannot be written to ({error.strerror}); name another folder with --output"
    )


def _remove(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):  # not empty: what is in it was worth keeping
            folder.rmdir()
