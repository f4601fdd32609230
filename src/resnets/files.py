"""Writing files so that a crash or a full disk leaves the last good one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a whole file through `replacing`; text as UTF-8, in which names of files that are not
    Unicode survive."""
    with replacing(path) as beside:
        beside.write_bytes(
            content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        )
