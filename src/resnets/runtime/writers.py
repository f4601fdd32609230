"""Predictions as the rows of a table: CSV, JSON lines or Parquet, written one after the other.

Names of files and classes are written as they are, whatever they contain: bytes that are not UTF-8
stay in CSV and are escaped in the others; control characters, and labels that a spreadsheet would
take for a formula (`=1+1`), are kept too. What a terminal is to show goes through
`screen.printable`.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from resnets.files import replacing
from resnets.kinds.classes import ClassPrediction

COLUMNS = ("file", "label", "probability", "error", "notes")
FORMATS = (".csv", ".jsonl", ".parquet")
_ERRORS = sys.getfilesystemencodeerrors()
Row = dict[str, Any]


def print_predictions(predictions: Iterable[ClassPrediction], classes: Sequence[str] = ()) -> int:
    """Writes predictions to the standard output as CSV, each as it comes.

    Args:
        predictions: What `Predictor.predict` gives.
        classes: Names of the classes that get a column each, `p_NAME`.

    Returns:
        The number of rows written.
    """
    sys.stdout.flush()
    output = sys.stdout.buffer
    output.write(_csv_line(columns(classes)))
    written = 0
    for prediction in predictions:
        output.write(_csv_line(to_row(prediction, bool(classes)).values()))
        output.flush()
        written += 1
    output.flush()
    return written


def columns(classes: Sequence[str] = ()) -> list[str]:
    """The header, with a column for each of these classes."""
    return [*COLUMNS, *(f"p_{name}" for name in classes)]


def to_row(prediction: ClassPrediction, probabilities: bool) -> Row:
    """The cells of a prediction by column; None where there is nothing to say."""
    row = {
        "file": prediction.file,
        "label": prediction.label or None,
        "probability": _number(prediction.probability),
        "error": prediction.error,
        "notes": "; ".join(prediction.notes) or None,
    }
    if probabilities:
        found = prediction.probabilities
        row |= {
            f"p_{name}": None if found is None else _number(found[i])
            for i, name in enumerate(prediction.classes)
        }
    return row


class Table:
    """A file of rows: read, reduced, added to and finished.

    Parquet cannot grow: its rows go to `NAME.parquet.partial` (JSON lines) first.

    Args:
        path: Its suffix is the format.
        header: The names of its columns.

    Raises:
        ValueError: The suffix or the folder is unknown, pyarrow is missing, or `path` is a folder.
    """

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        check_output(path)
        self.path, self.header = path, list(header)
        self.parquet = path.suffix.lower() == ".parquet"
        self.growing = path.with_name(path.name + ".partial") if self.parquet else path
        self._csv = path.suffix.lower() == ".csv"
        self._end = 0  # of the last whole row in `growing`

    def rows(self) -> Iterator[Row]:
        """The whole rows that are there; the last one may have been cut off by a crash.

        Raises:
            ValueError: The file was written by somebody else, or has other columns.
        """
        self._end = 0
        if self.growing.exists():
            yield from self._growing_rows()
        elif self.path.exists():
            yield from self._parquet_rows()

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Leaves out rows, in one piece; a finished Parquet file can be added to again."""
        with replacing(self.growing) as beside:
            with beside.open("wb") as file:
                file.write(self._beginning())
                for row in self.rows():
                    if wanted(row):
                        file.write(self._encode(row))
            end = beside.stat().st_size
        self._end = end

    @contextmanager
    def appending(self) -> Iterator[Callable[[Row], None]]:
        """Adds rows after the last whole one, which `rows` has found; each is in the file before
        the next one."""
        with self.growing.open("ab") as file:
            if file.tell() != self._end:
                file.truncate(self._end)
            if not self._end:
                file.write(self._beginning())
                file.flush()

            def append(row: Row) -> None:
                file.write(self._encode(row))
                file.flush()

            yield append
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Turns the rows into a Parquet file, a thousand at a time; nothing is left to do for the
        others."""
        if not self.parquet:
            return
        import pyarrow

        schema = pyarrow.schema(
            [
                (
                    name,
                    pyarrow.float32()
                    if name == "probability" or name not in COLUMNS
                    else pyarrow.string(),
                )
                for name in self.header
            ]
        )
        rows = self.rows()
        with replacing(self.path) as beside, _parquet().ParquetWriter(beside, schema) as writer:
            while batch := list(itertools.islice(rows, 1000)):
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
        self.growing.unlink()

    def fit(self, row: Row) -> Row:
        """A row as it will be read again: Parquet holds no bytes that are not UTF-8."""
        return {**row, "file": _utf8(row["file"])} if self.parquet else row

    def _beginning(self) -> bytes:
        return _csv_line(self.header) if self._csv else b""

    def _encode(self, row: Row) -> bytes:
        return _csv_line(row.values()) if self._csv else _json_line(row)

    def _growing_rows(self) -> Iterator[Row]:
        beginning = ",".join(COLUMNS).encode() if self._csv else b'{"file": '
        with self.growing.open("rb") as file:
            try:
                if not beginning.startswith(file.read(len(beginning))):
                    raise ValueError("another beginning")
                file.seek(0)
                for end, row in self._csv_rows(file) if self._csv else _json_rows(file):
                    self._check_columns(self.growing, row)
                    self._end = end
                    yield row
            except OtherColumns:
                raise
            except (ValueError, RecursionError, csv.Error) as error:
                raise ValueError(
                    f"{self.growing}: was not written by `resnets predict` ({error}); name another"
                    " output"
                ) from None

    def _csv_rows(self, file: IO[bytes]) -> Iterator[tuple[int, Row]]:
        lines = _csv_lines(file)
        self._end, header = next(lines, (0, self.header))
        self._check_columns(self.growing, header)
        for end, cells in lines:
            yield end, dict(zip(header, cells, strict=True))

    def _parquet_rows(self) -> Iterator[Row]:
        import pyarrow

        try:
            with _parquet().ParquetFile(self.path) as file:
                self._check_columns(self.path, file.schema_arrow.names)
                for batch in file.iter_batches(1000):
                    for row in batch.to_pylist():
                        if not isinstance(row["file"], str):
                            raise ValueError("a row without a file")
                        numbers = {k: _number(v) for k, v in row.items() if isinstance(v, float)}
                        yield {**row, **numbers}
        except OtherColumns:
            raise
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{self.path}: cannot be read as Parquet ({reason}); name another output"
            ) from None

    def _check_columns(self, path: Path, found: Iterable[str]) -> None:
        if list(found) != self.header:
            raise OtherColumns(
                f"{path}: has the columns {_few(found)}; this run would write"
                f" {_few(self.header)}: name another output, or remove it to start again"
            )


class OtherColumns(ValueError):
    """The columns of a file are not those of the table."""


def check_output(path: Path) -> None:
    """Refuses what cannot become a table, before any work.

    Raises:
        ValueError: The suffix or the folder is unknown, pyarrow is missing, or `path` is a folder.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{path}: predictions are written as {', '.join(FORMATS)}; give the output one of these"
            " suffixes"
        )
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: a folder or a device, not a file; name another output")
    if path.suffix.lower() == ".parquet":
        _parquet()


