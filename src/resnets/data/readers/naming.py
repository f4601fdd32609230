"""Names that mean the same in every layout: of the parts of the data, and of classes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from resnets.imagenet import class_name
from resnets.settings import listed

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
NAMED = 5  # in a message, before the rest is counted


def read_labels(names: Iterable[str], where: Path) -> tuple[dict[str, str], list[str]]:
    """The class of each name, and a note where several names are one class.

    Args:
        names: As they stand in the data.
        where: The folder or table they are from, for messages.

    Raises:
        ValueError: A name is not UTF-8.
    """
    labels = {name: _label(name, where / name) for name in sorted(set(names))}
    spellings = Counter(labels.values())
    joined = [label for label, count in spellings.items() if count > 1]
    written = listed(joined, NAMED)
    notes = [f"read as one class, though its name is written in several ways: {written}"]
    return labels, notes if joined else []


def _label(name: str, where: Path) -> str:
    """The class that a name stands for: ImageNet's ids by their names, letters in one form of
    Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{where}: this name is not UTF-8, and classes are written by name into files; rename"
            " it"
        ) from None
    return unicodedata.normalize("NFC", class_name(name))
