"""Which pictures are held out. Virtual: nothing on the disk moves; the split used is written to
`split.csv`."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resnets.data.sources import Found, Sample, find_data
from resnets.imagenet import class_name

ENOUGH = 5000  # held-out pictures: then the 95 % interval of an accuracy of 90 % is +- 0.8 %


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int, part: str = "val"
) -> list[Sample]:
    """Moves a fraction of the samples to another part: stratified by class, whole groups together,
    seeded.

    Groups are visited in random order, large ones first, and each goes where it brings the classes
    nearer to the fraction.

    Args:
        samples: All of one part.
        fraction: Of each class, what is held out; at least one picture of a class that has two
            groups.
        seed: Fixes the choice.
        part: The new part's name.

    Returns:
        The samples in their order, each with `part` or `train` as its split.
    """
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group or f"\0{index}", []).append(index)
    total = Counter(sample.label for sample in samples)
    target = {
        label: max(1.0, round(fraction * count)) if count > 1 else 0.0
        for label, count in total.items()
    }
    held: Counter[str] = Counter()
    chosen: set[int] = set()
    order = list(groups.values())
    np.random.default_rng(seed).shuffle(order)
    for members in sorted(order, key=len, reverse=True):
        added = Counter(samples[index].label for index in members)
        gain = sum(
            (abs(held[c] - target[c]) - abs(held[c] + n - target[c])) / max(1.0, target[c])
            for c, n in added.items()
        )
        leaves_training = all(held[c] + n < total[c] for c, n in added.items())
        if gain > 0 and leaves_training:
            held.update(added)
            chosen.update(members)
    for members in sorted(
        order, key=len
    ):  # a class whose groups are all too large for its share: its smallest one
        added = Counter(samples[index].label for index in members)
        if any(target[c] and not held[c] for c in added) and all(
            held[c] + n < total[c] for c, n in added.items()
        ):
            held.update(added)
            chosen.update(members)
    return [
        replace(sample, split=part if index in chosen else "train")
        for index, sample in enumerate(samples)
    ]


def complete_splits(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], str]:
    """Every sample gets a part, where the data do not say: validation pictures are held out of the
    training pictures.

    Returns:
        The samples, and in words how they were split.
    """
    parts = {sample.split for sample in samples}
    if "val" in parts:
        return list(samples), "as the data say"
    training = [sample for sample in samples if sample.split in ("", "train")]
    fraction = min(fraction, ENOUGH / len(training)) if training else fraction
    others = [sample for sample in samples if sample.split not in ("", "train")]
    words = f"{fraction:.1%} of each class held out for validation (seed {seed})"
    if any(sample.group for sample in training):
        words += ", groups kept together"
    return (
        sorted(hold_out(training, fraction, seed) + others, key=lambda sample: sample.name),
        words,
    )


def class_indices(samples: Sequence[Sample], classes: Sequence[str]) -> np.ndarray:
    """(n,) place of each sample's class among the model's, by name; never by the order of folders.

    Raises:
        ValueError: A class that the model does not know.
    """
    place = {  # letters in one form of Unicode, as `find_data` gives labels
        unicodedata.normalize("NFC", class_name(name)): number
        for number, name in enumerate(classes)
    }
    unknown = sorted({sample.label for sample in samples} - set(place))
    if unknown:
        raise ValueError(
            f"classes the model does not know: {', '.join(unknown[:5])}; it knows:"
            f" {', '.join(list(place)[:12])}"
        )
    return np.array([place[sample.label] for sample in samples], np.int64)


def samples_to_measure(source: str | Path, split: str | None) -> tuple[Found, list[Sample], str]:
    """The samples of one part of the data: the part asked for, else test, else val, else all there
    are.

    Raises:
        ValueError: No such part.
    """
    found = find_data(source)
    parts = {sample.split for sample in found.samples}
    if split is None:
        split = next((part for part in ("test", "val", "") if part in parts), "train")
    if split not in parts:
        there = (
            ", ".join(sorted(parts - {""})) or "no parts; leave out --split to measure on all of it"
        )
        raise ValueError(f"{source} has no part {split!r}; it has {there}")
    return found, [sample for sample in found.samples if sample.split == split], split or "all"


def split_csv(samples: Sequence[Sample]) -> str:
    """The table of a split: file_name, label, split, group."""
    text = io.StringIO()
    table = csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL
    )  # else a carriage return in a name goes unquoted
    table.writerow(("file_name", "label", "split", "group", "path"))
    table.writerows(
        (sample.name, sample.label, sample.split, sample.group, sample.path.absolute())
        for sample in samples
    )
    return text.getvalue()


def read_split(path: Path) -> list[Sample]:
    """The samples of a `split.csv` again, in its order."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [
            Sample(Path(row["path"]), row["file_name"], row["label"], row["split"], row["group"])
            for row in csv.DictReader(file)
        ]
