"""Weights that go into a network: what is loaded, adapted, refused, downloaded; and that nothing
else touches the network."""

import contextlib
import hashlib
import http.server
import os
import pickle
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from resnets import create_model, list_models, models, pretrained
from resnets.downloads import Offline, download
from resnets.imagenet import names_by_wnid
from resnets.models import Network
from resnets.models.rows import ROWS
from resnets.models.weights import convert, is_folded, load_weights, look_alikes, unseen_differences
from resnets.preprocessing import Preprocessing
from resnets.pretrained import Published, published_accuracy, read_state, torchvision_weights

SMALL = "resnet18 widths=4-4-8-8 depths=1-1-1-1"


def trained(words: str = SMALL, classes: int = 5, channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = create_model(words, classes, channels)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def images(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(1))


# ----------------------------------------------------------------------------------------------------
# into a network


@torch.no_grad()
def test_all_that_fits_is_loaded():
    source, target = trained(), trained(seed=1)
    loaded = load_weights(target, source.state_dict())
    torch.testing.assert_close(target(images()), source(images()), atol=0, rtol=0)
    assert (loaded.adapted, loaded.left, loaded.folded) == ((), (), False)
    assert str(loaded) == f"{len(source.state_dict())} entries loaded"


@torch.no_grad()
def test_counters_may_be_missing_and_half_precision_is_widened():
    source, target = trained(), trained(seed=1)
    state = {
        key: value.half()
        for key, value in source.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    load_weights(target, state)
    assert {
        value.dtype for key, value in target.state_dict().items() if "num_batches" not in key
    } == {torch.float32}
    torch.testing.assert_close(target(images()), source(images()), atol=0.02, rtol=0.02)


def test_counters_may_be_left_over():
    frozen = torchvision.models.resnet18(
        num_classes=5, norm_layer=torchvision.ops.FrozenBatchNorm2d
    )
    source = create_model("resnet18", 5)
    assert set(load_weights(frozen, source.state_dict()).loaded) == set(frozen.state_dict())
    assert torch.equal(frozen.bn1.running_var, source.bn1.running_var)


@torch.no_grad()
def test_the_head_stays_new_where_classes_differ():
    source, target = trained(classes=5), trained(classes=3, seed=1)
    head = target.fc.weight.clone()
    loaded = load_weights(target, source.state_dict())
    assert loaded.left == ("fc.weight", "fc.bias")
    assert "new: fc.weight, fc.bias" in str(loaded)
    assert len(loaded.loaded) == len(source.state_dict()) - 2
    assert bool((target.fc.weight == head).all())
    torch.testing.assert_close(
        target.forward_features(images()), source.forward_features(images()), atol=0, rtol=0
    )
    backbone = {
        key: value for key, value in source.state_dict().items() if not key.startswith("fc.")
    }
    assert load_weights(trained(seed=1), backbone).left == ("fc.weight", "fc.bias")


@pytest.mark.parametrize(
    "words",
    [SMALL, "densenet121 depths=1-1-1-1 growth=8", "vit_tiny_patch16_224 width=24 depth=1 size=32"],
)
@torch.no_grad()
def test_a_network_without_classes_takes_the_weights_of_one_with(words):
    source, target = trained(words), trained(words, classes=0, seed=1)
    loaded = load_weights(target, source.state_dict())
    assert set(loaded.loaded) == set(target.state_dict())
    assert not loaded.left
    pictures = images()[..., :32, :32]
    source.reset_classifier(0)
    torch.testing.assert_close(target(pictures), source(pictures), atol=0, rtol=0)


@torch.no_grad()
def test_a_gray_picture_answers_as_its_rgb_copy():
    source, target = trained(), trained(channels=1, seed=1)
    loaded = load_weights(target, source.state_dict())
    gray = images(1)
    torch.testing.assert_close(target(gray), source(gray.repeat(1, 3, 1, 1)), atol=1e-5, rtol=1e-5)
    assert loaded.adapted == ("conv1.weight (3 channels to 1)",)
    assert "conv1.weight" not in loaded.loaded
    with pytest.raises(
        ValueError, match=r"of another shape conv1.weight \(4, 1, 7, 7\) for \(4, 3, 7, 7\)"
    ):
        load_weights(trained(), target.state_dict())


def test_weights_of_another_network_are_refused_and_nothing_is_changed():
    net = trained("resnet20", 10)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match="weights of another network: ") as refused:
        load_weights(net, trained(SMALL).state_dict())
    text = str(refused.value)
    assert "missing layer1.1.conv1.weight" in text
    assert "unknown layer2.0.downsample.0.weight" in text
    assert "of another shape conv1.weight (4, 3, 7, 7) for (16, 3, 3, 3)" in text
    assert "more" in text
    assert all(bool((before[key] == value).all()) for key, value in net.state_dict().items())
    with pytest.raises(ValueError, match=r"missing conv1.weight.*; unknown stem.weight"):
        load_weights(net, {"stem.weight": torch.zeros(1)})


@torch.no_grad()
def test_folded_statistics_are_recognised():
    net = create_model(SMALL, 3)
    assert not is_folded(net.state_dict())  # mean 0 and variance 1: as initialised
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1 - 1e-5)
    assert is_folded(net.state_dict())
    loaded = load_weights(create_model(SMALL, 3), net.state_dict())
    assert loaded.folded
    assert "folded" in str(loaded)
    net.bn1.running_mean[0] = 1e-3
    assert not is_folded(net.state_dict())
    assert not is_folded(trained().state_dict())
    assert not is_folded({"fc.weight": torch.zeros(1)})


