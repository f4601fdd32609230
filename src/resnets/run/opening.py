"""A model by what was typed: a run folder, a model file, a checkpoint, or published weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnets.checkpoints import as_path, read_state
from resnets.creation import count_outputs, warn_of_look_alikes
from resnets.downloads import Offline
from resnets.foreign import build_foreign, is_foreign
from resnets.imagenet import names_by_wnid
from resnets.modelfile import Model, describe_network, is_model_file, load_model
from resnets.models import Network, list_models
from resnets.models.inputs import (
    CHANGES,
    assumed_preprocessing,
    change_preprocessing,
    describe_preprocessing,
    for_channels,
)
from resnets.models.weights import convert, first_convolution, head_name, load_weights, unwrap
from resnets.preprocessing import Preprocessing
from resnets.pretrained import Weights, published_weights, timm_default
from resnets.screen import Screen


def open_model(
    typed: str,
    name: str | None,
    classes: str | None,
    screen: Screen,
    changes: Mapping[str, Any] | None = None,
) -> Model:
    """A model, ready to use.

    Args:
        typed: A run folder, a model file, a checkpoint, `torchvision:TAG` or `timm:NAME.TAG`.
        name: The network, where the file does not know it.
        classes: A text file with a class in each line, or `imagenet`; by default what the weights
            know, or numbers.
        screen: Told what is downloaded and assumed.
        changes: How images are prepared, where the weights do not say it or something else is
            wanted: some of `CHANGES`.

    Raises:
        ValueError: The file is refused, or more must be said.
    """
    path, changes = as_path(typed, "a model"), changes or {}
    if name is not None and not is_foreign(name):
        Network.parse(name)  # a misspelt name is told before anything is read or downloaded
    if typed.startswith(("torchvision:", "timm:")):
        name = name or _name_in(typed)
        try:
            weights = published_weights(typed, None if is_foreign(name) else name, screen.say)
        except Offline as error:
            raise ValueError(f"{typed}: {error}") from None
        return _model(weights, name, classes, changes, screen)
    if is_model_file(path) or (name is None and path.suffix == ".safetensors"):
        _refuse_options(path, classes, changes)
        return load_model(path, name)
    if not path.exists():
        raise ValueError(f"no such file: {path}")
    if path.suffix == ".onnx":
        raise ValueError(f"{path}: exported already; name the model that it was made from")
    if name is None:
        raise ValueError(
            f"{path}: a bare state dict, or no model; name its network: --model resnet18 (and"
            " --classes FILE or imagenet)"
        )
    state = read_state(path, screen.say)
    state = state if is_foreign(name) else convert(state, name, screen.say)
    return _model(Weights(state, str(path)), name, classes, changes, screen)


def _name_in(published: str) -> str:
    """The network whose weights are named; timm's own where it is none of this package."""
    source, _, tag = published.partition(":")
    name = tag.partition(".")[0]
    if source == "torchvision":
        raise ValueError(f"{published}: name the network: --model resnet50")
    return name if name in list_models() else f"timm:{name}"


def _refuse_options(path: Path, classes: str | None, changes: Mapping[str, Any]) -> None:
    given = [*(["classes"] if classes else []), *changes]
    if given:
        raise ValueError(
            f"{path} knows its classes and how images are prepared; leave out"
            f" {', '.join(f'--{key}' for key in given)}"
        )


