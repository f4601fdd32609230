"""What the metadata of a model file say of its model, checked before it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.formats import Newer, read_task
from resnets.modelfile.storage import is_count
from resnets.preprocessing import Preprocessing
from resnets.sampling import Sampling, read_sampling

MOST_CLASSES, MOST_PIXELS = 1_000_000, 10_000  # outputs; pixels of a side of the input
MOST_LETTERS = 2000  # of the name of a network with its changes


@dataclass(frozen=True)
class Description:
    """What every model file says of its model, in the types it should have."""

    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    task: dict[str, Any]
    sampling: Sampling | None = None


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
    try:
        kind, _ = read_task(metadata.get("task"), classes)
        sampling = read_sampling(metadata.get("sampling"), kind.takes)
    except Newer as error:
        raise ValueError(f"{path}: made by a newer resnets {error}: upgrade") from None
    except ValueError as error:
        raise refuse(str(error), "see docs/architecture.md") from None
    return Description(network, tuple(classes), preprocessing, metadata["task"], sampling)
