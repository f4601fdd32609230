"""Trained weights by name, from torchvision and from the hub of timm's: taken from the cache, else downloaded, which is said."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resnets.models.schemes import convert
from resnets.models.weights import Offline, Weights, read_state
from resnets.preprocessing import Preprocessing
from resnets.settings import nearest

Say = Callable[[str], None]


def published_accuracy(network: str) -> dict[str, float]:
    """Top-1 in percent by tag, as torchvision publishes it; nothing for other networks."""
    import torchvision

    models = [torchvision.models, torchvision.models.video]
    if not any(network in torchvision.models.list_models(module=module) for module in models):
        return {}
    metrics = {tag.name: list(tag.meta["_metrics"].values())[0] for tag in torchvision.models.get_model_weights(network)}
    return {tag: float(values["acc@1"]) for tag, values in metrics.items()}


def torchvision_weights(network: str, tag: str = "DEFAULT", say: Say = lambda text: None) -> Weights:
    """ImageNet weights of a torchvision network: from its cache, else downloaded, which is said with address, size and digest.

    Args:
        network: `resnet18`, ...
        tag: `IMAGENET1K_V1`, `IMAGENET1K_V2`, or `DEFAULT` for the newest.
        say: Told what is downloaded.

    Raises:
        ValueError: torchvision has no such network or tag.
        Offline: It could not be downloaded, or the file in the cache is damaged.
    """
    import torchvision

    if network not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"torchvision has no ImageNet weights for {network}")
    tags = torchvision.models.get_model_weights(network)
    if tag != "DEFAULT" and tag not in tags.__members__:
        raise ValueError(f"torchvision has no weights {tag} for {network}: {nearest(tag, tags.__members__)}")
    entry = tags[tag] if tag != "DEFAULT" else tags.DEFAULT
    preset = entry.transforms()
    size, resize = preset.crop_size[0], preset.resize_size[0]
    preprocessing = Preprocessing(
        (size, size), (resize, resize), mean=tuple(preset.mean), std=tuple(preset.std), interpolation=preset.interpolation.value
    )
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / entry.url.rsplit("/", 1)[1]
    if not target.is_file():
        megabytes = entry.meta.get("_file_size", 0)
        say(f"downloading {entry.url} ({megabytes:.0f} MB, licence BSD-3-Clause, trained on ImageNet-1k) to {target}")
        digest = download(entry.url, target)
        say(f"sha256 {digest}")
    try:
        state = read_state(target)
    except ValueError as error:
        raise Offline(f"{error}; remove it, and it is downloaded again") from None
    return Weights(state, f"torchvision {network} {entry.name}", preprocessing)


def hub_weights(tag: str, network: str, say: Say = lambda text: None) -> Weights:
    """Weights of a timm network from the Hugging Face hub, safetensors first; its cache and its resumption are the hub's own.

    Args:
        tag: `resnet50.a1_in1k`.
        network: Ours that they go into, in words.
        say: Told what is downloaded.

    Raises:
        ValueError: huggingface_hub is not installed, or there is no such tag.
        Offline: It could not be downloaded, or what came is not what was announced.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ModuleNotFoundError:
        raise ValueError('weights from the hub need huggingface_hub; run: pip install "resnets[hub]"') from None
    repository = f"timm/{tag}"
    say(f"looking for {tag} in the cache of huggingface_hub, else at the hub (licence: see its model card)")
    try:
        config = json.loads(Path(hf_hub_download(repository, "config.json")).read_text(encoding="utf-8"))
        try:
            path = Path(hf_hub_download(repository, "model.safetensors"))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            path = Path(hf_hub_download(repository, "pytorch_model.bin"))
    except RepositoryNotFoundError:
        raise ValueError(f"the hub has no {repository}; look for the tags of {tag.partition('.')[0]} there") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Offline(
            f"{reason}; bring https://huggingface.co/{repository}/resolve/main/model.safetensors by hand, to any place, "
            "and name that file: --weights FILE"
        ) from None
    announced = path.resolve().name  # the hub's cache names large files by their digest
    digest = sha256(path)
    if re.fullmatch("[0-9a-f]{64}", announced) and announced != digest:
        raise Offline(f"{path}: its sha256 is {digest}, the hub announced {announced}; remove it, and it is downloaded again")
    say(f"sha256 {digest}")
    return Weights(convert(read_state(path), network), f"timm {tag}", _timm_preprocessing(config.get("pretrained_cfg", config)))


def _timm_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """What a timm network expects, from the config beside its weights."""
    size = config.get("test_input_size") or config.get("input_size", [3, 224, 224])
    crop = config.get("test_crop_pct") or config.get("crop_pct", 0.875)
    side = size[-1]
    resize = int(side / crop)
    return Preprocessing(
        (side, side), (resize, resize), mean=tuple(config["mean"]), std=tuple(config["std"]),
        interpolation=config.get("interpolation", "bicubic"),
    )  # fmt: skip


def sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, target: Path, timeout: float = 15.0) -> str:
    """Fetches a file, checks the digest that its name carries (NAME-f37072fd.pth), and puts it in place in one piece. What came
    before an interruption stays beside it, and the next call goes on from there.

    Returns:
        Its sha256.

    Raises:
        Offline: Nothing answers, or what came is not the file; the message says which file to bring and where to.
    """
    by_hand = f"bring {url} to {target} by hand"
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        have = partial.stat().st_size if partial.is_file() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            have = have if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            expected = answer.headers.get("Content-Length")
            with partial.open("ab" if have else "wb") as file:
                while block := answer.read(1 << 20):
                    file.write(block)
                size = file.tell()
        if expected is not None and size != have + int(expected):
            raise Offline(f"the download broke off at {size:,} of {have + int(expected):,} bytes; try again to go on, or {by_hand}")
        digest = sha256(partial)
        named = re.search(r"-([0-9a-f]{8,})\.", target.name)
        if named and not digest.startswith(named[1]):
            partial.unlink()
            raise Offline(f"sha256 of what came is {digest}, {named[1]}... was expected; {by_hand}")
        partial.replace(target)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are kinds of OSError
        if getattr(error, "code", None) == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise Offline(f"{getattr(error, 'reason', error)}; {by_hand}") from None
    return digest
