"""NAME.safetensors: weights to train on, with all that is needed to use them in one JSON string. No
pickle is ever executed.

A model file says how its network is built, the names of its classes, its preprocessing, how it was
trained, what was measured, and a digest of all of it, so that a truncated or altered file is
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from resnets.files import write_file
from resnets.foreign import build_foreign, is_foreign
from resnets.models import Network
from resnets.preprocessing import Preprocessing, upgrade
from resnets.runtime.engines import Answer
from resnets.tasks.classification import Answering

FORMAT = 2
# one key, since safetensors writes several in no fixed order: equal content gives equal bytes
KEY = "resnets"


@dataclass
class Model:
    """A trained network and what it takes to use it; called with pictures, it answers as an engine
    of `runtime` does.

    Args:
        net: The network, in eval mode.
        classes: Names, in the order of its outputs.
        preprocessing: How pictures become its input.
        network: How the network is built, as `describe_network` says it.
        metadata: All else that the file holds (training, metrics, versions).
    """

    net: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    network: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    name: str = "torch"
    version: str = torch.__version__

    def __post_init__(self) -> None:
        self.answering = Answering(self.net.eval()).eval()

    @property
    def network_name(self) -> str:
        """The network in words: `resnet18 shortcut=none`."""
        return str(self.network["name"])

    @property
    def sha256(self) -> str:
        """Digest of all that decides its predictions: weights, network, classes, preprocessing."""
        state = {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}
        decides = [self.network, list(self.classes), self.preprocessing.to_dict()]
        return _digest(state, {"decides": decides})

    def __call__(self, image: np.ndarray) -> Answer:
        """Answers for pictures of one size, whole: (N, H, W, C) in their stored type."""
        pictures = (
            Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
            for picture in image
        )
        return self.answer(np.stack([self.preprocessing.pixels(picture) for picture in pictures]))

    @torch.inference_mode()
    def answer(self, pixels: np.ndarray) -> Answer:
        """Answers for prepared input: (N, height, width, C) of `Preprocessing.pixels`."""
        device = next(self.net.parameters()).device
        inputs = torch.from_numpy(self.preprocessing.normalise(pixels)).to(
            device, memory_format=torch.channels_last
        )
        outputs = self.answering(inputs)
        probabilities, *more = (
            None if value is None else value.float().cpu().numpy() for value in outputs
        )
        assert probabilities is not None
        return Answer(probabilities, *more)


def describe_network(
    network: Network | None,
    net: nn.Module,
    num_classes: int,
    in_channels: int,
    words: str | None = None,
) -> dict[str, Any]:
    """How a network is built again: by our words, or only by whoever made the object or named it
    (`timm:NAME`)."""
    if network is not None:
        return {
            "kind": "family",
            "name": str(network),
            "classes": network.num_classes,
            "channels": network.in_channels,
        }
    name = words or f"{type(net).__module__}.{type(net).__qualname__}"
    return {"kind": "object", "name": name, "classes": num_classes, "channels": in_channels}


def build_network(
    description: Mapping[str, Any], given: str | nn.Module | None = None
) -> nn.Module:
    """The network that a description names; no code outside this package is ever imported for it,
    unless it is named again.

    Args:
        description: What a file says.
        given: The network itself, or its words, for one that was made outside this package.

    Raises:
        ValueError: It was made outside this package and is not given, or something else is given.
    """
    name = description["name"]
    if isinstance(given, nn.Module):
        return given
    if given is not None and given != name:
        raise ValueError(f"this file is of {name}, not of {given}")
    if description["kind"] == "family":
        return Network.parse(name, description["classes"], description["channels"]).build()
    if given is not None and is_foreign(given):
        return build_foreign(given, description["classes"], description["channels"])
    again = f"name it again (--model {name})"
    cure = (
        again
        if is_foreign(name)
        else "pass the network itself (resnets.modelfile.load_model(path, net))"
    )
    raise ValueError(
        f"this file holds weights of {name}, which is not a network of this package: {cure}, or use"
        " the exported .onnx"
    )


def write_model(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a model file in one piece.

    Args:
        path: Ends in `.safetensors`.
        tensors: The state dict; names with a slash belong to training (`average/fc.bias`) and not
            to the network.
        metadata: JSON-able; `format` and `sha256` are added.

    Raises:
        OSError: The disk is full, or there is no permission; the old file stays.
    """
    plain = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }  # tied ones are told apart
    content = json.loads(
        json.dumps({**metadata, "format": FORMAT})
    )  # the digest is of what will be read
    content["sha256"] = _digest(plain, content)
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":")
    )  # ASCII: names of files need not be UTF-8
    write_file(path, safetensors.torch.save(plain, {KEY: text}))


def read_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the metadata of a model file.

    Raises:
        ValueError: Not a model file of this package, made by a newer one, truncated or altered.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise ValueError(f"no such model file: {path}") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated, or not a safetensors file ({error})") from None
    if text is None:
        raise ValueError(
            f"{path}: safetensors without resnets' metadata; for a bare state dict name the"
            " network: --model resnet18"
        )
    try:
        metadata = json.loads(text)
        if metadata["format"] > FORMAT:
            raise ValueError(
                f"{path}: made by a newer resnets (format {metadata['format']}); this one reads up"
                f" to {FORMAT}: upgrade"
            )
        intact = metadata.pop("sha256") == _digest(tensors, metadata)
    except (json.JSONDecodeError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ValueError(
            f"{path}: altered or damaged, its digest does not match; make it again or fetch it"
            " again"
        )
    return tensors, upgrade(metadata)


def is_model_file(path: Path) -> bool:
    """Whether a path leads to a model file of ours, or to a run folder with one; not so a bare
    state dict."""
    if path.is_dir():
        return True
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


def load_model(path: Path, given: str | nn.Module | None = None) -> Model:
    """The model of a model file, or of a run folder (its best weights), ready to use.

    Args:
        path: NAME.safetensors, or a folder that `train` made.
        given: The network, or its words (`timm:NAME`), where it was made outside this package.

    Raises:
        ValueError: The file is refused, or needs `given`, or that is another network.
    """
    path = best_weights(path)
    tensors, metadata = read_model(path)
    network = metadata["network"]
    net = build_network(network, given)
    try:
        net.load_state_dict({name: tensor for name, tensor in tensors.items() if "/" not in name})
    except RuntimeError as error:
        raise ValueError(
            f"{path}: weights of {network['name']} do not fit {type(net).__name__}: {error}"
        ) from None
    return Model(
        net,
        tuple(metadata["classes"]),
        Preprocessing.from_dict(metadata["preprocessing"]),
        network,
        metadata,
    )


def best_weights(path: Path) -> Path:
    """The model file that a path means: itself, or the best one of a run folder.

    Raises:
        ValueError: A folder without one.
    """
    if not path.is_dir():
        return path
    best = path / "weights" / "best.safetensors"
    if not best.is_file():
        raise ValueError(
            f"{path} has no weights/best.safetensors: not the folder of a run, or stopped before"
            " its first validation"
        )
    return best


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
