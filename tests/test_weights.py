"""Weights that go into a network: what is loaded, adapted, refused, downloaded; and that nothing else touches the network."""

import hashlib
import http.server
import os
import pickle
import random
import subprocess
import sys
import threading
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch import nn

from resnets import create_model
from resnets.models import weights
from resnets.models.weights import Offline, is_folded, load_weights, read_state, torchvision_weights
from resnets.preprocessing import Preprocessing

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


# ---------------------------------------------------------------------------------------------------- into a network


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
    state = {key: value.half() for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    load_weights(target, state)
    assert {value.dtype for key, value in target.state_dict().items() if "num_batches" not in key} == {torch.float32}
    torch.testing.assert_close(target(images()), source(images()), atol=0.02, rtol=0.02)


@torch.no_grad()
def test_the_head_stays_new_where_classes_differ():
    source, target = trained(classes=5), trained(classes=3, seed=1)
    head = target.fc.weight.clone()
    loaded = load_weights(target, source.state_dict())
    assert loaded.left == ("fc.weight", "fc.bias")
    assert "new: fc.weight, fc.bias" in str(loaded)
    assert len(loaded.loaded) == len(source.state_dict()) - 2
    assert bool((target.fc.weight == head).all())
    torch.testing.assert_close(target.forward_features(images()), source.forward_features(images()), atol=0, rtol=0)
    backbone = {key: value for key, value in source.state_dict().items() if not key.startswith("fc.")}
    assert load_weights(trained(seed=1), backbone).left == ("fc.weight", "fc.bias")


@torch.no_grad()
def test_a_gray_picture_answers_as_its_rgb_copy():
    source, target = trained(), trained(channels=1, seed=1)
    loaded = load_weights(target, source.state_dict())
    gray = images(1)
    torch.testing.assert_close(target(gray), source(gray.repeat(1, 3, 1, 1)), atol=1e-5, rtol=1e-5)
    assert loaded.adapted == ("conv1.weight (3 channels to 1)",)
    assert "conv1.weight" not in loaded.loaded
    with pytest.raises(ValueError, match=r"of another shape conv1.weight \(4, 1, 7, 7\) for \(4, 3, 7, 7\)"):
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


# ---------------------------------------------------------------------------------------------------- files


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return trained().state_dict()


def same(found, expected) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


def test_files_of_every_kind_are_read(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pt")
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "parallel.pth")
    for name in ("a.pt", "old.pth", "wrapped.pt", "parallel.pth"):
        assert same(read_state(tmp_path / name), state), name
    assert same(dict(sorted(read_state(tmp_path / "a.safetensors").items())), dict(sorted(state.items())))


def test_what_belongs_to_training_is_left_out(tmp_path, state):
    safetensors.torch.save_file({**state, "average/fc.bias": torch.ones(5)}, tmp_path / "last.safetensors")
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


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "old.pth"])
def test_damaged_files_are_refused(tmp_path, state, name):
    if name == "a.safetensors":
        whole = safetensors.torch.save(state)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=name != "old.pth")
        whole = (tmp_path / name).read_bytes()
    for length in [0, 1, 7, 100, len(whole) // 2, len(whole) - 1]:
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=name):
            read_state(tmp_path / name)
    chance = random.Random(0)
    for _ in range(200):  # without a digest not every flip can be seen; what is refused is refused in words
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
    torch.save({**state, "extra": Touch(trap)}, zipped)
    torch.save({"state_dict": state, "args": Touch(trap)}, hidden, _use_new_zipfile_serialization=False)
    for path in (plain, zipped, hidden):
        with pytest.raises(ValueError, match=r"running code from a file is refused. Save net.state_dict\(\)"):
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


# ---------------------------------------------------------------------------------------------------- downloads


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with `content`; `mode` is how it misbehaves."""

    content = b""
    mode = "well"
    asked = 0

    def do_GET(self):
        type(self).asked += 1
        if self.mode == "missing":
            self.send_error(404)
            return
        if self.mode == "rubbish":
            self.wfile.write(b"this is not HTTP\r\n\r\n")
            return
        self.send_response(200)
        if self.mode == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"1000\r\n" + self.content[:100])
            return
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) // 2] if self.mode == "broken" else self.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch, state):
    """torchvision's weights of ResNet-18 at a server of our own, and an empty cache for them."""
    torch.save(state, tmp_path / "served.pt")
    content = (tmp_path / "served.pt").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    handler = type("Handler", (Server,), {"content": content})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/models/resnet18-{digest[:8]}.pth"
        real = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
        entry = types.SimpleNamespace(url=url, transforms=real.transforms, meta=real.meta, name=real.name)
        members = {"IMAGENET1K_V1": entry}

        class Tags(dict):
            DEFAULT = entry
            __members__ = members

        monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: Tags(members))
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield types.SimpleNamespace(
            handler=handler, url=url, digest=digest, state=state, entry=entry,
            stop=running.shutdown, target=tmp_path / "torch/hub/checkpoints" / url.rpartition("/")[2],
        )  # fmt: skip
        running.shutdown()


