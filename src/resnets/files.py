"""Writing files so that a crash or a full disk leaves the last good one, and so that two processes
do not write the same one.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end: readers see the old
    content or the new, never a part.

    Raises:
        OSError: It could not be written; what was there before is untouched, and nothing is left
            behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows as a CSV table: by default with the columns of the first; empty where a row has none."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a whole file through `replacing`; text as UTF-8, in which names of files that are not
    Unicode survive."""
    with replacing(path) as beside:
        beside.write_bytes(
            content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        )


class Locked(ValueError):
    """Another process, or another part of this one, holds the lock."""


@contextlib.contextmanager
def locked(path: Path, cure: str) -> Iterator[None]:
    """Holds the operating system's exclusive lock of a file while something is written.

    The lock ends with the process, whatever becomes of it. The empty file stays, unless its holder
    removes it: one who opened it before is then refused, since a third may lock a new file of its
    name.

    Args:
        path: The lock file, made where it is missing; beside what is protected, or in its folder.
        cure: What a person can do when it is held, for the message.

    Raises:
        Locked: It is held already. Nothing is waited for.
        OSError: The file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try_lock(descriptor) or not _still_there(descriptor, path):
            raise Locked(f"{path}: another process is at work on this; {cure}")
        yield
    finally:
        os.close(descriptor)  # which unlocks


def content_digest(path: Path) -> bytes:
    """16 bytes that tell whether a file, or a folder with the files in it, is still what it was.

    Raises:
        OSError: It cannot be read.
    """
    if path.is_dir():
        digest = hashlib.blake2b(digest_size=16)
        for one in sorted(inner for inner in path.iterdir() if inner.is_file()):
            digest.update(os.fsencode(one.name) + b"/" + content_digest(one))
        return digest.digest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks
            return True
        raise
    return True
