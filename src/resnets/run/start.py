"""What a network starts from: its first weights, and the preprocessing that goes with them."""

from __future__ import annotations

from pathlib import Path

from resnets.deep import FULL, parse_range
from resnets.downloads import Offline
from resnets.modelfile import best_weights, is_model_file, read_model
from resnets.models import Network
from resnets.models.weights import convert, look_alikes, unseen_differences
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from resnets.pretrained import (
    Weights,
    published_accuracy,
    published_weights,
    read_state,
    torchvision_weights,
)
from resnets.screen import Screen
from resnets.training.recipe import TrainSettings


def first_weights(
    settings: TrainSettings, network: Network | None, screen: Screen
) -> tuple[Weights | None, str]:
    """What the network starts from, and in words why."""
    choice = settings.weights
    if choice == "none":
        return None, "from scratch, as asked"
    if choice == "given" or (network is None and choice == "auto"):
        return None, "as the module was given"
    if choice == "auto":
        assert network is not None
        try:
            if str(network) != network.name:
                raise ValueError(
                    "ImageNet weights exist for the networks of the papers, not for changed ones"
                )
            return torchvision_weights(network.name, say=screen.say), ""
        except ValueError as error:
            known = [
                one.weights
                for one in published_accuracy(network.name)
                if str(network) == network.name
            ]
            return None, f"from scratch: {error}" + (
                f"; there are others: --weights {known[0]}" if known else ""
            )
        except Offline as error:
            screen.warn(
                f"FROM SCRATCH, without ImageNet weights: they could not be downloaded ({error})"
            )
            return None, "from scratch: offline"
    weights = _chosen_weights(choice, network, screen)
    if network is not None:
        warn_of_look_alikes(network, weights, screen)
    return weights, ""


def check_weights(choice: str) -> None:
    """Refuses what names no weights.

    Raises:
        ValueError: No such file.
    """
    named = choice in ("auto", "none", "given") or choice.startswith(("torchvision:", "timm:"))
    if not named and not Path(choice).exists():
        raise ValueError(
            f"weights={choice}: no such file; allowed: auto, none, given, torchvision:TAG,"
            " timm:NAME.TAG, or a file"
        )


def _chosen_weights(choice: str, network: Network | None, screen: Screen) -> Weights:
    path, words = Path(choice), None if network is None else str(network)
    if choice.startswith(("torchvision:", "timm:")):
        try:
            return published_weights(choice, words, screen.say)
        except Offline as error:
            raise ValueError(f"weights={choice}: {error}") from None
    check_weights(choice)
    if is_model_file(path):
        tensors, metadata = read_model(best_weights(path))
        state = {name: tensor for name, tensor in tensors.items() if "/" not in name}
        preprocessing = Preprocessing.from_dict(metadata["preprocessing"])
        return Weights(
            state, best_weights(path).name, preprocessing, network=metadata["network"]["name"]
        )
    state = read_state(path)
    return Weights(state if words is None else convert(state, words), path.name)


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
            " but it will answer differently"
        )


def make_preprocessing(settings: TrainSettings, weights: Weights | None) -> Preprocessing:
    """The weights' own where they bring one; size, fit and channels as decided."""
    assert settings.size is not None
    assert settings.fit is not None
    base = weights.preprocessing if weights and weights.preprocessing else None
    crop = base.size[0] / base.resize[0] if base else 1.0 if settings.crop == "shift" else 0.875
    mean, std = (
        (base.mean, base.std)
        if base and base.channels == settings.channels
        else (IMAGENET_MEAN, IMAGENET_STD)
    )
    if settings.channels == 1 and len(mean) == 3:
        mean, std = (round(sum(mean) / 3, 4),), (round(sum(std) / 3, 4),)
    value_range = 255 if settings.bits == 8 else 65535
    pad = round(mean[0] * value_range) if settings.fit == "pad" else 0
    interpolation = base.interpolation if base else "bilinear"
    return Preprocessing.square(
        settings.size,
        crop,
        channels=settings.channels,
        value_range=value_range,
        fit=settings.fit,
        pad_color=pad,
        interpolation=interpolation,
        mean=mean,
        std=std,
        deep_range=parse_range(settings.range) or (base.deep_range if base else FULL),
    )
