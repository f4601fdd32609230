"""A run as it was decided, and as `args.yaml` keeps it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnets.modelfile import Model
from resnets.preprocessing import Preprocessing
from resnets.sampling import Sampling, read_sampling
from resnets.settings import change, nearest, read_yaml, to_dict, to_yaml
from resnets.tasks import Task, describe_task, make_task, options_of
from resnets.training.plan import Phase
from resnets.training.settings import TrainSettings

MOST_STEPS = 10**9
# What runs were before their files said it; the options of the task stood in the settings alone
OLD: dict[str, Any] = {
    "task": {"name": "classes"},
    "phases": [{}],
    "image_size": [],
    "probe": False,
    "stage": 0,
    "interval": 0,
    "omitted": 0,
    "pairs": [],
}


@dataclass(frozen=True)
class Spec:
    """A run as it was decided; with the split and the last checkpoint, all that is needed to go on
    with it.

    Args:
        settings: Nothing open.
        task: Its name and its options (`describe_task`).
        phases: Its parts, one after the other.
        network: How the network is built (`describe_network`).
        classes: Names, in the order of the outputs.
        preprocessing: Of the network.
        image_size: Median height and width of the training images; empty in runs of before it was
            known.
        steps: Of the whole run; 0 as long as that is not decided.
        pairs: Images that look alike, by name, and how (`Check.shown_pairs`).
        interval: Steps between validations; 0: of `validation_interval`.
        weights: Where the first weights came from, as text.
        layout: How the data lie, as text.
        split: How they were split, as text.
        omitted: Images that were left out, as the time limit does not allow to look at them.
        findings: What the check found.
        command: What was typed.
        probe: Whether a linear probe comes before the first step.
        stage: Steps of the last stage alone, after the probe and in place of all layers; 0: none.
        sampling: Which images of a video are one input; None where that is one image.
    """

    settings: TrainSettings
    task: dict[str, Any]
    phases: tuple[Phase, ...]
    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    image_size: tuple[int, ...]
    steps: int
    weights: str
    layout: str
    split: str
    findings: tuple[tuple[str, str], ...]
    command: str
    probe: bool = False
    stage: int = 0
    interval: int = 0
    omitted: int = 0
    pairs: tuple[tuple[str, str, str], ...] = ()
    sampling: Sampling | None = None

    @property
    def planned(self) -> int:
        """Steps of the run as they were decided, of all layers or of the last stage."""
        return self.steps or self.stage

    def input_shape(self, count: int, size: int | None = None) -> tuple[int, ...]:
        """Of so many images or clips as the network takes them, in the size of the run or of a
        phase."""
        frames = (self.sampling.frames,) if self.sampling else ()
        sides = (size, size) if size else self.preprocessing.size
        return (count, self.preprocessing.channels, *frames, *sides)

    def to_yaml(self) -> str:
        """args.yaml."""
        own = {
            key: value
            for key, value in vars(self).items()
            if key not in ("settings", "preprocessing", "sampling")
        }
        plain = {
            **own,
            "phases": [asdict(phase) for phase in self.phases],
            "classes": list(self.classes),
            "image_size": list(self.image_size),
            "findings": [list(finding) for finding in self.findings],
            "pairs": [list(pair) for pair in self.pairs],
        }
        return to_yaml(
            {
                "settings": to_dict(self.settings),
                "preprocessing": self.preprocessing.to_dict(),
                **plain,
                **self._sampling(),
            }
        )

    def _sampling(self) -> dict[str, Any]:
        """An entry for files, where there is something to say."""
        return {"sampling": self.sampling.to_dict()} if self.sampling else {}

    @classmethod
    def read(cls, path: Path) -> Spec:
        """From args.yaml.

        Raises:
            ValueError: It is not what `to_yaml` writes.
        """
        values = {**OLD, **read_yaml(path)}
        sampled = values.pop("sampling", None)
        try:
            _check_shape(values)
            given = values.pop("settings")
            settings = change(TrainSettings(given.pop("data")), given)
            task = _read_task(values.pop("task"), settings)
            settings = replace(settings, task=task.kind.name)
            _check_decided(settings)
            if len(values["classes"]) < task.kind.fewest_classes:
                raise ValueError(f"classes: at least {task.kind.fewest_classes} names expected")
            phases = tuple(change(Phase(), phase) for phase in values.pop("phases"))
            preprocessing = Preprocessing.from_dict(values.pop("preprocessing"))
            sampling = read_sampling(sampled, task.kind.takes)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}: {error}; restore the file as the run wrote it, or train anew"
            ) from None
        classes, findings, pairs = (values.pop(key) for key in ("classes", "findings", "pairs"))
        image_size = tuple(values.pop("image_size"))
        return cls(
            settings=settings,
            task=describe_task(task),
            phases=phases,
            preprocessing=preprocessing,
            image_size=image_size,
            classes=tuple(classes),
            findings=tuple(tuple(finding) for finding in findings),
            pairs=tuple(tuple(pair) for pair in pairs),
            sampling=sampling,
            **values,
        )

    def make_task(self) -> Task:
        """The task itself."""
        return make_task(self.task)

    def make_model(self, net: nn.Module) -> Model:
        """The model that a network of this run is."""
        return Model(
            net,
            self.classes,
            self.preprocessing,
            self.network,
            self.make_task(),
            sampling=self.sampling,
        )

    def metadata(self) -> dict[str, Any]:
        """What every model file of the run says of it."""
        return {
            "task": self.task,
            "network": self.network,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            **self._sampling(),
            "image_size": list(self.image_size),
            "training": {**to_dict(self.settings), "steps": self.steps},
            "source": self.weights,
            "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        }


def choose_task(name: str, settings: TrainSettings) -> Task:
    """The task of a name, with those of its options that are settings."""
    return make_task({"name": name, **_options(name, settings)})


def _options(name: str, settings: TrainSettings) -> dict[str, Any]:
    known = to_dict(settings)
    if settings.loss:  # of a task, `loss` is what it does
        known["criterion"] = settings.loss
    return {key: known[key] for key in options_of(name) if key in known}


def _read_task(description: dict[str, Any], settings: TrainSettings) -> Task:
    name = make_task(description).kind.name
    return make_task({**_options(name, settings), **description})


TYPES: dict[str, type] = {  # of what args.yaml holds
    "settings": dict,
    "task": dict,
    "phases": list,
    "preprocessing": dict,
    "image_size": list,
    "network": dict,
    "classes": list,
    "steps": int,
    "weights": str,
    "layout": str,
    "split": str,
    "findings": list,
    "command": str,
    "probe": bool,
    "stage": int,
    "interval": int,
    "omitted": int,
    "pairs": list,
}
NETWORK: dict[str, type] = {"kind": str, "name": str, "classes": int, "channels": int}


def _check_shape(values: dict[str, Any]) -> None:
    _check_types(values, TYPES, "")
    _check_types(values["network"], NETWORK, "network: ")
    if not isinstance(values["settings"].get("data"), str):
        raise ValueError("settings: data, a text, is missing")
    classes, findings, phases = values["classes"], values["findings"], values["phases"]
    if not phases or not all(isinstance(phase, dict) for phase in phases):
        raise ValueError("phases: at least one mapping expected")
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes: names expected")
    if len(set(classes)) < len(classes) or len(classes) != values["network"]["classes"]:
        raise ValueError("classes: a different name for each output of the network expected")
    if not _are_texts(findings, 2):
        raise ValueError("findings: pairs of severity and text expected")
    if not _are_texts(values["pairs"], 3):
        raise ValueError("pairs: two names of images and how they are alike expected")
    sides = values["image_size"]
    if len(sides) not in (0, 2) or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError("image_size: height and width in pixels expected")
    for name in ("steps", "stage", "omitted"):
        if not 0 <= values[name] <= MOST_STEPS:
            raise ValueError(f"{name} is {values[name]}; allowed: 0 to {MOST_STEPS:,}")


def _are_texts(rows: list[Any], length: int) -> bool:
    return all(
        isinstance(row, list) and len(row) == length and all(isinstance(one, str) for one in row)
        for row in rows
    )


def _check_types(values: dict[str, Any], kinds: dict[str, type], where: str) -> None:
    for key, kind in kinds.items():
        if key not in values:
            raise ValueError(f"{where}{key} is missing")
        if not isinstance(values[key], kind) or isinstance(values[key], bool) != (kind is bool):
            raise ValueError(
                f"{where}{key} is of type {type(values[key]).__name__}; {kind.__name__} expected"
            )
    if unknown := [key for key in values if key not in kinds]:
        raise ValueError(f"{where}unknown key {unknown[0]!r}: {nearest(unknown[0], kinds)}")


def _check_decided(settings: TrainSettings) -> None:
    """Of a run that began, only these may be open."""
    free = {"model", "format", "epochs", "minutes", "cache_gb", "precision", "frames", "seconds"}
    free |= {"optimizer", "clip", "loss"}  # its phases and its task have them
    free |= {"recipe", "patience"}
    for field in fields(settings):
        if field.name not in free and getattr(settings, field.name) is None:
            raise ValueError(f"settings: {field.name} is open; a value expected")
