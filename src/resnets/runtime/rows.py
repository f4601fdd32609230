"""Predictions as rows of a table, and rows as lines of a file and back.

Names of files and classes are written as they are, whatever they contain: bytes that are not UTF-8
stay in CSV and are escaped in the others; control characters, and labels that a spreadsheet would
take for a formula (`=1+1`), are kept too. What a terminal is to show goes through
`screen.printable`.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from resnets.kinds import Kind
from resnets.kinds.prediction import Prediction

_ERRORS = sys.getfilesystemencodeerrors()
Row = dict[str, Any]
NUMBER, OF = "number", "of"  # columns of kinds with several rows an image


@dataclass(frozen=True)
class Columns:
    """The columns of a table of predictions.

    Args:
        own: Those of the kind of prediction, with their types; of a JSON object, `object`.
        classes: Names of the classes that get a column each, `p_NAME`.
    """

    own: Mapping[str, type]
    classes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        kind: Kind,
        classes: tuple[str, ...] = (),
        objects: bool = False,
        outputs: Collection[str] = (),
    ) -> Columns:
        """The columns for predictions of a kind.

        Args:
            kind: What is predicted.
            outputs: Names of those outputs of the graph that not every one has.
            classes: Names of the classes that get a column each.
            objects: Whether an image is one JSON object, whatever it holds, and not several rows.

        Raises:
            ValueError: A column for each class, of a kind that has no number for each.
        """
        if classes and kind.prediction.by_class is Prediction.by_class:
            raise ValueError(
                f"--probs: predictions of the task {kind.name} have no number for each class; leave"
                " it out"
            )
        keys = kind.prediction.keys if objects else ()
        further = {k: v for k, v in kind.prediction.further.items() if k in outputs}
        return cls(dict.fromkeys(keys, object) or {**kind.prediction.columns, **further}, classes)

    @property
    def types(self) -> dict[str, type]:
        """The type of each column, in order."""
        shares = {f"p_{name}": float for name in self.classes}
        return {"file": str, **self.own, "error": str, "notes": str, **shares}

    @property
    def beginning(self) -> list[str]:
        """The columns that every table of this kind has."""
        return list(Columns(self.own).types)

    def rows(self, prediction: Prediction) -> list[Row]:
        """The cells of a prediction by column; None where there is nothing to say."""
        more: Row = {"error": prediction.error, "notes": "; ".join(prediction.notes) or None}
        if self.classes:
            found = prediction.by_class()
            more |= {
                f"p_{name}": None if found is None else rounded(found[i])
                for i, name in enumerate(self.classes)
            }
        is_object = object in self.own.values()
        given = [prediction.to_dict()] if is_object else prediction.rows()
        return [
            {"file": prediction.file, **{name: _cell(row.get(name)) for name in self.own}, **more}
            for row in given
        ]


def _cell(value: Any) -> Any:
    """A value with all floats in it rounded."""
    if isinstance(value, dict):
        return {key: _cell(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_cell(one) for one in value]
    return rounded(value) if isinstance(value, float) else value


def is_last(row: Row) -> bool:
    """Whether a row is the last one of its image, where an image may have several: those before it
    are there without it only if they were cut off in a crash."""
    return OF not in row or str(row.get(NUMBER)) == str(row[OF])


def rounded(value: float) -> float | None:
    """With as few digits as give the same float32 again; None for what is not a number."""
    return None if math.isnan(value) else float(str(np.float32(value)))


def csv_line(cells: Iterable[Any]) -> bytes:
    """Cells as a line of CSV."""
    # By hand: csv.writer leaves a carriage return unquoted in some versions of Python, and
    # csv.reader then refuses it.
    texts = ["" if cell is None else str(cell) for cell in cells]
    quoted = (
        '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text for text in texts
    )
    return (",".join(quoted) + "\n").encode("utf-8", _ERRORS)


def json_line(row: Row) -> bytes:
    """A row as a line of JSON."""
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # bytes that are not UTF-8
        return json.dumps(row).encode() + b"\n"


def csv_lines(file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
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


def json_rows(file: IO[bytes]) -> Iterator[tuple[int, Row]]:
    """The row in each whole line, and the place in the file where it ends."""
    end = 0
    for line in file:
        if line.endswith(b"\n"):
            end += len(line)
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("file"), str):
                raise ValueError("a line without a file")
            yield end, row


def utf8(text: str) -> str:
    """A name with its bytes that are not UTF-8 escaped."""
    return text.encode("utf-8", _ERRORS).decode("utf-8", "backslashreplace")