def _model(
    weights: Weights, name: str, classes: str | None, changes: Mapping[str, Any], screen: Screen
) -> Model:
    count = count_outputs(weights.state)
    if count is None and is_foreign(name) and classes is not None:
        count = len(_named(classes))
    if count is None:
        raise ValueError(
            f"{weights.source}: has no classifier that is known, so it cannot predict; train it"
            " with --weights"
        )
    names = read_classes(classes, count, weights.classes)

    def build(channels: int) -> nn.Module:
        return (
            build_foreign(name, count, channels)
            if is_foreign(name)
            else Network.parse(name, count, channels).build()
        )

    net, channels = _with_channels(build, weights)
    network = None if is_foreign(name) else Network.parse(name, count, channels)
    try:
        loaded = load_weights(net, weights.state)
    except ValueError as error:
        raise ValueError(f"{weights.source}: {error}") from None
    if loaded.left:
        raise ValueError(
            f"{weights.source}: {head_name(net)} of {name} is not in it, so it cannot predict"
        )
    if network is not None:
        warn_of_look_alikes(network, weights, screen)
    preprocessing = _preprocessing(weights, network or name, channels, changes, screen)
    _try(net, preprocessing, name)
    description = describe_network(network, net, count, channels, name)
    metadata = {"source": weights.source}
    return Model(net, names, preprocessing, description, metadata=metadata)


def _with_channels(build: Callable[[int], nn.Module], weights: Weights) -> tuple[nn.Module, int]:
    """The network for as many channels as the weights are for."""
    net = build(3)
    first = unwrap(weights.state, net.state_dict()).get(first_convolution(net))
    channels = 3 if first is None or first.ndim < 4 else first.shape[1]
    if channels not in (1, 3):
        raise ValueError(
            f"{weights.source}: made for images of {channels} channels; 3 (RGB) and 1 (grey) can be"
            " read"
        )
    return (net, 3) if channels == 3 else (build(1), 1)


def _preprocessing(
    weights: Weights,
    network: Network | str,
    channels: int,
    changes: Mapping[str, Any],
    screen: Screen,
) -> Preprocessing:
    """What came with the weights, else what such networks expect, which is said; with what was
    asked for."""
    base = weights.preprocessing
    if base is not None:
        return change_preprocessing(base, changes)
    remark = "the file does not say"
    if isinstance(network, Network):
        base = assumed_preprocessing(network)
    else:
        base = Preprocessing()
        if network.startswith("timm:"):
            try:
                base = timm_default(network)
            except ValueError as error:
                remark += f", and what timm says cannot be taken ({error})"
        mean, std = for_channels(base.mean, channels), for_channels(base.std, channels)
        base = Preprocessing(**{**vars(base), "channels": channels, "mean": mean, "std": std})
    found = change_preprocessing(base, changes)
    open_ones = [key for key in CHANGES if key not in changes]
    if open_ones:
        but = f" but for {', '.join(changes)}" if changes else ""
        options = ", ".join(f"--{key}" for key in open_ones)
        screen.say(f"assumed{but}: {describe_preprocessing(found)}: {remark}; set with {options}")
    return found


def _try(net: nn.Module, preprocessing: Preprocessing, name: str) -> None:
    """One image through the network: a size that it cannot take is told here."""
    shape = (1, preprocessing.channels, *preprocessing.size)
    try:
        with torch.inference_mode():
            net.eval()(torch.zeros(shape))
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name} cannot take images of {shape[2]} x {shape[3]} pixels ({reason}); give another"
            " --size"
        ) from None


def read_classes(
    source: str | None, count: int, known: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Names of classes: a text file's, ImageNet's, those that came with the weights, or numbers
    where nothing is said.

    Raises:
        ValueError: Not as many as the network has outputs.
    """
    if source is None and known and len(known) == count:
        names = known
    elif source == "imagenet" or (source is None and count == 1000):
        names = tuple(names_by_wnid().values())
    else:
        names = _named(source) if source is not None else tuple(map(str, range(count)))
    twice = sorted({name for name in names if names.count(name) > 1})
    if len(names) != count or twice:
        again = f" ({', '.join(twice[:3])} more than once)" if twice else ""
        raise ValueError(
            f"{source or 'ImageNet'} names {len(set(names))} different classes{again}; the network"
            f" has {count} outputs; give the right ones with --classes FILE"
        )
    return names


def _named(source: str) -> tuple[str, ...]:
    """A class from each line of a text file; empty lines do not count."""
    if not Path(source).is_file():
        raise ValueError(
            f"no such file of classes: {source}; allowed: FILE with a name in each line"
        )
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{source}: not UTF-8; save it as text in UTF-8") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())