# ----------------------------------------------------------------------------------------------------
# look-alikes


@cache
def shapes(network: Network) -> list[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        return [(key, tuple(value.shape)) for key, value in network.build().state_dict().items()]


def test_look_alikes_are_the_rows_whose_weights_have_the_same_names_and_shapes():
    same_count: dict[int, list[str]] = {}
    for name in list_models():  # only these can have the same shapes
        same_count.setdefault(ROWS[name].parameters, []).append(name)
    crowded = [names for names in same_count.values() if len(names) > 1]
    known = {name: shapes(Network.parse(name)) for names in crowded for name in names}
    found = {name: look_alikes(Network.parse(name)) for name in list_models()}
    expected = {
        name: (
            [
                other
                for other in same_count[ROWS[name].parameters]
                if other != name and known[other] == known[name]
            ]
            if name in known
            else []
        )
        for name in list_models()
    }
    assert found == expected
    assert found["resnetaa50"] == ["resnet50", "resnetblur50"]


CHANGES = {  # words that change what is computed, and some that do not (the last two)
    "stride_in": ["3x3", "1x1"],
    "antialias": ["none", "blur", "average"],
    "stem_pool": ["max", "conv", "zero", "none"],
    "norm": ["batch", "group"],
    "conv": ["plain", "standardised"],
    "output_stride": ["32", "16", "8"],
    "order": ["post", "pre"],
    "shortcut": ["projection", "average", "none", "zero_pad", "wide"],
    "spatial": ["conv", "split-2", "split-2-before", "split-4"],
    "attention": ["none", "se", "eca"],
    "drop_path": ["0.0", "0.1"],
    "zero_init": ["false", "true"],
}


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_what_weights_do_not_show_is_told_exactly_where_their_names_and_shapes_are_the_same(data):
    chosen = st.lists(st.sampled_from(sorted(CHANGES)), max_size=2, unique=True)
    first = {key: data.draw(st.sampled_from(CHANGES[key])) for key in data.draw(chosen)}
    second = first | {key: data.draw(st.sampled_from(CHANGES[key])) for key in data.draw(chosen)}
    try:
        one, two = (
            Network.parse("resnet50 depths=1-1-1-1", 5, **changes) for changes in (first, second)
        )
    except ValueError:
        assume(False)
    different = {
        key for key in CHANGES if getattr(one.setting, key) != getattr(two.setting, key)
    } - {"drop_path", "zero_init"}
    same = shapes(one) == shapes(two)
    assert set(unseen_differences(one.setting, two.setting)) == (different if same else set())


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ("resnet20", "resnet20 shortcut=none", ["shortcut"]),
        ("resnet20 shortcut=none", "resnet20 shortcut=projection", []),
        ("resnet50", "resnetaa50 output_stride=8", ["antialias", "output_stride"]),
        ("resnet50", "resnetaa50 drop_path=0.1", ["antialias"]),
        ("resnet50", "resnetaa50 zero_init=true", ["antialias"]),
        ("resnet50_gn", "resnet50_gn conv=standardised", ["conv"]),
        ("resnetrs50", "resnetrs50 antialias=blur", []),
        ("resnetrs50 antialias=average", "resnetrs50 antialias=blur", ["antialias"]),
        ("resnest50d_4s2x40d", "resnest50d_4s2x40d spatial=split-4", ["spatial"]),
        ("densenet121 stem=deep", "densenetblur121d", ["antialias"]),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224 heads=6", ["heads"]),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224 order=none", ["order"]),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224 order=post", []),
        ("resnet50", "resnet50 drop_path=0.1 zero_init=true", []),
        ("resnet50", "resnet50 time=spatial", []),
        ("resnet50", "densenet121", []),
        ("resnet50", "resnet50", []),
    ],
)
def test_what_weights_do_not_show_is_told_by_its_words(one, two, words):
    settings_of = [Network.parse(text).setting for text in (one, two)]
    assert sorted(unseen_differences(*settings_of)) == words
    assert sorted(unseen_differences(*settings_of[::-1])) == words


