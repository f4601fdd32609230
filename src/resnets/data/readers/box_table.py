"""A table of boxes: a CSV or TSV file with the columns file_name, xmin, ymin, xmax, ymax and label,
a line for each box; and perhaps split, group, and width and height of the image."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

from resnets.data.readers.lookup import finish, split_of_file
from resnets.data.readers.naming import SPLIT_NAMES
from resnets.data.readers.reader import Found, Reader, Source
from resnets.data.readers.rows import BoxRow, is_box_table, read_box_rows
from resnets.data.readers.table import TABLES, Names
from resnets.kinds.sample import Annotation, Sample
from resnets.listing import counted
from resnets.settings import listed, nearest

BOX_TABLES = ("boxes.csv", "annotations.csv", "_annotations.csv", *TABLES)  # in a folder


def matches(source: Source) -> bool:
    """Whether a file is a table of boxes, or a folder has one, or one for each part."""
    return bool(_tables(source))


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; pixels are counted from the edge of the image, 0. A line without a label and
    without a box says that its image shows none.

    Raises:
        ValueError: A table cannot be read, or a line of it.
    """
    root = source if source.path.is_dir() else Source(source.path.parent)
    tables = _tables(source)
    samples, remarks = list[Sample](), list[str]()
    for name in tables:
        names = Names((root.path / name).parent)
        by_file: dict[str, list[BoxRow]] = {}
        for row in read_box_rows(root.path / name):
            by_file.setdefault(os.path.normpath(names.find(row.file)), []).append(row)
        remarks += [f"{counted(count, 'name')} {one}" for one, count in names.remarks.items()]
        folder = PurePosixPath(name).parent
        samples += [
            _sample(root.path / name, root.path, str(folder / file), rows)
            for file, rows in by_file.items()
        ]
    found = Found(
        layout=f"table of boxes {listed(tables)}",
        samples=tuple(samples),
        kind="boxes",
        reader=BOX_TABLE.name,
        notes=tuple(remarks),
    )
    return finish(found, source, set(tables))


def _tables(source: Source) -> list[str]:
    """The tables of boxes, by their names in the folder."""
    path = source.path
    if not path.is_dir():
        wanted = path.suffix.lower() in (".csv", ".tsv") and is_box_table(path)
        return [path.name] if wanted else []
    return [
        name
        for name in source.contents.others
        if name.rpartition("/")[2] in BOX_TABLES
        and (name.count("/") == 0 or (name.count("/") == 1 and split_of_file(name)))
        and is_box_table(path / name)
    ]


def _sample(table: Path, root: Path, name: str, rows: list[BoxRow]) -> Sample:
    """One image, with all lines about it."""
    first = rows[0]
    for row in rows:
        if row.split and row.split.lower() not in SPLIT_NAMES:
            raise ValueError(
                f"{table}, line {row.line}: split {row.split!r};"
                f" {nearest(row.split.lower(), SPLIT_NAMES)}"
            )
        if (row.split, row.group) != (first.split, first.group):
            raise ValueError(
                f"{table}, line {row.line}: {row.file} has another split or group than in line"
                f" {first.line}; an image has one of each"
            )
    split = SPLIT_NAMES.get(first.split.lower(), "") or split_of_file(name)
    annotations = tuple(one for row in rows for one in _annotations(row, table))
    sizes = {row.size for row in rows if all(cell.isdigit() for cell in row.size)}
    width, height = map(int, sizes.pop()) if len(sizes) == 1 else (0, 0)
    size = (width, height) if width and height else None
    return Sample(root / name, name, annotations, split, first.group, size=size)


def _annotations(row: BoxRow, table: Path) -> list[Annotation]:
    """The box of a line, or none."""
    if not row.label and not any(row.box):
        return []
    try:
        left, top, right, bottom = map(float, row.box)
    except ValueError:
        left = top = right = bottom = math.nan
    if not row.label or not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError(
            f"{table}, line {row.line}: label {row.label!r} and box {', '.join(row.box)}; a label"
            " and four numbers are needed, or none of them where an image shows nothing"
        )
    return [Annotation(row.label, (left, top, right, bottom))]


BOX_TABLE = Reader(
    name="box_table",
    kinds=("boxes",),
    expects="a table with the columns file_name, xmin, ymin, xmax, ymax and label",
    matches=matches,
    read=read,
)
