"""What a default run compares of long lists: a part of each, another part every week; `make test-all`
compares everything.

The order is that of a fixed hash of the name, and the week says where in it the part begins. So each
name has its turn, a run of the same week takes the same part, and RESNETS_TEST_WEEK repeats another.
"""

import os
import zlib
from collections.abc import Iterable
from datetime import date
from typing import Any

import pytest

WEEK = int(os.environ.get("RESNETS_TEST_WEEK") or date.today().toordinal() // 7)


def part(names: Iterable[str], one_in: int, week: int) -> set[str]:
    """One of so many names, at least one of as many as that."""
    ordered = sorted(names, key=lambda name: (zlib.crc32(name.encode()), name))
    return {name for place, name in enumerate(ordered) if (place + week) % one_in == 0}


def sampled(
    names: Iterable[str], one_in: int, always: Iterable[str] = (), week: int = WEEK
) -> list[Any]:
    """For `parametrize`: all names, of which the default run takes a part; the others are slow.

    Args:
        names: In the order in which they run.
        one_in: The part is one of so many.
        always: Names that every run takes.
        week: Whose part.
    """
    names = list(names)
    chosen = {*always, *part(names, one_in, week)}
    return [
        name if name in chosen else pytest.param(name, marks=pytest.mark.slow) for name in names
    ]
