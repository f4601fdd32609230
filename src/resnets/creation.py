"""A network with first weights: what `weights` may name, and `resnets.create_model`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from torch import Tensor, nn

from resnets import models
from resnets.checkpoints import as_path, read_state
from resnets.downloads import Offline
from resnets.modelfile import best_weights, is_model_file, read_description, read_model
from resnets.models import Network
from resnets.models.inputs import assumed_preprocessing, describe_preprocessing
from resnets.models.setting import Changes
from resnets.models.weights import convert, load_weights, look_alikes, unseen_differences
from resnets.pretrained import Weights, published_accuracy, published_weights, torchvision_weights
from resnets.screen import Screen

# Where networks have their last layer
HEADS = ("fc", "classifier", "head", "head.fc", "last_linear")


def create_model(
    name: str,
    num_classes: int | None = None,
    in_channels: int = 3,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    checkpointing: bool = False,
    **changes: Unpack[Changes],
) -> nn.Module:
    """A network of the family by its name, with changes: `create_model("resnet50", num_classes=10,
    shortcut="none")`; random, or with weights.

    Args:
        name: A name of `list_models()`; changes may follow it, `"resnet50 shortcut=none"`.
        num_classes: Outputs; by default those of the weights, else the row's own (1000, or 10 for
            CIFAR networks); 0 gives the pooled features. Other outputs than those of the weights
            get a new classifier, which is said.
        in_channels: Channels of the images; for 1 the weights of the three are summed.
        pretrained: With torchvision's ImageNet weights; a download is announced.
        weights: With these: `torchvision:TAG`, `timm:NAME.TAG`, a run's folder, or a file.
        features_only: The maps of its stages instead of classes, see `Features`.
        out_indices: Of which stages.
        checkpointing: Save memory in training by computing twice, see `save_memory`.
        **changes: Fields of its setting (`ResNetSetting`, `DenseNetSetting`, `TransformerSetting`).

    Raises:
        ValueError: An unknown name, key or value, with the nearest that is known; what makes no
            sense together; or weights that do not exist, do not fit or cannot be downloaded.
    """
    if out_indices is not None and not features_only:
        raise ValueError("out_indices needs features_only=True")
    if not isinstance(pretrained, bool):
        raise ValueError(f"pretrained={pretrained!r}: True or False; name weights with weights=")
    if pretrained and weights is not None:
        raise ValueError(f"pretrained=True and weights={weights!r}: give one of them")
    found, screen = None, Screen()
    if pretrained or weights is not None:
        network = Network.parse(name, num_classes, in_channels, **changes)
        found = (
            _default_weights(network, screen)
            if weights is None
            else weights_by_name(weights, network, screen)
        )
        warn_of_look_alikes(network, found, screen)
        num_classes = count_outputs(found.state) if num_classes is None else num_classes
    net = models.create_model(
        name, num_classes, in_channels, checkpointing=checkpointing, **changes
    )
    if found is not None:
        try:
            loaded = load_weights(net, found.state)
        except ValueError as error:
            raise ValueError(f"{found.source}: {error}") from None
        if loaded.left or loaded.adapted:
            screen.say(f"{found.source}: {loaded}")
    return models.Features(net, out_indices) if features_only else net


def _default_weights(network: Network, screen: Screen) -> Weights:
    try:
        return imagenet_weights(network, screen)
    except Offline as error:
        raise ValueError(f"pretrained=True: {error}") from None
    except ValueError as error:
        known = other_weights(network)
        cure = f'; there are others: weights="{known}"' if known else ""
        raise ValueError(f"pretrained=True: {error}{cure}") from None


def imagenet_weights(network: Network, screen: Screen) -> Weights:
    """torchvision's, for a network of its name.

    Raises:
        ValueError: The network is changed, or torchvision has none of the name.
        Offline: They could not be downloaded.
    """
    if str(network) != network.name:
        raise ValueError(
            "ImageNet weights exist for the networks of the papers, not for changed ones"
        )
    return torchvision_weights(network.name, say=screen.say)


def other_weights(network: Network) -> str | None:
    """The best published weights of a network as it stands in the table, by their name."""
    known = published_accuracy(network.name) if str(network) == network.name else []
    return known[0].weights if known else None


def weights_by_name(
    choice: str | Path, network: Network | None, screen: Screen, also: str = ""
) -> Weights:
    """Weights by what was typed: `torchvision:TAG`, `timm:NAME.TAG`, a run's folder, or a file.

    Args:
        choice: The name or the path.
        network: Which network of ours they go into; None for one from elsewhere.
        screen: Told what is downloaded, assumed, and taken out of a file that holds several.
        also: Names that whoever calls it allows as well, for the message.

    Raises:
        ValueError: There are none of that name, or they cannot be had.
    """
    name = None if network is None else str(network)
    if isinstance(choice, str) and choice.startswith(("torchvision:", "timm:")):
        try:
            return published_weights(choice, name, screen.say)
        except Offline as error:
            raise ValueError(f"weights={choice}: {error}") from None
    path = as_path(choice, "weights")
    if not path.exists():
        raise ValueError(
            f"weights={choice}: no such file; allowed: {also}torchvision:TAG, timm:NAME.TAG, a"
            " run's folder, or a file"
        )
    if is_model_file(path):
        path = best_weights(path)
        tensors, metadata = read_model(path)
        found = read_description(path, metadata)
        state = {name: tensor for name, tensor in tensors.items() if "/" not in name}
        return Weights(state, path.name, found.preprocessing, found.classes, found.network["name"])
    state = read_state(path, screen.say)
    if network is None:
        return Weights(state, path.name)
    preprocessing = assumed_preprocessing(network)
    screen.say(
        f"{path.name} does not say what input it is made for; assumed:"
        f" {describe_preprocessing(preprocessing)}"
    )
    return Weights(convert(state, str(network), screen.say), path.name, preprocessing)


def count_outputs(state: dict[str, Tensor]) -> int | None:
    """How many classes the last layer of a state dict has; None where none is found."""
    for name in HEADS:
        keys = [key for key in state if key == f"{name}.weight" or key.endswith(f".{name}.weight")]
        if keys:
            return len(state[min(keys, key=len)])
    return None


def warn_of_look_alikes(network: Network, weights: Weights, screen: Screen) -> None:
    """Says so where weights fit into a network that computes something else with them
    (`unseen_differences`)."""
    if weights.network is None:
        if names := look_alikes(network):
            screen.warn(
                f"these weights fit {network} and {', '.join(names)} alike, and the file does not"
                f" say which: {network} is taken"
            )
        return
    try:
        other = Network.parse(weights.network)
    except ValueError:  # a network from elsewhere
        return
    if different := unseen_differences(network.setting, other.setting):
        screen.warn(
            f"these weights are of {other}; {network} differs in {', '.join(different)}: they fit,"
            " but it will predict differently"
        )
