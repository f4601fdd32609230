"""The design of a run: the network, and the spec that comes of it, the data and the settings."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from resnets.data.check import Check
from resnets.foreign import build_foreign, is_foreign
from resnets.kinds import Kind
from resnets.kinds.sample import Finding, Sample
from resnets.modelfile import describe_network
from resnets.models import Network
from resnets.models.rewrite import save_memory
from resnets.models.weights import load_weights
from resnets.pretrained import Weights
from resnets.ranges import format_range
from resnets.run.balance import weighted
from resnets.run.circumstances import median
from resnets.run.featured import can_probe
from resnets.run.rehearsal import check_module
from resnets.run.spec import Spec, choose_task
from resnets.run.start import input_shape, make_preprocessing
from resnets.sampling import Sampling
from resnets.screen import Screen
from resnets.tasks import TASKS, Task, describe_task
from resnets.training.means import classifier_of, frozen_modules
from resnets.training.papers import PAPERS
from resnets.training.plan import adapt_phases
from resnets.training.recipes import Circumstances, choose_model, choose_recipe, decide
from resnets.training.settings import TrainSettings


@dataclass(frozen=True)
class Data:
    """The data of a run, checked and split.

    Args:
        check: Of all of them.
        kind: What is learnt of them.
        training: Samples to train on.
        classes: Names, in the order of the outputs.
        sizes: (n, 2) heights and widths of the training images.
        split: How they were split, as text.
        findings: What the check found.
    """

    check: Check
    kind: Kind
    training: Sequence[Sample]
    classes: tuple[str, ...]
    sizes: np.ndarray
    split: str
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Made:
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


def make_network(
    settings: TrainSettings, given: nn.Module | None, data: Data, reason: str = ""
) -> Made:
    """The network with the weights it is born with.

    Args:
        settings: The task is known.
        given: The network, where it was made outside this package.
        data: It is for.
        reason: Why it is the one that the settings name.
    """
    torch.manual_seed(settings.seed)
    assert settings.task is not None
    foreign = given is not None or (settings.model is not None and is_foreign(settings.model))
    if foreign and settings.stochastic_depth:
        raise ValueError(
            f"stochastic_depth={settings.stochastic_depth:g}: the network was made outside this"
            " package; build it with stochastic depth, or leave this out"
        )
    if given is not None:
        return Made(given, None, settings.model, "given as a module")
    name = settings.model
    if name is None:
        pretrained = settings.weights != "none"
        name, reason = choose_model(median(data.sizes), settings.task, pretrained)
    if is_foreign(name):
        net = build_foreign(name, len(data.classes), settings.channels)
        check_module(net)
        return Made(net, None, name, reason)
    changes = {"drop_path": settings.stochastic_depth} if settings.stochastic_depth else {}
    network = Network.parse(name, len(data.classes), settings.channels, **changes)
    net = TASKS[settings.task]().build(network, len(data.classes))
    return Made(net, network, str(network), reason)


def design(
    settings: TrainSettings,
    data: Data,
    made: Made,
    seen: Circumstances,
    weights: Weights | None,
    screen: Screen,
    origin: str = "",
) -> Spec:
    """Everything that is decided before anything is tried.

    Args:
        settings: Some open.
        data: To learn from.
        made: The network; takes the weights.
        seen: What open settings are decided by.
        weights: The first ones, if there are any.
        screen: Told of what was decided.
        origin: Where the first weights come from, if there are none to load.
    """
    decided, reasons = decide(replace(settings, model=made.name), seen)
    _refuse_fit(decided, data.kind)
    if data.check.deep_range:
        decided = replace(decided, range=format_range(data.check.deep_range))
    assert decided.size is not None
    shape = input_shape(decided.size, data.kind.fits, data.sizes)
    task = choose_task(data.kind.name, decided)
    _refuse_parts(decided, task, made)
    if decided.balance == "weights":
        task = weighted(task, data.training, data.classes)
    recipe, fresh = choose_recipe(decided, seen), False
    if weights is not None:
        loaded = load_weights(task.backbone(made.net), weights.state)
        origin, fresh = f"{weights.source}: {loaded}", bool(loaded.left)
    probe = recipe.probe and fresh and can_probe(made.net, task)
    if decided.epochs == 0 and not probe:
        _refuse_nothing(settings, origin)
    _show(decided, reasons, made, origin, screen)
    return Spec(
        settings=decided,
        task=describe_task(task),
        phases=adapt_phases(recipe.phases, decided),
        network=made.describe(len(data.classes), settings.channels),
        classes=data.classes,
        preprocessing=make_preprocessing(decided, weights, shape),
        image_size=median(data.sizes),
        steps=0,
        weights=origin,
        layout=data.check.found.layout,
        split=data.split,
        findings=tuple((finding.severity, finding.text) for finding in data.findings),
        pairs=tuple(data.check.shown_pairs()),
        command=_command(),
        # a head that came trained, or as given, is kept
        probe=probe,
        sampling=_sampling(decided, data.kind),
    )


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


def _refuse_nothing(settings: TrainSettings, origin: str) -> NoReturn:
    wanted = f"recipe={settings.recipe}" if settings.recipe else f"epochs={settings.epochs:g}"
    raise ValueError(
        f"{wanted} stops after the linear probe of a pretrained network with a fresh head, and this"
        f" run has none (first weights: {origin}); choose --weights auto or a file of weights for"
        " other classes, --model resnet18, or more epochs"
    )


def _refuse_fit(settings: TrainSettings, kind: Kind) -> None:
    if settings.fit not in kind.fits:
        raise ValueError(
            f"fit={settings.fit} would cut away what is to be found; allowed for {kind.name}:"
            f" {', '.join(kind.fits)}"
        )


def _refuse_parts(settings: TrainSettings, task: Task, made: Made) -> None:
    """Refuses means of training for parts that the network does not have. As long as it is tried,
    it saves memory as it does in the run."""
    name = made.name or type(made.net).__name__
    if settings.save_memory and not save_memory(made.net):
        raise ValueError(
            f"save_memory: {name} has no blocks of this package, of which it is known what can"
            " be computed again; leave it out, or name a network such as resnet50"
        )
    if settings.calibrate != "none" and not can_probe(made.net, task):
        raise ValueError(
            f"calibrate={settings.calibrate} needs a network that ends in a linear layer on pooled"
            f" features; {name} for the task {task.kind.name} does not: leave it out"
        )
    frozen_modules(task.backbone(made.net), settings.freeze)
    if settings.dropout:
        classifier_of(task.head(made.net))


def _show(
    settings: TrainSettings, reasons: Mapping[str, str], made: Made, weights: str, screen: Screen
) -> None:
    """What was decided, with the reasons."""
    rows = []
    if settings.recipe:
        paper = PAPERS[settings.recipe]
        rows = [("recipe", f"{settings.recipe}: {paper}", paper.source)]
    rows += [
        ("model", settings.model or type(made.net).__name__, made.reason),
        ("weights", weights, ""),
        *((key, str(getattr(settings, key)), reason) for key, reason in reasons.items()),
    ]
    screen.say("")
    screen.pairs(rows)


def _command() -> str:
    program = Path(sys.argv[0]).name
    return shlex.join(["resnets", *sys.argv[1:]]) if program == "resnets" else "resnets.train(...)"
