"""Which images are held out. Virtual: nothing on the disk moves; the split used is written to
`split.csv`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resnets.data.sources import Found, find_data
from resnets.files import content_digest
from resnets.kinds.classes import known_labels, place_of
from resnets.kinds.sample import Sample, annotate

DIGEST = "digest"  # a column of split.csv
NAMES = 5  # files named in a message
ENOUGH = 5000  # held-out images: then the 95 % interval of an accuracy of 90 % is +- 0.8 %


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int, part: str = "val"
) -> list[Sample]:
    """Moves a fraction of the samples to another part: stratified by class, whole groups together,
    seeded.

    Groups are visited in random order, large ones first, and each goes where it brings the classes
    nearer to the fraction.

    Args:
        samples: All of one part.
        fraction: Of each class, what is held out; at least one image of a class that has two
            groups.
        seed: Fixes the choice.
        part: The new part's name.

    Returns:
        The samples in their order, each with `part` or `train` as its split.
    """
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group or f"\0{index}", []).append(index)
    total = Counter(label for sample in samples for label in sample.labels)
    target = {
        label: max(1.0, round(fraction * count)) if count > 1 else 0.0
        for label, count in total.items()
    }
    held: Counter[str] = Counter()
    chosen: set[int] = set()
    order = list(groups.values())
    np.random.default_rng(seed).shuffle(order)
    for members in sorted(order, key=len, reverse=True):
        added = Counter(label for index in members for label in samples[index].labels)
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
        added = Counter(label for index in members for label in samples[index].labels)
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
    """Every sample gets a part, where the data do not say: validation images are held out of the
    training images.

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


def refuse_unknown_classes(samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Makes sure that a model knows all labels of some samples.

    Raises:
        ValueError: A class that the model does not know.
    """
    names = tuple(classes)
    unknown = sorted({label for one in samples for label in one.labels} - set(known_labels(names)))
    if unknown:
        raise ValueError(
            f"classes the model does not know: {', '.join(unknown[:5])}; it knows:"
            f" {', '.join(names[:12])}"
        )


def class_indices(samples: Sequence[Sample], classes: Sequence[str]) -> np.ndarray:
    """(n,) place of each sample's class among the model's, by name; never by the order of folders.

    Raises:
        ValueError: A class that the model does not know.
    """
    refuse_unknown_classes(samples, classes)
    return np.array([place_of(sample.labels[0], tuple(classes)) for sample in samples], np.int64)


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
            ", ".join(sorted(parts - {""}))
            or "no splits; leave out --split to evaluate on all of it"
        )
        raise ValueError(f"{source} has no split {split!r}; it has {there}")
    return found, [sample for sample in found.samples if sample.split == split], split or "all"


COLUMNS = ("file_name", "label", "split", "group", "path")


def split_csv(samples: Sequence[Sample], digests: Mapping[Path, str] | None = None) -> str:
    """The table of a split: file_name, label, split, group, path, and what the content of each file
    was (`content_digest`, in hexadecimal)."""
    text = io.StringIO()
    # else a carriage return in a name goes unquoted
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow((*COLUMNS, DIGEST))
    for sample in samples:
        label = "|".join(sample.labels)
        own = (sample.name, label, sample.split, sample.group, sample.path.absolute())
        table.writerow((*own, (digests or {}).get(sample.path, "")))
    return text.getvalue()


def read_split(path: Path) -> list[Sample]:
    """The samples of a `split.csv` again, in its order.

    Raises:
        ValueError: Not such a table.
    """
    return [_sample(row) for row in _rows(path)]


def check_split(path: Path, progress: Callable[[int], None] = lambda done: None) -> None:
    """Compares the files that a `split.csv` names with what they were when it was written, as far
    as it says.

    Raises:
        ValueError: Some are missing or have changed; the message has their names.
    """
    missing, changed = [], []
    for done, row in enumerate(_rows(path), 1):
        digest = _digest(Path(row["path"]))
        if digest is None:
            missing.append(row["path"])
        elif row.get(DIGEST) not in (None, "", digest):  # older tables have no such column
            changed.append(row["path"])
        progress(done)
    told = [
        f"{len(files):,} {words}: {', '.join(files[:NAMES])}"
        + (f" and {len(files) - NAMES:,} more" if len(files) > NAMES else "")
        for words, files in (("missing or unreadable", missing), ("changed", changed))
        if files
    ]
    if told:
        raise ValueError(
            f"{path}: the run began with other images. {'; '.join(told)}. Put them back as they"
            " were, or train anew into another folder"
        )


def _digest(path: Path) -> str | None:
    try:
        return content_digest(path).hex() if path.is_file() else None  # a pipe would never end
    except OSError:
        return None


def _sample(row: dict[str, str]) -> Sample:
    label = annotate(row["label"])
    return Sample(Path(row["path"]), row["file_name"], label, row["split"], row["group"])


def _rows(path: Path) -> list[dict[str, str]]:
    cure = "restore the file as the run wrote it, or train anew"
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if lacking := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
                raise ValueError(f"{path}: no column {', '.join(lacking)}; {cure}")
            rows = []
            for row in table:
                known = row["split"] in ("", "train", "val", "test")
                if None in row or None in row.values() or not known or not row["path"]:
                    raise ValueError(
                        f"{path}, line {table.line_num}: not a row of {', '.join(COLUMNS)} with"
                        f" train, val or test as its split; {cure}"
                    )
                rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as a table ({error}); {cure}") from None
    except OSError as error:
        raise ValueError(f"{path}: not readable ({error.strerror}); {cure}") from None
    if not rows:
        raise ValueError(f"{path}: names no images; {cure}")
    return rows
