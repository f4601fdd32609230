"""Ours against what a user would take instead: the same data, split, first weights and minutes.

    python benchmarks/duel.py bccd/BCCD --task boxes --weights resnet18.pth --minutes 10 --seeds 3
    python benchmarks/duel.py camvid --task mask --weights resnet18.pth --minutes 30 --seeds 1
    python benchmarks/duel.py bccd/BCCD --task boxes --only ours-scratch ultralytics-scratch

Every contender is a program of its own in benchmarks/duelists/: it gets a folder, the data as JSON
and its minutes, reading, validation and export included, and writes what it predicts for the images
of val and test. One judge measures all of them: faster-coco-eval for boxes, and a confusion matrix
for masks. A contender that needs packages of its own runs in their Python: --python
ultralytics=/path/to/python. Results go to OUT/duel.csv as they come; what is there already is not
run again.
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

from resnets.data.sources import find_data
from resnets.images import reading, upright_size
from resnets.kinds.sample import Sample

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


CONTENDERS = {
    "ours": Contender("boxes", "ours.py", True),
    "fcos": Contender("boxes", "fcos.py", True),
    "ours-scratch": Contender("boxes", "ours.py", False),
    "ultralytics-scratch": Contender("boxes", "yolo.py", False, "ultralytics"),
    "ours-mask": Contender("mask", "ours.py", True),
    "deeplab": Contender("mask", "deeplab.py", True),
}
COLUMNS = ("contender", "seed", "part", "images", "number", "value", "minutes", "cpu_minutes")


def main() -> None:
    """Runs the contenders one after the other, a seed at a time, and prints medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=("boxes", "mask"), required=True)
    parser.add_argument("--weights", type=Path, help="ImageNet weights of a ResNet-18")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTENDERS)
    parser.add_argument("--out", type=Path, default=Path("runs/duel"))
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH")
    options = parser.parse_args()
    names = [name for name, one in CONTENDERS.items() if one.task == options.task]
    names = [name for name in names if not options.only or name in options.only]
    pythons = dict(one.split("=", 1) for one in options.python)
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "duel.csv"
    data = describe(options.data, options.task)
    for seed in range(options.seeds):
        for name in names:
            if any(row["contender"] == name and row["seed"] == str(seed) for row in read(table)):
                continue
            folder = options.out / f"{name}-{seed}"
            python = pythons.get(CONTENDERS[name].python, sys.executable)
            add(table, duel(name, seed, data, folder, python, options))
    print_medians(read(table))


def describe(source: Path, task: str) -> dict[str, Any]:
    """The data as JSON: classes, and of each image its file, part, size and annotations."""
    found = find_data(source.resolve(), kind=task)
    return {
        "source": str(source.resolve()),
        "task": task,
        "classes": list(found.classes),
        "images": [image(sample) for sample in found.samples],
    }


def image(sample: Sample) -> dict[str, Any]:
    """One image as contenders and the judge read it."""
    with reading(sample.path) as opened:
        width, height = upright_size(opened)
    return {
        "file": str(sample.path),
        "name": sample.name,
        "split": sample.split,
        "width": width,
        "height": height,
        "mask": str(sample.mask) if sample.mask else None,
        "annotations": [annotation.to_dict() for annotation in sample.annotations],
    }


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
    print(" ", {row["part"] + " " + row["number"]: row["value"] for row in rows}, flush=True)
    return rows


def judge_boxes(
    classes: Sequence[str], images: Sequence[dict[str, Any]], folder: Path
) -> dict[str, float]:
    """AP as COCO defines it, of FOLDER/predictions.json: for each file boxes, scores, labels."""
    from faster_coco_eval import COCO, COCOeval_faster

    said = json.loads((folder / "predictions.json").read_text())
    places = {name: number + 1 for number, name in enumerate(classes)}
    truth, found = [], []
    for number, one in enumerate(images):
        for annotation in one["annotations"]:
            left, top, right, bottom = annotation["box"]
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": number,
                    "category_id": places[annotation["label"]],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": int(annotation.get("difficult", False)),
                }
            )
        prediction = said[one["name"]]
        for (left, top, right, bottom), score, label in zip(
            prediction["boxes"], prediction["scores"], prediction["labels"], strict=True
        ):
            box = [left, top, right - left, bottom - top]
            place = {"image_id": number, "category_id": places[label]}
            found.append({**place, "bbox": box, "score": score})
    ground = COCO(
        {
            "images": [
                {"id": number, "width": one["width"], "height": one["height"]}
                for number, one in enumerate(images)
            ],
            "annotations": truth,
            "categories": [{"id": place, "name": name} for name, place in places.items()],
        }
    )
    evaluation = COCOeval_faster(ground, ground.loadRes(found), "bbox")
    evaluation.run()
    return {"map": float(evaluation.stats[0]), "ap50": float(evaluation.stats[1])}


def judge_masks(
    classes: Sequence[str], images: Sequence[dict[str, Any]], folder: Path
) -> dict[str, float]:
    """mIoU and pixel accuracy of FOLDER/masks.npz: for each file classes of the pixels."""
    from PIL import Image

    matrix = np.zeros((len(classes), len(classes)), np.int64)
    with np.load(folder / "masks.npz") as said:
        for one in images:
            stored = np.asarray(Image.open(one["mask"]))
            truth = np.full(stored.shape, 255, np.int64)
            for annotation in one["annotations"]:
                truth[stored == annotation["value"]] = list(classes).index(annotation["label"])
            judged = truth != 255
            pairs = truth[judged] * len(classes) + said[one["name"]][judged]
            matrix += np.bincount(pairs, minlength=matrix.size).reshape(matrix.shape)
    hits, wanted = matrix.diagonal(), matrix.sum(1)
    iou = hits / np.maximum(1, wanted + matrix.sum(0) - hits)
    rare = np.argsort(wanted)[wanted[np.argsort(wanted)] > 0][:3]
    return {
        "miou": float(iou[wanted > 0].mean()),
        "pixel_accuracy": float(hits.sum() / matrix.sum()),
        "lowest": float(iou[wanted > 0].min()),
        "rarest": float(iou[rare].mean()),
    }


JUDGES = {"boxes": judge_boxes, "mask": judge_masks}


def read(table: Path) -> list[dict[str, str]]:
    """Rows of the table so far."""
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add(table: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows at the end of the table."""
    fresh = not table.exists()
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
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
