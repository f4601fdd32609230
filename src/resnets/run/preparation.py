"""Looks at the data, chooses the network and decides what was left open: everything but the number
of steps."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
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
from resnets.ranges import word
from resnets.run.rehearsal import check_module, try_network
from resnets.run.spec import Spec
from resnets.run.start import check_weights, first_weights, make_preprocessing
from resnets.screen import Screen
from resnets.training.recipe import (
    Circumstances,
    TrainSettings,
    choose_device,
    choose_model,
    decide,
)

LONG = 1.6  # long side over short one, from which on an image counts as elongated


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
    samples, split = complete_splits(check.usable(), settings.val_fraction, settings.seed)
    findings = check.findings_after(samples)
    _tell([finding for finding in findings if finding not in check.findings], screen)
    training = [sample for sample in samples if sample.split == "train"]
    classes = _classes(settings, samples, KINDS[check.found.kind])
    sizes = _sizes(check, training)
    median = (int(np.median(sizes[:, 0])), int(np.median(sizes[:, 1])))
    name, reason = settings.model, "given as a module" if given is not None else ""
    if given is None and name is None:
        name, reason = choose_model(median)
    network = (
        Network.parse(name, len(classes), settings.channels)
        if name and not is_foreign(name)
        else None
    )
    torch.manual_seed(settings.seed)
    if given is not None:
        net = given
    elif network is not None:
        net = network.build()
    else:
        assert name is not None
        net = build_foreign(name, len(classes), settings.channels)
        check_module(net)
    weights, words = first_weights(settings, network, screen)
    seen = Circumstances(
        pretrained=weights is not None or settings.weights == "given",
        size=(
            weights.preprocessing.size[0]
            if weights and weights.preprocessing
            else 224
            if weights
            else None
        ),
        median=median,
        elongated=float((sizes.max(1) > LONG * sizes.min(1)).mean()),
        count=len(training),
    )
    decided, reasons = decide(replace(settings, model=str(network) if network else name), seen)
    if check.deep_range:
        decided = replace(decided, range=word(check.deep_range))
    if weights is not None:
        words = f"{weights.source}: {load_weights(net, weights.state)}"
    show = {"model": str(network or name or type(net).__name__), "weights": words}
    shown = [
        *show.items(),
        *((key, str(getattr(decided, key))) for key in reasons if key != "model"),
    ]
    screen.say("")
    screen.pairs([(key, value, {**reasons, "model": reason}.get(key, "")) for key, value in shown])
    spec = Spec(
        decided,
        describe_network(network, net, len(classes), settings.channels, name),
        classes,
        make_preprocessing(decided, weights),
        steps=0,
        weights=words,
        layout=check.found.layout,
        split=split,
        findings=tuple((finding.severity, finding.text) for finding in findings),
        command=_command(),
    )
    with screen.progress("trying the network", 1):
        try_network(net, spec, len(training), screen)
    digests = {
        sample.path: fact.digest.hex()
        for sample, fact in zip(check.found.samples, check.facts, strict=True)
    }
    return Prepared(spec, net, samples, digests)


def refuse_early(settings: TrainSettings, given: object) -> None:
    """What is wrong whatever the data are is said before they are read.

    Raises:
        ValueError: No such network, weights or device, or no network that can be trained.
    """
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
    found = find_data(settings.data)
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


def _sizes(check: Check, samples: Sequence[Sample]) -> np.ndarray:
    """(n, 2) heights and widths of samples, in their files."""
    sizes = {
        sample.name: (fact.height, fact.width)
        for sample, fact in zip(check.found.samples, check.facts, strict=True)
    }
    return np.array([sizes[sample.name] for sample in samples])


def _command() -> str:
    program = Path(sys.argv[0]).name
    return shlex.join(["resnets", *sys.argv[1:]]) if program == "resnets" else "resnets.train(...)"
