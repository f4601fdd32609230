"""NAME.onnx: its pixels, its answers in every engine, what it holds, and that nothing is written
which was not proven."""

import dataclasses
import errno
import functools
import hashlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxscript import ir
from PIL import Image
from torch import nn

from resnets import load
from resnets.export import ProofFailed, export_model, exporter, graph, rehearse
from resnets.formats import FORMAT
from resnets.kinds.classes import CLASSES as KIND
from resnets.modelfile import Model, describe_network
from resnets.models import Network
from resnets.preprocessing import Preprocessing
from resnets.runtime.engines import available_engines, make_engine
from resnets.runtime.onnxfile import PROPERTY, read_onnx
from resnets.runtime.proof import prove
from resnets.torch_engine import TorchEngine

ENGINES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif("openvino" not in available_engines(), reason="openvino"),
    ),
]
CLASSES = ("ant", "bee", "Öl")
TINY = "resnet20 depths=1-1 widths=8-8"
SIZES = ((20, 31), (24, 32), (97, 224), (640, 480), (37, 1200), (1500, 1000), (3000, 4000))
RGB = [
    Preprocessing((24, 32), (28, 40), fit=fit, interpolation=filter_, pad_color=7)
    for fit, filter_ in itertools.product(("crop", "pad", "stretch"), ("bilinear", "bicubic"))
]
GRAY = [
    Preprocessing((24, 32), (30, 32), 1, top, fit, 0, filter_, mean=(0.4,), std=(0.3,))
    for top, fit, filter_ in (
        (255, "crop", "bicubic"),
        (255, "stretch", "bilinear"),
        (65535, "pad", "bilinear"),
        (65535, "crop", "bicubic"),
    )
]


