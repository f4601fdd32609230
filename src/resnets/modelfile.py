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
from typing import Any, TypeGuard

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from resnets.checkpoints import as_path
from resnets.files import write_file
from resnets.foreign import build_foreign, is_foreign
from resnets.models import Network
from resnets.models.weights import differences
from resnets.preprocessing import Preprocessing, upgrade
from resnets.runtime.engines import Answer
from resnets.tasks.classification import Answering

FORMAT = 2
MOST_CLASSES, MOST_PIXELS = 1_000_000, 10_000  # outputs; pixels of a side of the input
MOST_LETTERS = 2000  # of a network's words
# one key, since safetensors writes several in no fixed order: equal content gives equal bytes
KEY = "resnets"


@dataclass
class Model:
    """A trained network and what it takes to use it; called with images, it answers as an engine
    of `runtime` does.

    Args:
        net: The network, in eval mode.
        classes: Names, in the order of its outputs.
        preprocessing: How images become its input.
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
        """Predictions for images of one size, whole: (N, H, W, C) in their stored type."""
        pictures = (
            Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
            for picture in image
        )
        return self.answer(np.stack([self.preprocessing.pixels(picture) for picture in pictures]))

    @torch.inference_mode()
    def answer(self, pixels: np.ndarray) -> Answer:
        """Predictions for prepared input: (N, height, width, C) of `Preprocessing.pixels`."""
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
    if given is not None and not isinstance(given, str):
        raise ValueError(
            f"a torch.nn.Module or the name of a network expected, got {type(given).__name__}"
        )
    if given is not None and given != name and _in_full(given) != _in_full(name):
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


def _in_full(words: str) -> str:
    """Words for a network of this package in their one form; others as they are."""
    try:
        return str(Network.parse(words))
    except ValueError:
        return words


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
    # tied ones are told apart
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # the digest is of what will be read
    content = json.loads(json.dumps({**metadata, "format": FORMAT}))
    content["sha256"] = _digest(plain, content)
    # ASCII: names of files need not be UTF-8
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    write_file(path, safetensors.torch.save(plain, {KEY: text}))


def read_model(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the metadata of a model file.

    Raises:
        ValueError: Not a model file of this package, made by a newer one, truncated or altered.
    """
    path = as_path(path, "a model file")
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
    metadata = _metadata(text)
    number = metadata.get("format")
    if is_count(number) and number > FORMAT:
        raise ValueError(
            f"{path}: made by a newer resnets (format {number}); this one reads up"
            f" to {FORMAT}: upgrade"
        )
    if not _is_sealed(tensors, metadata) or not is_count(number, 0):
        raise ValueError(
            f"{path}: altered or damaged, its digest does not match; make it again or fetch it"
            " again"
        )
    return tensors, upgrade(metadata)


def _metadata(text: str) -> dict[str, Any]:
    """The metadata in a text; nothing where it is no JSON object."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, too deep
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _is_sealed(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> bool:
    """Whether the digest in the metadata, which is taken out of them, is that of all the rest."""
    try:
        return bool(metadata.pop("sha256", None) == _digest(tensors, metadata))
    except RecursionError:  # they could just be read, but not be written again
        return False


def is_count(value: Any, least: int = 1) -> TypeGuard[int]:
    """Whether a value from a file is a whole number from `least` on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class Description:
    """What every model file says of its model, in the types it should have."""

    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def read_description(path: Path, metadata: Mapping[str, Any]) -> Description:
    """What the metadata of a model file say, checked: a digest that matches makes nothing right.

    Args:
        path: The file, for messages.
        metadata: Of `read_model`.

    Raises:
        ValueError: Something is missing, or is not what it should be.
    """

    def refuse(what: str, allowed: str) -> ValueError:
        return ValueError(
            f"{path}: its metadata are damaged: {what}; {allowed}. Make the file again"
        )

    network, classes = metadata.get("network"), metadata.get("classes")
    if not isinstance(network, dict):
        raise refuse(f"network is {network!r:.60}", "a JSON object was expected")
    if (value := network.get("kind")) not in ("family", "object"):
        raise refuse(f"network.kind is {value!r:.60}", "allowed: family, object")
    if not isinstance(value := network.get("name"), str) or len(value) > MOST_LETTERS:
        raise refuse(f"network.name is {value!r:.60}", f"up to {MOST_LETTERS} letters expected")
    for key, most in {"classes": MOST_CLASSES, "channels": 3}.items():
        if not is_count(value := network.get(key)) or value > most:
            raise refuse(f"network.{key} is {value!r:.60}", f"allowed: 1 to {most:,}")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise refuse(f"classes is {classes!r:.60}", "a list of names was expected")
    if len(classes) != network["classes"] or len(set(classes)) != len(classes):
        raise refuse(
            f"{len(set(classes))} different names of classes", f"{network['classes']} were expected"
        )
    values = metadata.get("preprocessing")
    try:
        preprocessing = Preprocessing.from_dict(values)  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError) as error:
        reason = error if isinstance(error, ValueError) else f"preprocessing is {values!r:.200}"
        raise refuse(str(reason), "see docs/architecture.md") from None
    if max(*preprocessing.size, *preprocessing.resize) > MOST_PIXELS:
        raise refuse(f"input of {preprocessing.size} pixels", f"allowed: up to {MOST_PIXELS:,}")
    return Description(network, tuple(classes), preprocessing)


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


def load_model(path: str | Path, given: str | nn.Module | None = None) -> Model:
    """The model of a model file, or of a run folder (its best weights), ready to use.

    Args:
        path: NAME.safetensors, or a folder that `train` made.
        given: The network, or its words (`timm:NAME`), where it was made outside this package.

    Raises:
        ValueError: The file is refused, or needs `given`, or that is another network.
    """
    path = best_weights(path)
    tensors, metadata = read_model(path)
    found = read_description(path, metadata)
    state = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    try:
        if given is None and found.network["kind"] == "family":
            _check_size(found.network, state)
        net = build_network(found.network, given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if different := differences(net.state_dict(), state):
        raise ValueError(
            f"{path}: weights of {found.network['name']} do not fit {type(net).__name__}:"
            f" {different}"
        )
    net.load_state_dict(state, strict=False)
    return Model(net, found.classes, found.preprocessing, found.network, metadata)


def _check_size(network: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuses words for a network that has other tensors than the file, before it takes memory.

    Raises:
        ValueError: Such words, or none for a network of this package.
    """
    words = network["name"]
    setting = Network.parse(words).setting
    layers = [*getattr(setting, "depths", (getattr(setting, "depth", 0),))]
    kind, *pieces = getattr(setting, "spatial", ("conv",))
    if kind == "res2":
        layers += map(int, pieces)
    if sum(layers) > len(state):
        raise ValueError(f"{words:.200} has more layers than the file has tensors")
    try:
        with torch.device("meta"):
            own = build_network(network).state_dict()
    except (RuntimeError, OverflowError, TypeError) as error:
        raise ValueError(f"{words:.200} cannot be built ({str(error).splitlines()[0]})") from None
    if different := differences(own, state):
        raise ValueError(f"weights of {words:.200} do not fit it: {different}")


def best_weights(path: str | Path) -> Path:
    """The model file that a path means: itself, or the best one of a run folder.

    Raises:
        ValueError: A folder without one.
    """
    path = as_path(path, "a model file")
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