def test_a_download_is_announced_checked_and_kept(server):
    said: list[str] = []
    found = torchvision_weights("resnet18", say=said.append)
    assert same(found.state, server.state)
    assert found.source == "torchvision resnet18 IMAGENET1K_V1"
    assert found.preprocessing == Preprocessing((224, 224), (256, 256))
    text = "\n".join(said)
    for part in (server.url, "45 MB", "licence BSD-3-Clause", server.digest, str(server.target)):
        assert part in text
    assert server.handler.asked == 1
    server.stop()
    again = torchvision_weights("resnet18", "IMAGENET1K_V1", said.append)
    assert same(again.state, server.state)
    assert len(said) == 2  # nothing was said the second time
    assert os.listdir(server.target.parent) == [server.target.name]  # noqa: PTH208


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("broken", "broke off at .* of .* bytes"),
        ("chunked", "IncompleteRead"),
        ("missing", "Not Found"),
        ("rubbish", "not HTTP"),
    ],
)
def test_a_bad_answer_is_refused_and_nothing_is_left(server, mode, message):
    server.handler.mode = mode
    with pytest.raises(Offline, match=message) as refused:
        torchvision_weights("resnet18")
    assert f"bring {server.url} to {server.target} by hand" in str(refused.value)
    assert not list(server.target.parent.iterdir())


def test_another_digest_is_refused_and_nothing_is_left(server):
    server.handler.content = server.handler.content + b"\0"
    with pytest.raises(Offline, match=f"sha256 of what came is [0-9a-f]{{64}}, {server.digest[:8]}... was expected"):
        torchvision_weights("resnet18")
    assert not list(server.target.parent.iterdir())


def test_no_server_says_what_to_bring_and_where_to(server):
    server.entry.url = "http://127.0.0.1:9/resnet18-f37072fd.pth"  # nobody listens there
    with pytest.raises(Offline, match=r"refused; bring http://127.0.0.1:9/resnet18-f37072fd.pth to .*hub.checkpoints.*by hand"):
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
    with pytest.raises(ValueError, match="torchvision has no ImageNet weights for resnet20"):
        torchvision_weights("resnet20")
    with pytest.raises(ValueError, match="no weights IMAGENET1K_V3 for resnet50: did you mean IMAGENET1K_V"):
        torchvision_weights("resnet50", "IMAGENET1K_V3")


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_every_entry_of_torchvision_has_what_is_said_of_it(name, monkeypatch):
    """Address, size, digest in the name and preprocessing, of the newest and of every other tag; nothing is fetched."""
    said: list[str] = []
    monkeypatch.setattr(weights, "download", lambda url, target: hashlib.sha256().hexdigest())
    monkeypatch.setattr(weights, "read_state", lambda path: {})
    monkeypatch.setenv("TORCH_HOME", "nowhere")
    for tag in ("DEFAULT", *torchvision.models.get_model_weights(name).__members__):
        found = torchvision_weights(name, tag, said.append)
        assert found.preprocessing.size == (224, 224)
        assert found.preprocessing.mean == (0.485, 0.456, 0.406)
    assert all(f"{name}-" in text and " MB, licence" in text and "(0 MB" not in text for text in said[::2])


# ---------------------------------------------------------------------------------------------------- nothing else

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
        [sys.executable, "-c", LISTENING, *arguments], capture_output=True, text=True, env=environment, timeout=300, check=False
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
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(data / label / f"{number}.png")
    told = listen(str(data), str(tmp_path / "run"), home=tmp_path)
    assert told.endswith("attempts []\n"), told
    assert "engines onnxruntime" in told


def test_a_connection_would_have_been_counted(tmp_path):
    assert "attempts []" not in listen("trap", home=tmp_path)