@functools.cache
def noisy(height: int, width: int, channels: int = 3, value_range: int = 255) -> np.ndarray:
    """Something like a photograph: soft shapes, hard edges and noise, up to both ends of the
    range."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    soft = np.sin(x / width * 9) * np.cos(y / height * 7)
    hard = (x // max(1, width // 9) + y // max(1, height // 5)) % 2 - 0.5
    noise = np.random.default_rng(height * width).standard_normal((97, 89, channels), np.float32)
    noise = np.tile(noise, (height // 97 + 1, width // 89 + 1, 1))[:height, :width]
    values = noise * np.float32(0.1) + (0.5 + 0.3 * soft + 0.3 * hard)[..., None]
    values *= np.linspace(1, 0.7, channels, dtype=np.float32)
    return (values.clip(0, 1) * value_range).astype(np.uint8 if value_range == 255 else np.uint16)


def image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])


def make_model(
    words: str = TINY, preprocessing: Preprocessing | None = None, seed: int = 0, **more
) -> Model:
    preprocessing = preprocessing or Preprocessing.square(32, 0.875)
    network = Network.parse(words, len(CLASSES), preprocessing.channels)
    torch.manual_seed(seed)
    net = network.build()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    description = describe_network(network, net, 3, preprocessing.channels)
    return Model(net, CLASSES, preprocessing, description, metadata=more)


@pytest.fixture
def few(monkeypatch):
    """The proof on few pictures and in one engine: it is the same code."""
    monkeypatch.setattr(exporter, "SIZES", ((31, 20), (60, 90)))
    monkeypatch.setattr(exporter, "available_engines", lambda: ["onnxruntime"])


# ----------------------------------------------------------------------------------------------------
# pixels


def identity(inference, example, kind) -> ir.Model:
    """In place of a traced network: what the preprocessing gives is the answer, but for its
    sign."""
    shape = ir.Shape(["N", *example.shape[1:]])
    given = ir.val("images", ir.DataType.FLOAT, shape)
    tape = ir.tape.Tape()
    out = tape.op("Neg", [given])
    out.name, out.shape, out.dtype = "probabilities", shape, ir.DataType.FLOAT
    return ir.Model(
        ir.Graph(
            [given], [out], nodes=tape.nodes, opset_imports={"": graph.OPSET}, name="identity"
        ),
        ir_version=10,
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "value",
    [*RGB, *GRAY],
    ids=lambda value: f"{value.fit}-{value.interpolation}-{value.channels}x{value.dtype}",
)
def test_the_graph_gives_the_pixels_of_the_preprocessing(value, engine, monkeypatch):
    monkeypatch.setattr(graph, "_trace", identity)
    run = make_engine(engine, graph.to_bytes(graph.build_graph(None, value, KIND), "{}"))
    allowed = (2 if value.interpolation == "bicubic" else 1) * (
        1 if value.value_range == 255 else 3
    )
    scale, shift = (
        np.array(numbers, np.float64) * value.value_range for numbers in (value.std, value.mean)
    )
    for height, width in SIZES:
        picture = noisy(height, width, value.channels, value.value_range)
        expected = value.pixels(image(picture)).astype(np.float64)
        found = shift - run(picture[None])["probabilities"][0].transpose(1, 2, 0) * scale
        difference = np.abs(found - expected)
        assert difference.max() <= allowed + 0.01 * value.value_range / 255, (height, width)
        # mostly equal
        assert (difference > 0.5 * value.value_range / 255).mean() < 0.12, (
            height,
            width,
        )
        assert expected.std() > 0.05 * value.value_range


# ----------------------------------------------------------------------------------------------------
# what is in the file


@pytest.fixture(scope="module", params=["resnet20 at 32 px, crop", "resnet18 at 64 px, pad"])
def exported(request, tmp_path_factory):
    if request.param.startswith("resnet20"):
        model = make_model(
            "resnet20",
            training={
                "data": "/home/somebody/secret/photos",
                "weights": "/mnt/x/best.safetensors",
                "lr": 0.1,
            },
        )
    else:
        model = make_model(
            "resnet18 widths=8-8-12-16",
            Preprocessing.square(64, fit="pad", interpolation="bicubic", pad_color=120),
        )
    path = tmp_path_factory.mktemp("exported") / "name.onnx"
    return model, path, export_model(model, path, [image(noisy(60, 80)), image(noisy(120, 50))])  # fmt: skip


def test_inputs_outputs_and_sizes(exported):
    model, path, _ = exported
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)

    def described(values):
        return {
            value.name: (
                value.type.tensor_type.elem_type,
                [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
            )
            for value in values
        }

    channels, side = model.net.fc.in_features, 8 if model.preprocessing.size[0] == 32 else 2
    assert described(proto.graph.input) == {"image": (onnx.TensorProto.UINT8, ["N", "H", "W", 3])}
    assert described(proto.graph.output) == {
        "probabilities": (onnx.TensorProto.FLOAT, ["N", 3]),
        "embedding": (onnx.TensorProto.FLOAT, ["N", channels]),
        "heat": (onnx.TensorProto.FLOAT, ["N", 3, side, side]),
    }
    assert {entry.domain: entry.version for entry in proto.opset_import} == {"": 18}
    assert not proto.functions


@pytest.mark.parametrize("engine", ENGINES)
def test_any_number_of_pictures_of_any_size(exported, engine):
    model, path, _ = exported
    predictor = load(path, engine)
    for count, height, width in ((1, 47, 33), (2, 200, 300), (5, 33, 90)):
        pictures = np.stack(
            [np.roll(noisy(height, width), 7 * number, 1) for number in range(count)]
        )
        found, expected = predictor._run(pictures, large=True), TorchEngine(model)(pictures)
        np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=0.005)
        np.testing.assert_allclose(
            found["embedding"], expected["embedding"], atol=0.05 * expected["embedding"].max()
        )
        np.testing.assert_allclose(
            found["heat"], expected["heat"], atol=0.05 * np.abs(expected["heat"]).max()
        )
        np.testing.assert_allclose(found["probabilities"].sum(1), 1, rtol=1e-5)
    assert prove(predictor, read_onnx(path)).ok


def test_it_is_one_file_with_its_metadata(exported):
    model, path, proven = exported
    assert os.listdir(path.parent) == ["name.onnx"]  # noqa: PTH208
    proto = onnx.load(path)
    assert all(
        tensor.data_location == onnx.TensorProto.DEFAULT for tensor in proto.graph.initializer
    )
    metadata = json.loads({entry.key: entry.value for entry in proto.metadata_props}[PROPERTY])
    assert metadata["classes"] == list(CLASSES)
    assert Preprocessing.from_dict(metadata["preprocessing"]) == model.preprocessing
    assert (metadata["format"], metadata["limits"], metadata["model"]) == (
        FORMAT,
        KIND.limits["float32"],
        model.network_name,
    )
    golden = [entry["outputs"]["probabilities"] for entry in metadata["golden"]]
    assert [np.array(numbers).shape for numbers in golden] == [(3,), (3,)]
    fields = {"smoothing": 0.0, "criterion": "cross_entropy", "class_weights": []}
    assert metadata["task"] == {"name": "classes", **fields}
    assert metadata["outputs"] == {
        "probabilities": "N, classes",
        "embedding": "N, features",
        "heat": "N, classes, h, w",
    }
    assert proven.path == path
    assert proven.compared == proven.pictures * len(proven.engines)
    assert round(proven.megabytes * 1e6) == path.stat().st_size
    assert f"verified: ONNX equals PyTorch on {proven.pictures} images (ONNX Runtime 1." in str(
        proven
    )
    assert "another decision" not in str(proven)
    assert 0 <= proven.difference <= KIND.limits["float32"]["probability"]


def test_nothing_of_this_machine_is_in_the_file(exported, tmp_path):
    model, path, _ = exported
    content = path.read_bytes()
    machine = [
        Path.home(),
        Path.cwd(),
        tmp_path,
        Path(sys.prefix),
        Path(torch.__file__).parent,
        Path(__file__).parents[1],
        path.parent,
    ]
    for word in [
        *map(str, machine),
        ".py",
        "site-packages",
        "Traceback",
        "/home/",
        "/mnt/",
        "resnets/models",
        "forward(",
    ]:
        assert word.encode() not in content, word
    if "training" in model.metadata:
        assert read_onnx(path).metadata["training"] == {
            "data": "photos",
            "weights": "best.safetensors",
            "lr": 0.1,
        }


def test_norms_are_folded_into_convolutions(exported):
    model, path, _ = exported
    counted = [node.op_type for node in onnx.load(path).graph.node]
    assert "BatchNormalization" not in counted
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.net.modules())
    assert counted.count("Conv") == convolutions + 1  # and one for the maps
    assert "Resize" not in counted


def test_a_sixteen_bit_gray_network_goes_all_the_way(tmp_path, few):
    value = Preprocessing.square(32, channels=1, value_range=65535, mean=(0.4,), std=(0.3,))
    model = make_model(preprocessing=value)
    picture = noisy(40, 60, 1, 65535)
    export_model(model, tmp_path / "deep.onnx", [image(picture)])
    predictor = load(tmp_path / "deep.onnx")
    np.testing.assert_allclose(
        predictor.predict_image(picture).probabilities,
        TorchEngine(model)(picture[None])["probabilities"][0],
        atol=0.005,
    )
    assert (
        onnx.load(tmp_path / "deep.onnx").graph.input[0].type.tensor_type.elem_type
        == onnx.TensorProto.UINT16
    )
    assert read_onnx(tmp_path / "deep.onnx").golden[0][0].dtype == np.uint16


def test_a_network_without_maps_gives_probabilities_alone(tmp_path, few):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)
    )
    model = Model(net, CLASSES, Preprocessing.square(32), describe_network(None, net, 3, 3))
    export_model(model, tmp_path / "own.onnx", [image(noisy(40, 60))])
    found = load(tmp_path / "own.onnx").predict_image(noisy(40, 60), heat=True)
    assert found.heat is None
    assert found.embedding is None
    assert [output.name for output in onnx.load(tmp_path / "own.onnx").graph.output] == [
        "probabilities"
    ]


# ----------------------------------------------------------------------------------------------------
# what is refused


def swapped(front, taken):
    return front.nodes.Gather(taken, front.constant([2, 1, 0], np.int64), axis=1)


MISTAKES = {
    "mean": {"mean": tuple(1.1 * number for number in Preprocessing().mean)},
    "std": {"std": tuple(1.15 * number for number in Preprocessing().std)},
    "crop": {"resize": (40, 40)},
    "fit": {"fit": "stretch"},
    "filter": {"interpolation": "bicubic"},
}


@pytest.fixture(scope="module")
def traced():
    """Two models with their networks as graphs: one that is unsure, and one that gives every
    picture the same probabilities."""
    models = {}
    for name in ("unsure", "sure"):
        model = make_model()
        if name == "sure":
            with torch.no_grad():
                model.net.fc.bias[1] = 60
        inference = TorchEngine(model).inference
        traced = graph._trace(
            inference, torch.zeros(2, model.preprocessing.channels, *model.preprocessing.size), KIND
        )
        models[name] = (model, ir.to_proto(traced))
    return models


@pytest.mark.parametrize(
    ("mistake", "kind"),
    [*((name, "sure") for name in [*MISTAKES, "colors", "antialiasing"]), ("colors", "unsure")],
)
def test_a_graph_that_prepares_differently_is_refused(
    tmp_path, monkeypatch, few, traced, mistake, kind
):
    model, proto = traced[kind]
    monkeypatch.setattr(graph, "_trace", lambda *given: ir.from_proto(proto))
    build, pixels, kernel = graph.build_graph, graph.Front.pixels, graph.Front._kernel

    def narrow(front, distance):
        one = front.nodes.Min(front.nodes.Mul(distance, front.constant(4.0)), front.constant(0.999))
        return kernel(front, one)

    path = tmp_path / "name.onnx"
    export_model(model, path, [image(noisy(150, 200))])  # without the mistake it is proven
    path.write_text("old")
    if mistake == "colors":
        monkeypatch.setattr(
            graph.Front, "pixels", lambda front, taken: swapped(front, pixels(front, taken))
        )
    elif mistake == "antialiasing":
        monkeypatch.setattr(graph.Front, "_kernel", narrow)
    else:
        monkeypatch.setattr(
            exporter,
            "build_graph",
            lambda net, value, *others: build(
                net, dataclasses.replace(value, **MISTAKES[mistake]), *others
            ),
        )
    with pytest.raises(
        ProofFailed, match=r"was not written: in onnxruntime .* differs from the model in its input"
    ):
        export_model(model, path, [image(noisy(150, 200))])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["name.onnx"]  # noqa: PTH208


def test_a_network_that_answers_nothing_is_refused(tmp_path, few):
    model = make_model()
    with torch.no_grad():
        model.net.fc.bias[0] = float("nan")
    with pytest.raises(ProofFailed, match="in its probability by nan"):
        export_model(model, tmp_path / "name.onnx", [image(noisy(40, 60))])
    assert not list(tmp_path.iterdir())


def test_a_proof_needs_pictures(tmp_path):
    with pytest.raises(ValueError, match="verified on images, and none were given"):
        export_model(make_model(), tmp_path / "name.onnx", [])


def test_weights_that_differ_are_refused(tmp_path, few, traced, monkeypatch):
    """The limit is narrow: a hundredth of a logit, which leaves every class where it was."""
    model, proto = traced["unsure"]
    monkeypatch.setattr(graph, "_trace", lambda *given: ir.from_proto(proto))
    export_model(model, tmp_path / "name.onnx", [image(noisy(150, 200))])
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    (bias,) = (entry for entry in changed.graph.initializer if entry.name.endswith("fc.bias"))
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += 0.02
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    monkeypatch.setattr(graph, "_trace", lambda *given: ir.from_proto(changed))
    with pytest.raises(ProofFailed, match=r"differs from the model in its probability by 0\.00"):
        export_model(model, tmp_path / "name.onnx", [image(noisy(150, 200))])


@pytest.mark.parametrize("name", ["a.txt", "a", "none/a.onnx", "folder.onnx"])
def test_a_target_that_cannot_be_is_refused_before_the_work(tmp_path, name, monkeypatch):
    monkeypatch.setattr(exporter, "build_graph", lambda *_: pytest.fail("work was done"))
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ValueError, match=name):
        export_model(make_model(), tmp_path / name, [image(noisy(40, 60))])


def test_flat_shapes_enlarged_by_thirds_are_verified(tmp_path, few):
    """Where a sixth of all places lie half-way between two grey levels: drawings, not photos."""
    drawing = np.random.default_rng(0).integers(0, 2, (11, 11, 3), np.uint8) * 3
    for fit, filter_ in itertools.product(("crop", "stretch"), ("bilinear", "bicubic")):
        model = make_model(preprocessing=Preprocessing.square(33, fit=fit, interpolation=filter_))
        export_model(model, tmp_path / f"{fit}-{filter_}.onnx", [image(drawing)])


class Undecided(nn.Module):
    """Its way depends on the numbers: no graph can hold it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        pooled = x.mean((2, 3))
        return self.fc(pooled) if pooled.sum() > 0 else -self.fc(pooled)


