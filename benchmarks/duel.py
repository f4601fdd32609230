"""Ours against what a user would take instead: the same data, split, first weights and minutes.

    python benchmarks/duel.py bccd/BCCD --task boxes --weights resnet18.pth --minutes 10 --seeds 3
    python benchmarks/duel.py camvid --task mask --weights resnet18.pth --minutes 30 --seeds 1
    python benchmarks/duel.py bccd/BCCD --task boxes --only ours-scratch ultralytics-scratch
    python benchmarks/duel.py photos/ --task classes --weights resnet18.safetensors --minutes 2
    python benchmarks/duel.py eurosat/ --task classes --train 2000 --test 2000 --minutes 5

Every contender is a program of its own in benchmarks/duelists/: it gets a folder, the data as JSON
and its minutes, reading, validation and export included, and writes what it predicts for the images
of val and test. One judge measures all of them: faster-coco-eval for boxes, a confusion matrix for
masks, hits for classes. A contender that needs packages of its own runs in their Python: --python
ultralytics=/path/to/python; for classes all peers share one, made beside OUT where none is named.
Results go to OUT/duel.csv as they come, for classes also which test images were named wrongly, to
OUT/mistakes.csv; what is there already is not run again, also where both come from another machine.
OUT is for one set of data, dealt out in one way, and one number of minutes.

For classes, images are dealt out once, the same for all: a test part of the data as it is, or --test
images of each kind in proportion; of all else, or of --train images of it, a fifth to validate on.
First weights are given to all as they are: statistics that are folded into them are measured anew
before, so that nobody is hurt by it. The last lines are, for each start, our error over the best
peer's, with an interval over test images, paired.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dealing import beside, deal, describe, unfolded
from judging import JUDGES, mistakes

HERE = Path(__file__).parent / "duelists"


@dataclass(frozen=True)
class Contender:
    """One side of a duel.

    Args:
        task: What it is for.
        program: In benchmarks/duelists/.
        pretrained: Whether it starts from the first weights that are given.
        python: Whose Python runs it, where that is another one (`--python NAME=PATH`).
    """

    task: str
    program: str
    pretrained: bool
    python: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is this package."""
        return self.program == "ours.py"


CONTENDERS = {
    "ours": Contender("boxes", "ours.py", True),
    "fcos": Contender("boxes", "fcos.py", True),
    "ours-scratch": Contender("boxes", "ours.py", False),
    "ultralytics-scratch": Contender("boxes", "yolo.py", False, "ultralytics"),
    "ours-mask": Contender("mask", "ours.py", True),
    "deeplab": Contender("mask", "deeplab.py", True),
    "ours-classes": Contender("classes", "ours.py", True),
    "linear-probe": Contender("classes", "linear_probe.py", True, "peers"),
    "fastai": Contender("classes", "fastai_tune.py", True, "peers"),
    "tutorial": Contender("classes", "tutorial.py", True, "peers"),
    "timm": Contender("classes", "timm_defaults.py", True, "peers"),
    "careful": Contender("classes", "careful.py", True, "peers"),
    "ours-classes-scratch": Contender("classes", "ours.py", False),
    "fastai-scratch": Contender("classes", "fastai_tune.py", False, "peers"),
    "ultralytics-classes-scratch": Contender("classes", "yolo_classify.py", False, "peers"),
}
PEERS = ("fastai", "timm", "ultralytics", "scikit-learn", "safetensors")
RATIOS = (
    "ours",
    "best_peer",
    "seeds",
    "images",
    "our_error",
    "their_error",
    "ratio",
    "low",
    "high",
)
MISTAKES = ("contender", "seed", "mistakes")
COLUMNS = ("contender", "seed", "part", "images", "number", "value", "minutes", "cpu_minutes")


def main() -> None:
    """Runs the contenders one after the other, a seed at a time, and prints medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=tuple(JUDGES), required=True)
    parser.add_argument("--weights", type=Path, help="ImageNet weights of a ResNet-18")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, help="images to train and validate on (classes)")
    parser.add_argument("--test", type=int, help="images to test on (classes)")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS)
    parser.add_argument("--out", type=Path, help="runs/duel/DATA-MINUTESmin where none is named")
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH")
    options = parser.parse_args()
    names = [name for name, one in CONTENDERS.items() if one.task == options.task]
    names = [name for name in names if not options.only or name in options.only]
    pythons = dict(one.split("=", 1) for one in options.python)
    options.out = options.out or default_out(options)
    options.out.mkdir(parents=True, exist_ok=True)
    refuse_another(options)
    table, unseen = options.out / "duel.csv", None
    if options.task == "classes":
        options.data = deal(options.data, options.out / "data" / options.data.name, options)
        unseen = beside(options.data)
        if options.weights:
            options.weights = unfolded(options.weights, options.data, options.out)
        if "peers" not in pythons and any(CONTENDERS[name].python == "peers" for name in names):
            pythons["peers"] = make_environment(options.out.parent / "peers")
    data = describe(options.data, options.task, unseen)
    for seed in range(options.seeds):
        for name in names:
            if any(row["contender"] == name and row["seed"] == str(seed) for row in read(table)):
                continue
            folder = options.out / f"{name}-{seed}"
            python = pythons.get(CONTENDERS[name].python, sys.executable)
            add(table, duel(name, seed, data, folder, python, options))
    print_medians(read(table))
    if options.task == "classes":
        print_ratios(options.out, data, names, options.seeds)


def default_out(options: argparse.Namespace) -> Path:
    """A folder for this data and these minutes."""
    return Path("runs/duel") / f"{options.data.resolve().name}-{options.minutes:g}min"


def refuse_another(options: argparse.Namespace) -> None:
    """Rows of other data or minutes are no rows of this comparison, and would be taken for them."""
    file = options.out / "asked.json"
    weights = options.weights and str(options.weights.resolve())
    asked = {"data": str(options.data.resolve()), "weights": weights}
    asked |= {name: getattr(options, name) for name in ("task", "minutes", "train", "test")}
    if file.exists() and (before := json.loads(file.read_text())) != asked:
        other = {name: value for name, value in before.items() if asked[name] != value}
        raise SystemExit(f"{options.out} is a comparison with {other}: choose another --out")
    file.write_text(json.dumps(asked))


def make_environment(folder: Path) -> str:
    """A Python with what the contenders for classes need."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "torch", "torchvision"], check=True)
        subprocess.run([*pip, *PEERS], check=True)
        (folder / "ready").touch()
    return str(python)


