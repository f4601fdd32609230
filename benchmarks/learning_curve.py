"""How far the forecast for twice the images is from what twice the images give.

    python benchmarks/learning_curve.py --weights resnet18.safetensors
        --data eurosat/ cifar10/ hymenoptera/ cells/ --out docs/results/learning-curve.csv

Of each folder, for each seed, a third (at most 1,000 images) is held out. Of the rest, n images are
taken, then 2 n that hold these: from the n the accuracy of a linear probe on 2 n is forecast, as a run does, and then
measured on the held-out images. ResNet-18, features at 128 px (at 224 px where images are larger).
"""

from __future__ import annotations

import argparse
import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import resnets
from resnets.data.loader import PreparedImages
from resnets.data.sources import find_data
from resnets.evaluation.forecast import extrapolate
from resnets.kinds.sample import Sample
from resnets.preprocessing import Preprocessing
from resnets.run.growth import grow
from resnets.tasks.classes import PooledFeatures
from resnets.training.probe import Featured, Fitted, fit_probe

HELD_OUT, SIZES = 1000, (100, 250, 500, 1000)


def loss(raw: torch.Tensor, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross entropy with the label smoothing of a run."""
    return {"loss": F.cross_entropy(raw, targets["labels"], label_smoothing=0.1)}


def main() -> None:
    """Forecasts and measures, a row for each folder and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("learning-curve.csv"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for data in options.data:
        features, labels = look(data, options.weights)
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(labels))
            cut = min(HELD_OUT, len(labels) // 3)
            held_out, train = (
                Featured(features[places], {"labels": torch.from_numpy(labels[places])})
                for places in (order[:cut], order[cut:])
            )
            for n in SIZES:
                if 2 * n <= len(order) - cut:
                    found = compare(train, labels[order[cut:]], held_out, n)
                    rows.append({"data": data.name, "seed": seed, "images": n, **found})
                    print(*rows[-1].values())
    with options.out.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    for n in SIZES:
        apart = [abs(row["forecast"] - row["measured"]) for row in rows if row["images"] == n]
        print(f"{n} images: within 2 points {sum(one <= 2 for one in apart)} of {len(apart)}")


def look(data: Path, weights: Path) -> tuple[torch.Tensor, np.ndarray]:
    """Features (n, 512) of some images of a folder, and the places of their classes."""
    samples = find_data(data, kind="classes").samples
    order = np.random.default_rng(0).permutation(len(samples))
    chosen = [samples[place] for place in order[: HELD_OUT + 2 * SIZES[-1]]]
    classes = sorted({sample.labels[0] for sample in samples})
    net = resnets.create_model("resnet18", weights=str(weights)).eval()
    labels = np.array([classes.index(one.labels[0]) for one in chosen])
    return features_of(net, chosen), labels


def features_of(net: torch.nn.Module, samples: list[Sample]) -> torch.Tensor:
    """(n, 512)."""
    side = 224 if Preprocessing.square(8).open(samples[0].path).width > 128 else 128
    preprocessing, pooled = Preprocessing.square(side), PooledFeatures(net)
    images, found = PreparedImages(samples, preprocessing, 0), []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for _, pixels, _ in images.batches(32):
            found.append(pooled(torch.from_numpy(preprocessing.normalise(pixels))).float())
    return torch.cat(found).clone()


def compare(train: Featured, names: np.ndarray, held_out: Featured, n: int) -> dict[str, Any]:
    """The forecast from n images, and what 2 n give, in percent."""
    fit = partial(fit_probe, val=held_out, outputs=int(names.max()) + 1, loss=loss)

    def judge(fitted: Fitted) -> np.ndarray:
        said = fitted(held_out.features).argmax(1)
        return (said == held_out.targets["labels"]).double().numpy()

    def first(count: int) -> Featured:
        labels = {"labels": train.targets["labels"][:count]}
        return Featured(train.features[:count], labels)

    sizes, right = grow(first(n), names[:n], fit, judge)
    growth = extrapolate("accuracy", [*sizes, n], np.stack([*right, judge(fit(first(n)))]))
    measured = judge(fit(first(2 * n))).mean()
    values = (growth.reached[-1].value, growth.doubled.value, growth.doubled.low)
    values = (*values, growth.doubled.high, measured)
    labels = ("reached", "forecast", "low", "high", "measured")
    percent = {name: round(100 * value, 1) for name, value in zip(labels, values, strict=True)}
    return {**percent, "held_out": len(held_out.features)}


if __name__ == "__main__":
    main()
