"""What is said of a folder of images: of its files, pairs, parts and classes, a line each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from resnets.data.duplicates import Pair
from resnets.data.readers import Found
from resnets.data.series import torn_series
from resnets.deep import DARK, Levels, decide_range
from resnets.images import TURNED
from resnets.kinds import Kind
from resnets.kinds.sample import Finding, Sample
from resnets.listing import about_left_out, counted, images_left_out
from resnets.ranges import Range, format_range
from resnets.settings import listed

UNUSABLE, PAIRS, SPLIT = "unusable", "pairs", "split"  # topics that code chooses findings by

FEW = 10  # images of a class below which its numbers mean little
MOST, FILES = 20, 3  # classes and files that are named in a line
TABLE_CURE = (
    "names in a table are relative to the table's own folder: correct them, or move the table"
)
DULL = "nearly of one colour in it"
IMBALANCE = 10  # largest class over smallest, from which on it is said
BALANCED = {"classes": "the balanced accuracy"}  # what a rare class is not lost in


@dataclass(frozen=True)
class Fact:
    """One file: its size in pixels, a hash of its content and what was noticed; `error` where it is
    unusable, `levels` where it has more than 8 bits a value, `seconds` of a video."""

    width: int = 0
    height: int = 0
    digest: bytes = b""
    notes: tuple[str, ...] = ()
    error: str = ""
    thumbnail: np.ndarray | None = None
    levels: Levels | None = None
    seconds: float = 0.0


def about_range(
    found: Found, facts: Sequence[Fact], wanted: Range | None
) -> tuple[Range | None, list[Finding]]:
    """The range of the images with more than 8 bits that may be trained on, and what is to be said
    of it."""
    deep = [
        (sample.name, fact.levels)
        for sample, fact in zip(found.samples, facts, strict=True)
        if fact.levels and sample.split in ("", "train")
    ]
    if not deep and wanted:
        kept = f"the range {format_range(wanted)} is kept for later ones"
        text = f"no image has more than 8 bits; {kept}"
        return wanted, [Finding("note", text)]
    if not deep:
        return None, []
    names, levels = [name for name, _ in deep], [one for _, one in deep]
    try:
        low, high = chosen = wanted or decide_range(levels, names)
    except ValueError as error:
        return None, [Finding("error", str(error), tuple(names))]
    least, most = min(one.low for one in levels), max(one.high for one in levels)
    text = (
        f"{counted(len(deep), 'image')} with more than 8 bits: values from {least:.6g} to"
        f" {most:.6g}; {format_range(chosen)} becomes black to white"
        f" ({'as given' if wanted else '--range'})"
    )
    outside = tuple(name for name, one in deep if one.low < low or one.high > high)
    dark = tuple(name for name, one in deep if 0 < one.span * DARK < high - low)
    findings = [Finding("note", text, tuple(names))]
    for about, what in ((outside, "with values outside of it, which are cut"), (dark, DULL)):
        if about:
            images = f"{counted(len(about), 'image')} {what} ({listed(about, FILES)})"
            findings.append(Finding("warning", f"range {format_range(chosen)}: {images}", about))
    return chosen, findings


def about_missing(found: Found, facts: Sequence[Fact]) -> list[Finding]:
    """Annotations of whose files none is there were moved away from them."""
    if not facts or any(fact.error != "no such file" for fact in facts):
        return []
    first = found.samples[0]
    cures = {"table": TABLE_CURE, "box_table": TABLE_CURE}
    cure = cures.get(found.reader, "put the images below the folder that is read")
    text = f"not one of the files is there: {first.name} was looked for at {first.path}; {cure}"
    return [Finding("error", text)]


def about_sizes(samples: Sequence[Sample], facts: Sequence[Fact]) -> list[Finding]:
    """Images that are of another size than their annotations say."""
    turned, other = dict[str, str](), dict[str, str]()
    for sample, fact in zip(samples, facts, strict=True):
        real = (fact.width, fact.height)
        if fact.error or sample.size in (None, real):
            continue
        width, height = sample.size
        text = f"{sample.name}: {width} x {height}, is {real[0]} x {real[1]}"
        (turned if sample.size == real[::-1] and TURNED in fact.notes else other)[sample.name] = (
            text
        )
    about = (
        (
            turned,
            "annotated lying on their side, as stored, but turned upright by their EXIF: boxes may"
            " be turned against the image; save the images upright, or annotate them again",
        ),
        (other, "of another size than their annotations say: boxes may be beside what they mean"),
    )
    return [
        Finding(
            "warning",
            f"{counted(len(named), 'image')} {text} ({listed(list(named.values()), FILES)})",
            tuple(named),
        )
        for named, text in about
        if named
    ]


def about_left_out_files(found: Found) -> list[Finding]:
    """What is not read as an image: a warning where images are among it."""
    if not found.left_out:
        return []
    severity = "warning" if images_left_out(found.left_out) else "note"
    return [Finding(severity, about_left_out(found.left_out))]


def about_names(classes: Sequence[str]) -> list[Finding]:
    """Classes that people would take for one."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(re.sub(r"[\s_-]+", " ", name).strip().casefold(), []).append(name)
    twins = ["; ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    return [
        Finding(
            "warning",
            f"classes whose names differ only in case, spaces or dashes: {names}; if they are one"
            " class, give them one name",
        )
        for names in twins
    ]