def _few(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:10]) + (f" and {len(first) - 10} more" if len(first) > 10 else "")


def _number(value: float) -> float | None:
    """With as few digits as give the same float32 again; None for what is not a number."""
    return None if math.isnan(value) else float(str(np.float32(value)))


def _csv_line(cells: Iterable[Any]) -> bytes:
    # By hand: csv.writer leaves a carriage return unquoted in some versions of Python, and
    # csv.reader then refuses it.
    texts = ["" if cell is None else str(cell) for cell in cells]
    quoted = (
        '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text for text in texts
    )
    return (",".join(quoted) + "\n").encode("utf-8", _ERRORS)


def _json_line(row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # bytes that are not UTF-8
        return json.dumps(row).encode() + b"\n"


def _csv_lines(file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """The cells of each whole line, and the place in the file where it ends."""
    text, end = b"", 0
    for line in file:
        text += line
        # A row ends at a line end outside of quotes. One that was cut off has no line end, or an
        # odd number of quotes.
        if not text.endswith(b"\n") or text.count(b'"') % 2:
            continue
        end += len(text)
        yield end, next(csv.reader([text.decode("utf-8", _ERRORS)]))
        text = b""


def _json_rows(file: IO[bytes]) -> Iterator[tuple[int, Row]]:
    end = 0
    for line in file:
        if line.endswith(b"\n"):
            end += len(line)
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("file"), str):
                raise ValueError("a line without a file")
            yield end, row


def _utf8(text: str) -> str:
    return text.encode("utf-8", _ERRORS).decode("utf-8", "backslashreplace")


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ValueError(
            'Parquet needs pyarrow, which is not installed; run: pip install "resnets[parquet]"'
        ) from None
    return pyarrow.parquet
