"""What verbs share: JSON on stdout, and the model that a word on the command line means."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnets.modelfile import Model


def print_json(values: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal without the letters, or a file name that is not UTF-8
        text = json.dumps(values)
    sys.stdout.write(text + "\n")


def open_model(path: Path, network: str | None, classes: str | None) -> Model:
    """A run folder or a model file; or a bare state dict, whose network and classes must be named.

    Args:
        path: What was typed.
        network: Words for the network, for a bare state dict.
        classes: A text file with a class in each line, or `imagenet`.

    Raises:
        ValueError: The file is refused, or more must be said.
    """
    from resnets.modelfile import Model, describe_network, load_model
    from resnets.models import Network
    from resnets.models.weights import convert, load_weights
    from resnets.preprocessing import Preprocessing
    from resnets.pretrained import read_state

    if network is None:
        if path.suffix in (".pt", ".pth"):
            raise ValueError(f"{path}: a bare state dict; name its network: --model resnet18 (and --classes FILE or imagenet)")
        return load_model(path)
    state = convert(read_state(path), network)
    head = next((state[key] for key in ("fc.bias", "classifier.bias", "head.bias") if key in state), None)
    if head is None:
        raise ValueError(f"{path}: has no classifier (fc, classifier or head), so it cannot answer; train it with --weights")
    names = read_classes(classes, len(head))
    built = Network.parse(network, len(head))
    net = built.build()
    load_weights(net, state)
    return Model(net, names, Preprocessing(), describe_network(built, net, len(head), 3), {"source": str(path)})


def read_classes(source: str | None, count: int) -> tuple[str, ...]:
    """Names of classes: ImageNet's, a text file's, or numbers where nothing is said.

    Raises:
        ValueError: Not as many as the network has outputs.
    """
    from resnets.imagenet import names_by_wnid

    if source == "imagenet" or (source is None and count == 1000):
        names = tuple(names_by_wnid().values())
    elif source is None:
        names = tuple(str(number) for number in range(count))
    else:
        if not Path(source).is_file():
            raise ValueError(f"no such file of classes: {source}")
        names = tuple(line.strip() for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"{source or 'ImageNet'} names {len(set(names))} different classes; the network has {count} outputs")
    return names
