"""Weights from the Hugging Face hub, by the hub's own client: a server of our own stands in for
it."""

import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import resnets
from resnets.downloads import Offline
from resnets.imagenet import names_by_wnid
from resnets.models import Network
from resnets.models.weights import load_weights
from resnets.preprocessing import Preprocessing
from resnets.pretrained import hub_weights
from resnets.run.opening import open_model
from resnets.run.start import first_weights, make_preprocessing
from resnets.screen import Screen
from resnets.training.settings import TrainSettings

constants = pytest.importorskip("huggingface_hub.constants")
import huggingface_hub  # noqa: E402

TAG, COMMIT = "resnet18.a1_in1k", "c" * 40
TINY = "resnet18 widths=4-4-8-8 depths=1-1-1-1"
BY_HAND = (
    f"bring https://huggingface.co/timm/{TAG}/resolve/main/model.safetensors by hand, to any place,"
    " and name that file: "
)


def described(architecture: str, classes: int = 1000, **preprocessing) -> dict:
    """The config.json of a tag, as timm writes it."""
    expects = {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "test_crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": classes,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "apache-2.0",
        "origin_url": "https://github.com/pytorch/vision",
    }
    changed = {
        key: value for key, value in {**expects, **preprocessing}.items() if value is not None
    }
    return {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": 512,
        "pretrained_cfg": changed,
    }


def state_of(words: str, classes: int = 1000) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Network.parse(words, classes).build().state_dict()