# ----------------------------------------------------------------------------------------------------
# files


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return trained().state_dict()


def same(found, expected) -> bool:
    return list(found) == list(expected) and all(
        torch.equal(found[key], expected[key]) for key in expected
    )


def test_files_of_every_kind_are_read(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pt")
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "parallel.pth")
    np.savez(tmp_path / "a.npz", **{key: value.numpy() for key, value in state.items()})
    for name in ("a.pt", "old.pth", "wrapped.pt", "parallel.pth", "a.npz"):
        assert same(convert(read_state(tmp_path / name), SMALL), state), name
    assert same(
        dict(sorted(read_state(tmp_path / "a.safetensors").items())), dict(sorted(state.items()))
    )


def test_names_with_slashes_are_kept_in_npz_files_only(tmp_path):
    array = np.ones((1, 2), np.float32)
    np.savez(tmp_path / "a.npz", **{"resnet/head/bias": array})
    torch.save({"resnet/head/bias": torch.ones(1), "fc.bias": torch.ones(1)}, tmp_path / "a.pt")
    assert list(read_state(tmp_path / "a.npz")) == ["resnet/head/bias"]
    assert list(read_state(tmp_path / "a.pt")) == ["fc.bias"]


def test_what_belongs_to_training_is_left_out(tmp_path, state):
    safetensors.torch.save_file(
        {**state, "average/fc.bias": torch.ones(5)}, tmp_path / "last.safetensors"
    )
    assert set(read_state(tmp_path / "last.safetensors")) == set(state)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({}, "empty.pt"),
        ({"epoch": 3}, "number.pt"),
        ([torch.ones(1)], "list.pt"),
        ({0: torch.ones(1)}, "numbered.pt"),
        (torch.ones(2), "tensor.pt"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, name):
    torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=r"not a state dict \(names to tensors\)"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "old.pth", "a.npz", "compressed.npz"])
def test_damaged_files_are_refused(tmp_path, state, name):
    if name == "a.safetensors":
        whole = safetensors.torch.save(state)
    elif name.endswith(".npz"):
        save = np.savez if name == "a.npz" else np.savez_compressed
        save(tmp_path / name, **{key: value.numpy() for key, value in state.items()})
        whole = (tmp_path / name).read_bytes()
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=name != "old.pth")
        whole = (tmp_path / name).read_bytes()
    for length in [0, 1, 7, 100, len(whole) // 2, len(whole) - 1]:
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=name):
            read_state(tmp_path / name)
    chance = random.Random(0)
    # without a digest not every flip can be seen; what is refused is refused in words
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[chance.randrange(min(len(whole), 4000))] ^= 1 << chance.randrange(8)
        (tmp_path / name).write_bytes(flipped)
        try:
            read_state(tmp_path / name)
        except ValueError as error:
            assert str(tmp_path / name) in str(error)  # noqa: PT017
    with pytest.raises(ValueError, match="no such weights file"):
        read_state(tmp_path / "gone.pt")


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_refused_and_never_executed(tmp_path, state):
    trap = tmp_path / "executed"
    plain, zipped, hidden = tmp_path / "plain.pt", tmp_path / "zipped.pt", tmp_path / "hidden.pth"
    plain.write_bytes(pickle.dumps(Touch(trap), protocol=2))
    np.savez(tmp_path / "arrays.npz", odd=np.array([Touch(trap)], dtype=object))
    with pytest.raises(
        ValueError,
        match=r"arrays.npz: truncated, or not a state dict \(Object arrays cannot be loaded",
    ):
        read_state(tmp_path / "arrays.npz")
    torch.save({**state, "extra": Touch(trap)}, zipped)
    torch.save(
        {"state_dict": state, "args": Touch(trap)}, hidden, _use_new_zipfile_serialization=False
    )
    for path in (plain, zipped, hidden):
        with pytest.raises(
            ValueError, match=r"running code from a file is refused. Save net.state_dict\(\)"
        ):
            read_state(path)
        assert not trap.exists()
    pickle.loads(plain.read_bytes())
    assert trap.exists()  # the trap works
    with zipfile.ZipFile(zipped) as file:
        assert b"touch" in file.read("zipped/data.pkl")


