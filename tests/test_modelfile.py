"""The model file: what goes in comes out, equal content gives equal bytes, damage is refused, a
full disk costs nothing."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from resnets.files import write_file
from resnets.formats import FORMAT
from resnets.modelfile import (
    KEY,
    Model,
    best_weights,
    build_network,
    describe_network,
    load_model,
    read_model,
    write_model,
)
from resnets.models import Network
from resnets.preprocessing import Preprocessing
from resnets.tasks import describe_task
from resnets.tasks.classes import Classification
from resnets.torch_engine import TorchEngine

NETWORK = Network.parse("resnet20 depths=1-1 widths=4-8", 3)


def metadata(**more) -> dict:
    return {
        "network": describe_network(NETWORK, nn.Identity(), 3, 3),
        "classes": ["ant", "bee", "Öland\u2028"],
        "preprocessing": Preprocessing.square(16, 0.875).to_dict(),
        "training": {"epochs": 3.5, "lr": None, "data": "photos"},
        **more,
    }


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = NETWORK.build()
    nn.init.uniform_(net.bn1.running_mean)
    return net.eval()


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    write_model(path, network().state_dict(), metadata())
    return path


def resealed(path: Path, **changes) -> None:
    """The same file with other metadata, as somebody would write it who knows how."""
    with safetensors.safe_open(path, "pt") as file:
        content = json.loads(file.metadata()[KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(safetensors.torch.save(tensors, {KEY: json.dumps({**content, **changes})}))


# ----------------------------------------------------------------------------------------------------
# round trip


@torch.no_grad()
def test_a_model_comes_back_as_it_was(path):
    model = load_model(path)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.net(images), network()(images), atol=0, rtol=0)
    assert model.classes == ("ant", "bee", "Öland\u2028")
    assert model.preprocessing == Preprocessing.square(16, 0.875)
    assert model.network_name == str(NETWORK)
    assert model.metadata["training"] == {"epochs": 3.5, "lr": None, "data": "photos"}
    assert model.metadata["format"] == FORMAT == 2
    assert not model.net.training
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    engine = TorchEngine(model)
    np.testing.assert_allclose(engine.run(pixels)["probabilities"].sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(
        engine(pixels)["probabilities"], engine.run(pixels)["probabilities"]
    )


def test_every_kind_of_tensor_comes_back(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "transposed": base.t(),
        "part": base[1:, ::2],
        "tied": base,
        "tied again": base,
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "counter": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(3, dtype=torch.float16),
        "brain": torch.ones(3, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "parameter": nn.Parameter(torch.ones(2)),
        "optimizer/0/momentum_buffer": torch.ones(2),
    }
    write_model(
        tmp_path / "a.safetensors",
        tensors,
        {"rows": [{"loss": 0.1}, {"loss": float("inf")}], "by": {10: "a", 9: "b"}},
    )
    found, read = read_model(tmp_path / "a.safetensors")
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype, name
    assert read == {
        "rows": [{"loss": 0.1}, {"loss": float("inf")}],
        "by": {"10": "a", "9": "b"},
        "format": FORMAT,
        "task": {"name": "classes"},
    }


def test_names_that_are_not_utf8_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_model(tmp_path / "a.safetensors", {"a": torch.ones(1)}, metadata(source=name))
    assert read_model(tmp_path / "a.safetensors")[1]["source"] == name


def test_a_file_that_is_written_again_is_of_this_format(path):
    tensors, read = read_model(path)
    write_model(path, tensors, {**read, "format": 0, "metrics": {"accuracy": 0.5}})
    assert read_model(path)[1]["format"] == FORMAT


def test_equal_content_gives_equal_bytes(tmp_path, path):
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import random
from pathlib import Path
from test_modelfile import metadata, network, write_model
state, more = list(network().state_dict().items()), list(metadata(tags=sorted({{"a", "b", "c"}})).items())
random.shuffle(state); random.shuffle(more)
write_model(Path(sys.argv[1]), dict(state), dict(more))
"""
    digests = set()
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}.safetensors"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", program, str(target)], check=True, env=environment)
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(digests) == 1
    write_model(
        tmp_path / "here.safetensors", network().state_dict(), metadata(tags=["a", "b", "c"])
    )
    assert hashlib.sha256((tmp_path / "here.safetensors").read_bytes()).hexdigest() in digests
    # other content, other bytes
    assert hashlib.sha256(path.read_bytes()).hexdigest() not in digests


def test_only_one_key_is_ours(path):
    with safetensors.safe_open(path, "pt") as file:
        assert list(file.metadata()) == [KEY]


# ----------------------------------------------------------------------------------------------------
# refusals


def test_a_truncated_file_is_refused(path):
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, 1000, len(whole) // 2, len(whole) - 4, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{path}: truncated, or not a safetensors file"):
            read_model(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="truncated, or not"):
        read_model(path)


def test_flipped_bytes_are_refused(path):
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    chance = random.Random(0)
    where = [
        *range(8),
        *chance.sample(range(8, 8 + header), 250),
        *chance.sample(range(8 + header, len(whole)), 60),
        len(whole) - 1,
    ]
    for place in where:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"truncated|damaged|newer|without resnets' metadata"):
            read_model(path)
    path.write_bytes(whole)
    read_model(path)


def test_metadata_that_were_changed_by_hand_are_refused(path):
    resealed(path, classes=["bee", "ant", "wasp"])
    with pytest.raises(ValueError, match="altered or damaged, its digest does not match"):
        load_model(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "null",
        '"text"',
        "{}",
        '{"format": 1}',
        '{"format": "one", "sha256": ""}',
        "{",
    ],
)
def test_metadata_that_are_none_are_refused(path, text):
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}, {KEY: text}))
    with pytest.raises(ValueError, match=str(path)):
        read_model(path)


