"""Published weights: from torchvision or from timm's place on the Hugging Face hub, with what they
were made for."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnets.checkpoints import Say, read_state
from resnets.downloads import Offline, download, sha256
from resnets.imagenet import names_by_wnid
from resnets.models.weights import convert
from resnets.preprocessing import Preprocessing
from resnets.settings import nearest
from resnets.timm_config import read_config, timm_preprocessing

TORCHVISION_NAMES = {"vit_base_patch16_224": "vit_b_16"}  # where they differ from ours


@dataclass(frozen=True)
class Weights:
    """A state dict with what it was made for, as far as that is known.

    Args:
        state: Our keys.
        source: Where it is from, as text.
        preprocessing: What the network expects.
        classes: Names of its outputs.
        network: Which network it is of, as text.
    """

    state: dict[str, Tensor]
    source: str
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    network: str | None = None


def published_weights(choice: str, network: str | None, say: Say = lambda text: None) -> Weights:
    """Weights by name: `torchvision:TAG` or `timm:NAME.TAG`.

    Args:
        choice: The name.
        network: Which network of ours they go into; None for one from elsewhere, whose keys stay as
            they are.
        say: Told what is downloaded.

    Raises:
        ValueError: There are no such weights.
        Offline: They could not be downloaded.
    """
    source, _, tag = choice.partition(":")
    if source == "timm":
        return hub_weights(tag, network, say)
    if network is None:
        raise ValueError(f"{choice}: these are weights for networks of this package")
    return torchvision_weights(network, tag, say)


@dataclass(frozen=True)
class Published:
    """What somebody published for weights: top-1 in percent on ImageNet's validation images (or
    Kinetics-400's clips).

    Args:
        weights: As `--weights` takes them.
        size: Side of the input in pixels.
        top1: In percent.
    """

    weights: str
    size: int
    top1: float


def published_accuracy(network: str) -> list[Published]:
    """What torchvision says of its own weights, and timm's table of results of those on the hub;
    the best first."""
    import torchvision

    found = []
    name = TORCHVISION_NAMES.get(network, network)
    if _in_torchvision(name):
        for tag in torchvision.models.get_model_weights(name):
            values = next(iter(tag.meta["_metrics"].values()))
            size, top1 = tag.transforms().crop_size[0], float(values["acc@1"])
            found.append(Published(f"torchvision:{tag.name}", size, top1))
    for row in _timm_results():
        if row["network"] == network:
            weights = f"timm:{network}.{row['tag']}"
            found.append(Published(weights, int(row["size"]), float(row["top1"])))
    return sorted(found, key=lambda one: -one.top1)


def _in_torchvision(name: str) -> bool:
    """Whether it is a classifier of images or clips there."""
    from torchvision import models

    return any(name in models.list_models(module=module) for module in (models, models.video))


@cache
def _timm_results() -> list[dict[str, str]]:
    lines = files("resnets").joinpath("published.tsv").read_text(encoding="utf-8").splitlines()
    return list(
        csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    )


def torchvision_weights(
    network: str, tag: str = "DEFAULT", say: Say = lambda text: None
) -> Weights:
    """ImageNet weights of a torchvision network: from its cache, else downloaded, which is said
    with address, size and digest.

    Args:
        network: `resnet18`, or `resnet18 drop_path=0.1` for the same ones.
        tag: `IMAGENET1K_V1`, `IMAGENET1K_V2`, or `DEFAULT` for the newest.
        say: Told what is downloaded.

    Raises:
        ValueError: torchvision has no such network or tag.
        Offline: It could not be downloaded, or the file in the cache is damaged.
    """
    import torchvision

    asked, name = network, network.partition(" ")[0]  # changes do not change what there is
    network = TORCHVISION_NAMES.get(name, name)
    if not _in_torchvision(network):
        raise ValueError(f"torchvision has no weights for {network}")
    tags = torchvision.models.get_model_weights(network)
    if tag != "DEFAULT" and tag not in tags.__members__:
        raise ValueError(
            f"torchvision has no weights {tag} for {network}: {nearest(tag, tags.__members__)}"
        )
    entry = tags[tag] if tag != "DEFAULT" else tags.DEFAULT
    preset = entry.transforms()
    size, resize = preset.crop_size[0], preset.resize_size  # one number, or height and width
    preprocessing = Preprocessing(
        (size, size),
        (resize[0], resize[-1]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / entry.url.rsplit("/", 1)[1]
    if not target.is_file():
        megabytes = entry.meta.get("_file_size", 0)
        say(
            f"downloading {entry.url} ({megabytes:.0f} MB, licence BSD-3-Clause, see its model card"
            f" for the data) to {target}"
        )
        digest = download(entry.url, target)
        say(f"sha256 {digest}")
    try:
        state = read_state(target)
    except ValueError as error:
        raise Offline(f"{error}; remove it, and it is downloaded again") from None
    source = f"torchvision {network} {entry.name}"
    return Weights(
        convert(state, asked), source, preprocessing, _class_names(entry.meta["categories"]), name
    )


def timm_default(name: str) -> Preprocessing:
    """What timm says of the weights that `timm:NAME` or `timm:NAME.TAG` would get by default.

    Raises:
        ValueError: It knows none of that name, or says what cannot be represented.
    """
    import timm

    config = timm.get_pretrained_cfg(name.removeprefix("timm:"))
    if config is None:
        raise ValueError(f"timm knows no weights of {name}")
    return timm_preprocessing(config.to_dict())


def _class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Those of ImageNet as we tell them apart; of others what the source says."""
    return tuple(names_by_wnid().values()) if len(names) == 1000 else tuple(names)


