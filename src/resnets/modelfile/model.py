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
from resnets.tasks.familiarity import PREFIX, Familiarity, WithFamiliarity


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
        familiarity: How like those of training an image is; None where that is not known.
    """

    net: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    network: dict[str, Any]
    task: Task = field(default_factory=TASKS[FIRST_TASK])
    metadata: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling | None = None
    familiarity: Familiarity | None = None

    def __post_init__(self) -> None:
        self.net.eval()

    @property
    def network_name(self) -> str:
        """The network as text: `resnet18 shortcut=none`."""
        return str(self.network["name"])

    def inference(self) -> nn.Module:
        """Normalised images to a tuple of all outputs, in the order of its kind."""
        self.net.eval()
        found = self.task.inference(self.net)
        if self.familiarity is not None:
            device = next(self.net.parameters()).device
            found = WithFamiliarity(found, self.familiarity.to(device))
        return found.eval()

    @property
    def options(self) -> Mapping[str, Any]:
        """Of its task, in the types that `kind.unbatch` takes."""
        return self.task.kind.options(to_dict(self.task), self.classes)

    def fitted(self) -> dict[str, Tensor]:
        """What its file holds beside the state dict of the network: what is familiar."""
        known = {} if self.familiarity is None else self.familiarity.state_dict()
        return {f"{PREFIX}{name}": tensor for name, tensor in known.items()}

    @property
    def sha256(self) -> str:
        """Digest of all that decides its predictions: weights, network, classes, preprocessing,
        options of its task, and what is familiar."""
        tensors = {**self.net.state_dict(), **self.fitted()}
        state = {name: tensor.cpu() for name, tensor in tensors.items()}
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
        net,
        found.classes,
        found.preprocessing,
        found.network,
        task,
        metadata,
        found.sampling,
        _read_familiarity(path, tensors, task, net),
    )


def _read_familiarity(
    path: Path, tensors: Mapping[str, Tensor], task: Task, net: nn.Module
) -> Familiarity | None:
    """What a file says is familiar; nothing where its network has no features to tell it by."""
    if not any(name.startswith(PREFIX) for name in tensors):
        return None
    head = task.head(net) if task.features(net) is not None else None
    try:
        if "familiar" not in task.kind.outputs or not isinstance(head, nn.Linear):
            raise ValueError("familiarity of a network that gives no features to tell it by")
        return Familiarity.read(tensors, head.in_features)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; make the file again") from None


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
