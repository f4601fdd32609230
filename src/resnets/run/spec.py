"""A run as it was decided, and as `args.yaml` keeps it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnets.preprocessing import Preprocessing
from resnets.settings import change, read_yaml, to_dict, to_yaml
from resnets.training.recipe import TrainSettings


@dataclass(frozen=True)
class Spec:
    """A run as it was decided; with the split and the last checkpoint, all that is needed to go on
    with it.

    Args:
        settings: Nothing open.
        network: How the network is built (`describe_network`).
        classes: Names, in the order of the outputs.
        preprocessing: Of the network.
        steps: Of the whole run.
        weights: Where the first weights came from, in words.
        layout: How the data lie, in words.
        split: How they were split, in words.
        findings: What the check found.
        command: What was typed.
    """

    settings: TrainSettings
    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    steps: int
    weights: str
    layout: str
    split: str
    findings: tuple[tuple[str, str], ...]
    command: str

    def to_yaml(self) -> str:
        """args.yaml."""
        own = {
            key: value
            for key, value in vars(self).items()
            if key not in ("settings", "preprocessing")
        }
        plain = {
            **own,
            "classes": list(self.classes),
            "findings": [list(finding) for finding in self.findings],
        }
        return to_yaml(
            {
                "settings": to_dict(self.settings),
                "preprocessing": self.preprocessing.to_dict(),
                **plain,
            }
        )

    @classmethod
    def read(cls, path: Path) -> Spec:
        """From args.yaml."""
        values = read_yaml(path)
        given = values.pop("settings")
        settings = change(TrainSettings(given.pop("data")), given)
        preprocessing = Preprocessing.from_dict(values.pop("preprocessing"))
        classes, findings = (
            tuple(values.pop("classes")),
            tuple(tuple(finding) for finding in values.pop("findings")),
        )
        return cls(
            settings=settings,
            preprocessing=preprocessing,
            classes=classes,
            findings=findings,
            **values,
        )

    def metadata(self) -> dict[str, Any]:
        """What every model file of the run says of it."""
        return {
            "network": self.network,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "training": {**to_dict(self.settings), "steps": self.steps},
            "source": self.weights,
            "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        }
