"""A folder of photos in, one proven file out: the residual network, end to end.

Names are imported when they are first used, so that reading an exported file needs neither torch
nor the time to load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "load": "resnets.loading",
    "Prediction": "resnets.kinds.prediction",
    "Preprocessing": "resnets.preprocessing",
    "train": "resnets.run",
    "create_model": "resnets.creation",
    "list_models": "resnets.models",
    "ResNet": "resnets.models",
    "BasicBlock": "resnets.models",
    "Bottleneck": "resnets.models",
    "ResNet18": "resnets.models",
    "ResNet34": "resnets.models",
    "ResNet50": "resnets.models",
    "ResNet101": "resnets.models",
    "ResNet152": "resnets.models",
}
_PACKAGES = frozenset(
    (
        "checkpoints",
        "cli",
        "creation",
        "data",
        "evaluation",
        "export",
        "loading",
        "modelfile",
        "models",
        "preprocessing",
        "pretrained",
        "kinds",
        "run",
        "runtime",
        "settings",
        "summary",
        "tasks",
        "torch_engine",
    )
)
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from resnets.creation import create_model as create_model
    from resnets.kinds.prediction import Prediction as Prediction
    from resnets.loading import load as load
    from resnets.models import BasicBlock as BasicBlock
    from resnets.models import Bottleneck as Bottleneck
    from resnets.models import ResNet as ResNet
    from resnets.models import ResNet18 as ResNet18
    from resnets.models import ResNet34 as ResNet34
    from resnets.models import ResNet50 as ResNet50
    from resnets.models import ResNet101 as ResNet101
    from resnets.models import ResNet152 as ResNet152
    from resnets.models import list_models as list_models
    from resnets.preprocessing import Preprocessing as Preprocessing
    from resnets.run import train as train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"resnets.{name}")
    raise AttributeError(f"module 'resnets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_PACKAGES])
