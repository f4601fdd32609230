"""Fine-tuning on images with several labels beside a linear probe: logistic regression on frozen
features of the same network with the same weights, mAP on the same test images.

    python tools/make_mosaics.py eurosat/ mosaics/
    python benchmarks/multilabel.py mosaics/ --weights resnet18.pth
    resnets predict RUN.onnx mosaics/images/ -o table.csv --probs
    python benchmarks/multilabel.py mosaics/ --weights resnet18.pth --predictions table.csv

The probe gets what whoever takes one would try: features as they are or standardised, with or
without mirrored images to train on, and 11 strengths of the regularisation; the best on val is
measured on test. Intervals are of 2,000 bootstrap samples of the test images, the same for both.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from resnets import Preprocessing, create_model
from resnets.evaluation.labels import average_precision

# On half the squared length of the weights, beside the mean loss: C = 1 / (n penalty). The largest
# comes first, since each fit starts from the one before.
PENALTIES = np.logspace(1, -4, 11)
RESAMPLES = 2000
BATCH = 64
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Images:
    """Images of one part, by name, with which of the labels each has: (n, k) bool."""

    files: tuple[Path, ...]
    truth: np.ndarray


@dataclass(frozen=True)
class Probe:
    """A fitted logistic regression.

    Args:
        words: What was chosen.
        val: Its mAP on val.
        test: (n, k) scores of the test images.
    """

    words: str
    val: float
    test: np.ndarray


def mean_average_precision(
    truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """mAP: the mean over the labels that any image has."""
    return float(np.nanmean(average_precision(truth, scores, weights)))


def bootstrap(truth: np.ndarray, scores: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """mAP of each of some scores in each of 2,000 samples of the images, the same samples for all:
    (2000, scores)."""
    rng, count = np.random.default_rng(seed), len(truth)
    samples = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return np.array([[mean_average_precision(truth, s, w) for s in scores] for w in samples])


def read_images(folder: Path) -> tuple[list[str], dict[str, Images]]:
    """The names of the labels, and the images of labels.csv by their part."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({label for row in rows for label in row["label"].split("|")})
    parts = {}
    for part in PARTS:
        chosen = [row for row in rows if row["split"] == part]
        labels = [row["label"].split("|") for row in chosen]
        truth = np.array([[name in one for name in classes] for one in labels])
        parts[part] = Images(tuple(folder / row["file_name"] for row in chosen), truth)
    return classes, parts


