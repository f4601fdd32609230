"""Looks at the data, chooses the network and decides what was left open: everything but the number
of steps."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnets.data.check import Check, check_images
from resnets.data.sources import find_data
from resnets.data.splits import complete_splits, refuse_unknown_classes
from resnets.foreign import build_foreign, check_foreign, is_foreign
from resnets.kinds import KINDS, Kind
from resnets.kinds.sample import Finding, Sample
from resnets.modelfile import describe_network
from resnets.models import Network
from resnets.models.weights import load_weights
from resnets.ranges import format_range
from resnets.run.circumstances import look, median, sizes_of
from resnets.run.rehearsal import check_module, try_network
from resnets.run.spec import Spec, choose_task
from resnets.run.start import check_weights, first_weights, input_shape, make_preprocessing
from resnets.sampling import Sampling
from resnets.screen import Screen
from resnets.settings import nearest
from resnets.tasks import TASKS, describe_task
from resnets.training.device import choose_device
from resnets.training.recipes import choose_model, choose_recipe, decide
from resnets.training.settings import TrainSettings


@dataclass(frozen=True)
class Prepared:
    """A run that is decided but for its length: the spec, the network with its first weights, and
    the samples with their parts and what their files were (`content_digest`)."""

    spec: Spec
    net: nn.Module
    samples: list[Sample]
    digests: dict[Path, str]


def prepare(settings: TrainSettings, given: nn.Module | None, screen: Screen) -> Prepared:
    """From what was asked to what will be done.

    Args:
        settings: Some open.
        given: The network, where it was made outside this package.
        screen: Told of what was found and decided.

    Raises:
        ValueError: The data, the network or a setting cannot be used.
    """
    refuse_early(settings, given)
    check = _check(settings, screen)
    kind = KINDS[check.found.kind]
    settings = replace(settings, task=kind.name)
    samples, split = complete_splits(check.usable(), settings.val_fraction, settings.seed)
    findings = check.findings_after(samples)
    _tell([finding for finding in findings if finding not in check.findings], screen)
    training = [sample for sample in samples if sample.split == "train"]
    classes = _classes(settings, samples, kind)
    sizes = sizes_of(check, training)
    _refuse_module(settings, given, kind)
    made = _make_network(settings, given, median(sizes), len(classes))
    weights, origin = first_weights(settings, made.network, screen)
    seen = look(settings, weights, check, training)
    decided, reasons = decide(replace(settings, model=made.name), seen)
    _refuse_fit(decided, kind)
    if check.deep_range:
        decided = replace(decided, range=format_range(check.deep_range))
    assert decided.size is not None
    shape = input_shape(decided.size, kind.fits, sizes)
    task = choose_task(kind.name, decided)
    if weights is not None:
        loaded = load_weights(task.backbone(made.net), weights.state)
        origin = f"{weights.source}: {loaded}"
    _show(decided, reasons, made, origin, screen)
    spec = Spec(
        settings=decided,
        task=describe_task(task),
        phases=choose_recipe(decided, seen).phases,
        network=made.describe(len(classes), settings.channels),
        classes=classes,
        preprocessing=make_preprocessing(decided, weights, shape),
        image_size=median(sizes),
        steps=0,
        weights=origin,
        layout=check.found.layout,
        split=split,
        findings=tuple((finding.severity, finding.text) for finding in findings),
        command=_command(),
        sampling=_sampling(decided, kind),
    )
    with screen.progress("trying the network", 1):
        try_network(made.net, spec, training, screen)
    digests = {
        sample.path: fact.digest.hex()
        for sample, fact in zip(check.found.samples, check.facts, strict=True)
    }
    return Prepared(spec, made.net, samples, digests)


@dataclass(frozen=True)
class _Made:
    """A network: as it was asked for, made, and why it is this one.

    Args:
        net: The network itself.
        network: Its settings; None for one that was made outside this package.
        name: What it was called, if it was.
        reason: Why it was chosen; empty where it was named.
    """

    net: nn.Module
    network: Network | None
    name: str | None
    reason: str

    def describe(self, classes: int, channels: int) -> dict[str, Any]:
        """How it is built again."""
        return describe_network(self.network, self.net, classes, channels, self.name)


def _make_network(
    settings: TrainSettings, given: nn.Module | None, median: tuple[int, int], classes: int
) -> _Made:
    """The network with the weights it is born with."""
    torch.manual_seed(settings.seed)
    assert settings.task is not None
    if given is not None:
        return _Made(given, None, settings.model, "given as a module")
    name, reason = (settings.model, "") if settings.model else choose_model(median, settings.task)
    if is_foreign(name):
        net = build_foreign(name, classes, settings.channels)
        check_module(net)
        return _Made(net, None, name, reason)
    network = Network.parse(name, classes, settings.channels)
    net = TASKS[settings.task]().build(network, classes)
    return _Made(net, network, str(network), reason)


def _sampling(settings: TrainSettings, kind: Kind) -> Sampling | None:
    """Which images of a video are one input, where the kind takes clips.

    Raises:
        ValueError: Images with more than 8 bits are asked of videos.
    """
    if kind.takes == "image":
        return None
    assert settings.frames is not None
    assert settings.seconds is not None
    if settings.bits != 8:
        raise ValueError(f"bits={settings.bits}: videos are read with 8; leave it out")
    return Sampling(settings.frames, float(settings.seconds))


def _refuse_module(settings: TrainSettings, given: object, kind: Kind) -> None:
    foreign = settings.model is not None and is_foreign(settings.model)
    if (given is not None or foreign) and not TASKS[kind.name].takes_modules:
        raise ValueError(
            f"the task {kind.name} puts a head of its own on the stages of a network of this"
            f" package; {settings.model or type(given).__name__} is none: name one, such as"
            " resnet18"
        )


def _refuse_fit(settings: TrainSettings, kind: Kind) -> None:
    if settings.fit not in kind.fits:
        raise ValueError(
            f"fit={settings.fit} would cut away what is to be found; allowed for {kind.name}:"
            f" {', '.join(kind.fits)}"
        )


def _show(
    settings: TrainSettings, reasons: Mapping[str, str], made: _Made, weights: str, screen: Screen
) -> None:
    """What was decided, with the reasons."""
    rows = [
        ("model", settings.model or type(made.net).__name__, made.reason),
        ("weights", weights, ""),
        *((key, str(getattr(settings, key)), reason) for key, reason in reasons.items()),
    ]
    screen.say("")
    screen.pairs(rows)


def refuse_early(settings: TrainSettings, given: object) -> None:
    """What is wrong whatever the data are is said before they are read.

    Raises:
        ValueError: No such task, network, weights or device, or no network that can be trained.
    """
    if settings.task is not None and settings.task not in KINDS:
        raise ValueError(f"no task {settings.task!r}; {nearest(settings.task, KINDS)}")
    choose_device(settings.device)
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


def _check(settings: TrainSettings, screen: Screen) -> Check:
    found = find_data(settings.data, settings.format, settings.task)
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


def _command() -> str:
    program = Path(sys.argv[0]).name
    return shlex.join(["resnets", *sys.argv[1:]]) if program == "resnets" else "resnets.train(...)"