def test_text_and_pictures_are_no_weights(tmp_path):
    (tmp_path / "notes.pt").write_text("resnet18")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "picture.pth")
    (tmp_path / "notes.safetensors").write_text("resnet18 is a network of 18 layers")
    for name in ("notes.pt", "picture.pth", "notes.safetensors"):
        with pytest.raises(ValueError, match="not a state dict"):
            read_state(tmp_path / name)


# ----------------------------------------------------------------------------------------------------
# downloads


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with `content`, or from where it is asked to go on; `mode` is how it misbehaves."""

    content = b""
    mode = "well"
    asked: list[str | None] = []  # noqa: RUF012
    sent = 0

    def do_GET(self):
        self.asked.append(self.headers["Range"])
        start = (
            int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if self.headers["Range"]
            else 0
        )
        if self.mode == "missing":
            return self.send_error(404)
        if self.mode == "rubbish":
            return self.wfile.write(b"this is not HTTP\r\n\r\n")
        if self.mode == "deaf":
            start = 0
        elif start >= len(self.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if self.mode == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            return self.wfile.write(b"1000\r\n" + self.content[:100])
        rest = self.content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.send_header(
            "Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        )
        self.end_headers()
        part = rest if self.mode in ("well", "deaf") else rest[: len(rest) // 2]
        type(self).sent += len(part)
        self.wfile.write(part)
        if self.mode == "stalls":
            time.sleep(1)
        elif self.mode == "resets":  # to close at once makes the other end see a reset, not an end
            time.sleep(0.2)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serve(content: bytes):
    """A server of `content`, under a name that carries its digest."""
    digest = hashlib.sha256(content).hexdigest()
    handler = type("Handler", (Server,), {"content": content, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.handle_error = lambda *arguments: None
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/models/resnet18-{digest[:8]}.pth"
        yield types.SimpleNamespace(handler=handler, url=url, digest=digest, stop=running.shutdown)
        running.shutdown()


@pytest.fixture
def direct(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(tmp_path, monkeypatch, state, direct):
    """torchvision's weights of ResNet-18 at a server of our own, and an empty cache for them."""
    torch.save(state, tmp_path / "served.pt")
    with serve((tmp_path / "served.pt").read_bytes()) as running:
        real = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
        entry = types.SimpleNamespace(
            url=running.url, transforms=real.transforms, meta=real.meta, name=real.name
        )
        members = {"IMAGENET1K_V1": entry}

        class Tags(dict):
            DEFAULT = entry
            __members__ = members

        monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: Tags(members))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        target = tmp_path / "torch/hub/checkpoints" / running.url.rpartition("/")[2]
        yield types.SimpleNamespace(**vars(running), state=state, entry=entry, target=target)


def beside(server) -> list[str]:
    """What stands where the file should be, without the digest in its name."""
    return [
        path.name.replace(server.digest[:8], "DIGEST") for path in server.target.parent.iterdir()
    ]


def test_a_download_is_announced_checked_and_kept(server):
    said: list[str] = []
    found = torchvision_weights("resnet18", say=said.append)
    assert same(found.state, server.state)
    assert (found.source, found.network) == ("torchvision resnet18 IMAGENET1K_V1", "resnet18")
    assert found.preprocessing == Preprocessing((224, 224), (256, 256))
    assert found.classes == tuple(names_by_wnid().values())
    text = "\n".join(said)
    for part in (server.url, "45 MB", "licence BSD-3-Clause", server.digest, str(server.target)):
        assert part in text
    assert server.handler.asked == [None]
    server.stop()
    again = torchvision_weights("resnet18", "IMAGENET1K_V1", said.append)
    assert same(again.state, server.state)
    assert len(said) == 2  # nothing was said the second time
    assert beside(server) == ["resnet18-DIGEST.pth"]


