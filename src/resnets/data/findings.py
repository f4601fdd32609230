"""What is said of a folder of images: of its files, pairs, parts and classes, a line each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from resnets.data.duplicates import Pair
from resnets.data.sources import Found
from resnets.deep import DARK, Levels, decide_range
from resnets.kinds.sample import Finding, Sample
from resnets.listing import about_left_out, counted, images_left_out
from resnets.ranges import Range, word

FEW = 10  # images of a class below which its numbers mean little
MOST = 20  # classes that are named in a line
DULL = "nearly of one colour in it"
IMBALANCE = 10  # largest class over smallest, from which on it is said


@dataclass(frozen=True)
class Fact:
    """One file: its size in pixels, a hash of its content and what was noticed; `error` where it is
    unusable, `levels` where it has more than 8 bits a value."""

    width: int = 0
    height: int = 0
    digest: bytes = b""
    notes: tuple[str, ...] = ()
    error: str = ""
    thumbnail: np.ndarray | None = None
    levels: Levels | None = None


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
        text = f"no image has more than 8 bits; the range {word(wanted)} is kept for later ones"
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
        f" {most:.6g}; {word(chosen)} becomes black to white"
        f" ({'as given' if wanted else '--range'})"
    )
    outside = tuple(name for name, one in deep if one.low < low or one.high > high)
    dark = tuple(name for name, one in deep if 0 < one.span * DARK < high - low)
    findings = [Finding("note", text, tuple(names))]
    for about, what in ((outside, "with values outside of it, which are cut"), (dark, DULL)):
        if about:
            text = f"range {word(chosen)}: {counted(len(about), 'image')} {what} ({_files(about)})"
            findings.append(Finding("warning", text, about))
    return chosen, findings


def about_missing(found: Found, facts: Sequence[Fact]) -> list[Finding]:
    """A table of whose files none is there was moved away from them."""
    if not found.layout.startswith("table") or any(fact.error != "no such file" for fact in facts):
        return []
    first = found.samples[0]
    return [
        Finding(
            "error",
            f"not one of the files is there: {first.name} was looked for at {first.path}; names in"
            " a table are relative to the table's own folder: correct them, or move the table",
        )
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


def about_files(found: Found, facts: Sequence[Fact]) -> list[Finding]:
    """What is unusable, and what was done to the others, by reason."""
    findings = []
    for severity, prefix, texts in (
        ("warning", "unusable, skipped: ", [(fact.error,) if fact.error else () for fact in facts]),
        ("note", "", [fact.notes for fact in facts]),
    ):
        files: dict[str, list[str]] = {}
        for sample, reasons in zip(found.samples, texts, strict=True):
            for reason in reasons:
                files.setdefault(reason, []).append(sample.name)
        findings += [
            Finding(severity, f"{prefix}{reason} ({_files(names)})", tuple(names))
            for reason, names in files.items()
        ]
    return findings


def about_pairs(found: Found, pairs: Sequence[Pair]) -> list[Finding]:
    """Like images, by what they do to a measurement."""
    groups: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        a, b = found.samples[pair.first], found.samples[pair.second]
        if a.labels != b.labels:
            groups.setdefault(("warning", "alike, but of different classes"), []).append(
                f"{a.name} ~ {b.name} ({pair.kind})"
            )
        if a.split != b.split:
            parts = " and ".join(sorted((a.split, b.split)))
            groups.setdefault(
                ("warning", f"alike across {parts}: the measurement is too good"), []
            ).append(f"{a.name} ~ {b.name} ({pair.kind})")
        if a.labels == b.labels and a.split == b.split:
            groups.setdefault(
                ("note", "alike within a class; kept on one side of a split"), []
            ).append(f"{a.name} ~ {b.name} ({pair.kind})")
    return [
        Finding(
            severity, f"{len(names)} {'pair' if len(names) == 1 else 'pairs'} {text}", tuple(names)
        )
        for (severity, text), names in groups.items()
    ]


def about_split(samples: Sequence[Sample], classes: Sequence[str]) -> list[Finding]:
    """What is wrong with the classes of usable samples: as a whole, and in each part.

    Args:
        samples: With their parts, given or made; or without.
        classes: Names, of the training data.
    """
    parts: dict[str, Counter[str]] = {}
    for sample in samples:
        parts.setdefault(sample.split or "all", Counter()).update(sample.labels)
    training = parts.get("train", parts.get("all", Counter()))
    findings = []
    for part, counts in parts.items():
        unknown = sorted(set(counts) - set(training))
        if unknown and training:
            findings.append(
                Finding("error", f"classes in {part} that training data lack: {_names(unknown)}")
            )
        missing = sorted(set(classes) - set(counts))
        if missing and part != "all":
            about = [f"{name}{_why(name, samples)}" for name in missing]
            result = "" if part == "train" else ", so they are not measured there"
            findings.append(
                Finding(
                    "warning", f"classes without a usable image in {part}{result}: {_names(about)}"
                )
            )
    return findings + _about_training(training, parts)


def _why(label: str, samples: Sequence[Sample]) -> str:
    """Why a class could not be divided, where that was tried."""
    own = [sample for sample in samples if label in sample.labels and sample.split == "train"]
    if len(own) == 1:
        return " (1 image)"
    together = own and own[0].group and len({sample.group for sample in own}) == 1
    return f" ({counted(len(own), 'image')}, all alike or of one group)" if together else ""


def _about_training(training: Counter[str], parts: Collection[str]) -> list[Finding]:
    findings = []
    if not training:
        only = f"only for: {', '.join(sorted(parts))}" if parts else "no file could be read"
        findings.append(Finding("error", f"no usable image to train on, {only}"))
    elif len(training) == 1:
        findings.append(
            Finding(
                "error",
                f"one class only ({', '.join(training)}): at least two are needed to tell apart",
            )
        )
    few = sorted(label for label, count in training.items() if count < FEW)
    if few:
        findings.append(Finding("warning", f"fewer than {FEW} images for training: {_names(few)}"))
    if len(training) > 1 and max(training.values()) > IMBALANCE * min(training.values()):
        (most, n), (least, m) = training.most_common()[0], training.most_common()[-1]
        findings.append(
            Finding(
                "warning",
                f"imbalanced: {most} has {n} images, {least} has {m}; read the balanced accuracy",
            )
        )
    return findings


def _names(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - MOST} more" if len(classes) > MOST else ""
    return ", ".join(classes[:MOST]) + more


def _files(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
