"""The data of a comparison: dealt out once, and told to contenders as JSON; and their first weights."""

from __future__ import annotations

import argparse
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from resnets import ResNet18
from resnets.checkpoints import read_state
from resnets.data.sources import find_data
from resnets.images import reading, upright_size
from resnets.kinds.sample import Sample
from resnets.models.statistics import unfold_statistics
from resnets.preprocessing import Preprocessing


def deal(source: Path, folder: Path, options: argparse.Namespace) -> Path:
    """The data as FOLDER/{train,val}/CLASS/*, links: the same split for every contender. Images to
    test on lie beside it, FOLDER-test/CLASS/*: they are the judge's, not a contender's to measure."""
    if folder.exists():
        return folder
    dealing, unseen = folder.with_name(f"{folder.name}-dealing"), beside(folder)
    for left in (dealing, unseen):  # by a deal that was interrupted
        shutil.rmtree(left, ignore_errors=True)
    found, rng = find_data(source.resolve(), kind="classes"), np.random.default_rng(0)
    named = {sample.split for sample in found.samples}
    own = "test" if "test" in named else "val" if "val" in named else None
    by_class: dict[str, list[Sample]] = {}
    for sample in found.samples:
        by_class.setdefault(sample.labels[0], []).append(sample)
    for label, samples in by_class.items():
        samples = [samples[place] for place in rng.permutation(len(samples))]
        test = [sample for sample in samples if sample.split == own] if own else samples
        test = test[: options.test // len(by_class)] if options.test else test
        if not own and not options.test:
            test = samples[: len(samples) // 5]
        chosen = {id(sample) for sample in test}
        rest = [one for one in samples if id(one) not in chosen and one.split in ("train", "")]
        rest = rest[: options.train // len(by_class)] if options.train else rest
        cut = len(rest) // 5
        parts = {dealing / "val": rest[:cut], dealing / "train": rest[cut:], unseen: test}
        for part, some in parts.items():
            place = part / label
            place.mkdir(parents=True)
            for sample in some:
                with suppress(OSError), Image.open(sample.path) as image:  # what nobody can read
                    image.load()
                    (place / sample.path.name).symlink_to(sample.path.resolve())
    dealing.rename(folder)
    return folder


def beside(folder: Path) -> Path:
    """Where images to test on lie."""
    return folder.with_name(f"{folder.name}-test")


def unfolded(weights: Path, data: Path, folder: Path) -> Path:
    """The weights of a ResNet-18 with BatchNorm statistics measured on training images where they
    came folded (`models.statistics`), the function unchanged."""
    target = folder / f"{data.name}-{weights.stem}.safetensors"
    if target.exists():
        return target
    net = ResNet18()
    net.load_state_dict(read_state(weights))
    prepare = Preprocessing.square(224)
    files = sorted((data / "train").rglob("*.*"))[::4][:256]
    pixels = (prepare.pixels(prepare.open(file))[None] for file in files)
    unfold_statistics(net, (torch.from_numpy(prepare.normalise(one)) for one in pixels))
    save_file({name: one.contiguous() for name, one in net.state_dict().items()}, target)
    return target


def describe(source: Path, task: str, unseen: Path | None) -> dict[str, Any]:
    """The data as JSON: classes, and of each image its file, part, size and annotations; with images
    to test on from a folder of their own."""
    found = find_data(source.resolve(), kind=task)
    images = [image(sample) for sample in found.samples]
    if unseen:
        for sample in find_data(unseen.resolve(), kind=task).samples:
            images.append({**image(sample), "name": f"test/{sample.name}", "split": "test"})
    return {
        "source": str(source.resolve()),
        "task": task,
        "classes": list(found.classes),
        "images": images,
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
