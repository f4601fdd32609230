"""Predictions to a table: CSV, JSON lines or Parquet. A row is written before the next picture is
looked at, so a run can continue.

Names of files survive whatever they contain. Bytes that are not UTF-8 stay as they are in CSV, and
are escaped in the others.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from resnets.files import replacing
from resnets.results import Prediction

COLUMNS = ("file", "label", "probability", "error", "notes")
FORMATS = (".csv", ".jsonl", ".parquet")
_BEGINNING = {".csv": ",".join(COLUMNS).encode(), ".jsonl": b'{"file": '}
_ERRORS = sys.getfilesystemencodeerrors()


def write_predictions(
    predictions: Iterable[Prediction], path: str | Path | None = None, probabilities: bool = False
) -> int:
    """Writes a row for each prediction, as it comes.

    An output that is there is continued after its last whole row, without a second row for a file.
    To not predict those files again, give the predictor `skip=done(path)`. Parquet cannot grow: its
    rows go to `NAME.parquet.partial` (JSON lines), which becomes the Parquet file at the end.

    Args:
        predictions: What `Predictor.predict` gives; nothing is taken from it before `path` is found
            to be fit.
        path: Where to; its suffix is the format. None: CSV on the standard output.
        probabilities: Adds a column for each class, `p_NAME`.

    Returns:
        The number of rows written.

    Raises:
        ValueError: The suffix or the folder is unknown, pyarrow is missing, the output has other
            columns or is not ours, or it is a finished Parquet file and there is more to write.
        OSError: It cannot be written; what was written stays and can be continued.
    """
    if path is None:
        sys.stdout.flush()
        return _append(sys.stdout.buffer, ".csv", predictions, probabilities, None)
    path, (journal, form) = Path(path), _journal(path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
    if journal != path and path.exists():
        return _nothing_new(path, predictions)
    end, columns, there = 0, None, set()
    for place, row in _rows(path):
        end, columns = place, list(row)
        there.add(row["file"])
    with open(journal, "ab") as file:
        file.truncate(end)  # what follows the last whole row was cut off
        written = _append(
            file,
            form,
            (new for new in predictions if new.file not in there),
            probabilities,
            columns,
        )
        os.fsync(file.fileno())
    if journal != path:
        _to_parquet(journal, path)
    return written


def done(path: str | Path) -> set[str]:
    """Names of the files that have a whole row in an output, finished or not; empty if there is no
    output.

    Raises:
        ValueError: The suffix is unknown, pyarrow is missing, or the file was not written by
            `write_predictions`.
    """
    if _journal(path)[0] == Path(path) or not Path(path).exists():
        return {row["file"] for _, row in _rows(Path(path))}
    return set(_parquet().read_table(path, columns=["file"])["file"].to_pylist())


def _append(
    file: IO[bytes],
    form: str,
    predictions: Iterable[Prediction],
    probabilities: bool,
    columns: list[str] | None,
) -> int:
    """Rows to the end of an open file, each flushed; `columns` are those it has, None if it is
    empty."""
    encode = _csv_line if form == ".csv" else _json_line
    written = 0
    for prediction in predictions:
        row = _row(prediction, probabilities)
        if columns is None and form == ".csv":
            file.write(_csv_line(dict(zip(row, row, strict=True))))
        columns = columns or list(row)
        if columns != list(row):
            raise ValueError(
                f"the output has the columns {', '.join(columns)}; this run would write"
                f" {', '.join(row)}: name another output, or remove it to start again"
            )
        file.write(encode(row))
        file.flush()
        written += 1
    if columns is None and form == ".csv":
        file.write(_BEGINNING[form] + b"\n")
    return written


def _row(prediction: Prediction, probabilities: bool) -> dict[str, Any]:
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


def _number(value: float) -> float | None:
    """With as few digits as give the same float32 again; None for what is not a number."""
    return None if math.isnan(value) else float(str(np.float32(value)))


def _csv_line(row: dict[str, Any]) -> bytes:
    # By hand: csv.writer leaves a carriage return unquoted in some versions of Python, and
    # csv.reader then refuses it.
    cells = ("" if value is None else str(value) for value in row.values())
    quoted = (
        '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell for cell in cells
    )
    return (",".join(quoted) + "\n").encode("utf-8", _ERRORS)


def _json_line(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # bytes that are not UTF-8
        return json.dumps(row).encode() + b"\n"


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole rows of an unfinished or appendable output, each with the place in the file where
    it ends."""
    journal, form = _journal(path)
    if not journal.exists():
        return
    with open(journal, "rb") as file:
        try:
            found = file.read(len(_BEGINNING[form]))
            if not _BEGINNING[form].startswith(found):
                raise ValueError("another beginning")
            file.seek(0)
            yield from _csv_rows(file) if form == ".csv" else _json_rows(file)
        except (ValueError, csv.Error) as error:
            raise ValueError(
                f"{journal}: was not written by `resnets predict` ({error}); name another output"
            ) from None


def _csv_rows(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    header, text, end = None, b"", 0
    for line in file:
        text += line
        # A row ends at a line end outside of quotes. One that was cut off has no line end, or an
        # odd number of quotes.
        if not text.endswith(b"\n") or text.count(b'"') % 2:
            continue
        end += len(text)
        cells = next(csv.reader([text.decode("utf-8", _ERRORS)]))
        text = b""
        if header is None:
            header = cells
        else:
            yield end, dict(zip(header, cells, strict=True))


def _json_rows(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    end = 0
    for line in file:
        if line.endswith(b"\n"):
            end += len(line)
            yield end, json.loads(line)


def _nothing_new(path: Path, predictions: Iterable[Prediction]) -> int:
    _journal(path)[0].unlink(
        missing_ok=True
    )  # it is left if a run ended between the last two steps of `_to_parquet`
    there = done(path)
    for prediction in predictions:
        if _utf8(prediction.file) not in there:
            raise ValueError(
                f"{path}: is finished and cannot grow, but {prediction.file} is not in it; name"
                " another output, or use .csv or .jsonl, which can always be continued"
            )
    return 0


def _to_parquet(journal: Path, path: Path) -> None:
    """A finished journal to Parquet, a thousand rows at a time; then the journal is removed."""
    import pyarrow

    columns = list(next(_rows(path), (0, dict.fromkeys(COLUMNS)))[1])
    numbers = {column for column in columns if column == "probability" or column not in COLUMNS}
    schema = pyarrow.schema(
        [
            (column, pyarrow.float32() if column in numbers else pyarrow.string())
            for column in columns
        ]
    )
    rows = (
        {key: _utf8(value) if isinstance(value, str) else value for key, value in row.items()}
        for _, row in _rows(path)
    )
    with replacing(path) as beside, _parquet().ParquetWriter(beside, schema) as writer:
        while batch := list(itertools.islice(rows, 1000)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))
    journal.unlink()


def _utf8(text: str) -> str:
    return text.encode("utf-8", _ERRORS).decode("utf-8", "backslashreplace")


def _journal(path: str | Path) -> tuple[Path, str]:
    """The file rows are appended to, and its format."""
    path = Path(path)
    form = path.suffix.lower()
    if form not in FORMATS:
        raise ValueError(
            f"{path}: predictions are written as {', '.join(FORMATS)}; give the output one of these"
            " suffixes"
        )
    if form != ".parquet":
        return path, form
    _parquet()
    return path.with_name(path.name + ".partial"), ".jsonl"


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ValueError(
            'Parquet needs pyarrow, which is not installed; run: pip install "resnets[parquet]"'
        ) from None
    return pyarrow.parquet
