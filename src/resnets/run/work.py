"""A run in work: its images in memory, its plan, and the state before its first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnets.data.batches import TrainingBatches, Truth
from resnets.data.loader import PreparedImages, training_images
from resnets.data.splits import class_indices, refuse_unknown_classes
from resnets.data.transforms import Augmentation
from resnets.data.windows import to_windows
from resnets.kinds.prediction import Prediction
from resnets.kinds.sample import Sample
from resnets.modelfile import write_model
from resnets.models.rewrite import save_memory
from resnets.run.folder import RunFolder
from resnets.run.spec import Spec
from resnets.screen import Screen
from resnets.tasks import Task
from resnets.training.device import (
    PRECISIONS,
    choose_device,
    make_scaler,
    memory_for_images,
    place_net,
    refuse_precision,
)
from resnets.training.loop import Row, TrainingState, trained_part
from resnets.training.means import Means, drop_features, freeze
from resnets.training.optimizers import Average
from resnets.training.plan import Plan, plan_phases
from resnets.training.settings import TrainSettings

Callback = Callable[[Row], Any]
ROWS_AN_EPOCH = 5  # of results.csv
VALIDATIONS = 20  # at most about so many in a run
# Of a time limit, and seconds at least: kept free, since the end is measured beforehand, on a few
# images, the pace of a machine varies, and the interpreter itself needs a moment to end.
RESERVE, LEAST_RESERVE = 0.03, 2.0


@dataclass(frozen=True)
class Images:
    """The images of a run.

    Args:
        samples: All of them.
        batches: To train on.
        held_out: To validate on.
        measured: To measure the best weights on: a test part, or else those held out.
    """

    samples: list[Sample]
    batches: TrainingBatches
    held_out: PreparedImages
    measured: PreparedImages


@dataclass(frozen=True)
class Job:
    """A run in work: what was decided, and the objects that do it."""

    spec: Spec
    folder: RunFolder
    net: nn.Module
    images: Images
    screen: Screen
    callbacks: Sequence[Callback]
    started: float

    @property
    def task(self) -> Task:
        """How the network learns."""
        return self.spec.make_task()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.net.parameters()).device

    @property
    def deadline(self) -> float | None:
        """`time.monotonic()` at which all is to be done, a little before the time limit; None where
        there is no limit."""
        minutes = self.spec.settings.minutes
        if minutes is None:
            return None
        seconds = 60 * minutes
        return self.started + seconds - max(RESERVE * seconds, min(LEAST_RESERVE, seconds / 10))

    @property
    def exported(self) -> Path:
        """NAME.onnx, called as the data are."""
        return self.folder.path / f"{data_name(self.spec.settings.data)}.onnx"


def data_name(data: str) -> str:
    """What data are called: their folder, or their table where that says nothing."""
    path = Path(data).absolute()  # of a link, its own name
    name = (
        path.name
        if path.is_dir()
        else path.parent.name
        if path.stem in ("labels", "metadata")
        else path.stem
    )
    return name or "model"


def write_best(job: Job, net: nn.Module, best: dict[str, Any]) -> None:
    """best.safetensors.

    Args:
        job: The run.
        net: With the best weights.
        best: What they reached, and how they were chosen.
    """
    write_model(job.folder.best, net.state_dict(), {**job.spec.metadata(), "weights": best})


def read_images(spec: Spec, samples: list[Sample], screen: Screen) -> Images:
    """Decodes the images into memory, as far as the budget goes; held-out ones first, since they
    are all needed every time."""
    settings, preprocessing = spec.settings, spec.preprocessing
    assert settings.batch_size is not None
    budget, workers = memory_for_images(settings.cache_gb), settings.workers or None
    parts = {
        split: [sample for sample in samples if sample.split == split]
        for split in ("train", "val", "test")
    }
    refuse_unknown_classes(samples, spec.classes)
    view = (settings.crop or "none", settings.smallest or 1.0, settings.flip or "none")
    augmentation = Augmentation(*view, settings.augment, settings.magnitude, settings.erase)
    sampling = spec.sampling
    held_out, measured = (
        PreparedImages(
            to_windows(parts[split], sampling, workers=workers),
            preprocessing,
            budget,
            workers,
            sampling,
        )
        for split in ("val", "test")
    )
    measured = measured if parts["test"] else held_out
    clips = to_windows(parts["train"], sampling, True, workers)
    training = training_images(clips, preprocessing, augmentation, budget, workers, sampling)
    for title, images in (
        ("held-out images", held_out),
        ("test images", measured),
        ("training images", training),
    ):
        if images.kept:
            continue
        images.budget = budget
        with screen.progress(title, len(images)) as bar:
            for done in images.fill():
                bar.update(done)
        budget -= images.bytes
    kept, total = training.kept, len(training)
    beyond = (
        "" if kept == total else f"; {total - kept:,} beyond it are decoded every time (--cache-gb)"
    )
    screen.say(
        f"{kept:,} of {total:,} training images in memory ({training.bytes / 1e9:.2f} GB){beyond}"
    )
    task = spec.make_task()

    def read_truth(samples: Sequence[Sample]) -> list[Prediction]:
        return task.kind.ground_truth(samples, spec.classes)

    truth = Truth(read_truth, task.collate)
    by_class = settings.balance == "sampler"
    strata = class_indices(training.samples, spec.classes) if by_class else None
    numbers = (settings.batch_size, augmentation, settings.seed, settings.accumulate)
    batches = TrainingBatches(training, truth, *numbers, strata)
    return Images(samples, batches, held_out, measured)


def place_network(net: nn.Module, spec: Spec) -> nn.Module:
    """The network on its device, which a resumed run may find changed; its blocks compute twice,
    where memory is to be saved."""
    device = choose_device(spec.settings.device)
    refuse_precision(spec.settings.precision, device)
    if spec.settings.save_memory:
        save_memory(net)
    return place_net(net, device)


def make_plan(spec: Spec, per_epoch: int, device: torch.device) -> Plan:
    """When things happen in a run whose number of steps is fixed."""
    settings = spec.settings
    return Plan(
        plan_phases(spec.phases, spec.steps, settings),
        per_epoch,
        max(1, per_epoch // ROWS_AN_EPOCH),
        spec.interval or validation_interval(spec.steps, per_epoch),
        seed=settings.seed,
        train_norms=settings.norms != "frozen",
        autocast=autocast_of(settings, device),
        probed=spec.probe,
        means=Means.of(settings),
    )


def autocast_of(settings: TrainSettings, device: torch.device) -> torch.dtype | None:
    """In what steps compute, if not in float32; runs from before there was a setting used bfloat16
    on a GPU alone."""
    asked = settings.precision or ("bfloat16" if device.type == "cuda" else "float32")
    return PRECISIONS[asked]


def make_state(
    net: nn.Module, task: Task, plan: Plan, average: float, step: int = 0
) -> TrainingState:
    """A run's state before its first step, or one into which that of a later step can be put. The
    network gets what its means do to it.

    Args:
        net: With its first weights.
        task: Of the run.
        plan: Of the run.
        average: Horizon of the average of the weights, as a fraction of the run.
        step: Whose phase it is for.
    """
    phase = plan.phase(step)
    freeze(task.backbone(net), plan.means.freeze)
    if plan.means.dropout:  # else there need not be a classifier
        drop_features(task.head(net), plan.means.dropout)
    optimizer = phase.make_optimizer(trained_part(net, task, phase))
    scaler = make_scaler(next(net.parameters()).device, plan.autocast)
    return TrainingState(net, optimizer, Average(net, average * plan.steps), scaler=scaler)


def validation_interval(steps: int, per_epoch: int) -> int:
    """Steps between validations: whole epochs, so many that there are about `VALIDATIONS` at
    most."""
    return per_epoch * max(1, round(steps / per_epoch / VALIDATIONS))
