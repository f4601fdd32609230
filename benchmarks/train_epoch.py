"""Whole training epochs, pictures to updated weights: this package beside a plain PyTorch loop,
alternating in one run.

    python benchmarks/train_epoch.py FOLDER [--rounds 5] [--pictures 6400]

FOLDER holds `train/CLASS/*` of 32 px pictures (CIFAR-10 as files). Both sides train ResNet-20 with
the same optimizer, batch size and augmentation (shift by up to 4 px, flip). The plain loop is what
a careful user writes: torchvision's ImageFolder and transforms, a DataLoader with one worker a
core, eager NCHW. Reading into memory is timed apart and reported.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

from resnets import create_model
from resnets.data.batches import TrainingBatches, Truth
from resnets.data.loader import PreparedImages
from resnets.data.sources import find_data
from resnets.data.transforms import Augmentation
from resnets.kinds.sample import Sample
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from resnets.run.work import make_state
from resnets.tasks import make_task
from resnets.training.loop import Hooks, train_steps
from resnets.training.optimizers import Schedule
from resnets.training.plan import Plan, PlannedPhase
from resnets.training.settings import TrainSettings

BATCH = 128


def plain_loop(
    folder: Path, samples: list[Sample]
) -> tuple[nn.Module, torch.optim.Optimizer, torch.utils.data.DataLoader]:
    """What a careful user writes."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    data = torchvision.datasets.ImageFolder(str(folder / "train"), transform)
    place = {path: number for number, (path, _) in enumerate(data.samples)}
    data = torch.utils.data.Subset(data, [place[str(sample.path)] for sample in samples])
    loader = torch.utils.data.DataLoader(
        data,
        BATCH,
        shuffle=True,
        num_workers=os.cpu_count() or 1,
        drop_last=True,
        persistent_workers=True,
    )
    net = create_model("resnet20")
    return (
        net,
        torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True),
        loader,
    )


def plain_epoch(
    net: nn.Module, optimizer: torch.optim.Optimizer, loader: torch.utils.data.DataLoader
) -> int:
    """One epoch of it; gives the number of pictures."""
    net.train()
    count = 0
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        count += len(labels)
    return count


def main() -> None:
    """Alternates epochs of both and prints medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=6400)
    options = parser.parse_args()

    found = find_data(options.folder)
    training = [sample for sample in found.samples if sample.split == "train"]
    samples = training[:: max(1, len(training) // options.pictures)][: options.pictures]
    tick = time.perf_counter()
    pictures = PreparedImages(samples, Preprocessing.square(32), 4e9)
    for _ in pictures.fill():
        pass
    reading = time.perf_counter() - tick
    task = make_task({"name": "classes"})
    read = partial(task.kind.ground_truth, classes=found.classes)
    batches = TrainingBatches(
        pictures, Truth(read, task.collate), BATCH, Augmentation("shift"), seed=0
    )
    per_epoch = batches.steps_per_epoch
    device = torch.device("cpu")
    phase = PlannedPhase(Schedule(0.1, per_epoch * (options.rounds + 1), 0), weight_decay=5e-4)
    plan = Plan((phase,), per_epoch, per_epoch, 10**9)
    net = create_model("resnet20").to(memory_format=torch.channels_last)
    state = make_state(net, task, plan, TrainSettings("").average)
    hooks = Hooks(lambda state: {}, lambda state: None)
    net, optimizer, loader = plain_loop(options.folder, samples)

    ours, theirs = [], []
    for number in range(options.rounds + 1):  # the first round warms up and is not counted
        tick = time.perf_counter()
        steps = islice(batches.from_step(state.step, device), per_epoch)
        train_steps(state, steps, task, plan, hooks)
        ours.append(per_epoch * BATCH / (time.perf_counter() - tick))
        tick = time.perf_counter()
        count = plain_epoch(net, optimizer, loader)
        theirs.append(count / (time.perf_counter() - tick))
        print(
            f"round {number}: {ours[-1]:.0f} against {theirs[-1]:.0f} pictures/s, ratio"
            f" {ours[-1] / theirs[-1]:.2f}",
            flush=True,
        )
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    print(
        f"\n{len(samples):,} pictures read in {reading:.1f} s; {os.cpu_count()} cores, torch"
        f" {torch.__version__}"
    )
    print(
        f"median of {options.rounds} epochs: {statistics.median(ours[1:]):.0f} against"
        f" {statistics.median(theirs[1:]):.0f} pictures/s; ratio {statistics.median(ratios):.2f}"
        f" [{min(ratios):.2f}, {max(ratios):.2f}]"
    )


if __name__ == "__main__":
    main()
