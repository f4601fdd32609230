"""A model by what was typed: a run folder, a model file, a bare state dict, or published
weights."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from resnets.downloads import Offline
from resnets.foreign import build_foreign, is_foreign
from resnets.imagenet import names_by_wnid
from resnets.modelfile import Model, describe_network, is_model_file, load_model
from resnets.models import Network
from resnets.models.weights import convert, head_name, load_weights
from resnets.preprocessing import Preprocessing
from resnets.pretrained import Weights, published_weights, read_state
from resnets.run.start import warn_of_look_alikes
from resnets.screen import Screen

HEADS = (
    "fc",
    "classifier",
    "head",
    "head.fc",
    "last_linear",
)  # where networks have their last layer


def open_model(typed: str, words: str | None, classes: str | None, screen: Screen) -> Model:
    """A model, ready to use.

    Args:
        typed: A run folder, a model file, a state dict, `torchvision:TAG` or `timm:NAME.TAG`.
        words: The network, where the file does not know it.
        classes: A text file with a class in each line, or `imagenet`; by default what the weights
            know, or numbers.
        screen: Told what is downloaded.

    Raises:
        ValueError: The file is refused, or more must be said.
    """
    path = Path(typed)
    if typed.startswith(("torchvision:", "timm:")):
        words = words or (
            typed.removeprefix("timm:").partition(".")[0] if typed.startswith("timm:") else None
        )
        if words is None:
            raise ValueError(f"{typed}: name the network: --model resnet50")
        try:
            weights = published_weights(typed, words, screen.say)
        except Offline as error:
            raise ValueError(f"{typed}: {error}") from None
    elif words is None and path.suffix in (".pt", ".pth", ".npz"):
        raise ValueError(
            f"{path}: a bare state dict; name its network: --model resnet18 (and --classes FILE or"
            " imagenet)"
        )
    elif words is None or (is_model_file(path) and is_foreign(words)):
        return load_model(path, words)
    else:
        state = read_state(path)
        weights = Weights(state if is_foreign(words) else convert(state, words), str(path))
    return _model(weights, words, classes, screen)


def _model(weights: Weights, words: str, classes: str | None, screen: Screen) -> Model:
    count = _outputs(weights.state)
    if count is None:
        raise ValueError(
            f"{weights.source}: has no classifier ({', '.join(HEADS)}), so it cannot answer; train"
            " it with --weights"
        )
    names = read_classes(classes, count, weights.classes)
    network = None if is_foreign(words) else Network.parse(words, count)
    net = build_foreign(words, count) if network is None else network.build()
    loaded = load_weights(net, weights.state)
    if loaded.left:
        raise ValueError(
            f"{weights.source}: {head_name(net)} of {words} is not in it, so it cannot answer"
        )
    if network is not None:
        warn_of_look_alikes(network, weights, screen)
    description = describe_network(network, net, count, 3, words)
    return Model(
        net,
        names,
        weights.preprocessing or Preprocessing(),
        description,
        {"source": weights.source},
    )


def _outputs(state: dict[str, Tensor]) -> int | None:
    return next((len(state[f"{name}.bias"]) for name in HEADS if f"{name}.bias" in state), None)


def read_classes(
    source: str | None, count: int, known: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Names of classes: a text file's, ImageNet's, those that came with the weights, or numbers
    where nothing is said.

    Raises:
        ValueError: Not as many as the network has outputs.
    """
    if source == "imagenet" or (source is None and count == 1000):
        names = tuple(names_by_wnid().values())
    elif source is None:
        names = known or tuple(str(number) for number in range(count))
    else:
        if not Path(source).is_file():
            raise ValueError(f"no such file of classes: {source}")
        names = tuple(
            line.strip()
            for line in Path(source).read_text(encoding="utf-8").splitlines()
            if line.strip()
        )
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"{source or 'ImageNet'} names {len(set(names))} different classes; the network has"
            f" {count} outputs"
        )
    return names
