"""A table of labels: a CSV or TSV file with the columns file_name and label, and perhaps split and
group. Where a line has several labels, `a|b`, images may have any number of them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnets.data.readers.naming import SPLIT_NAMES, read_labels
from resnets.data.readers.reader import Found, Reader, Source
from resnets.data.readers.rows import BETWEEN, Row, Table, is_box_table, is_label_table, read_rows
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
    suffix = source.path.suffix.lower()
    return suffix in (".csv", ".tsv") and not is_box_table(source.path)


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; images have one label each, or any number of them where a line has several.

    Raises:
        ValueError: The table cannot be read, or a line of it.
    """
    path = _table(source)
    table = read_rows(path)
    several = kind == "labels" or (kind is None and _has_several(table))
    own = [_labels_of(row, several, bool(table.one_hot), path) for row in table.rows]
    labels, joined = read_labels((name for names in own for name in names), path)
    names = Names(path.parent)
    found = _by_file(table.rows, own, names, path, together=kind == "labels")
    samples = [
        Sample(
            path.parent / name,
            name,
            annotate(*dict.fromkeys(labels[label] for label in own_labels)),
            SPLIT_NAMES.get(row.split.lower(), ""),
            row.group,
        )
        for name, (row, own_labels) in found.items()
    ]
    if 0 < sum(not sample.split for sample in samples) < len(samples):
        raise ValueError(
            f"{path}: some lines have a split and some have none; give it in all of them, or drop"
            " the column"
        )
    notes = [
        *table.notes,
        *_about_labels(table, own if several else None, labels),
        *joined,
        *(f"{counted(count, 'name')} {remark}" for remark, count in names.remarks.items()),
    ]
    repeated = len(table.rows) - len(samples)
    verb = "joined" if kind == "labels" else "left out"
    notes += [f"{verb}: {counted(repeated, 'line')} repeating another"] if repeated else []
    ordered = tuple(sorted(samples, key=lambda sample: sample.name))
    given = "labels" if several else "classes"
    return Found(f"table {path.name}", ordered, given, TABLE.name, tuple(notes))


def _has_several(table: Table) -> bool:
    """Whether some line has several labels, or of one-hot columns none."""
    return any(BETWEEN in row.label or (table.one_hot and not row.label) for row in table.rows)


def _labels_of(row: Row, several: bool, one_hot: bool, path: Path) -> tuple[str, ...]:
    """The labels in a row, as they stand there."""
    if several:
        return tuple(filter(None, map(str.strip, row.label.split(BETWEEN))))
    if not row.label:
        raise ValueError(
            f"{path}, line {row.line}: a file name and a label are needed in every line; if images"
            " may have several labels or none: --task labels"
        )
    if one_hot and BETWEEN in row.label:
        names = row.label.replace(BETWEEN, ", ")
        raise ValueError(
            f"{path}, line {row.line}: {row.file} is {names}; one label is needed in every line; if"
            " images may have several labels or none: --task labels"
        )
    return (row.label,)


def _about_labels(
    table: Table, several: Sequence[tuple[str, ...]] | None, labels: Mapping[str, str]
) -> list[str]:
    """What is to be said of labels that are read as one (None) or as several for an image."""
    if several is not None:
        many = sum(len(set(own)) > 1 for own in several)
        text = f"images may have any number of labels: {counted(many, 'line')} of"
        notes = [f"{text} {len(table.rows):,} {'has' if many == 1 else 'have'} more than one"]
        if missing := [name for name in table.one_hot if name not in labels]:
            notes.append(f"left out, since no line has them: {', '.join(missing)}")
        return notes
    if table.one_hot:
        return ["every line has one label, read as classes; else: --task labels"]
    return []


def _table(source: Source) -> Path:
    """The table itself: of a folder the first that has labels, else the one that was meant."""
    if not source.path.is_dir():
        return source.path
    tables = tables_in(source)
    return next(filter(is_label_table, tables), tables[0])


def _by_file(
    rows: list[Row], labels: list[tuple[str, ...]], names: Names, path: Path, together: bool
) -> dict[str, tuple[Row, tuple[str, ...]]]:
    """The row and the labels of each file, by its name on the disk. A file may be there again with
    the same, and where labels are put together with others."""
    found = dict[str, tuple[Row, tuple[str, ...]]]()
    spelled = dict[str, str]()
    for row, own in zip(rows, labels, strict=True):
        if row.split and row.split.lower() not in SPLIT_NAMES:
            raise ValueError(
                f"{path}, line {row.line}: split {row.split!r};"
                f" {nearest(row.split.lower(), SPLIT_NAMES)}"
            )
        place = names.find(row.file)
        name = spelled.setdefault(os.path.normpath(place), place)
        if name not in found:
            found[name] = (row, own)
            continue
        first, before = found[name]
        compared = (first[3:], row[3:]) if together else (first[2:], row[2:])
        if compared[0] != compared[1]:
            raise ValueError(
                f"{path}, line {row.line}: {row.file} is {', '.join(filter(None, row[2:]))},"
                f" and in line {first.line} it is {', '.join(filter(None, first[2:]))}; a file"
                " has one label and one split; if images may have several labels: --task labels"
            )
        found[name] = (first, (*before, *own) if together else before)
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
    kinds=("classes", "labels"),
    expects="labels.csv with the columns file_name and label",
    matches=matches,
    read=read,
)
