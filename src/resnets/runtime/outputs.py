"""Outputs that a later run continues: no row is lost or doubled, and none is of another model.

Beside `out.csv` lies `out.csv.source.jsonl`. Its first line says what the rows were made with; each
further line says how an image file looked when it was predicted.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from resnets.files import locked, write_file
from resnets.kinds.prediction import Prediction
from resnets.runtime.ledger import Ledger, Stamp
from resnets.runtime.rows import Columns, Row, is_last
from resnets.runtime.writers import OtherColumns, Table

FORMAT = 1  # of the file beside an output
SUFFIX = ".source.jsonl"
BY_CLASS = "probabilities"  # what the file beside an output calls a column for each class


@contextmanager
def open_output(
    path: str | Path, files: Iterable[str], source: Mapping[str, Any], columns: Columns
) -> Iterator[Output]:
    """Opens an output to write the predictions of some files to it, or to continue with them.

    Rows that are there stay, unless they have an error or their file has changed: those files are
    predicted again, and their rows replaced. A file that is named in two ways gets one row.

    Args:
        path: Its suffix is the format: `.csv`, `.jsonl` or `.parquet`.
        files: Names of all image files that are to have a row.
        source: What the rows are made with: `sha256` of the model, and what else is to be noted.
        columns: Of the table.

    Raises:
        ValueError: Another process is writing to it; its rows are of another model or have other
            columns; it was not written by this function; or `Table` refuses it.
        OSError: It cannot be written; what was written stays and can be continued.
    """
    path = Path(os.path.realpath(path))
    table = Table(path, columns)
    cure = f"wait until it has ended, or name another output than {path}"
    with locked(path.with_name(f".{path.name}.lock"), cure):
        output = Output(table, {**source, BY_CLASS: bool(columns.classes)})
        output.total = output.ledger.plan(files)
        yield output


class Output:
    """A table that is being written, with what is known of its files; see `open_output`.

    Args:
        table: The rows.
        source: What they are made with.
    """

    def __init__(self, table: Table, source: Mapping[str, Any]) -> None:
        self.table, self.source, self.ledger = table, dict(source), Ledger()
        self.beside = table.path.with_name(table.path.name + SUFFIX)
        self.total = 0  # files that are to be predicted
        self._stamps: dict[str, Stamp] = {}  # of files that are being predicted
        header = json.dumps({"format": FORMAT, **self.source}).encode() + b"\n"
        self._noted = len(header)  # the end of the last whole line beside the table
        try:
            filled = any(True for _ in table.rows())
        except OtherColumns:
            if self.beside.is_file():
                self._read_source()  # which may know a better reason
            raise
        if filled:
            self._read_source()
            for file, rows in itertools.groupby(table.rows(), itemgetter("file")):
                last = deque(rows, 1).pop()
                self.ledger.add_row(file, bool(last["error"]) or not is_last(last))
        else:
            write_file(self.beside, header)

    def files(self) -> Iterator[str]:
        """Names of the files that are to be predicted; take each when its turn comes."""
        for file in self.ledger.planned():
            # Before it is read: if it changes in between, it will be predicted once more.
            self._stamps[file] = self.ledger.stamp(file)
            yield file

    def write(self, predictions: Iterable[Prediction]) -> int:
        """Writes the rows of each prediction, as it comes.

        Args:
            predictions: Of `files()`, in any order.

        Returns:
            The number of rows written.
        """
        table, path = self.table, self.table.path
        if table.parquet and path.exists() and not table.growing.exists():
            if not self.total:
                return 0  # finished, and nothing is new
            table.keep(self._stays)
        elif self.ledger.outdated:
            table.keep(self._stays)
        written = 0
        with self.beside.open("ab") as notes, table.appending() as append:
            notes.truncate(self._noted)
            for prediction in predictions:
                rows = [table.fit(row) for row in table.columns.rows(prediction)]
                notes.write(_line(rows[0]["file"], self._stamps.pop(prediction.file)))
                notes.flush()  # before the rows: without a stamp they would be predicted again
                append(rows)
                written += len(rows)
            os.fsync(notes.fileno())
        table.finish()
        return written

    def _stays(self, row: Row) -> bool:
        return self.ledger.stays(row["file"])

    def _read_source(self) -> None:
        """Compares what the rows were made with, and reads how their files looked."""
        if not self.beside.is_file():
            raise ValueError(
                f"{self.table.path}: which model its rows are of is not known, since"
                f" {self.beside.name} is not beside it (it is from an earlier version, or was moved"
                f" without it); {self._cure}"
            )
        with self.beside.open("rb") as file:
            try:
                first = next(file, b"")
                self._compare(dict(json.loads(first)))
                self._noted = len(first)
                for line in file:
                    if line.endswith(b"\n"):  # else it was cut off
                        self.ledger.add_stamp(*_entry(line))
                        self._noted += len(line)
            except _Refused:
                raise
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(
                    f"{self.beside}: does not say what {self.table.path.name} was made with"
                    f" ({error}); {self._cure}"
                ) from None

    def _compare(self, then: Mapping[str, Any]) -> None:
        path, now = self.table.path, self.source
        if then["format"] > FORMAT:
            raise _Refused(f"{self.beside}: made by a newer resnets; upgrade, or {self._cure}")
        if then["sha256"] != now["sha256"]:
            raise _Refused(
                f"{path}: its rows are of another model ({_name(then)}; this one is {_name(now)});"
                f" {self._cure}"
            )
        if then[BY_CLASS] != now[BY_CLASS]:
            made = "with" if then[BY_CLASS] else "without"
            raise _Refused(
                f"{path}: was made {made} a column for every class (--probs), and this run is not;"
                f" {self._cure}"
            )

    @property
    def _cure(self) -> str:
        table = self.table
        there = table.growing if table.growing.exists() else table.path
        return f"name another output, or remove {there.name} to start again"


class _Refused(ValueError):
    """A reason that is told as it is."""


def _name(source: Mapping[str, Any]) -> str:
    return f"{source.get('model', 'unnamed')}, sha256 {str(source['sha256'])[:12]}"


def _line(file: str, stamp: Stamp) -> bytes:
    # ASCII: names of files need not be UTF-8
    return json.dumps({"file": file, **dataclasses.asdict(stamp)}).encode() + b"\n"


def _entry(line: bytes) -> tuple[str, Stamp]:
    entry = json.loads(line)
    file, stamp = entry.pop("file"), Stamp(**entry)
    numbers = [number for number in (stamp.size, stamp.modified) if number is not None]
    if not all(isinstance(name, str) for name in (file, stamp.path)) or not all(
        isinstance(number, int) and -(2**63) <= number < 2**63 for number in numbers
    ):
        raise ValueError("a line of another kind")
    return file, stamp
