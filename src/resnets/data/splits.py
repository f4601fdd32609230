"""Which images are held out. Virtual: nothing on the disk moves; the split used is written to
`split.csv`."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resnets.data.readers import Found
from resnets.data.sources import find_data
from resnets.files import content_digest
from resnets.kinds.classes import ground_truth, known_labels
from resnets.kinds.sample import Annotation, Sample, annotate

COLUMNS = ("file_name", "label", "split", "group", "path")  # of split.csv
# Further ones: the second only where some samples have not just one plain label, the last two only
# where some have masks
DIGEST, ANNOTATIONS, MASK, MASK_DIGEST = "digest", "annotations", "mask", "mask_digest"
CURE = "restore the file as the run wrote it, or train anew"
NO_LABEL = ""  # no class is called so
NAMES = 5  # files named in a message
ENOUGH = 5000  # held-out images: then the 95 % interval of an accuracy of 90 % is +- 0.8 %


def hold_out(
    samples: Sequence[Sample], fraction: float, seed: int, part: str = "val"
) -> list[Sample]:
    """Moves a fraction of the samples to another part: stratified by class, whole groups together,
    seeded. An image counts for each class that it shows; those that show none are like a class.

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
    strata = [sample.unique_labels or (NO_LABEL,) for sample in samples]
    total = Counter(stratum for own in strata for stratum in own)
    target = {
        stratum: max(1.0, round(fraction * count)) if count > 1 else 0.0
        for stratum, count in total.items()
    }
    held: Counter[str] = Counter()
    chosen: set[int] = set()
    order = list(groups.values())
    np.random.default_rng(seed).shuffle(order)
    for members in sorted(order, key=len, reverse=True):
        added = Counter(stratum for index in members for stratum in strata[index])
        gain = sum(
            (abs(held[c] - target[c]) - abs(held[c] + n - target[c])) / max(1.0, target[c])
            for c, n in added.items()
        )
        leaves_training = all(held[c] + n < total[c] for c, n in added.items())
        if gain > 0 and leaves_training:
            held.update(added)
            chosen.update(members)
    # a class whose groups are all too large for its share: its smallest one
    for members in sorted(order, key=len):
        added = Counter(stratum for index in members for stratum in strata[index])
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
        The samples, and a text on how they were split.
    """
    parts = {sample.split for sample in samples}
    if "val" in parts:
        return list(samples), "as the data say"
    training = [sample for sample in samples if sample.split in ("", "train")]
    fraction = min(fraction, ENOUGH / len(training)) if training else fraction
    others = [sample for sample in samples if sample.split not in ("", "train")]
    how = f"{fraction:.1%} of each class held out for validation (seed {seed})"
    if any(sample.group for sample in training):
        how += ", groups kept together"
    return (
        sorted(hold_out(training, fraction, seed) + others, key=lambda sample: sample.name),
        how,
    )


def thin_out(samples: Sequence[Sample], share: float, fewest: int) -> list[Sample]:
    """A share of the samples of each class in each part of the data, spread over all of them.

    Args:
        samples: With their parts.
        share: Of them, 0 to 1.
        fewest: That are left of a class in a part, if there are so many.
    """
    alike: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for place, sample in enumerate(samples):
        label = sample.labels if len(sample.labels) == 1 else ()
        alike.setdefault((sample.split, label), []).append(place)
    kept: set[int] = set()
    for places in alike.values():
        count = min(len(places), max(fewest, round(share * len(places))))
        kept.update(places[at] for at in np.linspace(0, len(places) - 1, count).round().astype(int))
    return [sample for place, sample in enumerate(samples) if place in kept]


def refuse_unknown_classes(samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Labels are compared with the classes of a model by name; never by the order of folders.

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
    """(n,) place of each sample's class among the model's; each has one.

    Raises:
        ValueError: A class that the model does not know.
    """
    refuse_unknown_classes(samples, classes)
    truths = (ground_truth([sample], tuple(classes))[0] for sample in samples)
    return np.array([truth.index for truth in truths], np.int64)


def samples_to_measure(
    source: str | Path, split: str | None, kind: str | None = None
) -> tuple[Found, list[Sample], str]:
    """The samples of one part of the data: the part asked for, else test, else val, else all there
    are; with annotations for a kind of task.

    Raises:
        ValueError: No such part, or no such annotations.
    """
    found = find_data(source, kind=kind)
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


def split_csv(samples: Sequence[Sample], digests: Mapping[Path, str] | None = None) -> str:
    """The table of a split: file_name, label, split, group, path, and what the content of each file
    was (`content_digest`, in hexadecimal); where some have not just one plain label, also their
    annotations in JSON; where some have masks, these and the digests of their content."""
    plain = all(sample.annotations == annotate("|".join(sample.labels)) for sample in samples)
    masks = any(sample.mask for sample in samples)
    text = io.StringIO()
    # else a carriage return in a name goes unquoted
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    more = [*([] if plain else [ANNOTATIONS]), *([MASK, MASK_DIGEST] if masks else [])]
    table.writerow((*COLUMNS, DIGEST, *more))
    for sample in samples:
        label = "|".join(sample.labels)
        own = (sample.name, label, sample.split, sample.group, sample.path.absolute())
        values = [annotation.to_dict() for annotation in sample.annotations]
        cells = {ANNOTATIONS: json.dumps(values, ensure_ascii=False), MASK: "", MASK_DIGEST: ""}
        if sample.mask:
            cells[MASK] = str(sample.mask.absolute())
            cells[MASK_DIGEST] = (digests and _digest(sample.mask)) or ""
        digest = (digests or {}).get(sample.path, "")
        table.writerow((*own, digest, *(cells[name] for name in more)))
    return text.getvalue()


def read_split(path: Path) -> list[Sample]:
    """The samples of a `split.csv` again, in its order.

    Raises:
        ValueError: Not such a table.
    """
    return [_sample(row, path) for row in _rows(path)]


def check_split(path: Path, progress: Callable[[int], None] = lambda done: None) -> None:
    """Compares the files that a `split.csv` names with what they were when it was written, as far
    as it says.

    Raises:
        ValueError: Some are missing or have changed; the message has their names.
    """
    missing, changed = [], []
    for done, row in enumerate(_rows(path), 1):
        for file, known in ((row["path"], row.get(DIGEST)), (row.get(MASK), row.get(MASK_DIGEST))):
            if not file:
                continue
            digest = _digest(Path(file))
            if digest is None:
                missing.append(file)
            elif known not in (None, "", digest):  # older tables have no such column
                changed.append(file)
        progress(done)
    problems = [
        f"{len(files):,} {problem}: {', '.join(files[:NAMES])}"
        + (f" and {len(files) - NAMES:,} more" if len(files) > NAMES else "")
        for problem, files in (("missing or unreadable", missing), ("changed", changed))
        if files
    ]
    if problems:
        raise ValueError(
            f"{path}: the run began with other images. {'; '.join(problems)}. Put them back as they"
            " were, or train anew into another folder"
        )


def _digest(path: Path) -> str | None:
    try:
        # a pipe would never end
        return content_digest(path).hex() if path.is_file() or path.is_dir() else None
    except OSError:
        return None


def _sample(row: dict[str, str], path: Path) -> Sample:
    try:
        annotations = _annotations(row)
    except ValueError as error:
        raise ValueError(
            f"{path}, {row['file_name']}: {ANNOTATIONS} that cannot be read ({error}); {CURE}"
        ) from None
    mask = Path(row[MASK]) if row.get(MASK) else None
    own = (row["file_name"], annotations, row["split"], row["group"])
    return Sample(Path(row["path"]), *own, mask=mask)


def _annotations(row: dict[str, str]) -> tuple[Annotation, ...]:
    if ANNOTATIONS not in row:
        return annotate(row["label"])
    values = json.loads(row[ANNOTATIONS])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("not a list of objects in JSON")
    return tuple(map(Annotation.from_dict, values))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if lacking := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
                raise ValueError(f"{path}: no column {', '.join(lacking)}; {CURE}")
            rows = []
            for row in table:
                known = row["split"] in ("", "train", "val", "test")
                if None in row or None in row.values() or not known or not row["path"]:
                    raise ValueError(
                        f"{path}, line {table.line_num}: not a row of {', '.join(COLUMNS)} with"
                        f" train, val or test as its split; {CURE}"
                    )
                rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as a table ({error}); {CURE}") from None
    except OSError as error:
        raise ValueError(f"{path}: not readable ({error.strerror}); {CURE}") from None
    if not rows:
        raise ValueError(f"{path}: names no images; {CURE}")
    return rows