def hub_weights(tag: str, network: str | None, say: Say = lambda text: None) -> Weights:
    """Weights of a timm network from the Hugging Face hub, safetensors first; its cache and its
    resumption are the hub's own.

    Args:
        tag: `resnet50.a1_in1k`.
        network: Ours that they go into, as text; None leaves the keys as they are.
        say: Told what is downloaded.

    Raises:
        ValueError: huggingface_hub is not installed, or there is no such tag.
        Offline: It could not be downloaded, or what came is not what was announced.
    """
    described, path = _from_hub(f"timm/{tag}", say)
    names, preprocessing = _read_description(described, f"timm/{tag}")
    say(f"sha256 {_checked_digest(path)}")
    state = read_state(path, say)
    return Weights(
        state if network is None else convert(state, network, say),
        f"timm {tag}",
        preprocessing,
        None if names is None else _class_names(names),
        tag.partition(".")[0],
    )


def _from_hub(repository: str, say: Say) -> tuple[Path, Path]:
    """The description and the weights, in the hub's own cache."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
        )
    except ModuleNotFoundError:
        raise ValueError(
            'weights from the hub need huggingface_hub; run: pip install "resnets[hub]"'
        ) from None
    tag = repository.removeprefix("timm/")
    say(
        f"looking for {tag} in the cache of huggingface_hub, else at the hub (licence: see its"
        " model card)"
    )
    # of its HTTP client, the disk, its storage
    failures: Any = (*HfHubHTTPError.__bases__, OSError, RuntimeError, ValueError)
    try:
        described = Path(hf_hub_download(repository, "config.json"))
        try:
            return described, Path(hf_hub_download(repository, "model.safetensors"))
        except EntryNotFoundError:  # or nothing answers
            return described, Path(hf_hub_download(repository, "pytorch_model.bin"))
    except (RepositoryNotFoundError, HFValidationError):
        raise ValueError(
            f"the hub has no {repository}; look for the tags of {tag.partition('.')[0]} there"
        ) from None
    except failures as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Offline(
            f"{reason}; bring {_address(repository)} by hand, to any place, and name that file:"
            " --weights FILE"
        ) from None


def _address(repository: str) -> str:
    return f"https://huggingface.co/{repository}/resolve/main/model.safetensors"


def _read_description(path: Path, repository: str) -> tuple[list[str] | None, Preprocessing]:
    """Names of classes, where they are known, and the preprocessing."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise Offline(
            f"{path.resolve()}: not JSON; remove it, and it is downloaded again"
        ) from None
    try:
        return read_config(config)
    except ValueError as error:
        raise ValueError(
            f"the description of {repository}: {error}. To use its weights all the same, bring"
            f" {_address(repository)} by hand, name that file, and say how images are prepared:"
            " --size, --mean, --std, --interpolation, --fit, --crop"
        ) from None


def _checked_digest(path: Path) -> str:
    """The sha256 of a file of the hub's cache, which names large ones by their digest.

    Raises:
        Offline: It is not the digest in the name.
    """
    announced = path.readlink().name if path.is_symlink() else ""
    digest = sha256(path)
    if re.fullmatch("[0-9a-f]{64}", announced) and announced != digest:
        raise Offline(
            f"{path.resolve()}: its sha256 is {digest}, the hub announced {announced}; remove it,"
            " and it is downloaded again"
        )
    return digest
