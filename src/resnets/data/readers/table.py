"""A table of labels: a CSV or TSV file with the columns file_name and label, and perhaps split and
group."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

from resnets.data.readers.naming import SPLIT_NAMES, read_labels
from resnets.data.readers.reader import Found, Reader, Source
from resnets.data.readers.rows import Row, is_label_table, read_rows
from resnets.kinds.sample import Sample, annotate
from resnets.listing import IMAGE_SUFFIXES, counted, suffix_of
from resnets.settings import nearest

TABLES = ("labels.csv", "labels.tsv", "metadata.csv", "metadata.tsv")  # in a folder


def tables_in(source: Source) -> list[Path]:
    """The files in a folder that are called like tables of labels."""
    return [source.path / name for name in TABLES if (source.path / name).is_file()]


def matches(source: Source) -> bool:
    """Whether a file is a table, or a folder has a table of labels."""
    if source.path.is_dir():
        return any(map(is_label_table, tables_in(source)))
    return source.path.suffix.lower() in (".csv", ".tsv")


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; each line gives one label.

    Raises:
        ValueError: The table cannot be read, or a line of it.
    """
    path = _table(source)
    rows, notes = read_rows(path)
    labels, joined = read_labels((row.label for row in rows), path)
    names = Names(path.parent)
    first_rows = _first_rows(rows, names, path)
    samples = [
        Sample(
            path.parent / name,
            name,
            annotate(labels[row.label]),
            SPLIT_NAMES.get(row.split.lower(), ""),
            row.group,
        )
        for name, row in first_rows.items()
    ]
    if 0 < sum(not sample.split for sample in samples) < len(samples):
        raise ValueError(
            f"{path}: some lines have a split and some have none; give it in all of them, or drop"
            " the column"
        )
    notes += [
        *joined,
        *(f"{counted(count, 'name')} {remark}" for remark, count in names.remarks.items()),
    ]
    repeated = len(rows) - len(samples)
    notes += [f"left out: {counted(repeated, 'line')} repeating another"] if repeated else []
    ordered = tuple(sorted(samples, key=lambda sample: sample.name))
    return Found(f"table {path.name}", ordered, "classes", TABLE.name, tuple(notes))


def _table(source: Source) -> Path:
    """The table itself: of a folder the first that has labels, else the one that was meant."""
    if not source.path.is_dir():
        return source.path
    tables = tables_in(source)
    return next(filter(is_label_table, tables), tables[0])


def _first_rows(rows: list[Row], names: Names, path: Path) -> dict[str, Row]:
    """The row of each file, by its name on the disk; a file may be there again with the same."""
    found, seen = dict[str, Row](), dict[str, Row]()
    for row in rows:
        if row.split and row.split.lower() not in SPLIT_NAMES:
            raise ValueError(
                f"{path}, line {row.line}: split {row.split!r};"
                f" {nearest(row.split.lower(), SPLIT_NAMES)}"
            )
        name = names.find(row.file)
        first = seen.setdefault(os.path.normpath(name), row)
        if first is row:
            found[name] = row
        elif first[2:] != row[2:]:
            raise ValueError(
                f"{path}, line {row.line}: {row.file} is {', '.join(filter(None, row[2:]))},"
                f" and in line {first.line} it is {', '.join(filter(None, first[2:]))}; a file"
                " has one label and one split"
            )
    return found


class Names:
    """The files below a folder by what a table may call them: as they are, with backslashes, in
    another form of Unicode, or without a suffix.

    Args:
        root: What names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, dict[str, str]] = {}
        self.remarks: Counter[str] = Counter()

    def find(self, name: str) -> str:
        """The name as it lies on the disk; as it was given where nothing of the kind is there."""
        for candidate in dict.fromkeys((name, name.replace("\\", "/"))):
            folder, slash, last = candidate.rpartition("/")
            names = self._listed(folder + slash)
            if there := names.get(last) or names.get(unicodedata.normalize("NFC", last)):
                if candidate != name:
                    self.remarks["with backslashes, read as slashes"] += 1
                if suffix_of(there) != suffix_of(last):
                    self.remarks["without a suffix, found with one"] += 1
                return folder + slash + there
        return name

    def _listed(self, folder: str) -> dict[str, str]:
        if folder not in self._folders:
            try:
                names = sorted(os.listdir(self._root / folder))  # noqa: PTH208
            except (OSError, ValueError):  # missing, or a name that no folder can have
                names = []
            images = [name for name in names if suffix_of(name) in IMAGE_SUFFIXES]
            stems = Counter(name.rpartition(".")[0] for name in images)
            alone = {stem: name for name in images if stems[stem := name.rpartition(".")[0]] == 1}
            whole = {unicodedata.normalize("NFC", name): name for name in names}
            self._folders[folder] = alone | whole | {name: name for name in names}
        return self._folders[folder]


TABLE = Reader(
    name="table",
    kinds=("classes",),
    expects="labels.csv with the columns file_name and label",
    matches=matches,
    read=read,
)