def read_predictions(path: Path, images: Images, classes: list[str]) -> np.ndarray:
    """(n, k) probabilities of images from a table of `resnets predict --probs`.

    Raises:
        ValueError: It lacks a column or an image.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    try:
        wanted = [rows[file.name] for file in images.files]
        return np.array([[float(row[f"p_{name}"]) for name in classes] for row in wanted])
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]} is missing; write it with --probs") from None


@torch.inference_mode()
def extract(
    net: nn.Module, files: Sequence[Path], preprocessing: Preprocessing, mirror: bool = False
) -> Tensor:
    """(n, features) of images, as they are or mirrored."""
    features = []
    for start in range(0, len(files), BATCH):
        images = [preprocessing.open(file) for file in files[start : start + BATCH]]
        pixels = np.stack([preprocessing.pixels(image) for image in images])
        inputs = preprocessing.normalise(pixels[:, :, ::-1] if mirror else pixels)
        features.append(net(torch.from_numpy(inputs)))
    return torch.cat(features).double()


def fit(x: Tensor, y: Tensor, penalty: float, start: Tensor) -> Tensor:
    """Weights and, in the last row, biases of a logistic regression for each label.

    Args:
        x: (n, features).
        y: (n, labels), 0 or 1.
        penalty: On half the squared length of the weights, beside the mean loss of a label.
        start: (features + 1, labels).
    """
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = x @ weights[:-1] + weights[-1]
        errors = functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
        total = errors.mean(0).sum() + penalty / 2 * weights[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def fit_path(x: Tensor, y: Tensor, parts: dict[str, Images], inputs: dict[str, Tensor]) -> Probe:
    """The probe with the penalty that is best on val; the path ends when two in a row are worse.

    Args:
        x: (n, features) to fit on.
        y: (n, labels), 0 or 1.
        parts: The images.
        inputs: (n, features) of val and test, as `x` is.
    """
    best, since = Probe("", -1.0, np.empty(0)), 0
    weights = torch.zeros(x.shape[1] + 1, y.shape[1], dtype=x.dtype)
    for penalty in PENALTIES:
        weights = fit(x, y, penalty, weights)
        scores = {part: (one @ weights[:-1] + weights[-1]).numpy() for part, one in inputs.items()}
        val = mean_average_precision(parts["val"].truth, scores["val"])
        since += 1
        if val > best.val:
            best, since = Probe(f"penalty {penalty:.1g}", val, scores["test"]), 0
        if since == 2:
            break
    return best


def fit_best(net: nn.Module, parts: dict[str, Images], preprocessing: Preprocessing) -> Probe:
    """The probe that is best on val, of all there are."""
    features = {part: extract(net, parts[part].files, preprocessing) for part in PARTS}
    mirrored = extract(net, parts["train"].files, preprocessing, mirror=True)
    labels = torch.from_numpy(parts["train"].truth).double()
    probes = []
    for flips, standardised in itertools.product((False, True), (False, True)):
        x = torch.cat([features["train"], mirrored]) if flips else features["train"]
        y = torch.cat([labels, labels]) if flips else labels
        mean, scale = x.mean(0), x.std(0).clamp_min(1e-6) if standardised else 1.0
        inputs = {part: (features[part] - mean) / scale for part in ("val", "test")}
        probe = fit_path((x - mean) / scale, y, parts, inputs)
        words = f"{'standardised' if standardised else 'plain'} features"
        words += f"{', mirrored too' if flips else ''}, {probe.words}"
        probes.append(replace(probe, words=words))
        print(f"{words}: mAP {probe.val:.4f} on val")
    return max(probes, key=lambda probe: probe.val)


def interval(values: np.ndarray) -> str:
    """The middle 95 % of bootstrap samples."""
    low, high = np.percentile(values, (2.5, 97.5))
    return f"[{low:+.4f}, {high:+.4f}]" if low < 0 else f"[{low:.4f}, {high:.4f}]"


def main() -> None:
    """Fits, measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder with labels.csv: file_name, label, split")
    parser.add_argument("--weights", required=True, help="ImageNet weights of the network")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=128, help="side of the input, in pixels")
    parser.add_argument("--fit", choices=("crop", "stretch"), default="crop")
    parser.add_argument("--predictions", type=Path, help="a table of the fine-tuned network")
    given = parser.parse_args()
    started = time.perf_counter()
    classes, parts = read_images(given.data)
    net = create_model(given.model, num_classes=0, weights=given.weights).eval()
    preprocessing = Preprocessing.square(given.size, 0.875, fit=given.fit)
    probe = fit_best(net, parts, preprocessing)
    test = parts["test"]
    compared = {"linear probe": probe.test}
    if given.predictions:
        compared["fine-tuned"] = read_predictions(given.predictions, test, classes)
    samples = bootstrap(test.truth, list(compared.values()))
    print(f"{given.model}, {given.size} px, {given.fit}; best on val: {probe.words}")
    print(f"{len(test.files)} test images, {len(classes)} labels, mean average precision:")
    for number, (name, scores) in enumerate(compared.items()):
        value = mean_average_precision(test.truth, scores)
        print(f"{name}  {value:.4f} {interval(samples[:, number])}")
    if given.predictions:
        ours, theirs = compared["fine-tuned"], compared["linear probe"]
        gain = mean_average_precision(test.truth, ours) - mean_average_precision(test.truth, theirs)
        print(f"difference, paired  {gain:+.4f} {interval(samples[:, 1] - samples[:, 0])}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