def test_a_network_is_created_with_them_or_not_at_all(server, monkeypatch, capsys):
    build = models.create_model  # of the small network whose weights the server has
    monkeypatch.setattr(models, "create_model", lambda name, *rest, **more: build(SMALL, *rest))
    net = create_model("resnet18", pretrained=True)
    assert same(net.state_dict(), server.state)
    told = " ".join(capsys.readouterr().err.split())
    assert f"downloading {server.url} (45 MB, licence BSD-3-Clause" in told
    assert f"sha256 {server.digest}" in told
    net = create_model("resnet18", 9, weights="torchvision:IMAGENET1K_V1")
    assert net.fc.out_features == 9
    assert torch.equal(net.conv1.weight, server.state["conv1.weight"])
    assert "new: fc.weight, fc.bias" in capsys.readouterr().err
    changed = create_model("resnet18 drop_path=0.1", weights="torchvision:IMAGENET1K_V1")
    assert torch.equal(changed.conv1.weight, server.state["conv1.weight"])
    server.stop()
    server.target.unlink()
    server.entry.url = "http://127.0.0.1:9/resnet18-f37072fd.pth"  # nobody listens there
    with pytest.raises(ValueError, match=r"^pretrained=True: .*refused; bring .* by hand"):
        create_model("resnet18", pretrained=True)


@pytest.mark.parametrize(
    ("mode", "message", "left"),
    [
        (
            "broken",
            "broke off at .* of .* bytes; try again to go on, or bring",
            ["resnet18-DIGEST.pth.partial"],
        ),
        ("chunked", "IncompleteRead", ["resnet18-DIGEST.pth.partial"]),
        ("resets", "reset by peer", ["resnet18-DIGEST.pth.partial"]),
        ("missing", "Not Found", []),
        ("rubbish", "not HTTP", []),
    ],
)
def test_a_bad_answer_is_refused_and_never_taken_for_the_file(server, mode, message, left):
    server.handler.mode = mode
    with pytest.raises(Offline, match=message) as refused:
        torchvision_weights("resnet18")
    assert f"bring {server.url} to {server.target} by hand" in str(refused.value)
    assert beside(server) == left
    server.handler.mode = "well"
    assert same(torchvision_weights("resnet18").state, server.state)
    assert beside(server) == ["resnet18-DIGEST.pth"]


