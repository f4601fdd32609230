"""A CSV or TSV table to rows of text: a file, its labels, and perhaps its split and group. Labels
are one cell (`cat`, `cat|dog`), or a column of 0 and 1 for each.

Whatever cannot be read names its own line and the cure.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from resnets.listing import IMAGE_SUFFIXES, suffix_of

FILE_COLUMNS = ("file_name", "filename", "file", "path", "image")
LABEL_COLUMNS = ("label", "class")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SIZE_COLUMNS = ("width", "height")
# Left, top, right, bottom, as several programs call them
BOX_COLUMNS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
BETWEEN = "|"  # labels in one cell
ONE_HOT = {"0": False, "1": True, "0.0": False, "1.0": True}


class Row(NamedTuple):
    """One line of a table: where it begins, and its cells as they stand there; of columns of 0 and
    1, the labels that it has, as one cell would name them."""

    line: int
    file: str
    label: str
    split: str = ""
    group: str = ""


class BoxRow(NamedTuple):
    """One line of a table of boxes: its cells as they stand there."""

    line: int
    file: str
    label: str
    split: str
    group: str
    box: tuple[str, ...]
    size: tuple[str, ...]


class Header(NamedTuple):
    """How a table begins: its columns in lower case and as they stand there, what separates them,
    and the lines taken."""

    columns: list[str]
    names: list[str]
    delimiter: str
    lines: int

    def column(self, names: tuple[str, ...]) -> str | None:
        """The first of some names that is a column."""
        return next((name for name in names if name in self.columns), None)

    @property
    def usable(self) -> bool:
        """Whether there is a column of files and one of labels."""
        return bool(self.column(FILE_COLUMNS) and self.column(LABEL_COLUMNS))

    @property
    def box(self) -> tuple[str, ...]:
        """The columns of left, top, right and bottom; none where it is no table of boxes."""
        return next((names for names in BOX_COLUMNS if set(names) <= set(self.columns)), ())

    @property
    def others(self) -> list[int]:
        """Places of the columns that are neither files nor splits nor groups: of one-hot labels,
        where no column is called label."""
        known = {self.column(FILE_COLUMNS), "split", "group"}
        return [place for place, name in enumerate(self.columns) if name and name not in known]

    def is_one_hot(self, line: str) -> bool:
        """Whether the first line below it has a 0 or a 1 for each label."""
        if self.usable or not self.column(FILE_COLUMNS) or not self.others:
            return False
        cells = next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=True), [])
        return len(cells) == len(self.columns) and all(
            cells[place].strip() in ONE_HOT for place in self.others
        )


class Table(NamedTuple):
    """A table as it was read: its rows, whether it has a column for each label and which, and what
    is to be said of how it was read."""

    rows: list[Row]
    one_hot: tuple[str, ...]
    notes: list[str]


def is_label_table(path: Path) -> bool:
    """Whether a table has a column of files and one of labels, or several of 0 and 1; another one
    may lie beside the images for any reason."""
    with _opened(path, "replace") as file:
        header = _header(file, path)
        one_hot = len(header.others) > 1 and header.is_one_hot(_peek(file))
        return not header.box and (header.usable or one_hot)


def is_box_table(path: Path) -> bool:
    """Whether a table has columns of files, labels and boxes."""
    with _opened(path, "replace") as file:
        header = _header(file, path)
        return header.usable and bool(header.box)


def read_box_rows(path: Path) -> list[BoxRow]:
    """The rows of a table of boxes.

    Raises:
        ValueError: It cannot be read as a table, or lacks a column or a cell.
    """
    with _opened(path, "strict") as text:
        try:
            header = _header(text, path)
            if not (header.usable and header.box):
                needed = "file_name, label, xmin, ymin, xmax and ymax are needed"
                columns = ", ".join(filter(None, header.columns)) or "missing"
                raise ValueError(f"{path}: columns are {columns}; {needed}")
            wanted = (*_usual_columns(header), *header.box, *SIZE_COLUMNS)
            rows = [
                BoxRow(line, file, label, split, group, tuple(numbers[:4]), tuple(numbers[4:]))
                for line, cells in _lines(text, header, path)
                for file, label, split, group, *numbers in (_chosen(cells, header, wanted),)
            ]
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not UTF-8 text; save the table as UTF-8") from None
    if not rows:
        raise ValueError(f"{path}: the table has no lines below its header")
    return rows


def read_rows(path: Path) -> Table:
    """The rows of a table.

    Raises:
        ValueError: It cannot be read as a table, or lacks a column or a cell.
    """
    with _opened(path, "strict") as file:
        try:
            header = _header(file, path)
            one_hot = header.is_one_hot(_peek(file))
            if not header.usable and not one_hot:
                raise ValueError(_unusable(path, header))
            rows = list(_rows(file, header, path))
        except UnicodeDecodeError:
            raise ValueError(f"{path}: not UTF-8 text; save the table as UTF-8") from None
    if not rows:
        raise ValueError(f"{path}: the table has no lines below its header")
    usual = header.delimiter == _usual(path)
    notes = [] if usual else [f"{path.name}: separated by {DELIMITERS[header.delimiter]}"]
    labels = tuple(header.names[place] for place in header.others) if one_hot else ()
    if twice := [name for name in labels if labels.count(name) > 1 or BETWEEN in name]:
        raise ValueError(
            f"{path}: the column {twice[0]} is there twice, or has a {BETWEEN} in its name; labels"
            " need different names without it"
        )
    return Table(rows, labels, notes)


def _peek(file: TextIO) -> str:
    """The next line that is not empty; the file stands where it stood."""
    place = file.tell()
    line = next((line for line in iter(lambda: file.readline(1 << 20), "") if line.strip()), "")
    file.seek(place)
    return line


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
        names = [cell.strip() for cell in cells]
        headers.append(Header([name.lower() for name in names], names, delimiter, lines))
    return next(
        (header for header in headers if header.usable or header.is_one_hot(_peek(file))),
        max(headers, key=lambda header: len(header.columns)),
    )


def _unusable(path: Path, header: Header) -> str:
    needed = (
        "file_name and label are needed (split, group may follow), or in place of label a column of"
        " 0 and 1 for each label"
    )
    if any(suffix_of(column) in IMAGE_SUFFIXES for column in header.columns):
        return (
            f"{path}: has no header, its first line is {', '.join(header.columns)}; write"
            f" file_name{header.delimiter}label above it: {needed}"
        )
    return f"{path}: columns are {', '.join(filter(None, header.columns)) or 'missing'}; {needed}"


def _usual_columns(header: Header) -> tuple[str | None, ...]:
    return header.column(FILE_COLUMNS), header.column(LABEL_COLUMNS), "split", "group"


def _rows(file: TextIO, header: Header, path: Path) -> Iterator[Row]:
    for line, cells in _lines(file, header, path):
        file_name, label, split, group = _chosen(cells, header, _usual_columns(header))
        if not header.usable:
            label = _hot(cells, header, f"{path}, line {line}")
        yield Row(line, file_name, label, split, group)


def _chosen(cells: list[str], header: Header, names: Sequence[str | None]) -> list[str]:
    """The cells of some columns; empty where there is no such column."""
    places = [header.columns.index(name) if name in header.columns else -1 for name in names]
    return [cells[place] if 0 <= place < len(cells) else "" for place in places]


def _lines(file: TextIO, header: Header, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line that is not empty."""
    reader = csv.reader(file, delimiter=header.delimiter, skipinitialspace=True, strict=True)
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
        if not _chosen(cells, header, [header.column(FILE_COLUMNS)])[0]:
            raise ValueError(f"{path}, line {line}: a file name is needed in every line")
        yield line, cells


def _hot(cells: list[str], header: Header, where: str) -> str:
    """The labels whose column has a 1, as one cell."""
    labels = []
    for place in header.others:
        cell = cells[place] if place < len(cells) else ""
        if cell not in ONE_HOT:
            raise ValueError(
                f"{where}: {header.names[place]} is {cell!r}; 0 or 1 is needed for each label"
            )
        if ONE_HOT[cell]:
            labels.append(header.names[place])
    return BETWEEN.join(labels)
