"""What verbs share: JSON on stdout, and the end of a program that nobody reads."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def print_json(values: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal without the letters, or a file name that is not UTF-8
        text = json.dumps(values)
    sys.stdout.write(text + "\n")


def open_streams() -> None:
    """Puts the null device in the place of a stream that was closed before the start, so that
    nobody has to ask whether it is there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def flush_streams() -> bool:
    """Writes out what is buffered. Whether somebody still read it: a reader such as `head` may have
    gone, and then Python would complain once more when it ends."""
    read = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            read = False
            _close(stream)
    return read


def _close(stream: Any) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)
