"""Checkpoints as people have them, what their input is assumed to be, and files that say what is not
so."""

import argparse
import datetime
import gzip
import inspect
import json
import pathlib
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import resnets
from resnets import creation
from resnets.checkpoints import read_state
from resnets.cli.app import app, complain
from resnets.downloads import Offline
from resnets.foreign import build_foreign
from resnets.modelfile import (
    KEY,
    describe_network,
    load_model,
    read_description,
    read_model,
    write_model,
)
from resnets.models import Network, create_model
from resnets.models.inputs import CIFAR, HALF, assumed_preprocessing, change_preprocessing
from resnets.models.rows import ROWS
from resnets.models.setting import Changes, DenseNetSetting, ResNetSetting, TransformerSetting
from resnets.models.weights import convert, load_weights, unwrap
from resnets.preprocessing import Preprocessing
from resnets.pretrained import Weights
from resnets.run.opening import open_model, read_classes
from resnets.run.start import first_weights
from resnets.screen import Screen
from resnets.timm_config import read_config, timm_preprocessing
from resnets.torch_engine import TorchEngine
from resnets.training.settings import TrainSettings

WORDS = "resnet20 depths=1-1-1"
NET = create_model(WORDS, 3)


class Said(Screen):
    """Remembers what it was told."""

    def __init__(self):
        super().__init__(quiet=True)
        self.said = []

    def say(self, text):
        self.said.append(text)

    warn = say


def state(scale: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        key: value * scale if value.is_floating_point() else value
        for key, value in NET.state_dict().items()
    }


def saved(content, path: Path, **how) -> Path:
    torch.save(content, path, **how)
    return path


def same(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[key], expected[key]) for key in expected
    )


# ----------------------------------------------------------------------------------------------------
# where the state dict lies

SGD = torch.optim.SGD(NET.parameters(), 0.1, momentum=0.9)
NESTED = {
    "model": {"model": state(), "epoch": 3},
    "net": {"net": state(), "acc": 0.9},
    "model_state_dict": {
        "model_state_dict": state(),
        "optimizer_state_dict": SGD.state_dict(),
        "loss": torch.ones(()),
    },
    "params": {"params": state()},
    "network": {"network": state(), "iter": 5},
    "weights": {"weights": OrderedDict(state())},
    "a.state_dict.model": {"a": {"state_dict": {"model": state()}}},
    "generator": {
        "generator": state(),
        "optim_g": {"state": {"fc.weight": {"exp_avg": torch.ones(1)}}},
    },
    "state_dict": {
        "state_dict": {f"model.{key}": value for key, value in state().items()},
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {"best": {"score": torch.ones(())}},
        "loops": {"fit": {"state": {}}},
        "optimizer_states": [SGD.state_dict()],
    },
}


@pytest.mark.parametrize("trail", NESTED)
@pytest.mark.parametrize("ending", [".pt", ".ckpt", ".bin", ".pth.tar", "", ".weights"])
def test_a_state_dict_is_found_and_it_is_said_under_which_name(tmp_path, trail, ending):
    said: list[str] = []
    path = saved(
        NESTED[trail], tmp_path / f"x{ending}", _use_new_zipfile_serialization=ending != ".bin"
    )
    assert same(convert(read_state(path, said.append), WORDS), state())
    assert said == [f"x{ending}: the weights under {trail} are taken"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": state(), "state_dict_ema": state(2)}, "under state_dict_ema are taken, the averaged weights (EMA), not state_dict"),
        ({"model_ema": state(2), "model": state()}, "under model_ema are taken, the averaged weights (EMA), not model"),
        ({"model": state(), "ema": {"decay": 0.9, "module": state(2)}}, "under ema.module are taken, the averaged weights (EMA), not model"),
        ({"ema_state_dict": state(2), "net": state(), "params": state()}, "(EMA), not net or params"),
        ({"student": state(), "teacher": state(2)}, "under teacher are taken, the averaged weights (EMA), not student"),
    ],
)  # fmt: skip
def test_averaged_weights_are_preferred_and_it_is_said(tmp_path, content, told):
    said: list[str] = []
    assert same(read_state(saved(content, tmp_path / "x.pt"), said.append), state(2))
    assert told in said[0]


def test_averages_that_are_not_a_whole_network_are_not_taken(tmp_path):
    parameters = {key: value * 2 for key, value in NET.named_parameters()}
    for averaged in (parameters, {"decay": 0.9, "shadow_params": [torch.ones(1)]}, None):
        path = saved({"model": state(), "ema": averaged}, tmp_path / "x.pt")
        assert same(read_state(path), state())


def test_dictionaries_that_hold_one_another_are_looked_into_once(tmp_path):
    content = {}
    content |= {f"part{number}": content for number in range(2000)} | {"mine": {}}
    content["mine"] |= {f"part{number}": content["mine"] for number in range(2000)}
    with pytest.raises(ValueError, match="not a state dict"):
        read_state(saved(content, tmp_path / "x.pt"))
    content["mine"]["net"] = state()
    assert same(read_state(saved(content, tmp_path / "x.pt")), state())


