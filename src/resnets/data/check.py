"""What is wrong with a folder of pictures, before any time is spent on training with it.

One pass decodes every file to its end, so that truncated ones are found; JPEG at reduced scale,
which is several times faster.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnets.data.duplicates import THUMBNAIL, Pair, find_pairs, thumbnail
from resnets.data.sources import Found, Sample
from resnets.files import content_digest
from resnets.preprocessing import BadImage, open_image

FEW = 10  # pictures of a class below which its numbers mean little
IMBALANCE = 10  # largest class over smallest, from which on it is said


@dataclass(frozen=True)
class Fact:
    """One file: its size in pixels, a hash of its content and what was noticed; `error` where it is
    unusable."""

    width: int = 0
    height: int = 0
    digest: bytes = b""
    notes: tuple[str, ...] = ()
    error: str = ""
    thumbnail: np.ndarray | None = None


@dataclass(frozen=True)
class Finding:
    """One line of what was found: `error`, `warning` or `note`, a text, and the files it is
    about."""

    severity: str
    text: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """The result: a fact for each sample, pairs of like pictures, and findings in order of
    severity."""

    found: Found
    facts: tuple[Fact, ...]
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]

    def usable(self) -> list[Sample]:
        """The samples that can be decoded; like pictures share a group, so that no split comes
        between them."""
        groups = _join_groups(self.found.samples, self.pairs)
        pairs = zip(self.found.samples, self.facts, groups, strict=True)
        return [replace(sample, group=group) for sample, fact, group in pairs if not fact.error]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        sizes = np.array(
            [(fact.width, fact.height) for fact in self.facts if not fact.error]
        ).reshape(-1, 2)
        return {
            "layout": self.found.layout,
            "classes": list(self.found.classes),
            "pictures": len(self.facts),
            "unusable": sum(bool(fact.error) for fact in self.facts),
            "counts": {
                split: dict(sorted(counts.items())) for split, counts in self.found.counts().items()
            },
            "size": {
                name: values.tolist()
                for name, values in zip(("min", "median", "max"), _spread(sizes), strict=True)
            },
            "pairs": [
                {
                    "kind": pair.kind,
                    "files": [
                        self.found.samples[pair.first].name,
                        self.found.samples[pair.second].name,
                    ],
                }
                for pair in self.pairs
            ],
            "findings": [
                {"severity": f.severity, "text": f.text, "files": list(f.files)}
                for f in self.findings
            ],
        }


def check_pictures(
    found: Found,
    progress: Callable[[int], None] = lambda done: None,
    workers: int | None = None,
) -> Check:
    """Decodes every picture and looks for what would spoil training or its measurement.

    Args:
        found: The samples.
        progress: Called with the number of pictures done.
        workers: Threads; by default one a core.
    """
    facts = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, fact in enumerate(pool.map(_look, found.samples), 1):
            facts.append(fact)
            progress(done)
    usable = [place for place, fact in enumerate(facts) if not fact.error]
    small = [fact.thumbnail for fact in facts if fact.thumbnail is not None]
    thumbnails = np.stack(small) if small else np.zeros((0, *THUMBNAIL[::-1]), np.uint8)
    pairs = [
        Pair(usable[pair.first], usable[pair.second], pair.kind)
        for pair in find_pairs([facts[place].digest for place in usable], thumbnails)
    ]
    findings = [
        *_about_files(found, facts),
        *_about_pairs(found, pairs),
        *_about_classes(found, facts),
    ]
    findings += [Finding("note", note) for note in found.notes]
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: order[finding.severity])
    return Check(
        found, tuple(replace(fact, thumbnail=None) for fact in facts), tuple(pairs), tuple(findings)
    )


def _look(sample: Sample) -> Fact:
    try:
        image, notes, size = open_image(sample.path, short_side=64)
        digest = content_digest(sample.path)
    except (BadImage, OSError) as error:
        return Fact(error=str(error))
    return Fact(*size, digest, tuple(notes), thumbnail=thumbnail(image))


def _about_files(found: Found, facts: Sequence[Fact]) -> list[Finding]:
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


def _about_pairs(found: Found, pairs: Sequence[Pair]) -> list[Finding]:
    groups: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        a, b = found.samples[pair.first], found.samples[pair.second]
        if a.label != b.label:
            groups.setdefault(("warning", "alike, but of different classes"), []).append(
                f"{a.name} ~ {b.name} ({pair.kind})"
            )
        if a.split != b.split:
            parts = " and ".join(sorted((a.split, b.split)))
            groups.setdefault(
                ("warning", f"alike across {parts}: the measurement is too good"), []
            ).append(f"{a.name} ~ {b.name} ({pair.kind})")
        if a.label == b.label and a.split == b.split:
            groups.setdefault(
                ("note", "alike within a class; kept on one side of a split"), []
            ).append(f"{a.name} ~ {b.name} ({pair.kind})")
    return [
        Finding(
            severity, f"{len(names)} {'pair' if len(names) == 1 else 'pairs'} {text}", tuple(names)
        )
        for (severity, text), names in groups.items()
    ]


def _about_classes(found: Found, facts: Sequence[Fact]) -> list[Finding]:
    usable: dict[str, Counter[str]] = {}
    for sample, fact in zip(found.samples, facts, strict=True):
        if not fact.error:
            usable.setdefault(sample.split or "all", Counter())[sample.label] += 1
    training = usable.get("train", usable.get("all", Counter()))
    findings = []
    for split, counts in usable.items():
        unknown = sorted(set(counts) - set(training))
        if unknown and training:
            findings.append(
                Finding(
                    "error", f"classes in {split} that training data lack: {', '.join(unknown)}"
                )
            )
        missing = sorted(set(found.classes) - set(counts))
        if missing and split != "all":
            findings.append(
                Finding(
                    "warning", f"classes without a usable picture in {split}: {', '.join(missing)}"
                )
            )
    if not training:
        findings.append(
            Finding(
                "error",
                "no usable picture to train on, only for:"
                f" {', '.join(sorted(usable)) or 'nothing'}",
            )
        )
    elif len(training) == 1:
        findings.append(
            Finding(
                "error",
                f"one class only ({', '.join(training)}): at least two are needed to tell apart",
            )
        )
    few = sorted(label for label, count in training.items() if count < FEW)
    if few:
        findings.append(
            Finding("warning", f"fewer than {FEW} pictures for training: {', '.join(few)}")
        )
    if len(training) > 1 and max(training.values()) > IMBALANCE * min(training.values()):
        (most, n), (least, m) = training.most_common()[0], training.most_common()[-1]
        findings.append(
            Finding(
                "warning",
                f"imbalanced: {most} has {n} pictures, {least} has {m}; read the balanced accuracy",
            )
        )
    return findings


def _join_groups(samples: Sequence[Sample], pairs: Sequence[Pair]) -> list[str]:
    """Group names in which like pictures, and all that is grouped with either, share one."""
    parent = list(range(len(samples)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    first_of: dict[str, int] = {}
    links = [(pair.first, pair.second) for pair in pairs]
    links += [
        (first_of.setdefault(sample.group, place), place)
        for place, sample in enumerate(samples)
        if sample.group
    ]
    for a, b in links:
        parent[max(root(a), root(b))] = min(root(a), root(b))
    sizes = Counter(root(place) for place in range(len(samples)))
    heads = (samples[root(place)] for place in range(len(samples)))
    return [
        (head.group or head.name) if sizes[root(place)] > 1 else samples[place].group
        for place, head in enumerate(heads)
    ]


def _files(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not len(values):
        return (np.zeros(2, int),) * 3
    return values.min(0), np.median(values, 0).astype(int), values.max(0)