def test_a_download_goes_on_where_it_broke_off_and_fetches_nothing_twice(server):
    server.handler.mode, size = "broken", len(server.handler.content)
    starts = [0]
    for _ in range(3):  # half of what is left each time
        with pytest.raises(Offline, match="broke off"):
            torchvision_weights("resnet18")
        starts.append(starts[-1] + (size - starts[-1]) // 2)
    server.handler.mode = "well"
    assert same(torchvision_weights("resnet18").state, server.state)
    assert server.handler.asked == [None, *(f"bytes={start}-" for start in starts[1:])]
    assert server.handler.sent == size


@pytest.mark.parametrize("mode", ["stalls", "resets"])
def test_what_came_before_a_connection_was_lost_is_kept(tmp_path, direct, mode):
    content = random.Random(0).randbytes(5 << 20)
    with serve(content) as running:
        target = tmp_path / "weights" / running.url.rpartition("/")[2]
        running.handler.mode = mode
        with pytest.raises(Offline, match=r"timed out|reset by peer"):
            download(running.url, target, timeout=0.5)
        running.handler.mode = "well"
        assert download(running.url, target) == running.digest
        assert target.read_bytes() == content
        assert running.handler.asked[1] is not None
        assert running.handler.sent <= len(content) + (1 << 20)


def test_a_server_that_cannot_go_on_starts_anew(server):
    server.handler.mode = "broken"
    with pytest.raises(Offline, match="broke off"):
        torchvision_weights("resnet18")
    server.handler.mode = "deaf"
    assert same(torchvision_weights("resnet18").state, server.state)
    assert server.handler.asked[1] is not None
    assert beside(server) == ["resnet18-DIGEST.pth"]


def test_a_part_as_long_as_the_file_or_longer_is_removed(server):
    server.target.parent.mkdir(parents=True)
    partial = server.target.with_name(f"{server.target.name}.partial")
    for content in (server.handler.content, server.handler.content + b"more"):
        partial.write_bytes(content)
        with pytest.raises(Offline, match=r"Range Not Satisfiable; bring .* by hand"):
            torchvision_weights("resnet18")
        assert not partial.exists()
    assert same(torchvision_weights("resnet18").state, server.state)


def test_a_part_of_another_file_is_found_out_and_removed(server):
    server.target.parent.mkdir(parents=True)
    server.target.with_name(f"{server.target.name}.partial").write_bytes(b"of another file")
    with pytest.raises(Offline, match="sha256 of what came"):
        torchvision_weights("resnet18")
    assert beside(server) == []
    assert same(torchvision_weights("resnet18").state, server.state)


def test_another_digest_is_refused_and_nothing_is_left(server):
    server.handler.content = server.handler.content + b"\0"
    came = hashlib.sha256(server.handler.content).hexdigest()
    with pytest.raises(
        Offline, match=f"sha256 of what came is {came}, {server.digest[:8]}... was expected"
    ) as refused:
        torchvision_weights("resnet18")
    assert f"bring {server.url} to {server.target} by hand" in str(refused.value)
    assert beside(server) == []


def test_no_server_says_what_to_bring_and_where_to(server):
    server.entry.url = "http://127.0.0.1:9/resnet18-f37072fd.pth"  # nobody listens there
    with pytest.raises(
        Offline,
        match=(
            r"refused; bring http://127.0.0.1:9/resnet18-f37072fd.pth to .*hub.checkpoints.*by hand"
        ),
    ):
        torchvision_weights("resnet18")


def test_a_cache_that_cannot_be_written_to_says_so(server, tmp_path):
    (tmp_path / "torch").write_text("a file where the folder should be")
    with pytest.raises(Offline, match="by hand"):
        torchvision_weights("resnet18")


def test_a_damaged_file_in_the_cache_is_not_taken_for_a_network_without_weights(server):
    server.target.parent.mkdir(parents=True)
    server.target.write_bytes(server.handler.content[:1000])
    with pytest.raises(Offline, match=f"{server.target}.*remove it"):
        torchvision_weights("resnet18")


def test_networks_and_tags_that_are_not_there():
    with pytest.raises(ValueError, match="torchvision has no weights for resnet20"):
        torchvision_weights("resnet20")
    with pytest.raises(
        ValueError, match="no weights IMAGENET1K_V3 for resnet50: did you mean IMAGENET1K_V"
    ):
        torchvision_weights("resnet50", "IMAGENET1K_V3")


THEIRS = [
    *torchvision.models.list_models(module=torchvision.models),
    *torchvision.models.list_models(module=torchvision.models.video),
]
PUBLISHED = {name: name for name in list_models() if name in THEIRS} | {
    "vit_base_patch16_224": "vit_b_16"
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_entry_of_torchvision_has_what_is_said_of_it(name, monkeypatch):
    """Address, size, digest in the name and preprocessing, of the newest and of every other tag;
    nothing is fetched."""
    said: list[str] = []
    monkeypatch.setattr(pretrained, "download", lambda url, target: hashlib.sha256().hexdigest())
    monkeypatch.setattr(pretrained, "read_state", lambda path: {})
    monkeypatch.setenv("TORCH_HOME", "nowhere")
    tags = torchvision.models.get_model_weights(PUBLISHED[name])
    for tag, entry in [("DEFAULT", tags.DEFAULT), *tags.__members__.items()]:
        found, theirs = torchvision_weights(name, tag, said.append), entry.transforms()
        expected = (
            theirs.crop_size[0],
            tuple(theirs.mean),
            tuple(theirs.std),
            theirs.interpolation.value,
        )
        ours = found.preprocessing
        assert (ours.size[0], ours.mean, ours.std, ours.interpolation) == expected
        assert ours.size[0] == ours.size[1]
        assert ours.resize == (theirs.resize_size[0], theirs.resize_size[-1])
        assert len(set(found.classes)) == len(entry.meta["categories"])
        assert (found.network, found.source) == (
            name,
            f"torchvision {PUBLISHED[name]} {entry.name}",
        )
        assert re.search(r"-[0-9a-f]{8}\.pth$", entry.url)  # so that what comes can be checked
    assert all(
        f"/{PUBLISHED[name]}" in text and " MB, licence" in text and "(0 MB" not in text
        for text in said[::2]
    )


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("r2plus1d_18", "stem.3.weight", "conv1.3.weight"),
        ("vit_base_patch16_224", "class_token", "cls_token"),
        (
            "densenet121",
            "features.denseblock1.denselayer1.norm.1.weight",
            "features.denseblock1.denselayer1.norm1.weight",
        ),
    ],
)
def test_names_in_files_of_torchvision_become_ours(name, theirs, ours, monkeypatch):
    monkeypatch.setattr(pretrained, "download", lambda url, target: hashlib.sha256().hexdigest())
    monkeypatch.setattr(pretrained, "read_state", lambda path: {theirs: torch.ones(1)})
    monkeypatch.setenv("TORCH_HOME", "nowhere")
    assert list(torchvision_weights(name).state) == [ours]


