"""The judge of duel.py: what a contender's predictions are worth, measured alike for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


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


def judge_classes(
    classes: Sequence[str], images: Sequence[dict[str, Any]], folder: Path
) -> dict[str, float]:
    """Accuracy of FOLDER/predictions.json: for each file a class."""
    return {"accuracy": float(np.mean(_named_rightly(images, folder)))}


def mistakes(images: Sequence[dict[str, Any]], folder: Path) -> str:
    """Which images were named wrongly, as a hexadecimal number: the first image is the highest bit."""
    return f"{int(''.join('10'[right] for right in _named_rightly(images, folder)), 2):x}"


def _named_rightly(images: Sequence[dict[str, Any]], folder: Path) -> list[bool]:
    said = json.loads((folder / "predictions.json").read_text())
    return [said[one["name"]] == one["annotations"][0]["label"] for one in images]


JUDGES = {"boxes": judge_boxes, "mask": judge_masks, "classes": judge_classes}