def test_what_cannot_be_exported_is_found_before_the_training():
    net = Undecided()
    with pytest.raises(ValueError, match="Undecided cannot be exported to ONNX"):
        rehearse(Model(net, CLASSES, Preprocessing.square(32), describe_network(None, net, 3, 3)))


# ----------------------------------------------------------------------------------------------------
# surroundings


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_equal_exports_give_equal_bytes_and_a_full_disk_costs_nothing(tmp_path, few):
    """Twice here and once in another process with another order of sets; there the disk is full the
    second time."""
    for name in ("a.onnx", "b.onnx"):
        export_model(
            make_model(training={"data": "photos"}), tmp_path / name, [image(noisy(40, 60))]
        )
    (tmp_path / "far").mkdir()
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_export import Path, export_model, exporter, image, make_model, noisy
from resnets.runtime.onnxfile import seal, write_onnx
exporter.SIZES = ((31, 20), (60, 90))
exporter.available_engines = lambda: ["onnxruntime"]
target = Path(sys.argv[1])
export_model(make_model(training={{"data": "photos"}}), target, [image(noisy(40, 60))])
whole = target.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    write_onnx(target, whole[: -len(seal(b""))])
except OSError as error:
    assert target.read_bytes() == whole
    print("refused", error.errno)
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", program, str(tmp_path / "far" / "c.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == f"refused {errno.EFBIG}\n", done.stderr
    assert os.listdir(tmp_path / "far") == ["c.onnx"]  # noqa: PTH208
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.rglob("*.onnx")}
    assert len(digests) == 1


def test_without_openvino_the_proof_has_one_engine(tmp_path, monkeypatch):
    """And what that engine ran are the very bytes of the file."""
    find, make, ran = importlib.util.find_spec, exporter.make_engine, []
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "openvino" else find(name, *rest),
    )
    monkeypatch.setattr(exporter, "SIZES", ((31, 20),))
    monkeypatch.setattr(
        exporter,
        "make_engine",
        lambda name, data: ran.append((name, bytes(data))) or make(name, data),
    )
    proven = export_model(make_model(), tmp_path / "name.onnx", [image(noisy(40, 60))])
    assert [engine.partition(" ")[0] for engine in proven.engines] == ["onnxruntime"]
    assert proven.compared == proven.pictures
    assert ran[0] == ("onnxruntime", (tmp_path / "name.onnx").read_bytes())
    assert {name for name, _ in ran} == {"onnxruntime"}
