"""The 1000 classes of ImageNet: WordNet ids and names. Folders and labels may use either."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files


@cache
def names_by_wnid() -> dict[str, str]:
    """WordNet id to name, in the order of the network's outputs; the four names that were not
    unique are told apart."""
    text = files("resnets").joinpath("imagenet_classes.tsv").read_text(encoding="utf-8")
    return {row["wnid"]: row["name"] for row in csv.DictReader(text.splitlines(), delimiter="\t")}


def class_name(label: str) -> str:
    """The name for a WordNet id (`n01440764` is `tench`); any other label is its own name."""
    looks_like_id = len(label) == 9 and label[0] == "n" and label[1:].isdigit()
    return names_by_wnid().get(label, label) if looks_like_id else label