def test_of_several_networks_none_is_guessed(tmp_path):
    path = saved({"generator": state(), "critic": state()}, tmp_path / "x.pt")
    with pytest.raises(
        ValueError, match=r"x.pt: holds several state dicts \(generator, critic\); save the one"
    ):
        read_state(path)
    path = saved({"optimizer": SGD.state_dict(), "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(
        ValueError, match=r"not a state dict \(names to tensors\); it holds optimizer, epoch"
    ):
        read_state(path)


names = st.sampled_from(
    ["module", "_orig_mod", "model", "net", "backbone", "encoder", "student", "x", "layer1", "fc"]
)


@given(
    wrapping=st.lists(st.sampled_from(["state_dict", "model", "net", "mine"]), max_size=3),
    prefix=st.lists(names, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_whatever_stands_around_it_the_same_weights_come_out(tmp_path_factory, wrapping, prefix):
    before = "".join(f"{name}." for name in prefix)
    content = {f"{before}{key}": value for key, value in state().items()} | {
        "loss.weight": torch.ones(1)
    }
    for name in wrapping:
        content = {name: content, "epoch": 1, "lr": 0.1}
    path = saved(content, tmp_path_factory.mktemp("wrapped") / "x.pt")
    assert same(
        {
            key: value
            for key, value in convert(read_state(path), WORDS).items()
            if key != "loss.weight"
        },
        state(),
    )


def test_of_two_networks_in_one_state_dict_the_averaged_one_is_taken_and_it_is_said():
    said: list[str] = []
    both = {f"model.{key}": value for key, value in state().items()}
    both |= {f"model_ema.module.{key}": value for key, value in state(2).items()}
    assert same(convert(both, WORDS, said.append), state(2))
    assert said == ["the weights under model_ema.module. are taken; these fit as well: model."]
    assert same(unwrap({"n_averaged": torch.ones(()), **both}, state()), state(2))
    said.clear()
    assert same(convert(state(), WORDS, said.append), state())
    assert not said


def test_prefixes_are_taken_off_for_a_network_from_elsewhere_too():
    net = nn.Sequential(OrderedDict(body=nn.Conv2d(3, 4, 3), top=nn.Linear(4, 2)))
    wrapped = {f"module._orig_mod.{key}": value + 1 for key, value in net.state_dict().items()}
    load_weights(net, wrapped)
    assert all(
        torch.equal(value, wrapped[f"module._orig_mod.{key}"])
        for key, value in net.state_dict().items()
    )


# ----------------------------------------------------------------------------------------------------
# what else is in the file


def test_harmless_objects_beside_the_weights_are_not_built(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(argparse.Namespace, "__init__", lambda self, **values: built.append(values))
    beside = {
        "args": argparse.Namespace.__new__(argparse.Namespace),
        "more": types.SimpleNamespace(a=1),
        "path": pathlib.PurePosixPath("a") and Path("/a/b"),
        "best": np.float64(0.9),
        "curve": np.ones(3),
        "when": datetime.datetime(2026, 1, 1),
    }
    beside["args"].lr, beside["args"].data = 0.1, Path("photos")
    for zipped in (True, False):
        path = saved(
            {"state_dict": state(), **beside},
            tmp_path / "x.pt",
            _use_new_zipfile_serialization=zipped,
        )
        assert same(read_state(path), state())
    assert not built
    # and afterwards nothing more is allowed
    with pytest.raises(Exception, match="Unsupported global"):
        torch.load(path, weights_only=True)


def test_whole_networks_and_optimizers_are_refused_with_the_cure(tmp_path):
    cure = r"running code from a file is refused\. Save net\.state_dict\(\) and nothing else: torch\.save"
    for content, name in (
        (NET, "resnets.models.resnet.ResNet"),
        ({"model": state(), "optimizer": SGD}, r"torch.optim.sgd.SGD"),
    ):
        with pytest.raises(ValueError, match=rf"x.pt: not a state dict: it holds {name}, .*{cure}"):
            read_state(saved(content, tmp_path / "x.pt"))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_files_of_other_kinds_are_told(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "script.pt")
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "packed.pth").write_bytes(gzip.compress(b"x" * 100))
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(200_000_000))
    for name, words in {
        "script.pt": "TorchScript",
        "keras.h5": "HDF5",
        "packed.pth": "compressed: unpack it",
        "bomb.pt": "bytes that unpack to 200,000,000: not weights",
    }.items():
        with pytest.raises(ValueError, match=f"{name}: truncated, or not a state dict .*{words}"):
            read_state(tmp_path / name)


def test_the_content_says_what_a_file_is_not_its_name(tmp_path):
    (tmp_path / "a.pth").write_bytes(safetensors.torch.save(state()))
    with (tmp_path / "b.pth").open("wb") as file:
        np.savez(file, **{key: value.numpy() for key, value in state().items()})
    saved(state(), tmp_path / "c.safetensors")
    for name in ("a.pth", "b.pth", "c.safetensors"):
        assert same(
            dict(sorted(read_state(tmp_path / name).items())), dict(sorted(state().items()))
        ), name


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(3, device="meta"), r"fc.bias is empty \(meta\)"),
        (torch.ones(3).to_sparse(), "fc.bias is sparse or quantised"),
        (
            torch.ones(1).expand(10**6, 10**6),
            "fc.bias announces 4,000,000,000,000 bytes that are not in the file",
        ),
        (torch.full((3,), torch.nan), "fc.bias holds NaN: training has diverged"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*[Ss]parse")
def test_tensors_that_no_network_can_take_are_refused(tmp_path, tensor, message):
    with pytest.raises(ValueError, match=f"x.pt: {message}"):
        read_state(saved({"model": {**state(), "fc.bias": tensor}}, tmp_path / "x.pt"))


def test_an_exported_file_is_not_taken_for_weights(tmp_path):
    (tmp_path / "x.onnx").write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r"x.onnx: .*ONNX is there to run, not to train on"):
        create_with_weights(tmp_path / "x.onnx")
    with pytest.raises(ValueError, match=r"x.onnx: exported already"):
        open_model(str(tmp_path / "x.onnx"), None, None, Said())


@pytest.mark.parametrize("wrong", [None, 3, "", b"x.pt", ["x.pt"], "gone.pt", "."])
def test_what_is_no_file_is_refused(wrong):
    for read in (read_state, read_model, load_model):
        with pytest.raises(ValueError, match=r"expected|no such|folder|truncated"):
            read(wrong)
    if wrong is not None and (not isinstance(wrong, str) or not wrong):
        with pytest.raises(ValueError, match="a path was expected"):
            create_with_weights(wrong)


def create_with_weights(weights, **more):
    return resnets.create_model(WORDS, weights=weights, **more)


HUGE = """
import json, resource, struct, sys
from resnets.checkpoints import read_state
from resnets.modelfile import is_model_file, read_model
from pathlib import Path
path, before = Path(sys.argv[1]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (read_state, read_model):
    try:
        read(path)
    except ValueError as error:
        print("refused", str(error)[:60])
print(is_model_file(path), "grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module on Windows")
def test_a_header_that_announces_huge_tensors_takes_no_memory(tmp_path):
    header = json.dumps(
        {"fc.weight": {"dtype": "F32", "shape": [10**6, 10**4], "data_offsets": [0, 4 * 10**10]}}
    ).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    done = subprocess.run(
        [sys.executable, "-c", HUGE, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("refused") == 2
    assert int(done.stdout.split()[-1]) < 50


# ----------------------------------------------------------------------------------------------------
# what the input is assumed to be


def test_what_is_assumed_is_what_somebody_published():
    """For each network that timm has weights for: its mean, interpolation and size are those of one of
    them."""
    timm = pytest.importorskip("timm")
    known: dict[str, list] = {}
    for tag in timm.list_pretrained():
        known.setdefault(tag.partition(".")[0], []).append(timm.get_pretrained_cfg(tag).to_dict())
    checked = [name for name in ROWS if name in known]
    assert len(checked) > 100
    for name in checked:
        found = assumed_preprocessing(Network.parse(name))
        by_torchvision = name.startswith("densenet") and found.interpolation == "bilinear"
        assert any(
            found.mean == tuple(one["mean"])
            and found.std == tuple(one["std"])
            and (found.interpolation == one["interpolation"] or by_torchvision)
            and found.size[0]
            in {side[-1] for side in (one["input_size"], one.get("test_input_size")) if side}
            for one in known[name]
        ), name


@pytest.mark.parametrize(
    ("words", "size", "resize", "mean"),
    [
        ("resnet20", 32, 32, CIFAR[0]),
        ("wrn28_10", 32, 32, CIFAR[0]),
        ("densenet_bc_100_12", 32, 32, CIFAR[0]),
        ("resnet18 stem=cifar", 32, 32, CIFAR[0]),
        ("resnet18", 224, 256, (0.485, 0.456, 0.406)),
        ("resnetv2_101x1_bit", 448, 448, HALF[0]),
        ("resnetv2_152x4_bit", 480, 480, HALF[0]),
        ("vit_tiny_patch16_224 size=96", 96, 106, HALF[0]),
    ],
)
def test_each_network_knows_its_own_input(words, size, resize, mean):
    found = assumed_preprocessing(Network.parse(words))
    assert (found.size, found.resize, found.mean) == ((size, size), (resize, resize), mean)


def test_grey_networks_expect_one_channel():
    found = assumed_preprocessing(Network.parse("resnet18", 5, 1))
    assert (found.channels, found.mean, found.std) == (1, (0.449,), (0.226,))


def test_what_is_assumed_is_said_and_can_be_set(tmp_path):
    path, screen = saved(state(), tmp_path / "x.pth"), Said()
    model = open_model(str(path), WORDS, None, screen)
    assert model.preprocessing == Preprocessing.square(32, mean=CIFAR[0], std=CIFAR[1])
    assert screen.said[-1] == (
        "assumed: 32 x 32 (crop), bilinear, mean 0.4914 0.4822 0.4465, std 0.247 0.2435 0.2616: the file does not"
        " say; set with --size, --mean, --std, --interpolation, --fit, --crop"
    )
    given = {"size": 24, "mean": "0.5", "std": "0.2, 0.3 0.4", "crop": 0.75}
    model = open_model(str(path), WORDS, None, screen, given)
    assert model.preprocessing == Preprocessing(
        (24, 24), (32, 32), mean=(0.5,) * 3, std=(0.2, 0.3, 0.4)
    )
    assert screen.said[-1].startswith(
        "assumed but for size, mean, std, crop: 24 x 24 (crop from 32)"
    )
    assert screen.said[-1].endswith("set with --interpolation, --fit")
    screen.said.clear()
    given |= {"interpolation": "bicubic", "fit": "pad"}
    model = open_model(str(path), WORDS, None, screen, given)
    assert (model.preprocessing.pad_color, model.preprocessing.interpolation) == (128, "bicubic")
    assert not [text for text in screen.said if "assumed" in text]  # nothing is left to assume


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": "0.5,0.5"}, "mean is '0.5,0.5'; 3 numbers expected"),
        ({"std": "a"}, "std is 'a'; 3 numbers"),
        ({"std": "0"}, "above 0"),
        ({"mean": "nan"}, "finite number"),
        ({"size": 0}, "size is 0; allowed: 1 to 10,000"),
        ({"size": 10**9}, "allowed: 1 to 10,000"),
        ({"crop": 0.0}, "crop is 0.0; allowed: 0.05 to 1"),
        ({"crop": float("nan")}, "allowed: 0.05 to 1"),
        ({"crop": 1.2}, "allowed: 0.05 to 1"),
        ({"interpolation": "lanczos"}, "interpolation is 'lanczos'; allowed: bilinear, bicubic"),
        ({"fit": "squash"}, "fit is 'squash'; allowed: crop, pad, stretch"),
    ],
)
def test_what_cannot_be_set_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        change_preprocessing(Preprocessing(), changes)


@given(
    st.integers(8, 64), st.floats(0.3, 1), st.sampled_from(["crop", "pad", "stretch"]), st.sampled_from(["bilinear", "bicubic"]),
    st.integers(1, 90), st.integers(1, 90),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_is_set_makes_input_of_that_size(size, crop, fit, interpolation, height, width):
    found = change_preprocessing(
        Preprocessing(), {"size": size, "crop": crop, "fit": fit, "interpolation": interpolation}
    )
    assert found.pixels(Image.new("RGB", (width, height))).shape == (size, size, 3)


def test_training_from_a_bare_file_assumes_the_same_and_says_so(tmp_path):
    path, screen = saved(state(), tmp_path / "x.pth"), Said()
    found, _ = first_weights(
        TrainSettings("photos", weights=str(path)), Network.parse(WORDS, 3), screen
    )
    assert found.preprocessing == Preprocessing.square(32, mean=CIFAR[0], std=CIFAR[1])
    assert any(
        "x.pth does not say what input it is made for; assumed: 32 x 32" in text
        for text in screen.said
    )


def test_weights_for_grey_images_make_a_grey_network(tmp_path):
    net = create_model(WORDS, 3, 1)
    model = open_model(str(saved(net.state_dict(), tmp_path / "x.pth")), WORDS, None, Said())
    assert (model.preprocessing.channels, model.network["channels"]) == (1, 1)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1), np.uint8)
    assert TorchEngine(model)(image)["probabilities"].shape == (1, 3)
    four = create_model(WORDS, 3, 4)
    with pytest.raises(ValueError, match="made for images of 4 channels"):
        open_model(str(saved(four.state_dict(), tmp_path / "x.pth")), WORDS, None, Said())


def test_more_must_be_said(tmp_path):
    path = saved(state(), tmp_path / "x.pth.tar")
    with pytest.raises(
        ValueError, match=r"x.pth.tar: a bare state dict.*name its network: --model"
    ):
        open_model(str(path), None, None, Said())
    with pytest.raises(ValueError, match="unknown network 'resnet19': did you mean"):
        open_model(str(tmp_path / "gone.pth"), "resnet19", None, Said())  # before anything is read
    with pytest.raises(ValueError, match=r"no such file: .*gone.pth"):
        open_model(str(tmp_path / "gone.pth"), None, None, Said())
    with pytest.raises(ValueError, match=r"x.pth.tar: weights of another network"):
        open_model(str(path), "resnet32", None, Said())


def test_a_size_that_a_network_cannot_take_is_told(tmp_path):
    words = "vit_tiny_patch16_224 width=24 depth=1 size=32"
    path = saved(create_model(words, 2).state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        ValueError, match=r"cannot take images of 8 x 8 pixels .*give another --size"
    ):
        open_model(str(path), words, None, Said(), {"size": 8})


def test_a_model_file_keeps_its_own_input_and_classes(tmp_path):
    path = model_file(tmp_path)
    for classes, changes, told in ((None, {"size": 64}, "--size"), ("imagenet", {}, "--classes")):
        with pytest.raises(
            ValueError, match=f"knows its classes and how images are prepared; leave out {told}"
        ):
            open_model(str(path), None, classes, Said(), changes)
    # not read as a bare file
    assert open_model(str(path), WORDS, None, Said()).classes == ("a", "b", "c")
    with pytest.raises(ValueError, match=f"this file is of {WORDS}, not of resnet32"):
        open_model(str(path), "resnet32", None, Said())
    own = describe_network(None, NET, 3, 3, "own.Net")
    path = model_file(tmp_path, network=own)
    for typed in ("resnet18", WORDS, "timm:resnet18"):
        with pytest.raises(
            ValueError, match=rf"x.safetensors: this file is of own.Net, not of {typed}"
        ):
            open_model(str(path), typed, None, Said())
    with pytest.raises(
        ValueError,
        match=r"x.safetensors: a torch.nn.Module or the name of a network expected, got int",
    ):
        load_model(path, 3)


def test_files_of_classes(tmp_path):
    path = tmp_path / "classes.txt"
    for content in (b"\xef\xbb\xbfcat\r\ndog\r\n\r\n", b"\n cat \n\ndog"):
        path.write_bytes(content)
        assert read_classes(str(path), 2) == ("cat", "dog")
    path.write_text("cat\ndog\ncat\n")
    with pytest.raises(
        ValueError, match=r"2 different classes \(cat more than once\); the network has 3 outputs"
    ):
        read_classes(str(path), 3)
    path.write_bytes("cat\ndog".encode("utf-16"))
    with pytest.raises(ValueError, match=r"classes.txt: not UTF-8; save it as text"):
        read_classes(str(path), 2)
    with pytest.raises(ValueError, match="no such file of classes"):
        read_classes(str(tmp_path), 2)


# ----------------------------------------------------------------------------------------------------
# timm's descriptions


def timm_values(config) -> dict:
    data = pytest.importorskip("timm.data")
    return data.resolve_data_config(pretrained_cfg=config, use_test_size=True)


BASE = {
    "input_size": [3, 64, 64],
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
TIMM = {
    "center": {},
    "bilinear": {"interpolation": "bilinear", "mean": [0.485, 0.456, 0.406]},
    "squash": {"crop_mode": "squash", "crop_pct": 1.0},
    "squash, not square": {"crop_mode": "squash", "crop_pct": 1.0, "input_size": [3, 64, 48]},
    "border": {"crop_mode": "border", "crop_pct": 1.0},
    "test size": {"test_input_size": [3, 80, 80], "test_crop_pct": 1.0},
}


@pytest.mark.parametrize("kind", TIMM)
def test_images_are_prepared_as_timm_does_it(kind):
    data = pytest.importorskip("timm.data")
    config = BASE | TIMM[kind]
    found, theirs = timm_preprocessing(config), data.create_transform(**timm_values(config))
    noise = np.random.default_rng(0).integers(0, 256, (10, 15, 3), np.uint8)
    for size in ((120, 80), (80, 120), (96, 96), (200, 64)):
        image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        ours, expected = found.normalise(found.pixels(image)[None])[0], theirs(image).numpy()
        if kind == "border" and 64 * min(size) % max(size):  # scaled to 42.67: 42 here, 43 there
            assert np.abs(ours - expected).mean() < 0.08, size
            assert np.abs(ours - np.roll(expected, 8, 1)).mean() > 0.16, size
        else:
            # Pillow may scale a tall image along its columns first, and rounds in between
            level = 1.01 / 255 / min(found.std) if kind == "squash" else 1e-5
            np.testing.assert_allclose(ours, expected, atol=level, err_msg=str(size))


def test_every_description_is_read_as_timm_reads_it_or_refused_by_name():
    timm = pytest.importorskip("timm")
    fits, refused = {"center": "crop", "squash": "stretch", "border": "pad"}, []
    tags = timm.list_pretrained()
    for tag in tags:
        config = timm.get_pretrained_cfg(tag).to_dict()
        try:
            found = timm_preprocessing(config)
        except ValueError as error:
            assert "crop_mode is 'squash' with " in str(error) or "crop_pct is 1.15" in str(error)  # noqa: PT017
            refused.append(tag)
            continue
        expected = timm_values(config)
        assert found.size == tuple(expected["input_size"][1:]), tag
        assert (found.fit, found.mean) == (fits[expected["crop_mode"]], tuple(expected["mean"])), (
            tag
        )
    assert len(refused) < 0.01 * len(tags)
    assert not [tag for tag in refused if tag.partition(".")[0] in ROWS]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_mode": "random"}, "crop_mode is 'random'; allowed: center, squash, border"),
        ({"crop_mode": ["center"]}, "crop_mode is"),
        ({"crop_mode": "squash"}, "crop_mode is 'squash' with crop_pct 0.9: it would also cut"),
        ({"crop_mode": "border"}, "crop_mode is 'border' with crop_pct 0.9"),
        ({"crop_mode": "border", "crop_pct": 1.0, "mean": [0.4, 0.5, 0.6]}, "as its color; allowed: a grey one"),
        ({"crop_pct": 1.15}, "crop_pct is 1.15: images would be scaled to 55 pixels and get a black border up to 64"),
        ({"crop_pct": "0.9"}, "crop_pct is '0.9'"),
        ({"crop_pct": -1}, "crop_pct is -1"),
        ({"crop_pct": float("nan")}, "crop_pct is nan"),
        ({"interpolation": "lanczos"}, "interpolation is 'lanczos'; allowed: bilinear, bicubic"),
        ({"interpolation": "random"}, "interpolation is 'random'"),
        ({"input_size": [1, 64, 64]}, r"input_size is \(1, 64, 64\); allowed: 3 channels"),
        ({"input_size": [3, 10**9, 64]}, "input_size is"),
        ({"input_size": 64}, "input_size is 64; three numbers"),
        ({"input_size": [3, 64.5, 64]}, "three numbers"),
        ({"mean": [0.5]}, r"mean is \[0.5\]; three numbers"),
        ({"mean": "0.5"}, "mean is '0.5'"),
        ({"std": [0.5, 0, 0.5]}, "above 0"),
        ({"std": [True, 1, 1]}, "three numbers"),
        ({"fixed_input_size": True, "test_input_size": [3, 80, 80]}, "test_input_size is .* fixed_input_size"),
    ],
)  # fmt: skip
def test_what_of_a_description_is_unknown_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        timm_preprocessing(BASE | changes)


@pytest.mark.parametrize(
    "config",
    [None, [], "x", 3, {"pretrained_cfg": []}, {"num_classes": "many"}, {"num_classes": -1}, {"num_classes": 10**12},
     {"num_classes": 2, "label_names": {"a": 1}}, {"num_classes": 2, "label_names": [1, 2]}],
)  # fmt: skip
def test_descriptions_of_another_shape_are_refused(config):
    with pytest.raises(ValueError, match=r"expected|allowed"):
        read_config(config)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ("num_classes", "label_names", "pretrained_cfg", "input_size", "test_input_size", "crop_pct", "test_crop_pct",
        "crop_mode", "mean", "std", "interpolation", "fixed_input_size")  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(KEYS), json_values),
    st.dictionaries(st.sampled_from(KEYS), json_values),
)
@settings(max_examples=300, deadline=None)
def test_any_description_gives_a_preprocessing_or_a_message(outer, inner):
    for config in (outer, {**outer, "pretrained_cfg": BASE | inner}):
        try:
            assert isinstance(read_config(config)[1], Preprocessing)
        except ValueError as error:
            assert str(error)  # noqa: PT017


# ----------------------------------------------------------------------------------------------------
# what a model file says


def described() -> dict:
    network = Network.parse(WORDS, 3)
    return {
        "network": describe_network(network, NET, 3, 3),
        "classes": ["a", "b", "c"],
        "preprocessing": Preprocessing.square(32).to_dict(),
        "training": {},
    }


def model_file(folder: Path, **changes) -> Path:
    """With a digest that matches whatever it says."""
    path = folder / "x.safetensors"
    write_model(path, NET.state_dict(), {**described(), **changes})
    return path


def network(**changes) -> dict:
    return {"network": {**described()["network"], **changes}}


def preprocessing(**changes) -> dict:
    return {"preprocessing": {**described()["preprocessing"], **changes}}


WRONG = [
    {"network": None}, {"network": []}, {"network": {}}, network(kind=3), network(kind="other"), network(name=None),
    network(name=["resnet20"]), network(name="resnet20x"), network(name=""), network(classes=10**9),
    network(classes="3"), network(classes=0), network(classes=-1), network(classes=True), network(classes=2.5),
    network(channels=0), network(channels=10**9), network(channels=None), network(channels=1), network(classes=4),
    network(name="resnet20 depths=100000000-1-1"), network(name="resnet20 depths=1-1-1 widths=1000000000000-16-16"),
    network(name="resnet50 spatial=res2-100000000"), network(name="vit_tiny_patch16_224 depth=100000000"),
    network(name="resnet20 depths=" + "9" * 5000), network(name="resnet1202"),
    {"classes": None}, {"classes": "abc"}, {"classes": []}, {"classes": ["a", "b"]}, {"classes": ["a", "b", "a"]},
    {"classes": ["a", "b", 3]}, {"classes": {"a": 1}}, {"classes": [["a"], "b", "c"]},
    {"preprocessing": None}, {"preprocessing": []}, {"preprocessing": "x"}, {"preprocessing": {"sizes": 3}},
    preprocessing(size=None), preprocessing(size=32), preprocessing(size=["a", "b"]), preprocessing(size=[10**9] * 2),
    preprocessing(mean=None), preprocessing(mean="abc"), preprocessing(mean=[[1], [1], [1]]), preprocessing(std=[0, 0, 0]),
    preprocessing(fit=None), preprocessing(fit=[]), preprocessing(pad_color="x"), preprocessing(channels="3"),
    preprocessing(value_range=None), preprocessing(interpolation={}),
]  # fmt: skip


@pytest.mark.parametrize("changes", WRONG, ids=lambda changes: str(changes)[-60:])
def test_metadata_that_are_not_so_are_refused_wherever_they_are_read(tmp_path, changes):
    path = model_file(tmp_path, **changes)
    read_model(path)  # the digest is right
    with pytest.raises(ValueError, match=r"x\.safetensors: ") as refused:
        load_model(path)
    assert len(str(refused.value)) < 1000
    assert "\n" not in str(refused.value)
    if "network" not in changes:
        for start in (create_with_weights, lambda path: first_weights(
            TrainSettings("photos", weights=str(path)), Network.parse(WORDS, 3), Said())):  # fmt: skip
            with pytest.raises(ValueError, match=r"x\.safetensors: its metadata are damaged"):
                start(path)


@given(st.sampled_from(["network", "classes", "preprocessing"]), st.sampled_from(["", "name", "kind", "classes", "channels", "size",
       "resize", "mean", "std", "fit", "pad_color", "value_range", "interpolation"]), json_values)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_any_metadata_give_a_description_or_a_message(part, key, value):
    metadata = described()
    if key and isinstance(metadata[part], dict):
        metadata[part][key] = value
    else:
        metadata[part] = value
    try:
        found = read_description(Path("x.safetensors"), metadata)
        assert len(found.classes) == found.network["classes"]
    except ValueError as error:
        assert str(error).startswith("x.safetensors: ")  # noqa: PT017


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"format": 1}', "[" * 100_000, '{"a":' * 100_000, '{"format": ' + "9" * 5000 + "}",
     '{"format": NaN}', '{"format": true}', '{"format": "1"}', '{"format": [1]}', '{"format": 1, "sha256": null}'],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_metadata_of_any_kind_are_refused_in_words(tmp_path, text):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.torch.save(state(), {KEY: text}))
    for read in (read_model, load_model, create_with_weights):
        with pytest.raises(
            ValueError, match=r"x\.safetensors: (altered or damaged|made by a newer)"
        ):
            read(path)


# ----------------------------------------------------------------------------------------------------
# resnets.create_model


def weights_of(classes: int | None, words: str = WORDS, name: str | None = None) -> Weights:
    torch.manual_seed(5)
    found = create_model(words, classes or 3).state_dict()
    if classes is None:
        found = {key: value for key, value in found.items() if not key.startswith("fc.")}
    return Weights(found, "published", None, None, name)


def test_a_network_comes_with_the_weights_that_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        creation,
        "torchvision_weights",
        lambda name, say: weights_of(7, "resnet18 widths=4-4-8-8", "resnet18"),
    )
    # the small one counts as the whole
    monkeypatch.setattr(creation.Network, "__str__", lambda self: self.name)
    net = resnets.create_model("resnet18", widths="4-4-8-8", pretrained=True)
    assert net.fc.out_features == 7
    monkeypatch.undo()
    file = model_file(tmp_path)
    bare = saved({"state_dict_ema": state()}, tmp_path / "bare.pth.tar")
    for path in (file, str(file), bare):
        capsys.readouterr()
        net = create_with_weights(path)
        assert same(net.state_dict(), state())
        assert "new:" not in capsys.readouterr().err


def test_other_classes_get_a_new_head_which_is_said(tmp_path, capsys):
    path = saved(state(), tmp_path / "x.pth")
    net = create_with_weights(path, num_classes=10)
    assert net.fc.out_features == 10
    assert torch.equal(net.conv1.weight, NET.conv1.weight)
    assert "x.pth: " in (told := " ".join(capsys.readouterr().err.split()))
    assert "new: fc.weight, fc.bias" in told
    features = create_with_weights(path, features_only=True)
    assert torch.equal(features.net.conv1.weight, NET.conv1.weight)
    grey = create_with_weights(path, in_channels=1)
    assert torch.allclose(grey.conv1.weight, NET.conv1.weight.sum(1, keepdim=True))
    saved({key: value for key, value in state().items() if "fc" not in key}, path)
    assert create_with_weights(path).fc.out_features == 10  # the row's own
    with pytest.raises(ValueError, match=r"x.pth: weights of another network"):
        resnets.create_model("resnet32", weights=path)


def test_what_cannot_be_had_is_never_random(monkeypatch):
    def offline(name, say):
        raise Offline("no network; bring it by hand")

    with pytest.raises(
        ValueError, match=r'pretrained=True: .*there are others: weights="timm:resnetv2_50.'
    ):
        resnets.create_model("resnetv2_50", pretrained=True)
    with pytest.raises(
        ValueError, match="pretrained=True: torchvision has no weights for resnet20"
    ):
        resnets.create_model("resnet20", pretrained=True)
    with pytest.raises(
        ValueError, match="pretrained=True: ImageNet weights exist for the networks of the papers"
    ):
        resnets.create_model("resnet50", attention="eca", pretrained=True)
    monkeypatch.setattr(creation, "torchvision_weights", offline)
    with pytest.raises(ValueError, match=r"^pretrained=True: no network; bring it by hand"):
        resnets.create_model("resnet18", pretrained=True)
    with pytest.raises(
        ValueError, match=r"^weights=gone.pth: no such file; allowed: torchvision:TAG"
    ):
        resnets.create_model("resnet18", weights="gone.pth")
    with pytest.raises(ValueError, match="torchvision has no weights NONE for resnet18"):
        resnets.create_model("resnet18", weights="torchvision:NONE")


@pytest.mark.parametrize(
    "wrong",
    [{"name": None}, {"name": 3}, {"num_classes": "10"}, {"num_classes": 2.5}, {"num_classes": True}, {"in_channels": None},
     {"pretrained": "yes"}, {"pretrained": True, "weights": "x"}, {"weights": 3}, {"weights": b"x"}, {"depths": object()}],
)  # fmt: skip
def test_wrong_types_are_messages(wrong):
    with pytest.raises(ValueError, match=r"expected|classes and|give one|True or False"):
        resnets.create_model(**{"name": "resnet18", **wrong})


def test_editors_know_every_change():
    kinds = (ResNetSetting, DenseNetSetting, TransformerSetting)
    assert set(Changes.__annotations__) == {one.name for kind in kinds for one in fields(kind)}
    for function in (resnets.create_model, create_model):
        assert "Unpack[Changes]" in str(inspect.signature(function))
    named = inspect.signature(resnets.create_model).parameters
    assert [*inspect.signature(create_model).parameters] == [
        key for key in named if key not in ("pretrained", "weights")
    ]


# ----------------------------------------------------------------------------------------------------
# on the command line


def verb(*words) -> tuple[int, str]:
    """Exit code and what was said, as the program's end does it."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, Exception):
        return complain(result.exception), ""
    return result.exit_code, result.output


@pytest.mark.parametrize("name", ["export", "predict", "val"])
def test_verbs_take_what_a_file_does_not_say(tmp_path, name, monkeypatch, capsys):
    asked = []

    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")

    def opened(typed, words, classes, screen, changes):
        asked.append(changes)
        raise ValueError("enough")

    monkeypatch.setattr("resnets.run.opening.open_model", opened)
    more = {"predict": [tmp_path / "photo.png"], "val": ["photos"]}.get(name, [])
    words = [
        "--size",
        24,
        "--mean",
        "0.5",
        "--std",
        "0.2,0.3,0.4",
        "--interpolation",
        "bicubic",
        "--fit",
        "pad",
        "--crop",
        0.9,
    ]
    assert verb(name, "x.pth", *more, "--model", WORDS, *words)[0] == 2
    assert asked == [
        {
            "size": 24,
            "mean": "0.5",
            "std": "0.2,0.3,0.4",
            "interpolation": "bicubic",
            "fit": "pad",
            "crop": 0.9,
        }
    ]
    assert verb(name, "x.pth", *more, "--model", WORDS)[0] == 2
    assert asked[1] == {}
    assert verb(name, "x.onnx", *more, "--size", 24)[0] == 2
    assert "x.onnx has its preprocessing inside; leave out --size" in capsys.readouterr().err


def test_an_exported_file_prepares_images_as_was_said(tmp_path):
    path = saved({"model": state(), "args": argparse.Namespace(lr=1)}, tmp_path / "x.pth.tar")
    assert (
        verb(
            "export",
            path,
            "--model",
            WORDS,
            "--size",
            24,
            "--fit",
            "stretch",
            "-o",
            tmp_path / "x.onnx",
        )[0]
        == 0
    )
    found = resnets.load(tmp_path / "x.onnx").preprocessing
    assert found == Preprocessing.square(24, mean=CIFAR[0], std=CIFAR[1], fit="stretch")


# ----------------------------------------------------------------------------------------------------
# code of somebody else


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def net(:\n", r"own.py: fails in .*SyntaxError|own.py fails in .*SyntaxError"),
        ("import nothing_of_that_name\n", r"own.py fails in own.py, line 1: ModuleNotFoundError: No module named"),
        ("x = 1\ny = x / 0\n", r"own.py fails in own.py, line 2: ZeroDivisionError"),
        ("def net(num_classes, width): pass\n", r"own.py:net fails in .*TypeError: .*'width'"),
        ("def net(num_classes):\n    raise RuntimeError('two\\nlines')\n", r"own.py:net fails in own.py, line 2: RuntimeError: two$"),
        ("net = 3\n", "has no function 'net'"),
    ],
)  # fmt: skip
def test_code_of_somebody_else_fails_in_one_message(tmp_path, source, message):
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(ValueError, match=message):
        build_foreign(f"{tmp_path / 'own.py'}:net", 3)


def test_a_network_from_elsewhere_without_a_head_that_is_known_takes_the_number_of_its_classes(
    tmp_path,
):
    (tmp_path / "own.py").write_text(
        "from torch import nn\ndef net(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    words = f"{tmp_path / 'own.py'}:net"
    wrapped = {
        f"module.{key}": value for key, value in build_foreign(words, 2, 1).state_dict().items()
    }
    path = saved({"net": wrapped}, tmp_path / "x.pth")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    model = open_model(str(path), words, str(tmp_path / "classes.txt"), Said(), {"size": 16})
    assert (model.classes, model.preprocessing.channels, model.preprocessing.size) == (
        ("a", "b"),
        1,
        (16, 16),
    )
