"""The degradation problem: deeper plain networks are harder to train, residual ones are not.

    python benchmarks/degradation.py cifar10/ --out runs/degradation [--minutes 30] [--jobs 2]

He et al. 2016 (arXiv:1512.03385), section 4.2 and Figure 6, made smaller: plain and residual
networks of 20 and 56 layers, three seeds each, on CIFAR-10 averaged down to 16 px (10,000 training
images, 1,000 validation images). FOLDER holds train/CLASS/* and test/CLASS/* of 32 px. From the
paper: SGD with momentum 0.9, weight decay of 0.0001, images moved by up to an eighth of their side
and mirrored. What differs: as many steps as fit into --minutes on --jobs cores, which are planned
once, by timing a step of either depth; since they are few, batches of 32 at a rate of 0.05 (four
times as many steps as with 128 at 0.1, at which residual-56 was far from trained: 58 % training
error), a tenth of them to warm up, as the paper does for 110 layers, a cosine, and Nesterov's
momentum. A run has one core. In a seed, all four networks see the same images in the same order.
Finished runs are skipped on restart, interrupted ones resumed.

Training error: of the images as they are trained on, over the last epoch. D is that of 56 layers
minus that of 20 layers, seed by seed, with a 95 % interval (Student's t over seeds). The verdict:

    degradation shown    D of the plain networks lies above 0, interval and all, and D of the
                         residual ones does not
    shown in part        D of both lies above 0, and the difference of the two Ds, seed by seed, does
                         too: residual networks suffer from depth as well, and less
    not shown            otherwise

Written: OUT/degradation.csv (training and validation error by epoch), OUT/degradation-gradients.csv
(norm of the loss's gradient by layer before the first step, on the first 32 training images),
OUT/degradation.svg and OUT/degradation.md. They may be made from what is there (--collect).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; a core is a run

import numpy as np
import torch
from degradation_figure import draw
from PIL import Image
from torch import nn

import resnets
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD

NETWORKS = {
    "plain-20": "resnet20 shortcut=none",
    "plain-56": "resnet56 shortcut=none",
    "residual-20": "resnet20",
    "residual-56": "resnet56",
}
SEEDS = (0, 1, 2)
SIDE = 16  # pixels
TRAIN, VAL = 1_000, 100  # images of a class
BATCH = 32
SETTINGS = {"batch_size": BATCH, "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "warmup": 0.1,
         "smoothing": 0.0, "average": 0.0, "norms": "train", "crop": "shift", "flip": "horizontal",
         "size": SIDE, "weights": "none", "precision": "float32", "device": "cpu", "workers": 1}  # fmt: skip
# Of the time: validations, checkpoints, the report and the file at the end of a run.
TRAINING = 0.85
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % point of Student's t, by seeds


@dataclass(frozen=True)
class Work:
    """One run: a network and a seed."""

    name: str
    seed: int
    epochs: float
    out: Path

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.out / f"{self.name}-seed{self.seed}"


def make_images(source: Path, out: Path) -> Path:
    """CIFAR-10 averaged over 2 x 2 pixels, once."""
    data = out / "data"
    for part, target, count in (("train", "train", TRAIN), ("test", "val", VAL)):
        for folder in sorted(path for path in (source / part).iterdir() if path.is_dir()):
            there = data / target / folder.name
            there.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir())[:count]:
                file = there / f"{path.stem}.png"
                if not file.is_file():
                    Image.open(path).convert("RGB").reduce(2).save(file)
    return data


def first_images(data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch (32, 3, 16, 16) of training images, class by class in turn, and their labels."""
    classes = [sorted(folder.iterdir()) for folder in sorted((data / "train").iterdir())]
    chosen = [
        (classes[k % len(classes)][k // len(classes)], k % len(classes)) for k in range(BATCH)
    ]
    pixels = np.stack([np.asarray(Image.open(path)) for path, _ in chosen]) / 255
    pixels = (pixels - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    images = torch.from_numpy(pixels).float().permute(0, 3, 1, 2)
    return images, torch.tensor([label for _, label in chosen])


def backward(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The gradients of the loss."""
    net.zero_grad()
    nn.functional.cross_entropy(net.train()(images), labels).backward()


def make_net(name: str, seed: int) -> nn.Module:
    """A network with its first weights."""
    torch.manual_seed(seed)
    return resnets.create_model(NETWORKS[name], num_classes=10)


def plan_epochs(data: Path, minutes: float, jobs: int, file: Path) -> float:
    """Epochs of each run, so that all of them take so many minutes; measured once, then read."""
    if file.is_file():
        return json.loads(file.read_text())["epochs"]
    images, labels = first_images(data)
    images = images.to(memory_format=torch.channels_last)
    seconds = {}
    for name in NETWORKS:
        net, times = make_net(name, 0).to(memory_format=torch.channels_last), []
        optimizer = torch.optim.SGD(net.parameters(), 1e-6, 0.9)
        for _ in range(12):
            tick = time.process_time()
            backward(net, images, labels)
            optimizer.step()
            times.append(time.process_time() - tick)
        seconds[name] = statistics.median(times[2:])
    steps = TRAINING * 60 * minutes * jobs / len(SEEDS) / sum(seconds.values())
    epochs = max(1, int(steps / (10 * TRAIN // BATCH)))
    plan = {"epochs": epochs, "minutes": minutes, "cores": jobs, "cpu_seconds_of_a_step": seconds}
    file.write_text(json.dumps(plan, indent=2) + "\n")
    return epochs


def carry_out(work: Work) -> None:
    """Trains, or goes on; keeps the account of CPU seconds in the run's folder."""
    torch.set_num_threads(1)
    account, start = work.folder / "cpu_seconds", time.process_time()
    spent = float(account.read_text()) if account.is_file() else 0.0

    def keep(row: object = None) -> None:
        account.write_text(f"{spent + time.process_time() - start:.1f}\n")

    if (work.folder / "summary.json").is_file():
        return
    if (work.folder / "weights" / "last.safetensors").is_file():
        resnets.run.resume(work.folder, callbacks=[keep], quiet=True)
    else:
        resnets.train(work.out / "data", NETWORKS[work.name], epochs=work.epochs, seed=work.seed,
                      output=work.folder, exist_ok=True, callbacks=[keep], quiet=True, **SETTINGS)  # fmt: skip
    keep()
    print(f"{work.folder.name}: {account.read_text().strip()} CPU seconds", flush=True)


def errors(work: Work) -> list[dict[str, Any]]:
    """Errors in percent by epoch: of training, over all its images, and of validation."""
    rows = list(csv.DictReader((work.folder / "results.csv").read_text().splitlines()))
    found, since, before = [], [], 0
    for row in rows:
        step = int(row["step"])
        since.append((1 - float(row["train_accuracy"]), step - before))
        before = step
        if row["val_accuracy"]:
            error = sum(a * b for a, b in since) / sum(b for _, b in since)
            found.append({"network": work.name, "seed": work.seed, "step": step,
                          "epoch": round(float(row["epoch"])),
                          "train_error": round(100 * error, 3),
                          "val_error": round(100 * (1 - float(row["val_accuracy"])), 3)})  # fmt: skip
            since = []
    return found


def gradients(name: str, seed: int, data: Path) -> list[dict[str, Any]]:
    """The norm of the gradient of each layer with weights before the first step."""
    net = make_net(name, seed)
    backward(net, *first_images(data))
    layers = [(key, one) for key, one in net.named_parameters() if one.ndim > 1]
    return [
        {"network": name, "seed": seed, "layer": number, "name": key,
         "norm": float(f"{one.grad.norm():.4g}")}
        for number, (key, one) in enumerate(layers, 1)
    ]  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    mean = statistics.fmean(values)
    half = T[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def verdict(
    last: dict[tuple[str, int], float],
) -> tuple[str, dict[str, tuple[float, float, float]]]:
    """By the rule above, from the training errors (%) of network and seed."""
    seeds = sorted({seed for _, seed in last})
    plain, residual = (
        [last[f"{kind}-56", seed] - last[f"{kind}-20", seed] for seed in seeds]
        for kind in ("plain", "residual")
    )
    found = {"plain": interval(plain), "residual": interval(residual)}
    gain = interval([one - other for one, other in zip(plain, residual, strict=True)])
    if not found["plain"][1] > 0:
        word = "not shown"
    elif not found["residual"][1] > 0:
        word = "shown"
    else:
        word = "shown in part" if gain[1] > 0 else "not shown"
    return f"degradation {word}", found


def write_csv(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A table."""
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def collect(works: Sequence[Work], out: Path) -> None:
    """Tables, figure and text from what is finished; the verdict needs all of it."""
    done = [work for work in works if (work.folder / "summary.json").is_file()]
    rows = [row for work in done for row in errors(work)]
    norms = [
        row for name in NETWORKS for seed in SEEDS for row in gradients(name, seed, out / "data")
    ]
    write_csv(out / "degradation-gradients.csv", norms)
    if rows:
        write_csv(out / "degradation.csv", rows)
        draw(rows, norms, out / "degradation.svg")
    if len(done) < len(works):
        print(f"{len(done)} of {len(works)} runs are finished")
        return
    last = {(row["network"], row["seed"]): row["train_error"] for row in rows}  # the last epoch's
    said, found = verdict(last)
    cpu = sum(float((work.folder / "cpu_seconds").read_text()) for work in works)
    lines = ["| network | training error by seed (%) | mean |", "|---|---|---|"]
    for name in NETWORKS:
        values = [last[name, seed] for seed in SEEDS]
        texts = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {texts} | {statistics.fmean(values):.1f} |")
    lines += ["", *(
        f"D of the {kind} networks: {mean:+.1f} points [{low:+.1f}, {high:+.1f}]."
        for kind, (mean, low, high) in found.items()
    )]  # fmt: skip
    lines += [
        f"Verdict: {said}.",
        f"{works[0].epochs:g} epochs a run, {cpu:,.0f} CPU seconds in all.",
    ]
    text = "\n".join(lines) + "\n"
    (out / "degradation.md").write_text(text)
    print(text)


def main() -> None:
    """Plans, trains what is not there yet, collects."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/degradation"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--cores", type=int, help="that the minutes are for; default: --jobs")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data = make_images(options.folder, options.out)
    cores = options.cores or options.jobs
    epochs = plan_epochs(data, options.minutes, cores, options.out / "plan.json")
    works = [Work(name, seed, epochs, options.out) for seed in SEEDS for name in NETWORKS]
    if not options.collect:
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
            list(pool.map(carry_out, works))
    collect(works, options.out)


if __name__ == "__main__":
    main()