def print_ratios(
    folder: Path, data: dict[str, Any], names: Sequence[str], seeds: int, resamples: int = 2000
) -> None:
    """Our error over that of the best peer, mean over the seeds, for each start; FOLDER/ratios.csv."""
    count = sum(one["split"] == "test" for one in data["images"])
    rows = [row for row in read(folder / "mistakes.csv") if int(row["seed"]) < seeds]
    wrong = {}
    for name in names:
        bits = [f"{int(r['mistakes'], 16):0{count}b}" for r in rows if r["contender"] == name]
        wrong[name] = np.mean([[bit == "1" for bit in one] for one in bits], 0)
    (folder / "ratios.csv").unlink(missing_ok=True)
    rng = np.random.default_rng(0)
    draws = rng.integers(count, size=(resamples, count))
    for pretrained in (True, False):
        group = [name for name in names if CONTENDERS[name].pretrained == pretrained]
        peers = [name for name in group if not CONTENDERS[name].ours]
        ours = [name for name in group if CONTENDERS[name].ours]
        if not peers or not ours:
            continue
        best = min(peers, key=lambda name: wrong[name].mean())
        mine, theirs = wrong[ours[0]], wrong[best]
        drawn = mine[draws].mean(1) / np.maximum(theirs[draws].mean(1), 1e-9)
        low, high = np.percentile(drawn, (2.5, 97.5))
        ratio = mine.mean() / max(theirs.mean(), 1e-9)
        figures = (round(float(one), 4) for one in (mine.mean(), theirs.mean(), ratio, low, high))
        row = dict(zip(RATIOS, (ours[0], best, seeds, count, *figures), strict=True))
        add(folder / "ratios.csv", [row], RATIOS)
        print(", ".join(f"{name} {value}" for name, value in row.items()))


def duel(
    name: str,
    seed: int,
    data: dict[str, Any],
    folder: Path,
    python: str,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Runs one contender and measures what it wrote: rows of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    contender = CONTENDERS[name]
    task = {
        "data": data,
        "minutes": options.minutes,
        "seed": seed,
        "weights": str(options.weights.resolve()) if contender.pretrained else None,
    }
    (folder / "task.json").write_text(json.dumps(task))
    print(f"{name}, seed {seed}: {options.minutes:g} minutes", flush=True)
    start, before = time.monotonic(), os.times()
    with (folder / "log.txt").open("w") as log:
        command = [python, str(HERE / contender.program), str(folder)]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    minutes, after = (time.monotonic() - start) / 60, os.times()
    if (ready := folder / "ready").exists():  # what comes after it are predictions
        minutes = float(ready.read_text()) / 60
    spent = after.children_user + after.children_system
    cpu = (spent - before.children_user - before.children_system) / 60
    rows = []
    for part in ("val", "test"):
        images = [one for one in data["images"] if one["split"] == part]
        if not images:
            continue
        numbers = JUDGES[data["task"]](data["classes"], images, folder)
        for number, value in numbers.items():
            figures = (len(images), number, round(value, 5), round(minutes, 2), round(cpu, 2))
            rows.append(dict(zip(COLUMNS, (name, seed, part, *figures), strict=True)))
    if data["task"] == "classes":
        test = [one for one in data["images"] if one["split"] == "test"]
        row = dict(zip(MISTAKES, (name, seed, mistakes(test, folder)), strict=True))
        add(options.out / "mistakes.csv", [row], MISTAKES)
    print(" ", {row["part"] + " " + row["number"]: row["value"] for row in rows}, flush=True)
    return rows


def read(table: Path) -> list[dict[str, str]]:
    """Rows of the table so far."""
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add(table: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Rows at the end of the table."""
    fresh = not table.exists()
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def print_medians(rows: Sequence[dict[str, str]]) -> None:
    """Median and range over the seeds, of each contender, part and number."""
    keys = dict.fromkeys((row["contender"], row["part"], row["number"]) for row in rows)
    for key in keys:
        same = [row for row in rows if (row["contender"], row["part"], row["number"]) == key]
        values = [float(row["value"]) for row in same]
        minutes = statistics.median(float(row["minutes"]) for row in same)
        middle = statistics.median(values)
        print(
            f"{key[0]:20} {key[1]:4} {key[2]:14} {middle:.3f} ({min(values):.3f} to"
            f" {max(values):.3f}, {len(values)} seeds, {minutes:.1f} min)"
        )


if __name__ == "__main__":
    main()
