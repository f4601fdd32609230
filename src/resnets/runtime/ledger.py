"""Which files are to be predicted, each real file once, and which have a row already."""

from __future__ import annotations

import functools
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_TABLES = """
pragma journal_mode = off;
create table files (
    file blob primary key, path blob, size integer, modified integer, state integer
) without rowid;
create index paths on files (path);
create table planned (number integer primary key, path blob unique, file blob);
"""
_NO_ROW, _OUTDATED, _REPLACED, _CURRENT = range(4)  # what becomes of the row of a file


@dataclass(frozen=True)
class Stamp:
    """What an image file looked like when it was predicted.

    Args:
        path: Its real path: the same whatever the working folder, and through links.
        size: In bytes; None for a file that cannot be looked at.
        modified: When its content was last changed, in nanoseconds; None as for `size`.
    """

    path: str
    size: int | None
    modified: int | None


class Ledger:
    """The files of one prediction run.

    They are held in a temporary database, which SQLite moves to the disk beyond 2 MB: a million
    files take no memory.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(_TABLES)
        self._real_folder = functools.lru_cache(1024)(os.path.realpath)
        self.finished = 0  # planned files whose row is current
        self.outdated = 0  # planned files whose row will be replaced

    def stamp(self, file: str) -> Stamp:
        """The state of a file now."""
        path = self._real(file)
        try:
            found = os.stat(path)  # noqa: PTH116 - a Path for each of a million files takes longer
        except (OSError, ValueError):
            return Stamp(path, None, None)
        return Stamp(path, found.st_size, found.st_mtime_ns)

    def add_stamp(self, file: str, stamp: Stamp) -> None:
        """Notes how a file looked when it was predicted; what is noted last counts."""
        values = (os.fsencode(file), os.fsencode(stamp.path), stamp.size, stamp.modified, _NO_ROW)
        self._database.execute("insert or replace into files values (?, ?, ?, ?, ?)", values)

    def add_row(self, file: str, failed: bool) -> None:
        """Notes that a file has a row; the row is current if it has no error and the file has not
        changed since."""
        query = "select path, size, modified from files where file = ?"
        found = self._database.execute(query, [os.fsencode(file)]).fetchone()
        if found is None:  # its stamp was lost in a power failure
            self.add_stamp(file, Stamp(self._real(file), None, None))
            failed = True
        else:
            then = Stamp(os.fsdecode(found[0]), *found[1:])
            failed = failed or self.stamp(then.path) != then
        self._set_state(file, _OUTDATED if failed else _CURRENT)

    def plan(self, files: Iterable[str]) -> int:
        """Adds files to those that are to be predicted, unless they are there under another name
        or have a current row.

        Returns:
            How many were added.

        Raises:
            ValueError: The row of another file has the same name.
        """
        added = 0
        for file in files:
            path = self._real(file)
            query = "insert or ignore into planned (path, file) values (?, ?)"
            values = (os.fsencode(path), os.fsencode(file))
            if not self._database.execute(query, values).rowcount:
                continue
            self._refuse_namesake(file, path)
            query = "select file, state from files where path = ? and state > 0"
            named, state = self._database.execute(query, values[:1]).fetchone() or (b"", _NO_ROW)
            if state == _CURRENT:
                # kept with an empty name, so that another name of the same file is not counted
                self._database.execute("update planned set file = null where path = ?", values[:1])
                self.finished += 1
                continue
            if state == _OUTDATED:
                self._set_state(os.fsdecode(named), _REPLACED)
                self.outdated += 1
            added += 1
        return added

    def planned(self) -> Iterator[str]:
        """The files that are to be predicted, as they were named and in that order."""
        query = "select file from planned where file is not null order by number"
        for (file,) in self._database.execute(query):
            yield os.fsdecode(file)

    def stays(self, file: str) -> bool:
        """Whether the row of a file is kept."""
        query = "select state from files where file = ?"
        (state,) = self._database.execute(query, [os.fsencode(file)]).fetchone()
        return bool(state != _REPLACED)

    def _refuse_namesake(self, file: str, path: str) -> None:
        query = "select path from files where file = ? and state > 0"
        found = self._database.execute(query, [os.fsencode(file)]).fetchone()
        if found is not None and os.fsdecode(found[0]) != path:
            raise ValueError(
                f"{file}: the output has a row of this name for another file,"
                f" {os.fsdecode(found[0])}; name another output, or give the full path"
            )

    def _set_state(self, file: str, state: int) -> None:
        query = "update files set state = ? where file = ?"
        self._database.execute(query, (state, os.fsencode(file)))

    def _real(self, file: str) -> str:
        if "\0" in file:  # in a damaged output; no file has such a name
            return file
        folder, name = os.path.split(file)
        path = os.path.join(self._real_folder(folder), name)  # noqa: PTH118
        if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114
            path = os.path.realpath(path)
        return os.path.normcase(path)
