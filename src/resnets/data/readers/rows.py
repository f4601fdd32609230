"""A CSV or TSV table to rows of text: a file, its label, and perhaps its split and group.

Whatever cannot be read names its own line and the cure.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from resnets.listing import IMAGE_SUFFIXES, suffix_of

FILE_COLUMNS = ("file_name", "filename", "file", "path", "image")
LABEL_COLUMNS = ("label", "class")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Row(NamedTuple):
    """One line of a table: where it begins, and its cells as they stand there."""

    line: int
    file: str
    label: str
    split: str = ""
    group: str = ""


class Header(NamedTuple):
    """How a table begins: its columns in lower case, what separates them, and the lines taken."""

    columns: list[str]
    delimiter: str
    lines: int

    def column(self, names: tuple[str, ...]) -> str | None:
        """The first of some names that is a column."""
        return next((name for name in names if name in self.columns), None)

    @property
    def usable(self) -> bool:
        """Whether there is a column of files and one of labels."""
        return bool(self.column(FILE_COLUMNS) and self.column(LABEL_COLUMNS))


def is_label_table(path: Path) -> bool:
    """Whether a table has a column of files and one of labels; another one may lie beside the
    images for any reason."""
    with _opened(path, "replace") as file:
        return _header(file, path).usable


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of a table, and what is to be said of how it was read.

    Raises:
        ValueError: It cannot be read as a table, or lacks a column or a cell.
    """
    with _opened(path, "strict") as file:
        try:
            header = _header(file, path)
            if not header.usable:
                raise ValueError(_unusable(path, header))
            rows = list(_rows(file, header, path))
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not UTF-8 text; save the table as UTF-8") from None
    if not rows:
        raise ValueError(f"{path}: the table has no lines below its header")
    usual = header.delimiter == _usual(path)
    notes = [] if usual else [f"{path.name}: separated by {DELIMITERS[header.delimiter]}"]
    return rows, notes


def _opened(path: Path, errors: str) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", errors=errors, newline="")
    except OSError as error:
        raise ValueError(f"{path}: the table cannot be read ({error.strerror})") from None


def _usual(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _header(file: TextIO, path: Path) -> Header:
    """The columns, separated by whatever gives usable ones; the file stands at the line behind."""
    lines, line = 0, ""
    for line in iter(lambda: file.readline(1 << 20), ""):
        lines += 1
        if line.strip() and not re.fullmatch(r"sep=.\s*", line):  # Excel's own first line
            break
    headers = []
    for delimiter in sorted(DELIMITERS, key=lambda one: one != _usual(path)):
        try:
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:  # longer than any header
            cells = []
        headers.append(Header([cell.strip().lower() for cell in cells], delimiter, lines))
    return next(
        (header for header in headers if header.usable),
        max(headers, key=lambda header: len(header.columns)),
    )


def _unusable(path: Path, header: Header) -> str:
    needed = "file_name and label are needed (split, group may follow)"
    if any(suffix_of(column) in IMAGE_SUFFIXES for column in header.columns):
        return (
            f"{path}: has no header, its first line is {', '.join(header.columns)}; write"
            f" file_name{header.delimiter}label above it: {needed}"
        )
    return f"{path}: columns are {', '.join(filter(None, header.columns)) or 'missing'}; {needed}"


def _rows(file: TextIO, header: Header, path: Path) -> Iterator[Row]:
    reader = csv.reader(file, delimiter=header.delimiter, skipinitialspace=True, strict=True)
    wanted = (header.column(FILE_COLUMNS), header.column(LABEL_COLUMNS), "split", "group")
    places = [header.columns.index(name) if name in header.columns else -1 for name in wanted]
    while True:
        line = header.lines + reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {line}: not a table with {DELIMITERS[header.delimiter]} ({error});"
                " mostly a quote that is opened there and not closed: close it, or remove it"
            ) from None
        if not any(cells):
            continue
        if any(cells[len(header.columns) :]):
            raise ValueError(
                f"{path}, line {line}: {len(cells)} cells for {len(header.columns)} columns; put"
                f' a text that holds {DELIMITERS[header.delimiter]} in quotes: "a,b.jpg"'
            )
        values = [cells[place] if 0 <= place < len(cells) else "" for place in places]
        if not values[0] or not values[1]:
            raise ValueError(
                f"{path}, line {line}: a file name and a label are needed in every line"
            )
        yield Row(line, *values)