def about_files(samples: Sequence[Sample], facts: Sequence[Fact]) -> list[Finding]:
    """What is unusable, and what was done to the others, by reason."""
    errors = [(fact.error,) if fact.error else () for fact in facts]
    notes = [fact.notes for fact in facts]
    return [
        Finding(severity, f"{prefix}{reason} ({listed(names, FILES)})", names, topic)
        for severity, topic, prefix, reasons in (
            ("warning", UNUSABLE, "unusable, skipped: ", errors),
            ("note", "", "", notes),
        )
        for reason, names in _by_reason(samples, reasons).items()
    ]


def _by_reason(
    samples: Sequence[Sample], reasons: Sequence[tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Names of the samples that share a reason."""
    files: dict[str, list[str]] = {}
    for sample, own in zip(samples, reasons, strict=True):
        for reason in own:
            files.setdefault(reason, []).append(sample.name)
    return {reason: tuple(names) for reason, names in files.items()}


def about_pairs(samples: Sequence[Sample], pairs: Sequence[Pair]) -> list[Finding]:
    """Like images, by what they do to a measurement."""
    groups: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        a, b = samples[pair.first], samples[pair.second]
        placed = _shows_places(a) or _shows_places(b)
        same_classes = not differ(a, b)
        about = list[tuple[str, str]]()
        if not same_classes:
            about.append(("warning", "alike, but of different classes"))
        if a.split != b.split:
            parts = " and ".join(sorted((a.split, b.split)))
            about.append(("warning", f"alike across {parts}: the measurement is too good"))
        if same_classes and a.split == b.split:
            within = "" if placed else " within a class"
            about.append(("note", f"alike{within}; kept on one side of a split"))
        for one in about:
            groups.setdefault(one, []).append(f"{a.name} ~ {b.name} ({pair.kind})")
    return [
        Finding(severity, f"{counted(len(names), 'pair')} {text}", tuple(names), PAIRS)
        for (severity, text), names in groups.items()
    ]


def differ(a: Sample, b: Sample) -> bool:
    """Whether two like images are labelled differently. Of things with a place, some may have come
    or gone between them."""
    return not (_shows_places(a) or _shows_places(b)) and set(a.labels) != set(b.labels)


def _shows_places(sample: Sample) -> bool:
    return bool(sample.mask) or any(annotation.box for annotation in sample.annotations)


def about_split(samples: Sequence[Sample], classes: Sequence[str], kind: Kind) -> list[Finding]:
    """What is wrong with the classes of usable samples: as a whole, and in each part.

    Args:
        samples: With their parts, given or made; or without.
        classes: Names, of the training data.
        kind: Of task that they are for.
    """
    parts: dict[str, Counter[str]] = {}
    for sample in samples:
        parts.setdefault(sample.split or "all", Counter()).update(sample.unique_labels)
    training = parts.get("train", parts.get("all"))
    found = list[tuple[str, str]]()
    for part, counts in parts.items():
        unknown = sorted(set(counts) - set(training or ()))
        if unknown and training is not None:
            text = f"classes in {part} that training data lack: {listed(unknown, MOST)}"
            found.append(("error", text))
        missing = sorted(set(classes) - set(counts))
        if missing and part != "all":
            about = [f"{name}{_why(name, samples)}" for name in missing]
            result = "" if part == "train" else ", so they are not measured there"
            text = f"classes without a usable image in {part}{result}: {listed(about, MOST)}"
            found.append(("warning", text))
    if training is None:
        only = f"only for: {', '.join(sorted(parts))}" if parts else "no file could be read"
        found.append(("error", f"no usable image to train on, {only}"))
    else:
        found += _about_training(training, kind)
    return [Finding(severity, text, topic=SPLIT) for severity, text in found]


def about_series(samples: Sequence[Sample], given: Set[str]) -> list[Finding]:
    """Series of images that lie on both sides of a split.

    Args:
        samples: With their parts, as far as these are given or made; and their groups.
        given: The parts that the data name.
    """
    found = torn_series(samples)
    if found is None:
        return []
    group, names = found
    cures = []
    if given - {"", "train"}:
        cures.append("put each into one part of the data")
    if "val" not in given:
        cures.append(f"resnets train --group {group} keeps each on one side")
    text = (
        f"by their names, most images belong to {len(names):,} series ({listed(names, FILES)}), and"
        " a split comes between images of the same one: where a series shows one scene, person or"
        f" thing, the measurement is too good; {', and '.join(cures)}"
    )
    return [Finding("warning", text, topic=SPLIT)]


def _why(label: str, samples: Sequence[Sample]) -> str:
    """Why a class could not be divided, where that was tried."""
    own = [sample for sample in samples if label in sample.labels and sample.split == "train"]
    if len(own) == 1:
        return " (1 image)"
    together = own and own[0].group and len({sample.group for sample in own}) == 1
    return f" ({counted(len(own), 'image')}, all alike or of one group)" if together else ""


def _about_training(training: Counter[str], kind: Kind) -> list[tuple[str, str]]:
    """Severity and text of what is wrong with the classes to train on, with their images."""
    found = list[tuple[str, str]]()
    if not training:
        found.append(("error", "not one image to train on has a label"))
    elif len(training) < kind.fewest_classes:
        one = f"one class only ({', '.join(training)})"
        found.append(("error", f"{one}: at least two are needed to tell apart"))
    few = sorted(label for label, count in training.items() if count < FEW)
    if few:
        found.append(("warning", f"fewer than {FEW} images for training: {listed(few, MOST)}"))
    if len(training) > 1 and max(training.values()) > IMBALANCE * min(training.values()):
        (most, n), (least, m) = training.most_common()[0], training.most_common()[-1]
        advice = BALANCED.get(kind.name, "the numbers of each class")
        text = f"imbalanced: {most} has {n} images, {least} has {m}; read {advice}"
        found.append(("warning", text))
    return found
