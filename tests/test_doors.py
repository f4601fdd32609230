"""Networks and weights from elsewhere, by name; code of others runs only where it is named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling import sampled
from torch import nn

import resnets
from resnets import create_model, creation
from resnets.foreign import build_foreign, is_foreign
from resnets.imagenet import names_by_wnid
from resnets.modelfile import describe_network, load_model, read_model, write_model
from resnets.models import Network
from resnets.preprocessing import Preprocessing
from resnets.pretrained import Weights
from resnets.run import opening, resume
from resnets.run.opening import open_model, read_classes
from resnets.run.start import first_weights, warn_of_look_alikes
from resnets.screen import Screen
from resnets.torch_engine import TorchEngine
from resnets.training.settings import TrainSettings

OWN = """
from torch import nn

def tiny(num_classes, in_channels=3):
    pooled = nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(pooled, nn.Linear(4, num_classes))

def gray(num_classes):
    return tiny(num_classes, 1)

def any_channels(**wanted):
    return tiny(**wanted)

def words(num_classes):
    return "a network"
"""
SMALL = {"size": 32, "weights": "none", "quiet": True, "batch_size": 8}
EVIL = "from pathlib import Path\nPath('touched').touch()\n"


class Said(Screen):
    """Remembers what it was told."""

    def __init__(self):
        super().__init__(quiet=True)
        self.said, self.warned = [], []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    return tmp_path / "own.py"


# ----------------------------------------------------------------------------------------------------
# by a word


def test_words_for_a_network_from_elsewhere():
    assert [
        is_foreign(words)
        for words in ("timm:resnet50d", "nets/own.py:tiny", "resnet50", "resnet50 shortcut=none")
    ] == [*(True, True, False, False)]


def test_a_function_gets_the_channels_where_it_takes_them(own):
    assert build_foreign(f"{own}:tiny", 5)(torch.zeros(2, 3, 9, 9)).shape == (2, 5)
    assert build_foreign(f"{own}:tiny", 5, 1)(torch.zeros(2, 1, 9, 9)).shape == (2, 5)
    assert build_foreign(f"{own}:any_channels", 5, 1)(torch.zeros(2, 1, 9, 9)).shape == (2, 5)
    assert build_foreign(f"{own}:gray", 5, 1)(torch.zeros(2, 1, 9, 9)).shape == (2, 5)


def test_a_network_of_timm():
    timm = pytest.importorskip("timm")
    net = build_foreign("timm:resnet10t", 5, 1)
    assert type(net).__module__ == "timm.models.resnet"
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 5)
    # the tag is of weights
    assert isinstance(build_foreign("timm:resnet10t.c3_in1k", 5), nn.Module)
    with pytest.raises(
        ValueError,
        match=rf"timm {timm.__version__} has no network 'resnet10x': did you mean .*resnet10t",
    ):
        build_foreign("timm:resnet10x", 5)
    with pytest.raises(ValueError, match="has no network 'hf-hub:somebody/something'"):
        build_foreign("timm:hf-hub:somebody/something", 5)  # that would be a download


def test_without_timm_the_cure_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ValueError, match="timm:resnet10t needs timm; run: pip install timm"):
        build_foreign("timm:resnet10t", 5)


def test_what_is_no_network_is_refused(own):
    with pytest.raises(
        ValueError, match=r"own\.py:words returned str; a torch.nn.Module was expected"
    ):
        build_foreign(f"{own}:words", 5)
    with pytest.raises(ValueError, match=r"own\.py has no function 'tyni': allowed: .*gray, tiny"):
        build_foreign(f"{own}:tyni", 5)
    with pytest.raises(
        ValueError, match=r"no such file: gone.py; a network is named as FILE.py:FUNCTION"
    ):
        build_foreign("gone.py:tiny", 5)


# ----------------------------------------------------------------------------------------------------
# the whole way


@pytest.mark.parametrize("kind", sampled(["timm", "file"], 2))
def test_it_trains_resumes_and_is_measured_where_it_is_named_again(kind, own, colours, tmp_path):
    if kind == "timm":
        pytest.importorskip("timm")
    words = "timm:resnet10t" if kind == "timm" else f"{own}:tiny"
    folder = tmp_path / "run"
    resnets.train(
        colours, words, output=folder, epochs=2, callbacks=[lambda row: row["step"] >= 3], **SMALL
    )
    with pytest.raises(
        ValueError,
        match=(
            rf"which is not a network of this package: name it again \(--model {words}\), or"
            r" use the"
        ),
    ):
        resume(folder, quiet=True)
    with pytest.raises(ValueError, match=rf"this file is of {words}, not of resnet18"):
        resume(folder, "resnet18", quiet=True)
    run = resume(folder, words, quiet=True)
    assert json.loads((folder / "summary.json").read_text("utf-8"))["stopped"] is False
    assert words in (folder / "model_card.md").read_text("utf-8").replace("\\", "")
    again = open_model(str(folder), words, None, Screen(quiet=True))
    assert again.network == {"kind": "object", "name": words, "classes": 2, "channels": 3}
    assert all(
        torch.equal(value, run.model.net.state_dict()[key])
        for key, value in again.net.state_dict().items()
    )
    found = list(resnets.load(run.proven.path).predict(colours))
    assert len(found) == 32
    assert all(prediction.error is None for prediction in found)
    with pytest.raises(ValueError, match="name it again"):
        open_model(str(folder), None, None, Screen(quiet=True))


def test_opening_a_file_never_runs_code_that_only_the_file_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text(EVIL + OWN, encoding="utf-8")
    net = build_foreign("evil.py:tiny", 2)
    Path("touched").unlink()  # naming it has run it
    network = describe_network(None, net, 2, 3, "evil.py:tiny")
    metadata = {
        "network": network,
        "classes": ["a", "b"],
        "preprocessing": Preprocessing.square(32).to_dict(),
    }
    write_model(Path("evil.safetensors"), net.state_dict(), metadata)
    for given in (None, "evil.py:other", "resnet18"):
        with pytest.raises(ValueError, match=r"evil\.py:tiny"):
            load_model(Path("evil.safetensors"), given)
    assert not Path("touched").exists()
    load_model(Path("evil.safetensors"), "evil.py:tiny")
    assert Path("touched").exists()


def test_weights_of_a_file_go_into_a_network_from_elsewhere(own, colours, tmp_path):
    torch.manual_seed(3)
    state = build_foreign(f"{own}:tiny", 2).state_dict()
    torch.save(state, tmp_path / "own.pth")
    settings = {**SMALL, "weights": str(tmp_path / "own.pth")}
    run = resnets.train(
        colours,
        f"{own}:tiny",
        output=tmp_path / "run",
        epochs=1,
        lr=1e-8,
        weight_decay=0.0,
        **settings,
    )
    assert all(
        torch.allclose(value, run.model.net.state_dict()[key], atol=1e-6)
        for key, value in state.items()
    )


# ----------------------------------------------------------------------------------------------------
# look-alikes


def own_file(path, words, classes=2):
    net = create_model(words, classes)
    network = describe_network(Network.parse(words, classes), net, classes, 3)
    metadata = {
        "network": network,
        "classes": list("ab"),
        "preprocessing": Preprocessing.square(32).to_dict(),
    }
    write_model(path, net.state_dict(), metadata)
    return path


def test_our_metadata_tell_look_alikes_apart(tmp_path):
    network = Network.parse("resnet18", 2)
    for words, expected in {
        "resnet18": [],
        "resnetblur18": [
            "these weights are of resnetblur18; resnet18 differs in antialias: they fit, but it"
            " will predict differently"
        ],
        "resnet18 drop_path=0.1": [],
        "resnet18 output_stride=8": [
            "these weights are of resnet18 output_stride=8; resnet18 differs in output_stride"
        ],
    }.items():
        screen = Said()
        file = own_file(tmp_path / "own.safetensors", words)
        weights, _ = first_weights(TrainSettings("photos", weights=str(file)), network, screen)
        assert weights.network == words
        assert len(screen.warned) == len(expected)
        assert all(text in told for text, told in zip(expected, screen.warned, strict=True))


def test_a_bare_file_is_warned_about(tmp_path):
    torch.save(create_model("resnet18", 2).state_dict(), tmp_path / "bare.pth")
    screen = Said()
    first_weights(
        TrainSettings("photos", weights=str(tmp_path / "bare.pth")),
        Network.parse("resnet18", 2),
        screen,
    )
    assert screen.warned == [
        "these weights fit resnet18 and resnetblur18 alike, and the file does not say which:"
        " resnet18 is taken"
    ]
    screen = Said()
    warn_of_look_alikes(Network.parse("resnet26d"), Weights({}, "a file"), screen)
    assert not screen.warned  # nothing else looks like it
    warn_of_look_alikes(
        Network.parse("resnet50"),
        Weights({}, "timm resnetaa50.a1h_in1k", network="resnetaa50"),
        screen,
    )
    assert "differs in antialias" in screen.warned[0]
    warn_of_look_alikes(
        Network.parse("resnet50"), Weights({}, "timm vgg11", network="vgg11"), Said()
    )


# ----------------------------------------------------------------------------------------------------
# published weights as a model


@pytest.mark.parametrize(
    ("typed", "words"), [("torchvision:IMAGENET1K_V1", "resnet18"), ("timm:resnet18.a1_in1k", None)]
)
def test_published_weights_open_with_their_own_preprocessing_and_classes(monkeypatch, typed, words):
    torch.manual_seed(0)
    state = create_model("resnet18").state_dict()
    preprocessing = Preprocessing(
        (96, 96), (100, 100), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic"
    )
    asked = []

    def published(choice, network, say):
        asked.append((choice, network))
        return Weights(state, "published", preprocessing, tuple(names_by_wnid().values()), network)

    monkeypatch.setattr(opening, "published_weights", published)
    screen = Said()
    model = open_model(typed, words, None, screen)
    assert asked == [(typed, "resnet18")]
    assert model.preprocessing == preprocessing
    assert model.classes[:2] == ("tench", "goldfish")
    assert model.network["name"] == "resnet18"
    assert not screen.warned
    found = TorchEngine(model).run(np.zeros((1, 96, 96, 3), np.uint8))
    assert found["probabilities"].shape == (1, 1000)


def test_published_weights_that_cannot_be_had_are_a_message(monkeypatch):
    from resnets.downloads import Offline

    def offline(*_):
        raise Offline("no network; bring it by hand")

    for module in (opening, creation):
        monkeypatch.setattr(module, "published_weights", offline)
    with pytest.raises(ValueError, match=r"^timm:resnet18.a1_in1k: no network; bring it by hand"):
        open_model("timm:resnet18.a1_in1k", None, None, Said())
    with pytest.raises(
        ValueError, match=r"^weights=timm:resnet18.a1_in1k: no network; bring it by hand"
    ):
        first_weights(
            TrainSettings("photos", weights="timm:resnet18.a1_in1k"),
            Network.parse("resnet18"),
            Said(),
        )
    with pytest.raises(
        ValueError, match="torchvision:IMAGENET1K_V1: name the network: --model resnet50"
    ):
        open_model("torchvision:IMAGENET1K_V1", None, None, Said())


def test_the_report_of_a_run_that_was_offline_asks_for_weights_first(
    colours, tmp_path, monkeypatch
):
    from resnets.downloads import Offline

    def offline(*_, **__):
        raise Offline("no network; bring it by hand")

    monkeypatch.setattr(creation, "torchvision_weights", offline)
    words = {"epochs": 1, "size": 32, "quiet": True}
    for weights, asked in (("auto", True), ("none", False)):
        run = resnets.train(
            colours, "resnet18", weights=weights, output=tmp_path / weights, **words
        )
        report = (run.folder / "report.html").read_text("utf-8")
        assert ("Pretrained weights could not be downloaded" in report) == asked


def test_a_state_dict_without_classifier_cannot_answer(tmp_path):
    state = {
        key: value
        for key, value in create_model("resnet18", 2).state_dict().items()
        if not key.startswith("fc.")
    }
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(
        ValueError, match=r"has no classifier .* so it cannot predict; train it with --weights"
    ):
        open_model(str(tmp_path / "backbone.pth"), "resnet18", None, Said())


def test_classes_have_names():
    assert read_classes(None, 2, ("a", "b")) == ("a", "b")
    assert read_classes(None, 3) == ("0", "1", "2")
    assert read_classes(None, 1000)[0] == "tench"
    with pytest.raises(
        ValueError, match=r"names 1000 different classes; the network has 2 outputs"
    ):
        read_classes("imagenet", 2)
    with pytest.raises(ValueError, match=r"no such file of classes: gone\.txt"):
        read_classes("gone.txt", 2)


def test_the_report_shows_the_network(colours, tmp_path):
    run = resnets.train(
        colours, "resnet20 depths=1-1-1", output=tmp_path / "run", epochs=1, **SMALL
    )
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert '<img class="network" alt="The network as a diagram' in page
    assert 'src="data:image/svg+xml;base64,' in page
    assert read_model(run.folder / "weights" / "best.safetensors")[1]["network"]["kind"] == "family"
