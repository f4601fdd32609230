"""Looks at the data, chooses the network and decides what was left open: everything but the number
of steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from resnets.data.check import Check, check_images
from resnets.data.series import group_by_name
from resnets.data.sources import find_data
from resnets.data.splits import complete_splits, refuse_unknown_classes
from resnets.foreign import check_foreign, is_foreign
from resnets.kinds import KINDS, Kind
from resnets.kinds.sample import Finding, Sample
from resnets.models import Network
from resnets.run.choices import (
    choose_images,
    choose_precision,
    choose_rung,
    choose_side,
    in_float32,
)
from resnets.run.circumstances import look, sizes_of
from resnets.run.design import Data, design, make_network
from resnets.run.loggers import loggers_of
from resnets.run.rehearsal import check_module, try_network
from resnets.run.spec import Spec
from resnets.run.start import check_weights, first_weights
from resnets.screen import Screen
from resnets.settings import nearest
from resnets.tasks import TASKS
from resnets.training.device import choose_device, refuse_precision
from resnets.training.recipes import LADDERS
from resnets.training.settings import TrainSettings


@dataclass(frozen=True)
class Prepared:
    """A run that is decided but for its length: the spec, the network with its first weights, and
    the samples with their parts and what their files were (`content_digest`)."""

    spec: Spec
    net: nn.Module
    samples: list[Sample]
    digests: dict[Path, str]


def prepare(
    settings: TrainSettings,
    given: nn.Module | None,
    screen: Screen,
    started: float | None = None,
) -> Prepared:
    """From what was asked to what will be done.

    Args:
        settings: Some open.
        given: The network, where it was made outside this package.
        screen: Told of what was found and decided.
        started: `time.monotonic()` at which the minutes began to run; by default now.

    Raises:
        ValueError: The data, the network or a setting cannot be used.
    """
    started = time.monotonic() if started is None else started
    refuse_early(settings, given)
    check = _check(settings, screen)
    kind = KINDS[check.found.kind]
    settings = replace(settings, task=kind.name)
    refuse_unfit(settings)
    samples, split = complete_splits(check.usable(), settings.val_fraction, settings.seed)
    findings = check.findings_after(samples)
    _tell([finding for finding in findings if finding not in check.findings], screen)
    training = [sample for sample in samples if sample.split == "train"]
    classes = _classes(settings, samples, kind)
    sizes = sizes_of(check, training)
    _refuse_module(settings, given, kind)
    data = Data(check, kind, training, classes, sizes, split, findings)
    made = make_network(settings, given, data)
    weights, origin = first_weights(settings, made.network, screen)
    if weights is None and given is None and settings.model is None:
        # there are none: the network that is best without them
        made = make_network(replace(settings, weights="none"), given, data)
    seen = look(settings, weights, check, training)

    def left() -> float:
        return 60 * (settings.minutes or 0) - (time.monotonic() - started)

    open_ = settings.minutes and given is None and settings.model is None and settings.size is None
    if open_ and not seen.pretrained and kind.name in LADDERS:
        with screen.progress("trying networks", 1):
            settings, made = choose_rung(settings, data, seen, left())
    spec = design(settings, data, made, seen, weights, screen, origin)
    with screen.progress("trying the network", 1):
        halved = settings.precision is None and spec.settings.precision == "bfloat16"
        try_network(made.net, in_float32(spec) if halved else spec, training, screen)
        if halved:
            spec = choose_precision(spec, made.net, training, screen)
        if settings.minutes and settings.size is None and spec.probe:
            spec = choose_side(spec, made.net, samples, left(), screen)
        if settings.minutes:
            spec, samples = choose_images(spec, made.net, samples, left(), screen)
    digests = {
        sample.path: fact.digest.hex()
        for sample, fact in zip(check.found.samples, check.facts, strict=True)
    }
    return Prepared(spec, made.net, samples, digests)


def _refuse_module(settings: TrainSettings, given: object, kind: Kind) -> None:
    foreign = settings.model is not None and is_foreign(settings.model)
    if (given is not None or foreign) and not TASKS[kind.name].takes_modules:
        raise ValueError(
            f"the task {kind.name} puts a head of its own on the stages of a network of this"
            f" package; {settings.model or type(given).__name__} is none: name one, such as"
            " resnet18"
        )


def refuse_unfit(settings: TrainSettings) -> None:
    """Refuses means of training that the task does not take.

    Raises:
        ValueError: With what it takes, or the cure.
    """
    assert settings.task is not None
    for name, limit in TASKS[settings.task].limits.items():
        if (value := getattr(settings, name)) not in limit.allowed:
            allowed = ", ".join(str(one) for one in limit.allowed if one is not None)
            raise ValueError(
                f"{name}={value}: the task {settings.task} does not take it, since {limit.why};"
                f" {f'allowed: {allowed}' if allowed else 'leave it out'}"
            )


def refuse_early(settings: TrainSettings, given: object) -> None:
    """What is wrong whatever the data are is said before they are read.

    Raises:
        ValueError: No such task, network, weights or device, or no network that can be trained.
    """
    if settings.task is not None and settings.task not in KINDS:
        raise ValueError(f"no task {settings.task!r}; {nearest(settings.task, KINDS)}")
    refuse_precision(settings.precision, choose_device(settings.device))
    loggers_of(settings.log)
    _refuse_search(settings)
    check_weights(settings.weights)
    if given is not None:
        check_module(given)
        return
    if settings.weights == "given":
        raise ValueError(
            "weights=given: the network has none yet; pass a module to resnets.train, or choose"
            " auto, none or a file"
        )
    if settings.model is None:
        return
    if is_foreign(settings.model):
        check_foreign(settings.model)
    else:
        Network.parse(settings.model, in_channels=settings.channels)


def _refuse_search(settings: TrainSettings) -> None:
    if settings.find_lr and settings.lr is not None:
        raise ValueError(f"find_lr and lr={settings.lr:g} are both given; choose one")
    if settings.find_lr and settings.epochs == 0:
        raise ValueError(
            "find_lr: with epochs=0 (recipe=probe means it) nothing is trained that has a learning"
            " rate; leave it out, or give more epochs"
        )


def _check(settings: TrainSettings, screen: Screen) -> Check:
    found = find_data(settings.data, settings.format, settings.task)
    if settings.group != "auto":
        found = replace(found, samples=tuple(group_by_name(found.samples, settings.group)))
    screen.say(
        f"{settings.data}: {found.layout}, {len(found.samples):,} files, {len(found.classes)}"
        " classes"
    )
    with screen.progress("checking", len(found.samples)) as bar:
        check = check_images(found, bar.update, settings.workers or None, settings.range)
    _tell(check.findings, screen)
    errors = [finding.text for finding in check.findings if finding.severity == "error"]
    if errors:
        raise ValueError(f"{settings.data}: {'; '.join(errors)}")
    return check


def _tell(findings: Sequence[Finding], screen: Screen) -> None:
    for finding in findings:
        (screen.say if finding.severity == "note" else screen.warn)(
            f"  {finding.severity}: {finding.text}"
        )


def _classes(settings: TrainSettings, samples: Sequence[Sample], kind: Kind) -> tuple[str, ...]:
    """Names of the classes, from the training images alone."""
    training = [sample for sample in samples if sample.split == "train"]
    held_out = [sample for sample in samples if sample.split != "train"]
    classes = tuple(sorted({label for sample in training for label in sample.labels}))
    if len(classes) < kind.fewest_classes or not held_out:
        raise ValueError(
            f"{settings.data}: {len(training)} usable images of {len(classes)} classes to train"
            f" on and {len(held_out)} held out are too few; every class needs two images at least"
            " that are not alike"
        )
    refuse_unknown_classes(held_out, classes)
    return classes
