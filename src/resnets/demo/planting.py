"""Faults that are planted in a copy of images, to see which of them are found."""

from __future__ import annotations

import csv
import io
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from resnets.files import write_file

WRONG = 40  # labels
DUPLICATES = 2
COLUMNS = ("file_name", "fault", "true_class", "same_as")  # of the list of them


@dataclass(frozen=True)
class Planted:
    """What was planted, by names such as CLASS/IMAGE.jpg.

    Args:
        folder: The copy.
        wrong: Images that were moved into the folder of another class.
        truncated: An image whose end was cut off.
        duplicates: Images that were copied into the folder of another class: the copy, and the
            image itself.
        truths: The true class of what lies in the folder of another one.
    """

    folder: Path
    wrong: tuple[str, ...]
    truncated: str
    duplicates: tuple[tuple[str, str], ...]
    truths: dict[str, str]

    def truth(self, name: str) -> str:
        """The true class of an image."""
        return self.truths.get(name) or name.partition("/")[0]

    def to_csv(self) -> str:
        """The list, for people."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((name, "wrong label", self.truths[name], "") for name in self.wrong)
        table.writerows(
            (copy, "duplicate", self.truths[copy], name) for copy, name in self.duplicates
        )
        table.writerow((self.truncated, "truncated", self.truth(self.truncated), ""))
        return text.getvalue()


def plant_faults(source: Path, output: Path, seed: int = 0) -> Planted:
    """Copies class folders to `output`/photos and plants faults there; `output`/planted.csv lists
    them. An earlier copy is replaced.

    Raises:
        ValueError: `output` holds something that is not an earlier demonstration.
    """
    listed, photos = output / "planted.csv", output / "photos"
    if not listed.is_file() and output.is_dir() and any(output.iterdir()):
        raise ValueError(
            f"{output} is not empty and holds no earlier demonstration; name another folder (-o)"
        )
    classes = sorted(path.name for path in source.iterdir() if path.is_dir())
    names = sorted(
        f"{label}/{path.name}" for label in classes for path in (source / label).iterdir()
    )
    rng = random.Random(seed)
    chosen = rng.sample(names, WRONG + DUPLICATES + 1)
    moves = [(name, _elsewhere(name, classes, rng)) for name in chosen[:-1]]
    moved, copied, truncated = moves[:WRONG], moves[WRONG:], chosen[-1]
    planted = Planted(
        photos,
        tuple(sorted(new for _, new in moved)),
        truncated,
        tuple((new, name) for name, new in copied),
        {new: name.partition("/")[0] for name, new in moves},
    )
    output.mkdir(parents=True, exist_ok=True)
    write_file(listed, planted.to_csv())  # first: it says that what follows is ours
    if photos.is_dir():
        shutil.rmtree(photos)
    for label in classes:
        shutil.copytree(source / label, photos / label)
    for name, new in moved:
        (photos / name).rename(photos / new)
    for name, new in copied:
        shutil.copyfile(photos / name, photos / new)
    whole = (photos / truncated).read_bytes()
    (photos / truncated).write_bytes(whole[: len(whole) // 2])
    return planted


def _elsewhere(name: str, classes: list[str], rng: random.Random) -> str:
    """The name of an image in the folder of another class."""
    own, _, file = name.partition("/")
    return f"{rng.choice([label for label in classes if label != own])}/{file}"
