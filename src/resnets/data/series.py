"""Images that belong together by the names of their files: frames of one video, slices of one
patient, photos of one day.

Where a split is drawn by image, such a series lies on both of its sides, and what is measured is in
part how well a network knows again what it has seen.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import median_low

from resnets.kinds.sample import Sample
from resnets.listing import counted
from resnets.settings import listed

# What the names of a series have in common, the fewest and longest series first
NAMED = {
    "folder": r"([^/]+)/[^/]+$",
    "first": r"(?:^|/)([^/_ -]+)[_ -][^/]*$",
    "second": r"(?:^|/)([^/_ -]+[_ -]+[^/_ -]+)[_ -][^/]*$",
    "last": r"(?:^|/)([^/]+)[_ -][^/]*$",
}
SUFFIX = re.compile(r"\.[^./]*$")
FEWEST = 5  # series of a class: fewer are its own name, or that of a camera
MOST = 0.5  # of the images: what is torn apart below it does little to a measurement
SHOWN = 3  # names in a message


def parse_group(group: str) -> re.Pattern[str]:
    """What finds the series of a file in its name: a row of `NAMED`, or a regular expression.

    Raises:
        ValueError: It is neither.
    """
    try:
        return re.compile(NAMED.get(group, group))
    except re.error as error:
        raise ValueError(
            f"group={group!r} is no regular expression ({error}); allowed: one, or"
            f" {listed(list(NAMED))}"
        ) from None


def group_by_name(samples: Sequence[Sample], group: str) -> list[Sample]:
    """The samples, grouped by what their names have in common; where that is not found, as they
    were.

    Args:
        samples: Of one set of data.
        group: A row of `NAMED`, or a regular expression that is searched for in the name without
            its suffix; its first group tells the series, or all of it where it has none.

    Raises:
        ValueError: It is neither, or found in no name.
    """
    found = _series(samples, parse_group(group))
    if not any(found):
        names = listed([sample.name for sample in samples], SHOWN)
        raise ValueError(
            f"group={group!r} is found in none of the names of {counted(len(samples), 'file')}"
            f" ({names}); choose another, or leave it out"
        )
    return [
        replace(sample, group=series or sample.group)
        for sample, series in zip(samples, found, strict=True)
    ]


def torn_series(samples: Sequence[Sample]) -> tuple[str, list[str]] | None:
    """Series that most images are of, and that a split parts.

    Args:
        samples: With their groups and, where these are given or made, their parts.

    Returns:
        The row of `NAMED` that finds them, and their names, the longest series first; None where
        names tell of no series, or these stay whole.
    """
    labels = _labels(samples)
    divided = any(sample.split == "val" for sample in samples)
    for group, pattern in NAMED.items():
        members = defaultdict[str, list[Sample]](list)
        for sample, series in zip(samples, _series(samples, re.compile(pattern)), strict=True):
            members[series].append(sample)
        members.pop("", None)
        of_class = Counter(label for own in members.values() for label in _labels(own))
        if not labels or median_low(of_class[label] for label in labels) < FEWEST:
            continue
        torn = [series for series, own in members.items() if _is_torn(own, divided)]
        if sum(len(members[series]) for series in torn) > MOST * len(samples):
            return group, sorted(torn, key=lambda series: (-len(members[series]), series))
    return None


def _series(samples: Sequence[Sample], pattern: re.Pattern[str]) -> list[str]:
    """What a pattern finds in each name; empty where it finds nothing."""
    found = (pattern.search(SUFFIX.sub("", sample.name)) for sample in samples)
    return [(one[min(1, pattern.groups)] or "") if one else "" for one in found]


def _labels(samples: Sequence[Sample]) -> set[str]:
    return {label for sample in samples for label in sample.unique_labels}


def _is_torn(members: Sequence[Sample], divided: bool) -> bool:
    """Whether images of one series are in training and beside it, or would be by chance.

    One image of each class is no series: numbers often begin anew with each class.
    """
    of_class = Counter(label for sample in members for label in sample.unique_labels)
    if max(of_class.values(), default=0) < 2:
        return False
    parts = {sample.split or "train" for sample in members}
    if parts == {"train"} and not divided:
        groups = {sample.group for sample in members}
        return len(groups) > 1 or "" in groups
    return len(parts) > 1 and "train" in parts
