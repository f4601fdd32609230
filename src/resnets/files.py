"""Writing files so that a crash or a full disk leaves the last good one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_file(path: Path, content: bytes | str) -> None:
    """Writes beside the file, flushes to the disk, and renames: readers see the old content or the new, never a part.

    Raises:
        OSError: It could not be written; what was there before is untouched, and nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
