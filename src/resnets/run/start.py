"""What a network starts from: its first weights, and the preprocessing that goes with them."""

from __future__ import annotations

from pathlib import Path

from resnets.downloads import Offline
from resnets.modelfile import best_weights, read_model
from resnets.models import Network
from resnets.models.weights import convert
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from resnets.pretrained import Weights, hub_weights, read_state, torchvision_weights
from resnets.screen import Screen
from resnets.training.recipe import TrainSettings


def first_weights(settings: TrainSettings, network: Network | None, screen: Screen) -> tuple[Weights | None, str]:
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
                raise ValueError("ImageNet weights exist for the networks of the papers, not for changed ones")
            return torchvision_weights(network.name, say=screen.say), ""
        except ValueError as error:
            return None, f"from scratch: {error}"
        except Offline as error:
            screen.warn(f"FROM SCRATCH, without ImageNet weights: they could not be downloaded ({error})")
            return None, "from scratch: offline"
    source, colon, tag = choice.partition(":")
    if colon and source in ("torchvision", "timm"):
        if network is None:
            raise ValueError(f"weights={choice}: name the network, or load them into the module and say weights=given")
        try:
            if source == "timm":
                return hub_weights(tag, str(network), screen.say), ""
            return torchvision_weights(network.name, tag, screen.say), ""
        except Offline as error:
            raise ValueError(f"weights={choice}: {error}") from None
    path = Path(choice)
    if not path.exists():
        raise ValueError(f"weights={choice}: no such file; allowed: auto, none, given, torchvision:TAG, timm:NAME.TAG, or a file")
    if path.is_dir() or path.suffix == ".safetensors":
        model = _own_weights(path)
        if model is not None:
            return model, ""
    state = read_state(path)
    return Weights(state if network is None else convert(state, str(network)), path.name), ""


def _own_weights(path: Path) -> Weights | None:
    """Weights of a model file of ours; None for bare safetensors."""
    path = best_weights(path)
    try:
        tensors, metadata = read_model(path)
    except ValueError as error:
        if "without resnets' metadata" in str(error):
            return None
        raise
    state = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    return Weights(state, path.name, Preprocessing.from_dict(metadata["preprocessing"]))


def make_preprocessing(settings: TrainSettings, weights: Weights | None) -> Preprocessing:
    """The weights' own where they bring one; size, fit and channels as decided."""
    assert settings.size is not None
    assert settings.fit is not None
    base = weights.preprocessing if weights and weights.preprocessing else None
    crop = base.size[0] / base.resize[0] if base else 1.0 if settings.crop == "shift" else 0.875
    mean, std = (base.mean, base.std) if base and base.channels == settings.channels else (IMAGENET_MEAN, IMAGENET_STD)
    if settings.channels == 1 and len(mean) == 3:
        mean, std = (round(sum(mean) / 3, 4),), (round(sum(std) / 3, 4),)
    value_range = 255 if settings.bits == 8 else 65535
    pad = round(mean[0] * value_range) if settings.fit == "pad" else 0
    interpolation = base.interpolation if base else "bilinear"
    return Preprocessing.square(
        settings.size, crop, channels=settings.channels, value_range=value_range, fit=settings.fit, pad_color=pad,
        interpolation=interpolation, mean=mean, std=std,
    )  # fmt: skip