def test_published_accuracy_is_that_of_torchvision_and_timm_the_best_first():
    assert published_accuracy("r3d_18") == [Published("torchvision:KINETICS400_V1", 112, 63.2)]
    found = published_accuracy("resnet50")
    for expected in [
        ("torchvision:IMAGENET1K_V1", 224, 76.13),
        ("torchvision:IMAGENET1K_V2", 224, 80.858),
    ]:
        assert Published(*expected) in found
    assert Published("timm:resnet50.a1_in1k", 288, 81.24) in found
    assert [one.top1 for one in found] == sorted((one.top1 for one in found), reverse=True)
    assert published_accuracy("vit_base_patch16_224")[0] == Published(
        "torchvision:IMAGENET1K_SWAG_E2E_V1", 384, 85.304
    )
    for name in ("resnet20", "preresnet110", "nonsense"):
        assert published_accuracy(name) == []


def test_every_published_accuracy_is_of_weights_that_there_are():
    timm = pytest.importorskip("timm")
    known = {f"timm:{name}" for name in timm.list_pretrained()}
    known |= {
        f"torchvision:{tag}"
        for name in PUBLISHED.values()
        for tag in torchvision.models.get_model_weights(name).__members__
    }
    found = [one for name in list_models() for one in published_accuracy(name)]
    assert {one.weights for one in found} <= known
    assert len(found) > 150
    assert all(50 < one.top1 < 90 and one.size >= 112 for one in found)


# ----------------------------------------------------------------------------------------------------
# nothing else

LISTENING = """
import socket, sys
attempts = []

def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX:
        attempts.append(address)
        raise OSError("refused by the test")

class Counting(socket.socket):
    connect = connect_ex = refuse
    def sendto(self, data, *rest):
        refuse(self, rest[-1])

socket.socket = Counting
socket.create_connection = lambda address, *rest, **more: refuse(Counting(), address)
socket.getaddrinfo = lambda host, *rest, **more: refuse(Counting(), host)
if sys.argv[1] == "trap":
    import urllib.request
    try:
        urllib.request.urlopen("http://127.0.0.1:9/")
    except OSError:
        pass
else:
    import resnets
    small = dict(model="resnet20 depths=1-1-1", size=16, epochs=1)
    run = resnets.train(sys.argv[1], weights="none", output=sys.argv[2], quiet=True, **small)
    engines = ["onnxruntime"] + ["openvino"] * any("openvino" in name for name in run.proven.engines)
    for engine in engines:
        found = list(resnets.load(run.proven.path, engine).predict(sys.argv[1]))
        assert all(not prediction.error for prediction in found), found
    print("engines", *engines)
print("attempts", attempts)
"""


def listen(*arguments: str, home: Path) -> str:
    environment = {
        name: value for name, value in os.environ.items()
        if not any(word in name.upper() for word in ("CI", "GITHUB", "BUILD", "PROXY", "TELEMETRY", "TRAVIS", "JENKINS"))
    }  # fmt: skip
    environment["HOME"] = str(home)  # a home in which nobody has said no to telemetry
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_else_touches_the_network(tmp_path):
    data = tmp_path / "data"
    chance = np.random.default_rng(0)
    for label, color in {"red": (200, 40, 40), "blue": (40, 40, 200)}.items():
        (data / label).mkdir(parents=True)
        for number in range(8):
            noise = chance.integers(-40, 40, (20, 24, 3)) + color
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(
                data / label / f"{number}.png"
            )
    told = listen(str(data), str(tmp_path / "run"), home=tmp_path)
    assert told.endswith("attempts []\n"), told
    assert "engines onnxruntime" in told


def test_a_connection_would_have_been_counted(tmp_path):
    assert "attempts []" not in listen("trap", home=tmp_path)
