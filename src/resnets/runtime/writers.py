"""Tables of predictions: CSV, JSON lines or Parquet, written one row after the other."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from resnets.files import replacing
from resnets.kinds.prediction import Prediction
from resnets.runtime.rows import (
    Columns,
    Row,
    csv_line,
    csv_lines,
    json_line,
    json_rows,
    rounded,
    utf8,
)

FORMATS = (".csv", ".jsonl", ".parquet")


def print_predictions(predictions: Iterable[Prediction], columns: Columns) -> int:
    """Writes predictions to the standard output as CSV, each as it comes.

    Args:
        predictions: What `Predictor.predict` gives.
        columns: Of the table.

    Returns:
        The number of rows written.
    """
    sys.stdout.flush()
    output = sys.stdout.buffer
    output.write(csv_line(columns.types))
    written = 0
    for prediction in predictions:
        rows = columns.rows(prediction)
        output.write(b"".join(csv_line(row.values()) for row in rows))
        output.flush()
        written += len(rows)
    output.flush()
    return written


class Table:
    """A file of rows: read, reduced, added to and finished.

    Parquet cannot grow: its rows go to `NAME.parquet.partial` (JSON lines) first.

    Args:
        path: Its suffix is the format.
        columns: What it holds.

    Raises:
        ValueError: The suffix or the folder is unknown, pyarrow is missing, or `path` is a folder.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        check_output(path)
        self.path, self.columns, self.header = path, columns, list(columns.types)
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
    def appending(self) -> Iterator[Callable[[Sequence[Row]], None]]:
        """Adds rows after the last whole one, which `rows` has found; those of one prediction
        together, and they are in the file before the next ones."""
        with self.growing.open("ab") as file:
            if file.tell() != self._end:
                file.truncate(self._end)
            if not self._end:
                file.write(self._beginning())
                file.flush()

            def append(rows: Sequence[Row]) -> None:
                file.write(b"".join(map(self._encode, rows)))
                file.flush()

            yield append
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Turns the rows into a Parquet file, a thousand at a time; nothing is left to do for the
        others."""
        if not self.parquet:
            return
        write_parquet(self.path, self.rows(), self.columns)
        self.growing.unlink()

    def fit(self, row: Row) -> Row:
        """A row as it will be read again: Parquet holds no bytes that are not UTF-8."""
        return _fit(row) if self.parquet else row

    def _beginning(self) -> bytes:
        return csv_line(self.header) if self._csv else b""

    def _encode(self, row: Row) -> bytes:
        return csv_line(row.values()) if self._csv else json_line(row)

    def _growing_rows(self) -> Iterator[Row]:
        beginning = ",".join(self.columns.beginning).encode() if self._csv else b'{"file": '
        with self.growing.open("rb") as file:
            try:
                if not beginning.startswith(file.read(len(beginning))):
                    raise ValueError("another beginning")
                file.seek(0)
                for end, row in self._csv_rows(file) if self._csv else json_rows(file):
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
        lines = csv_lines(file)
        self._end, header = next(lines, (0, self.header))
        self._check_columns(self.growing, header)
        for end, cells in lines:
            yield end, dict(zip(header, cells, strict=True))

    def _parquet_rows(self) -> Iterator[Row]:
        import pyarrow

        try:
            with parquet().ParquetFile(self.path) as file:
                self._check_columns(self.path, file.schema_arrow.names)
                for batch in file.iter_batches(1000):
                    for row in batch.to_pylist():
                        if not isinstance(row["file"], str):
                            raise ValueError("a row without a file")
                        numbers = {k: rounded(v) for k, v in row.items() if isinstance(v, float)}
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


def write_parquet(path: Path, rows: Iterable[Row], columns: Columns) -> None:
    """Rows as a Parquet file that is there as a whole or not at all, a thousand at a time."""
    library = parquet()
    import pyarrow

    number = {float: pyarrow.float32(), int: pyarrow.int64(), str: pyarrow.string()}
    schema = pyarrow.schema(
        [
            (name, next(number[base] for base in kind.__mro__ if base in number))
            for name, kind in columns.types.items()
        ]
    )
    coming = iter(rows)
    with replacing(path) as beside, library.ParquetWriter(beside, schema) as writer:
        while batch := [_fit(row) for row in itertools.islice(coming, 1000)]:
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def _fit(row: Row) -> Row:
    """Parquet holds no bytes that are not UTF-8."""
    return {**row, "file": utf8(row["file"])}


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
        parquet()


def _few(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:10]) + (f" and {len(first) - 10} more" if len(first) > 10 else "")


def parquet() -> Any:
    """pyarrow's module for Parquet.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ValueError(
            'Parquet needs pyarrow, which is not installed; run: pip install "resnets[parquet]"'
        ) from None
    return pyarrow.parquet
