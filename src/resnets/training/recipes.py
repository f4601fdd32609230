"""How settings left open are decided: by a row for each task and start, and by the images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from resnets.training.optimizers import OPTIMIZERS
from resnets.training.plan import Phase
from resnets.training.settings import TrainSettings

LONGEST = 4.0  # seconds of a window where none are given
SMALL, LARGEST = 16, 640  # pixels: of things of the median side, and of the input to have them so
FEW = 16  # images of a batch, below which the statistics of a trained network are kept
TINY = 64  # pixels of the median short side, up to which the networks for small images are meant


@dataclass(frozen=True)
class Circumstances:
    """What the open settings are decided by.

    Args:
        pretrained: Whether the network starts from trained weights.
        size: Input size that the weights were made for; None without.
        median: Median height and width of the training images, in pixels.
        elongated: The fraction of the images whose long side is more than 1.6 times the short one.
        count: Training images.
        seconds: Median length of the training videos; None where they are images.
        extent: Median side of the things that are to be found, as a part of the longer side of
            their image; None where there are none.
        device: Type of the device: cpu, cuda, mps.
        bfloat16: Whether it computes with bfloat16 faster.
    """

    pretrained: bool
    size: int | None
    median: tuple[int, int]
    elongated: float
    count: int
    seconds: float | None = None
    extent: float | None = None
    device: str = "cpu"
    bfloat16: bool = False

    @property
    def start(self) -> str:
        """`pretrained`, or from scratch: `tiny` for small images, else `scratch`."""
        if self.pretrained:
            return "pretrained"
        return "tiny" if min(self.median) <= TINY else "scratch"


@dataclass(frozen=True)
class Recipe:
    """What is taken where nothing was said, for a task and a start. Fields that `TrainSettings` has
    too mean the same there.

    Args:
        lr: Of a batch of 64 images; in proportion for others.
        most: Images a step, where there are enough to train on.
        size: Side of the input, the longer one; None: that of the images.
        own_size: Whether the size that the weights were trained for comes before it.
        bfloat16: Whether a CPU is to compute with it where it can: a step of boxes took 0.45 s of
            CPU time instead of 0.84 (ResNet-18, 8 images of 240 x 320, AVX512-BF16).
        probe: Whether a linear probe comes first, where the network has features.
        phases: Parts of the run.
        frames: Images of a clip; None where the input is a single image.
    """

    epochs: float
    lr: float
    most: int
    weight_decay: float
    smoothing: float
    norms: str
    crop: str
    smallest: float
    size: int | None = 128
    own_size: bool = True
    fit: str = "crop"
    bfloat16: bool = False
    probe: bool = False
    phases: tuple[Phase, ...] = (Phase(),)
    flip: str = "horizontal"
    frames: int | None = None


RECIPES: dict[tuple[str, str], Recipe] = {
    ("classes", "pretrained"): Recipe(
        epochs=5.0,
        lr=2e-3,
        most=32,
        weight_decay=0.05,
        smoothing=0.1,
        norms="train",
        crop="resized",
        smallest=0.35,
        bfloat16=True,
        probe=True,
        phases=(Phase(optimizer="adamw"),),
    ),
    ("classes", "scratch"): Recipe(
        epochs=30.0,
        lr=0.1,
        most=32,
        weight_decay=5e-4,
        smoothing=0.1,
        norms="train",
        crop="resized",
        smallest=0.25,
        bfloat16=True,
    ),
    ("classes", "tiny"): Recipe(
        epochs=30.0,
        lr=0.1,
        most=64,
        weight_decay=5e-4,
        smoothing=0.0,
        norms="train",
        crop="shift",
        smallest=0.25,
        size=None,
    ),
}
# A small crop may cut off what a label is of, and the loss of a label needs no smoothing.
RECIPES |= {
    ("labels", "pretrained"): replace(
        RECIPES["classes", "pretrained"], epochs=10.0, smoothing=0.0, smallest=0.7
    ),
    ("labels", "scratch"): replace(RECIPES["classes", "scratch"], smoothing=0.0, smallest=0.5),
    ("labels", "tiny"): replace(RECIPES["classes", "tiny"], smallest=0.5),
}
# Sizes and images of a clip as in the papers (112 px; 8 of 32), on a CPU. A mirrored motion may be
# one of another class. Rates by measurement: with those of images nothing is seen to move for long.
_CLIPS: dict[str, Any] = {
    "most": 16, "size": 112, "own_size": False, "frames": 8, "flip": "none", "smallest": 0.5,
    "bfloat16": True,
}  # fmt: skip
RECIPES |= {
    ("clips", "pretrained"): replace(
        RECIPES["classes", "pretrained"],
        epochs=10.0,
        lr=0.08,
        weight_decay=1e-4,
        norms="frozen",
        probe=False,
        phases=(Phase(),),
        **_CLIPS,
    ),
    ("clips", "scratch"): replace(RECIPES["classes", "scratch"], lr=0.2, **_CLIPS),
    ("clips", "tiny"): replace(RECIPES["classes", "tiny"], lr=0.2, **{**_CLIPS, "size": None}),
}
# Of tasks that say something of every place: the whole image is seen, at other scales and places. A
# batch is small, since it holds thousands of places.
RECIPES |= {
    ("boxes", "pretrained"): Recipe(
        epochs=40.0,
        lr=16e-3,
        most=8,
        weight_decay=1e-4,
        smoothing=0.0,
        norms="frozen",
        crop="jitter",
        smallest=0.5,
        size=320,
        own_size=False,
        fit="pad",
        bfloat16=True,
        phases=(Phase(optimizer="adamw", clip=10.0),),
    ),
}
RECIPES |= {
    ("boxes", "scratch"): replace(RECIPES["boxes", "pretrained"], epochs=100.0, norms="train"),
    ("boxes", "tiny"): replace(
        RECIPES["boxes", "pretrained"], epochs=100.0, norms="train", size=None
    ),
}
_MASK: dict[str, Any] = {"phases": (Phase(optimizer="adamw"),)}
RECIPES |= {
    ("mask", start): replace(RECIPES["boxes", start], size=240, **_MASK)
    for start in ("pretrained", "scratch")
} | {("mask", "tiny"): replace(RECIPES["boxes", "tiny"], **_MASK)}
# Why a setting is what it is, or what it is in one start; `how` where nothing stands here
WHY: dict[str | tuple[str, str], str] = {
    "size": "from scratch on a CPU: takes a third of the time of 224",
    ("size", "tiny"): "that of the images",
    "fit": "{elongated:.0%} of the images are longer than 1.6 : 1",
    "batch_size": "{count:,} training images, {how}",
    "lr": "{how}, in proportion to the batch size",
    "precision": "all digits",
    "crop": "photos",
    "flip": "photos look the same in a mirror",
    "frames": "as many as fit into the time of a CPU",
    "seconds": "median length of the videos, {longest:g} at most",
    ("crop", "tiny"): "small images",
}


def choose_model(median: tuple[int, int], task: str, pretrained: bool) -> tuple[str, str]:
    """The network where none is named, and why: one that there are ImageNet weights of, unless it
    starts from scratch. Even tiles of 64 pixels and images of 32 are learnt far better from them:
    2,000 tiles of EuroSAT in two minutes to 93.4 % instead of 81.8 %."""
    if task in MODELS:
        return MODELS[task]
    short = min(median)
    if short <= TINY and not pretrained:
        return "resnet20", f"images of {short} px (median): a network for small images"
    return "resnet18", "the smallest ImageNet network: fast on a CPU"


# Networks that do not depend on the images. On clips of a moving camera (`tools/make_clips.py`)
# this one came to 98 % in ten minutes of one core; inflated networks and a temporal shift, trained
# for two CPU minutes, were still at chance.
MODELS = {"clips": ("resnet18 time=motion", "compares neighbouring images: learns motion quickly")}


# Networks and sides of their input from scratch within a time limit, the most demanding one first:
# the first with which enough epochs fit is taken (`run.choices`). 2,000 tiles of EuroSAT for one
# minute on two cores: ResNet-20 at 32 px 80.8 % (14 epochs), at 64 px 66.6 % (4); ResNet-18 at 64
# px 75.2 to 77.4 % (5 to 6).
_LADDER = (("resnet18", 128), ("resnet20", 64), ("resnet20", 48), ("resnet20", 32))
LADDERS = {"classes": _LADDER, "labels": _LADDER}


def choose_recipe(settings: TrainSettings, seen: Circumstances) -> Recipe:
    """The row for the task of the settings and the start; its rate and weight decay carried over
    to the optimizer that was asked for, if that is another."""
    assert settings.task is not None
    recipe = RECIPES[settings.task, seen.start]
    own = recipe.phases[-1].optimizer
    if settings.optimizer in (None, own):
        return recipe
    asked = OPTIMIZERS[settings.optimizer]
    lr = recipe.lr * asked.lr / OPTIMIZERS[own].lr
    return replace(recipe, lr=lr, weight_decay=asked.weight_decay)


def decide(settings: TrainSettings, seen: Circumstances) -> tuple[TrainSettings, dict[str, str]]:
    """Fills every open setting.

    Args:
        settings: The task is known.
        seen: Circumstances.

    Returns:
        The settings without None (but `minutes`, `cache_gb` and `format`, and `frames` and
        `seconds` for images), and the reason for each that was decided here.
    """
    recipe, start = choose_recipe(settings, seen), seen.start
    how = "fine-tuning" if seen.pretrained else "from scratch"
    fit = "pad" if seen.elongated > 0.5 else recipe.fit
    batch = min(recipe.most, max(8, 2 ** max(0, seen.count // 8).bit_length() // 2))
    size = settings.batch_size or batch
    halved = seen.bfloat16 and (recipe.bfloat16 or seen.device != "cpu")
    values: dict[str, Any] = {
        "precision": "bfloat16" if halved else "float32",
        "size": recipe.size or max(16, min(seen.median) // 4 * 4),
        "fit": fit,
        "epochs": recipe.epochs,
        "batch_size": batch,
        "weight_decay": recipe.weight_decay,
        "smoothing": recipe.smoothing,
        "norms": "frozen" if seen.pretrained and size < FEW else recipe.norms,
        "crop": recipe.crop,
        "smallest": recipe.smallest,
        "flip": recipe.flip,
        "lr": round(recipe.lr * size * settings.accumulate / 64, 6),
    }
    if recipe.frames and seen.seconds:
        values |= {"frames": recipe.frames, "seconds": round(min(seen.seconds, LONGEST), 2)}
    here: dict[str, str] = {}  # reasons of what is not as the recipe says
    if recipe.flip == "none":
        here["flip"] = "a mirrored motion may be of another class"
    if values["norms"] == "frozen":
        here["norms"] = "small batches give poor statistics"
    if halved:
        here["precision"] = f"this {seen.device} computes with it"
    if recipe.size and not recipe.own_size:
        here["size"] = f"the longer side; usual for {settings.task}"
        if seen.extent and (wanted := SMALL / seen.extent) > recipe.size:
            values["size"] = min(LARGEST, math.ceil(wanted / 32) * 32)
            things = f"half of all boxes are below {seen.extent * values['size']:.0f} px in it"
            here["size"] = f"the longer side; {things}"
    elif seen.size and recipe.own_size:
        values["size"], here["size"] = seen.size, "what the weights were trained for"
    if recipe.crop == "resized" and (settings.fit or fit) != "crop":
        values["crop"], here["crop"] = "shift", "keeps whole images"
    if settings.minutes:
        del values["epochs"]
    taken = {key: value for key, value in values.items() if getattr(settings, key) is None}
    facts = {**vars(seen), "how": how, "longest": LONGEST}
    reasons = {
        key: here.get(key) or WHY.get((key, start), WHY.get(key, "{how}")).format(**facts)
        for key in taken
    }
    return replace(settings, **taken), reasons
