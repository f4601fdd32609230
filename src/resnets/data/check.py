"""What is wrong with a folder of images, before any time is spent on training with it.

One pass decodes every file to its end, so that truncated ones are found; JPEG at reduced scale,
which is several times faster.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from PIL import Image

from resnets.clip import open_video, read_clip
from resnets.data.duplicates import THUMBNAIL, Pair, find_pairs, thumbnail
from resnets.data.findings import (
    SPLIT,
    Fact,
    about_files,
    about_left_out_files,
    about_missing,
    about_names,
    about_pairs,
    about_range,
    about_series,
    about_sizes,
    about_split,
    differ,
)
from resnets.data.readers import Found
from resnets.deep import NoValues, judge, measure, remarks
from resnets.files import content_digest
from resnets.images import BadImage, is_deep, open_raw, to_mode
from resnets.kinds import KINDS, Kind
from resnets.kinds.sample import Finding, Sample
from resnets.ranges import Range, parse_range

MOST_PAIRS = 60  # of images that look alike, shown with their pictures


@dataclass(frozen=True)
class Check:
    """The result: a fact for each sample, pairs of like images, findings in order of severity,
    and the range of images with more than 8 bits, where there are any or it was given."""

    found: Found
    facts: tuple[Fact, ...]
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    deep_range: Range | None = None

    def findings_after(self, samples: Sequence[Sample]) -> tuple[Finding, ...]:
        """The findings, once the samples have their parts: what is said of given parts is said of
        those that were made."""
        kept = [finding for finding in self.findings if finding.topic != SPLIT]
        kind = KINDS[self.found.kind]
        split = about_split(samples, self.found.classes, kind)
        return _in_order([*kept, *split, *about_series(samples, _parts(self.found))])

    def usable(self) -> list[Sample]:
        """The samples that can be decoded; like images share a group, so that no split comes
        between them."""
        groups = _join_groups(self.found.samples, self.pairs)
        pairs = zip(self.found.samples, self.facts, groups, strict=True)
        return [replace(sample, group=group) for sample, fact, group in pairs if not fact.error]

    def shown_pairs(self) -> list[tuple[str, str, str]]:
        """Names of images that look alike, and how; those that are labelled differently first, and
        no more than anybody looks at."""
        named = []
        for pair in self.pairs:
            a, b = self.found.samples[pair.first], self.found.samples[pair.second]
            named.append((not differ(a, b), (a.name, b.name, pair.kind)))
        return [names for _, names in sorted(named, key=itemgetter(0))[:MOST_PAIRS]]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        sizes = np.array(
            [(fact.width, fact.height) for fact in self.facts if not fact.error]
        ).reshape(-1, 2)
        return {
            "layout": self.found.layout,
            "format": self.found.reader,
            "kind": self.found.kind,
            "classes": list(self.found.classes),
            "pictures": len(self.facts),
            "unusable": sum(bool(fact.error) for fact in self.facts),
            "counts": {
                split: dict(sorted(counts.items())) for split, counts in self.found.counts().items()
            },
            "left_out": dict(sorted(self.found.left_out.items())),
            "deep_range": list(self.deep_range) if self.deep_range else None,
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


def check_images(
    found: Found,
    progress: Callable[[int], None] = lambda done: None,
    workers: int | None = None,
    deep_range: str = "auto",
) -> Check:
    """Decodes every image and looks for what would spoil training or its measurement.

    Args:
        found: The samples.
        progress: Called with the number of images done.
        workers: Threads; by default one a core.
        deep_range: Of images with more than 8 bits: the values that become black and white, as
            LOW-HIGH; `auto`: measured over the training data.
    """
    wanted = parse_range(deep_range)
    facts = look_at(found.samples, progress, workers, KINDS[found.kind])
    pairs = _pairs(facts)
    chosen, of_range = about_range(found, facts, wanted)
    facts = [replace(fact, thumbnail=None) for fact in facts]
    check = Check(found, tuple(facts), tuple(pairs), (), chosen)
    usable, kind = check.usable(), KINDS[found.kind]
    sizes = [(fact.width, fact.height) for fact in facts if not fact.error]
    findings = [
        *about_files(found.samples, facts),
        *about_missing(found, facts),
        *about_sizes(found.samples, facts),
        *found.findings,
        *of_range,
        *kind.check(usable, sizes),
        *about_pairs(found.samples, pairs),
        *about_split(usable, found.classes, kind),
        *about_series(usable, _parts(found)),
        *about_names(found.classes),
        *about_left_out_files(found),
        *(Finding("note", note) for note in found.notes),
    ]
    return replace(check, findings=_in_order(findings))


def _parts(found: Found) -> set[str]:
    return {sample.split for sample in found.samples}


def look_at(
    samples: Sequence[Sample],
    progress: Callable[[int], None] = lambda done: None,
    workers: int | None = None,
    kind: Kind | None = None,
) -> list[Fact]:
    """Decodes every image; of videos the first and the last one.

    Args:
        samples: Where they lie.
        progress: Called with the number of images done.
        workers: Threads; by default one a core.
        kind: What they are annotated for; by default something of images.

    Returns:
        A fact for each sample.
    """
    facts = []
    look = _look_at_video if kind and kind.takes == "clip" else _look
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, fact in enumerate(pool.map(look, samples), 1):
            facts.append(fact)
            progress(done)
    return facts


def _pairs(facts: Sequence[Fact]) -> list[Pair]:
    """Like images among those that are usable, by their places among all."""
    usable = [place for place, fact in enumerate(facts) if not fact.error]
    small = [fact.thumbnail for fact in facts if fact.thumbnail is not None]
    thumbnails = np.stack(small) if small else np.zeros((0, *THUMBNAIL[::-1]), np.uint8)
    return [
        Pair(usable[pair.first], usable[pair.second], pair.kind)
        for pair in find_pairs([facts[place].digest for place in usable], thumbnails)
    ]


def _in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    order = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.severity]))


def _look(sample: Sample) -> Fact:
    try:
        image, notes, size = open_raw(sample.path, short_side=64)
        levels = measure(np.asarray(image)) if is_deep(image) else None
        ignored = list[str]()  # of one image's range; it is decided over all of them
        small = thumbnail(to_mode(image, 3, 255, ignored if levels else notes))
        digest = content_digest(sample.path)
    except (BadImage, NoValues, OSError) as error:
        return Fact(error=str(error))
    if levels:
        notes += remarks(levels, judge([levels]), 65535)
    return Fact(*size, digest, tuple(notes), thumbnail=small, levels=levels)


def _look_at_video(sample: Sample) -> Fact:
    """Like videos begin and end alike: their thumbnail is that of the first image beside the
    last."""
    try:
        with open_video(sample.path) as video:
            first, last = read_clip(video, np.array([0.0, video.seconds]))
            both = Image.new("RGB", (2 * first.width, first.height))
            both.paste(first, (0, 0))
            both.paste(last, (first.width, 0))
            notes = tuple(video.notes)
            digest = content_digest(sample.path)
        return Fact(*video.size, digest, notes, thumbnail=thumbnail(both), seconds=video.seconds)
    except (BadImage, OSError) as error:
        return Fact(error=str(error))


def _join_groups(samples: Sequence[Sample], pairs: Sequence[Pair]) -> list[str]:
    """Group names in which like images, and all that is grouped with either, share one."""
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


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not len(values):
        return (np.zeros(2, int),) * 3
    return values.min(0), np.median(values, 0).astype(int), values.max(0)
