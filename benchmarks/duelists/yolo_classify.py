"""ultralytics' smallest classifier of its newest generation from scratch, with its defaults; the
time is its own setting."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from classes import finish
from common import part, read_task
from ultralytics import YOLO

MODEL = "yolo26n-cls.yaml"
RESERVE = 0.2  # minutes for reading and the last validation

if __name__ == "__main__":
    folder, task = read_task()
    data, names = folder / "data", task["data"]["classes"]
    shutil.rmtree(data, ignore_errors=True)
    for name in ("train", "val"):
        for label in names:
            (data / name / label).mkdir(parents=True)
        for number, one in enumerate(part(task, name)):
            file = Path(one["file"])
            link = data / name / one["annotations"][0]["label"] / f"{number}{file.suffix}"
            link.symlink_to(file)
    net = YOLO(MODEL)
    net.train(
        data=str(data.resolve()),
        time=(task["minutes"] - RESERVE) / 60,
        epochs=10_000,
        seed=task["seed"],
        pretrained=False,
        device="cpu",
        workers=2,
        plots=False,
        project=str(folder.resolve()),
        name="yolo",
        exist_ok=True,
    )
    best = YOLO(folder / "yolo" / "weights" / "best.pt")

    def predict(files: Sequence[str]) -> list[int]:
        """Places of classes."""
        found = (best.predict(file, device="cpu", verbose=False)[0] for file in files)
        return [names.index(one.names[one.probs.top1]) for one in found]

    finish(folder, task, predict)