def test_a_newer_format_is_refused_with_the_cure(path):
    resealed(path, format=FORMAT + 1)
    with pytest.raises(
        ValueError, match=r"made by a newer resnets \(format 3\); this one reads up to 2: upgrade"
    ):
        load_model(path)


def test_bare_safetensors_are_refused_with_the_cure(tmp_path):
    safetensors.torch.save_file(network().state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(
        ValueError, match="for a bare state dict name the network: --model resnet18"
    ):
        load_model(tmp_path / "bare.safetensors")


def test_files_and_folders_that_are_not_there(tmp_path, path):
    with pytest.raises(ValueError, match="no such model file"):
        load_model(tmp_path / "gone.safetensors")
    with pytest.raises(
        ValueError, match="not the folder of a run, or stopped before its first validation"
    ):
        load_model(tmp_path)
    (tmp_path / "weights").mkdir()
    path.rename(tmp_path / "weights" / "best.safetensors")
    assert load_model(tmp_path).classes[0] == "ant"
    assert best_weights(tmp_path) == tmp_path / "weights" / "best.safetensors"
    with pytest.raises(ValueError, match="truncated, or not a safetensors file"):
        read_model(tmp_path)


class Own(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class Empty(nn.Sequential):
    """A network that counts as false."""

    def __init__(self):
        super().__init__()
        self.net = Own()

    def __len__(self):
        return 0

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("kind", [Own, Empty])
def test_a_network_of_somebody_else_must_be_brought(tmp_path, kind):
    torch.manual_seed(0)
    net = kind()
    described = describe_network(None, net, 3, 3)
    assert described["kind"] == "object"
    assert described["name"].endswith(kind.__name__)
    write_model(tmp_path / "own.safetensors", net.state_dict(), metadata(network=described))
    with pytest.raises(
        ValueError,
        match=f"{kind.__name__}, which is not a network of this package: pass the network itself",
    ):
        load_model(tmp_path / "own.safetensors")
    model = load_model(tmp_path / "own.safetensors", kind())
    images = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(model.net(images), net(images))
    assert isinstance(model, Model)
    with pytest.raises(ValueError, match=f"weights of .*{kind.__name__} do not fit ResNet"):
        load_model(tmp_path / "own.safetensors", NETWORK.build())


def test_building_never_imports_what_a_file_names(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    for kind in ("object", "family", "other"):
        description = {"kind": kind, "name": "evil.Net", "classes": 3, "channels": 3}
        with pytest.raises(ValueError, match="evil"):
            build_network(description, Classification())


def test_a_file_gives_its_task_with_its_options(tmp_path, path):
    assert load_model(path).task == Classification()  # of a file that says none
    given = Classification(smoothing=0.25)
    write_model(path, network().state_dict(), metadata(task=describe_task(given)))
    model = load_model(path)
    assert model.task == given
    assert model.options == {}  # for a prediction it does not matter
    write_model(path, network().state_dict(), metadata())
    assert load_model(path).sha256 == model.sha256


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "depth"}, r"made by a newer resnets \(task 'depth'\); .*classes.*: upgrade"),
        ({"name": ["classes"]}, "metadata are damaged: task is"),
        ("classes", "metadata are damaged: task is"),
        ({"name": "classes", "smothing": 0.1}, r"no option 'smothing': did you mean smoothing\?"),
        ({"name": "classes", "kind": 3}, "no option 'kind'"),
        ({"name": "classes", "smoothing": "much"}, "smoothing='much': float expected"),
    ],
)
def test_a_task_that_is_not_known_is_refused(path, task, message):
    write_model(path, network().state_dict(), metadata(task=task))
    with pytest.raises(ValueError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_no_pickle_is_ever_opened():
    """Neither the model file nor the exported file is read by anything that could unpickle."""
    house = Path(__file__).parents[1] / "src" / "resnets"
    reading = [house / "formats.py", *(house / "modelfile").glob("*.py")]
    reading += [house / "runtime" / f"{name}.py" for name in ("onnxfile", "golden", "predictor")]
    assert len(reading) > 7
    for path in reading:
        source = path.read_text("utf-8")
        assert "torch.load" not in source
        assert "import pickle" not in source


def test_a_pickle_under_the_name_of_a_model_file_is_refused(tmp_path):
    torch.save(network().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_model(tmp_path / "model.safetensors")


# ----------------------------------------------------------------------------------------------------
# writing


def test_write_file_replaces_whole_files(tmp_path):
    path = tmp_path / "notes.txt"
    write_file(path, "first")
    write_file(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    write_file(path, b"\xff\0")
    assert path.read_bytes() == b"\xff\0"
    write_file(path, os.fsdecode(b"caf\xe9"))
    assert path.read_bytes() == b"caf\xe9"
    assert os.listdir(tmp_path) == ["notes.txt"]  # noqa: PTH208


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "notes.txt"
    write_file(path, "old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, "new")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\ud800")
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "notes.txt", "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.txt"]  # noqa: PTH208


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "notes.txt", "new")
    assert not os.listdir(tmp_path)  # noqa: PTH208


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_a_full_disk_leaves_the_old_file(path):
    """A limit on the size of files stands for the disk: the write fails in the middle, in another
    process."""
    before = path.read_bytes()
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_modelfile import metadata, network, write_model
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write_model(Path(sys.argv[1]), network(1).state_dict(), metadata())
except OSError as error:
    print("refused", error.errno)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("refused")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208