def pickled(state: dict[str, torch.Tensor]) -> bytes:
    torch.save(state, buffer := io.BytesIO())
    return buffer.getvalue()


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as huggingface.co does; `breaks` is after how many bytes each answer of a large file
    breaks off."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[tuple[str, str, str | None, str]] = []  # noqa: RUF012
    breaks: list[int] = []  # noqa: RUF012
    large = ("model.safetensors", "pytorch_model.bin")
    more: dict[str, str] = {}  # noqa: RUF012

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.removeprefix("/timm/").replace("/resolve/main", "")
        self.asked.append(
            (self.command, path, self.headers["Range"], self.headers["User-Agent"] or "")
        )
        content = self.files.get(path)
        if content is None:
            known = any(name.startswith(path.split("/")[0] + "/") for name in self.files)
            self.send_response(404 if known else 401)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        large = path.endswith(self.large)
        digest = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(content).hexdigest()
        start = (
            int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if self.headers["Range"]
            else 0
        )
        self.send_response(206 if start else 200)
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        headers |= (
            {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content)), **self.more}
            if large
            else {}
        )
        headers |= {"Content-Length": str(len(content) - start)}
        headers |= (
            {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        )
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        end = start + self.breaks.pop(0) if large and with_body and self.breaks else len(content)
        if with_body:
            self.wfile.write(content[start:end])
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A hub that holds the tiny network as a tag of ResNet-18."""
    state = state_of(TINY)
    files = {f"{TAG}/config.json": json.dumps(described("resnet18")).encode()}
    files[f"{TAG}/model.safetensors"] = safetensors.torch.save(state)
    handler = type("Handler", (Hub,), {"files": files, "asked": [], "breaks": [], "more": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.handle_error = lambda *arguments: None
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()

        def stop() -> None:
            running.shutdown()
            running.server_close()

        yield SimpleNamespace(
            handler=handler,
            files=files,
            state=state,
            url=f"http://127.0.0.1:{running.server_port}",
            stop=stop,
        )
        running.shutdown()


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """The hub's client turned to that server, with an empty cache; it read its environment when it
    was imported."""
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": True,
        "HF_HUB_DISABLE_SYMLINKS": False,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between its attempts
    # where the storage's client writes about itself as soon as it is imported
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    huggingface_hub.close_session()
    server.cache = tmp_path / "hub"
    yield server
    huggingface_hub.close_session()


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return set(found) == set(expected) and all(
        torch.equal(found[key], expected[key]) for key in expected
    )


def fetched(hub) -> list[str]:
    """The files whose content was sent."""
    return [
        path.rpartition("/")[2] for command, path, _, _ in hub.handler.asked if command == "GET"
    ]


def named_file(refused: pytest.ExceptionInfo) -> Path:
    return Path(re.match(r"(.*?): ", str(refused.value))[1])


# ----------------------------------------------------------------------------------------------------
# fetched


def test_weights_come_with_all_they_were_made_for(hub):
    said: list[str] = []
    found = hub_weights(TAG, TINY, said.append)
    assert same(found.state, hub.state)
    assert (found.source, found.network) == (f"timm {TAG}", "resnet18")
    assert found.preprocessing == Preprocessing((288, 288), (288, 288), interpolation="bicubic")
    assert found.classes == tuple(names_by_wnid().values())
    digest = hashlib.sha256(hub.files[f"{TAG}/model.safetensors"]).hexdigest()
    assert said == [
        (
            f"looking for {TAG} in the cache of huggingface_hub, else at the hub (licence: see its"
            " model card)"
        ),
        f"sha256 {digest}",
    ]
    assert fetched(hub) == ["config.json", "model.safetensors"]


def test_the_second_time_nothing_is_fetched(hub):
    hub_weights(TAG, TINY)
    assert same(hub_weights(TAG, TINY).state, hub.state)
    assert fetched(hub) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_what_is_in_the_cache_needs_no_network(hub, name):
    hub.files[f"{TAG}/{name}"] = {
        "model.safetensors": safetensors.torch.save,
        "pytorch_model.bin": pickled,
    }[name](hub.state)
    if name != "model.safetensors":
        del hub.files[f"{TAG}/model.safetensors"]
    first = hub_weights(TAG, TINY)
    hub.stop()
    huggingface_hub.close_session()
    again = hub_weights(TAG, TINY)
    assert same(again.state, first.state)
    assert (again.preprocessing, again.classes) == (first.preprocessing, first.classes)


def test_without_safetensors_the_other_file_is_taken(hub):
    hub.files[f"{TAG}/pytorch_model.bin"] = pickled(
        {key: value + 1 for key, value in hub.state.items()}
    )
    assert same(hub_weights(TAG, TINY).state, hub.state)  # there are both
    del hub.files[f"{TAG}/model.safetensors"]
    hub.cache.rename(hub.cache.with_name("old"))
    assert same(hub_weights(TAG, TINY).state, {key: value + 1 for key, value in hub.state.items()})


def test_names_of_timm_become_ours(hub):
    block = {
        "norm1.weight": torch.ones(4),
        "conv1.weight": torch.ones(1, 4, 1, 1),
        "downsample.conv.weight": torch.ones(4, 4, 1, 1),
    }
    state = {f"stages.2.blocks.0.{key}": value for key, value in block.items()} | {
        "head.fc.weight": torch.ones(5, 4, 1, 1)
    }
    hub.files["resnetv2_50.a1h_in1k/model.safetensors"] = safetensors.torch.save(state)
    expects = {"mean": [0.5] * 3, "std": [0.5] * 3, "test_input_size": None, "test_crop_pct": None}
    hub.files["resnetv2_50.a1h_in1k/config.json"] = json.dumps(
        described("resnetv2_50", **expects)
    ).encode()
    found = hub_weights("resnetv2_50.a1h_in1k", "resnetv2_50")
    ours = [
        *(f"layer3.0.{key}" for key in ("bn1.weight", "conv1.weight", "downsample.weight")),
        "fc.weight",
    ]
    assert sorted(found.state) == sorted(ours)
    assert found.state["fc.weight"].shape == (5, 4)
    assert found.preprocessing.mean == found.preprocessing.std == (0.5, 0.5, 0.5)
    assert (found.preprocessing.size, found.preprocessing.resize) == ((224, 224), (235, 235))
    # for a network of timm's own they stay
    assert set(hub_weights("resnetv2_50.a1h_in1k", None).state) == set(state)


# ----------------------------------------------------------------------------------------------------
# not fetched


def test_a_tag_that_is_not_there_is_told(hub):
    for tag in ("resnet18.nonsense", "resnet18 a1_in1k", "resnet18/a1_in1k"):
        with pytest.raises(
            ValueError, match=f"the hub has no timm/{tag}; look for the tags of resnet18"
        ):
            hub_weights(tag, TINY)


def test_a_tag_without_weights_says_what_to_bring(hub):
    del hub.files[f"{TAG}/model.safetensors"]
    with pytest.raises(Offline, match=rf"404 Client Error.*; {BY_HAND}--weights FILE$"):
        hub_weights(TAG, TINY)


def test_without_network_it_is_said_which_file_to_bring_and_how_to_name_it(hub):
    hub.stop()
    with pytest.raises(Offline, match=rf"check your connection.*; {BY_HAND}--weights FILE$"):
        hub_weights(TAG, TINY)


def test_without_network_the_file_that_was_brought_is_taken(hub, tmp_path):
    hub.stop()
    (tmp_path / "brought.safetensors").write_bytes(hub.files[f"{TAG}/model.safetensors"])
    settings = TrainSettings("photos", weights=str(tmp_path / "brought.safetensors"))
    found, _ = first_weights(settings, Network.parse(TINY), Screen(quiet=True))
    assert same(found.state, hub.state)


def test_a_download_that_breaks_off_goes_on_and_fetches_nothing_twice(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.handler.breaks = [3000, 5000]
    assert same(hub_weights(TAG, TINY).state, hub.state)
    ranges = [
        span
        for command, path, span, _ in hub.handler.asked
        if command == "GET" and path.endswith("safetensors")
    ]
    assert ranges == [None, "bytes=3000-", "bytes=8000-"]


def test_a_download_that_always_breaks_off_is_given_up_and_leaves_nothing_that_is_taken_for_it(hub):
    hub.handler.breaks = [0] * 100
    with pytest.raises(Offline, match=f"; {BY_HAND}"):
        hub_weights(TAG, TINY)
    hub.handler.breaks = []
    assert same(hub_weights(TAG, TINY).state, hub.state)


def test_a_lost_storage_behind_the_hub_is_told(hub, monkeypatch):
    """Large files come from a storage with a client of its own, which tries for minutes before it
    raises this."""

    def lost(**arguments):
        raise RuntimeError(
            "Task error: File reconstruction error: CAS Client Error: error sending request"
        )

    pytest.importorskip("hf_xet")
    monkeypatch.setattr("huggingface_hub.file_download.xet_get", lost)
    hub.handler.more = {"X-Xet-Hash": "b" * 64, "X-Xet-Refresh-Route": f"{hub.url}/token"}
    with pytest.raises(Offline, match=f"^Task error.*; {BY_HAND}"):
        hub_weights(TAG, TINY)


def test_what_came_from_that_storage_is_taken_for_what_it_is(hub):
    """The client keeps such files under another digest than sha256, with links to them."""
    shared = pytest.importorskip("huggingface_hub.utils._shared_blobs")
    content, other = hub.files[f"{TAG}/model.safetensors"], "b" * 64
    kept = hub.cache / "blobs" / other[:2] / other
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    (hub.cache / "blobs" / shared.SHARED_BLOBS_MARKER_NAME).write_text(
        f"{shared.SHARED_BLOBS_LAYOUT_VERSION}\n"
    )
    hub.handler.more = {"X-Xet-Hash": other, "X-Xet-Refresh-Route": f"{hub.url}/token"}
    assert same(hub_weights(TAG, TINY).state, hub.state)
    assert fetched(hub) == ["config.json"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_file_in_the_cache_is_found_out_and_after_its_removal_fetched_again(
    hub, name, damage
):
    hub_weights(TAG, TINY)
    (path,) = (hub.cache / f"models--timm--{TAG}/snapshots/{COMMIT}").glob(name)
    content = path.read_bytes()
    path.resolve().write_bytes(content[:-100] if damage == "cut" else content[:-100] + b"\0" * 100)
    message = (
        "not JSON"
        if name == "config.json"
        else rf"its sha256 is [0-9a-f]{{64}}, the hub announced {path.readlink().name}"
    )
    with pytest.raises(
        Offline, match=rf"{message}; remove it, and it is downloaded again$"
    ) as refused:
        hub_weights(TAG, TINY)
    named_file(refused).unlink()
    assert same(hub_weights(TAG, TINY).state, hub.state)
    assert fetched(hub).count(name) == 2


def test_other_content_than_was_announced_is_refused(hub):
    content = hub.files[f"{TAG}/model.safetensors"]
    digest = hashlib.sha256(content + b"\0").hexdigest()
    hub.handler.more = {"X-Linked-ETag": f'"{digest}"'}
    with pytest.raises(
        Offline,
        match=(
            f"its sha256 is {hashlib.sha256(content).hexdigest()}, the hub announced {digest};"
            " remove it"
        ),
    ):
        hub_weights(TAG, TINY)


def test_without_the_client_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=re.escape('run: pip install "resnets[hub]"')):
        hub_weights(TAG, TINY)


# ----------------------------------------------------------------------------------------------------
# what they were made for

EXPECTS = {
    "resnet50.a1_in1k": {},
    "resnet50.tv_in1k": {
        "test_input_size": None,
        "test_crop_pct": None,
        "crop_pct": 0.875,
        "interpolation": "bilinear",
    },
    "resnet10t.c3_in1k": {
        "input_size": [3, 176, 176],
        "test_input_size": [3, 224, 224],
        "crop_pct": 0.875,
        "test_crop_pct": 0.95,
    },
    "resnetv2_50.a1h_in1k": {"mean": [0.5] * 3, "std": [0.5] * 3},
    "resnetv2_50x1_bit.goog_in21k_ft_in1k": {
        "input_size": [3, 448, 448],
        "test_input_size": None,
        "crop_pct": 1.0,
        "test_crop_pct": None,
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    },
}


@pytest.mark.parametrize("tag", EXPECTS)
def test_pictures_are_prepared_as_timm_does_it(hub, tag):
    data = pytest.importorskip("timm.data")
    config = described(tag.partition(".")[0], **EXPECTS[tag])
    hub.files[f"{tag}/config.json"] = json.dumps(config).encode()
    hub.files[f"{tag}/model.safetensors"] = hub.files[f"{TAG}/model.safetensors"]
    known = pytest.importorskip("timm.models").get_pretrained_cfg(tag).to_dict()
    for key in (
        "input_size",
        "test_input_size",
        "crop_pct",
        "test_crop_pct",
        "interpolation",
        "mean",
        "std",
        "crop_mode",
    ):
        value = config["pretrained_cfg"].get(key)
        # what stands above is what timm says
        assert (tuple(value) if isinstance(value, list) else value) == known.get(key)
    found = hub_weights(tag, None).preprocessing
    theirs = data.create_transform(
        **data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"], use_test_size=True)
    )
    noise = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    image = Image.fromarray(noise).resize((610, 401), Image.Resampling.BICUBIC)
    ours = found.normalise(found.pixels(image)[None])[0]
    np.testing.assert_allclose(ours, theirs(image).numpy(), atol=1e-5)


def test_the_description_is_as_timm_writes_it(tmp_path):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        net = timm.create_model("resnet50.a1_in1k")
    timm.models._hub.save_config_for_hf(net, tmp_path / "config.json")
    theirs, ours = json.loads((tmp_path / "config.json").read_text()), described("resnet50")
    assert set(theirs) >= set(ours)
    assert (theirs["architecture"], theirs["num_classes"]) == (
        ours["architecture"],
        ours["num_classes"],
    )
    different = {
        key
        for key, value in ours["pretrained_cfg"].items()
        if theirs["pretrained_cfg"].get(key) != value
    }
    assert different <= {"origin_url"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_mode": "mosaic"}, "crop_mode is 'mosaic'; allowed: center, squash, border"),
        ({"test_crop_pct": 1.15}, "test_crop_pct is 1.15: images would be scaled to 250 pixels"),
        ({"interpolation": "lanczos"}, "interpolation is 'lanczos'"),
        ({"input_size": [4, 224, 224]}, "three numbers|allowed: 3 channels"),
        ({"mean": "0.5"}, "mean is '0.5'"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused_with_the_cure(hub, changes, message):
    config = described("resnet18", **{"test_input_size": [3, 288, 288], **changes})
    if "input_size" in changes:
        config["pretrained_cfg"].pop("test_input_size")
    hub.files[f"{TAG}/config.json"] = json.dumps(config).encode()
    cure = f"bring https://huggingface.co/timm/{TAG}/.* by hand, name that file, and say .*--size"
    with pytest.raises(ValueError, match=f"^the description of timm/{TAG}: .*({message}).*{cure}"):
        hub_weights(TAG, TINY)


@pytest.mark.parametrize("content", ["[]", "null", "3", '{"pretrained_cfg": 3}', "[" * 100_000])
def test_a_description_of_another_kind_is_a_message(hub, content):
    hub.files[f"{TAG}/config.json"] = content.encode()
    with pytest.raises((ValueError, Offline), match="JSON"):
        hub_weights(TAG, TINY)


def test_a_network_is_created_with_them_or_not_at_all(hub, capsys):
    net = resnets.create_model(TINY, weights=f"timm:{TAG}")
    assert same(net.state_dict(), hub.state)
    assert "looking for resnet18.a1_in1k" in " ".join(capsys.readouterr().err.split())
    net = resnets.create_model(TINY, 5, weights=f"timm:{TAG}")
    assert torch.equal(net.conv1.weight, hub.state["conv1.weight"])
    assert "new: fc.weight, fc.bias" in " ".join(capsys.readouterr().err.split())
    hub.stop()
    hub.cache.rename(hub.cache.with_name("gone"))
    with pytest.raises(ValueError, match=f"^weights=timm:{TAG}: .*; {BY_HAND}"):
        resnets.create_model(TINY, weights=f"timm:{TAG}")


def test_weights_of_a_network_of_timms_own_open_by_their_word(hub):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    state = timm.create_model("test_vit", num_classes=1000).state_dict()
    config = described(
        "test_vit", input_size=[3, 160, 160], test_input_size=None, test_crop_pct=None
    )
    hub.files["test_vit.r160_in1k/config.json"] = json.dumps(config).encode()
    hub.files["test_vit.r160_in1k/model.safetensors"] = safetensors.torch.save(state)
    model = open_model("timm:test_vit.r160_in1k", None, None, Screen(quiet=True))
    assert model.network["name"] == "timm:test_vit"
    assert (model.preprocessing.size, model.preprocessing.resize) == ((160, 160), (168, 168))
    assert same(model.net.state_dict(), state)


@pytest.mark.parametrize(
    ("count", "labels", "expected"),
    [
        (1000, None, tuple(names_by_wnid().values())),
        (3, ["a", "b", "c"], ("a", "b", "c")),
        (21843, None, None),
        (3, ["a", "b"], None),
        (0, None, None),
    ],
)
def test_classes_are_those_of_the_description_or_of_imagenet(hub, count, labels, expected):
    config = described("resnet18", count) | ({"label_names": labels} if labels else {})
    hub.files[f"{TAG}/config.json"] = json.dumps(config).encode()
    assert hub_weights(TAG, TINY).classes == expected


def test_descriptions_of_old_are_read_too(hub):
    """Without the inner part, and with what timm takes for granted left out."""
    config = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "input_size": [3, 160, 160],
        "crop_pct": 0.9,
    }
    hub.files[f"{TAG}/config.json"] = json.dumps(config).encode()
    found = hub_weights(TAG, TINY)
    assert found.preprocessing == Preprocessing((160, 160), (177, 177), interpolation="bicubic")
    assert len(found.classes) == 1000


# ----------------------------------------------------------------------------------------------------
# asked for by name


def asking(weights: str = f"timm:{TAG}", **more) -> TrainSettings:
    return TrainSettings("photos", weights=weights, size=64, fit="crop", **more)


def test_training_starts_from_them_and_prepares_pictures_as_they_expect(hub):
    network = Network.parse(TINY, 5)
    found, reason = first_weights(asking(), network, Screen(quiet=True))
    assert reason == ""
    loaded = load_weights(network.build(), found.state)
    assert loaded.left == ("fc.weight", "fc.bias")
    prepared = make_preprocessing(asking(), found, (64, 64))
    assert (prepared.size, prepared.resize, prepared.interpolation) == (
        (64, 64),
        (64, 64),
        "bicubic",
    )
    assert prepared.mean == (0.485, 0.456, 0.406)


def test_training_without_them_says_what_to_bring(hub):
    hub.stop()
    with pytest.raises(ValueError, match=f"^weights=timm:{TAG}: .*; {BY_HAND}"):
        first_weights(asking(), Network.parse(TINY), Screen(quiet=True))


def test_weights_of_a_look_alike_are_taken_with_a_warning(hub, capsys):
    for name in ("config.json", "model.safetensors"):
        hub.files[f"resnetblur18.some/{name}"] = hub.files[f"{TAG}/{name}"]
    first_weights(asking("timm:resnetblur18.some"), Network.parse("resnet18"), Screen())
    told = " ".join(capsys.readouterr().err.split())
    assert "these weights are of resnetblur18; resnet18 differs in antialias: they fit" in told
    first_weights(asking(), Network.parse("resnet18"), Screen(quiet=True))
    assert capsys.readouterr().err == ""


FRESH = """
import sys
from resnets.pretrained import hub_weights
print(sorted(hub_weights(sys.argv[1], sys.argv[2]).state)[0])
"""


def test_the_hub_is_asked_for_these_files_and_told_nothing_of_the_machine(server, tmp_path):
    """In a process of its own, where the environment decides."""
    words = ("proxy", "hf_", "huggingface", "telemetry", "do_not_track")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not any(word in name.lower() for word in words)
    }
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", FRESH, TAG, TINY]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.stdout == "bn1.bias\n", done.stderr
    assert {path for _, path, _, _ in server.handler.asked} == {
        f"{TAG}/config.json",
        f"{TAG}/model.safetensors",
    }
    assert not [agent for *_, agent in server.handler.asked if "torch" in agent or "agent" in agent]
    assert (tmp_path / "home/hub").is_dir()
