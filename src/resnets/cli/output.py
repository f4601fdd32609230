"""What verbs share: JSON on stdout."""

from __future__ import annotations

import json
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
