"""A trained network with what it takes to use it, and how it comes out of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnets.formats import FIRST_TASK, read_task
from resnets.modelfile.description import read_description
from resnets.modelfile.networks import build_network
from resnets.modelfile.storage import best_weights, digest_of, read_model
from resnets.models import Network
from resnets.models.weights import differences
from resnets.preprocessing import Preprocessing
from resnets.sampling import Sampling
from resnets.settings import to_dict
from resnets.tasks import TASKS, Task, make_task


@dataclass
class Model:
    """A trained network and what it takes to use it (`torch_engine.TorchEngine` runs it).

    Args:
        net: The network, in eval mode.
        classes: Names, in the order of its outputs.
        preprocessing: How images become its input.
        network: How the network is built, as `describe_network` says it.
        task: What it was trained to predict, with its options.
        metadata: All else that the file holds (training, metrics, versions).
        sampling: Which images of a video are its input; None where that is one image.
    """

    net: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    network: dict[str, Any]
    task: Task = field(default_factory=TASKS[FIRST_TASK])
    metadata: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling | None = None

    def __post_init__(self) -> None:
        self.net.eval()

    @property
    def network_name(self) -> str:
        """The network as text: `resnet18 shortcut=none`."""
        return str(self.network["name"])

    @property
    def options(self) -> Mapping[str, Any]:
        """Of its task, in the types that `kind.unbatch` takes."""
        return self.task.kind.options(to_dict(self.task), self.classes)

    @property
    def sha256(self) -> str:
        """Digest of all that decides its predictions: weights, network, classes, preprocessing,
        and options of its task."""
        state = {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}
        decides: list[Any] = [self.network, list(self.classes), self.preprocessing.to_dict()]
        values = to_dict(self.task)
        if options := {name: values[name] for name in self.options}:
            decides.append(options)
        if self.sampling:
            decides.append(self.sampling.to_dict())
        return digest_of(state, {"decides": decides})


def load_model(path: str | Path, given: str | nn.Module | None = None) -> Model:
    """The model of a model file, or of a run folder (its best weights), ready to use.

    Args:
        path: NAME.safetensors, or a folder that `train` made.
        given: The network, or its name (`timm:NAME`), where it was made outside this package.

    Raises:
        ValueError: The file is refused, or needs `given`, or that is another network.
    """
    path = best_weights(path)
    tensors, metadata = read_model(path)
    found = read_description(path, metadata)
    state = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    try:
        read_task(found.task, found.classes)  # whether its options fit the classes
        task = make_task(found.task)
        if given is None and found.network["kind"] == "family":
            _check_size(found.network, task, state)
        net = build_network(found.network, task, given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if different := differences(net.state_dict(), state):
        raise ValueError(
            f"{path}: weights of {found.network['name']} do not fit {type(net).__name__}:"
            f" {different}"
        )
    net.load_state_dict(state, strict=False)
    return Model(
        net, found.classes, found.preprocessing, found.network, task, metadata, found.sampling
    )


def _check_size(network: Mapping[str, Any], task: Task, state: Mapping[str, Tensor]) -> None:
    """Refuses the name of a network that has other tensors than the file, before it takes memory.

    Raises:
        ValueError: Such a name, or none of this package.
    """
    name = network["name"]
    setting = Network.parse(name).setting
    layers = [*getattr(setting, "depths", (getattr(setting, "depth", 0),))]
    kind, *pieces = getattr(setting, "spatial", ("conv",))
    if kind == "res2":
        layers += map(int, pieces)
    if sum(layers) > len(state):
        raise ValueError(f"{name:.200} has more layers than the file has tensors")
    try:
        with torch.device("meta"):
            own = build_network(network, task).state_dict()
    except (RuntimeError, OverflowError, TypeError) as error:
        raise ValueError(f"{name:.200} cannot be built ({str(error).splitlines()[0]})") from None
    if different := differences(own, state):
        raise ValueError(f"weights of {name:.200} do not fit it: {different}")
