"""ultralytics' smallest detector of its newest generation from scratch, with its defaults, at the
same input side; the time is its own setting."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from common import part, read_task
from ultralytics import YOLO

MODEL = "yolo26n.yaml"
SIDE = 320
RESERVE = 0.4  # minutes for reading, the last validation and the predictions


def write_data(folder: Path, task: dict[str, Any]) -> Path:
    """The data in the layout that it reads."""
    classes = task["data"]["classes"]
    for name in ("train", "val", "test"):
        for kind in ("images", "labels"):
            shutil.rmtree(folder / kind / name, ignore_errors=True)
            (folder / kind / name).mkdir(parents=True)
        for one in part(task, name):
            file = Path(one["file"])
            (folder / "images" / name / file.name).symlink_to(file)
            lines = []
            for annotation in one["annotations"]:
                left, top, right, bottom = annotation["box"]
                x, y = (left + right) / 2 / one["width"], (top + bottom) / 2 / one["height"]
                w, h = (right - left) / one["width"], (bottom - top) / one["height"]
                lines.append(f"{classes.index(annotation['label'])} {x} {y} {w} {h}")
            (folder / "labels" / name / f"{file.stem}.txt").write_text("\n".join(lines))
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(classes))
    path = folder / "data.yaml"
    lists = "train: images/train\nval: images/val\ntest: images/test"
    path.write_text(f"path: {folder.resolve()}\n{lists}\nnames:\n{names}\n")
    return path


if __name__ == "__main__":
    folder, task = read_task()
    data = write_data(folder / "data", task)
    net = YOLO(MODEL)
    net.train(
        data=str(data),
        imgsz=SIDE,
        time=(task["minutes"] - RESERVE) / 60,
        epochs=10_000,
        seed=task["seed"],
        pretrained=False,
        device="cpu",
        workers=2,
        cache="ram",
        plots=False,
        project=str(folder),
        name="yolo",
        exist_ok=True,
    )
    best = YOLO(folder / "yolo" / "weights" / "best.pt")
    said = {}
    for one in [*part(task, "val"), *part(task, "test")]:
        (found,) = best.predict(one["file"], imgsz=SIDE, conf=0.001, device="cpu", verbose=False)
        said[one["name"]] = {
            "boxes": found.boxes.xyxy.tolist(),
            "scores": found.boxes.conf.tolist(),
            "labels": [found.names[int(label)] for label in found.boxes.cls.tolist()],
        }
    (folder / "predictions.json").write_text(json.dumps(said))
