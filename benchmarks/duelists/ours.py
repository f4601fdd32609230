"""`resnets train DATA --minutes M`, with `--model resnet18` where first weights are given or boxes or
masks are found, and its NAME.onnx on val and test."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from common import STARTED, part, read_task

import resnets

if __name__ == "__main__":
    folder, task = read_task()
    data: dict[str, Any] = task["data"]
    run = resnets.train(
        data["source"],
        "resnet18" if task["weights"] or data["task"] != "classes" else None,
        task=data["task"],
        weights=task["weights"] or "none",
        minutes=task["minutes"],
        seed=task["seed"],
        output=folder / "run",
        exist_ok=True,
        started=STARTED,
    )
    print(run)
    if data["task"] == "classes":
        (folder / "ready").write_text(f"{time.monotonic() - STARTED:.2f}")
    images = [*part(task, "val"), *part(task, "test")]
    predictor = resnets.load(run.proven.path)
    predictions = list(predictor.predict([one["file"] for one in images]))
    if data["task"] == "boxes":
        said = {
            one["name"]: {
                "boxes": found.boxes.tolist(),
                "scores": found.scores.tolist(),
                "labels": [found.classes[label] for label in found.labels],
            }
            for one, found in zip(images, predictions, strict=True)
        }
        (folder / "predictions.json").write_text(json.dumps(said))
    elif data["task"] == "classes":
        said = {one["name"]: found.label for one, found in zip(images, predictions, strict=True)}
        (folder / "predictions.json").write_text(json.dumps(said))
    else:
        order = [data["classes"].index(name) for name in predictor.classes]
        masks = {
            one["name"]: np.array(order)[found.mask]
            for one, found in zip(images, predictions, strict=True)
        }
        np.savez_compressed(folder / "masks.npz", **masks)
