"""Places in the input of a network become places in the image: in NumPy, in the exported graph in
every engine, and in PyTorch as an engine, for a made-up kind of prediction."""

import copy
import dataclasses
import itertools
import json
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnets import load
from resnets.export import ProofFailed, export_model, exporter, graph
from resnets.export.inverse import Inverse
from resnets.kinds import KINDS
from resnets.kinds.classes import CLASSES
from resnets.kinds.inverse import InverseTransform
from resnets.kinds.kind import Difference, Kind, Output
from resnets.kinds.prediction import Prediction
from resnets.modelfile import Model, describe_network
from resnets.preprocessing import FITS, Preprocessing
from resnets.runtime.engines import available_engines, make_engine
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.outputs import open_output
from resnets.runtime.proof import prove
from resnets.runtime.rows import Columns
from resnets.tasks.classes import Classification
from resnets.torch_engine import TorchEngine


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Spots(Prediction):
    """Some places, and a part for each pixel."""

    columns: ClassVar[Mapping[str, type]] = {"left": float, "number": int}

    spots: np.ndarray | None = None
    parts: np.ndarray | None = None

    def summary(self) -> str:
        return "spots"

    def rows(self):
        if self.spots is None:
            return [{"left": None, "number": None}]
        return [{"left": float(one[0]), "number": i} for i, one in enumerate(self.spots)]


def unbatch(outputs, files, classes, options):
    assert options == {}
    return [
        Spots(file, classes, spots=spots, parts=parts)
        for file, spots, parts in zip(files, outputs["spots"], outputs["parts"], strict=True)
    ]


def differences(found, expected, options) -> Difference:
    """The first is always zero, so that the proof has to judge by all of them."""
    values = {"nothing": 0.0, "parts": float((found["parts"] != expected["parts"]).mean())}
    if "spots" in expected:
        values["spots"] = float(np.abs(found["spots"] - expected["spots"]).max())
    return Difference(values, len(found["parts"]))


LIMITS = {"nothing": 1.0, "parts": 0.001, "spots": 0.01}
MADE_UP = dataclasses.replace(
    CLASSES,
    name="made up",
    prediction=Spots,
    outputs={
        "spots": Output("N, spots, 4", place="points", golden=True),
        "parts": Output("N, H, W", place="pixels", golden=True),
        "depth": Output("N, 1, H, W", place="pixels", golden=True),
        "share": Output("N, classes"),
    },
    fits=("pad", "stretch"),
    limits={"float32": LIMITS, "any": {name: 2 * limit for name, limit in LIMITS.items()}},
    unbatch=unbatch,
    differences=differences,
)
SIZE = (24, 33)
SIZES = ((20, 31), (24, 33), (97, 224), (480, 640), (37, 1200), (1501, 999), (1, 1), (3, 70))


class MadeUp(nn.Module):
    """The corners of the input, two places that depend on it, and maps of it."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.ones(1))

    def forward(self, images):
        height, width = SIZE
        mean = images.mean((1, 2, 3))[:, None, None] * self.anything
        corners = torch.tensor([[[0.0, 0.0, width, height]]]) + 0 * mean
        others = torch.tensor([[[3.25, 7.5, 30.75, 21.0]]]) + mean
        numbers = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
        maps = numbers + 0 * images[:, :1]
        parts = (maps[:, 0] % 251).to(torch.uint8)
        return torch.cat([corners, others], 1), parts, maps, images.mean((2, 3))


@dataclasses.dataclass(frozen=True)
class MadeUpTask(Classification):
    kind: ClassVar[Kind] = MADE_UP

    def inference(self, net):
        return net


def make(fit: str) -> Model:
    resize = (30, 37) if fit == "crop" else SIZE
    value = Preprocessing(SIZE, resize, fit=fit)
    net = MadeUp()
    return Model(net, ("a", "b", "c"), value, describe_network(None, net, 3, 3), MadeUpTask())


def images(height: int, width: int) -> np.ndarray:
    small = np.random.default_rng(height).integers(0, 256, (5, 4, 3), np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return np.stack([image, image[::-1]])


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("engine", available_engines())
def test_the_graph_and_numpy_bring_back_the_same(fit, engine):
    model = make(fit)
    ours = TorchEngine(model)
    content = graph.to_bytes(graph.build_graph(ours.inference, model.preprocessing, MADE_UP), "{}")
    run = make_engine(engine, content, kind=MADE_UP)
    for height, width in SIZES:
        given = images(height, width)
        expected, found = ours(given), run(given)
        assert set(expected) == set(found) == set(MADE_UP.outputs)
        for name in ("parts", "depth"):  # exactly the same pixels
            np.testing.assert_array_equal(found[name], expected[name])
            assert found[name].dtype == expected[name].dtype
            assert found[name].shape[-2:] == (height, width)
        tolerance = 0.02 * max(height, width) / min(SIZE)  # the mean of the input, enlarged
        np.testing.assert_allclose(found["spots"], expected["spots"], atol=tolerance)
        # nothing of the corners depends on the network
        np.testing.assert_allclose(found["spots"][:, 0], expected["spots"][:, 0], rtol=1e-6)


@pytest.mark.parametrize(("fit", "size"), [*itertools.product(FITS, SIZES)])
def test_corners_of_the_input_lie_where_the_axes_say(fit, size):
    value = make(fit).preprocessing
    vertical, horizontal = axes = value.axes(*size)
    inverse = InverseTransform(*axes)
    corners = np.array([[0, 0, SIZE[1], SIZE[0]]], np.float32)
    (found,) = inverse.points(corners)
    exact = [
        axis.to_image(place)
        for place, axis in zip((0, 0, SIZE[1], SIZE[0]), (horizontal, vertical) * 2, strict=True)
    ]
    inside = np.clip(exact, 0, [size[1], size[0]] * 2)
    np.testing.assert_allclose(found, inside, rtol=1e-6)
    if fit == "crop":  # a part of the image is not seen
        assert found[2] <= size[1]
        assert found[3] <= size[0]
    else:  # all of it is
        np.testing.assert_allclose(found, [0, 0, size[1], size[0]], rtol=1e-6)


@pytest.mark.parametrize(("fit", "size"), [*itertools.product(FITS, SIZES)])
def test_a_pixel_of_the_image_takes_the_one_of_the_input_that_it_lies_in(fit, size):
    axes = make(fit).preprocessing.axes(*size)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    inverse = InverseTransform(*axes)
    for found, axis, along in ((rows, axes[0], 0), (columns, axes[1], 1)):
        places = np.take(inverse.pixels(found), 0, axis=1 - along)
        exact = axis.to_input(np.arange(axis.length) + 0.5)
        inside = (exact > 0) & (exact < axis.size)
        assert (places[inside] <= exact[inside] + 1e-6).all()
        assert (places[inside] >= exact[inside] - 1 - 1e-6).all()
        assert (places[exact <= 0] == 0).all()
        assert (places[exact >= axis.size] == axis.size - 1).all()


def test_outputs_without_a_place_are_left_alone():
    value = Preprocessing(SIZE, SIZE, fit="pad")
    numbers = {"probabilities": np.ones((2, 3), np.float32)}
    assert InverseTransform(*value.axes(9, 9))(CLASSES, numbers) == numbers


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A file of the made-up kind, made and read by code that knows no kind by name."""
    monkeypatch.setitem(KINDS, "made up", MADE_UP)
    monkeypatch.setattr(exporter, "SIZES", ((31, 20),))
    given = [Image.fromarray(images(97, 60)[0]), Image.fromarray(images(20, 90)[0])]
    proven = export_model(make("pad"), tmp_path / "spots.onnx", given)
    assert proven.difference == 0  # the first value
    assert proven.agreeing == proven.compared
    return tmp_path / "spots.onnx"


def test_a_file_of_another_kind_is_verified_by_its_own_differences(exported, monkeypatch):
    file = read_onnx(exported)
    assert (file.kind, file.limits) == (MADE_UP, LIMITS)
    entry = file.metadata["golden"][0]["outputs"]
    assert set(entry) == {"spots", "parts", "depth"}
    assert entry["parts"]["dtype"] == "uint8"  # in base64: a list would lose the type
    assert isinstance(entry["depth"], list)  # few numbers
    image, golden = file.golden[0]
    assert (image.shape[:2], golden["spots"].shape) == (SIZE, (1, 2, 4))
    assert (golden["parts"].dtype, golden["parts"].shape) == (np.uint8, (1, *SIZE))
    predictor = load(exported)
    proof = prove(predictor, file)
    assert proof.ok
    assert (proof.difference, proof.limit) == (0, 1.0)

    def shifted(image):
        found = dict(predictor.engine(image))
        return found | {"parts": np.roll(found["parts"], 1, -1)}

    shifted.name = shifted.version = "test"
    proof = prove(shifted, file)
    assert not proof.ok
    assert proof.difference > 0.9  # the one that is beyond its limit is told
    assert "NOT VERIFIED: ONNX differs from PyTorch on 2 golden images (test test)" in str(proof)
    monkeypatch.setitem(LIMITS, "parts", -1.0)
    with pytest.raises(ProofFailed, match="in its parts by 0"):
        export_model(make("pad"), exported, [Image.fromarray(images(97, 60)[0])])


def moved(self, xy):
    return self.nodes.Add(POINTS(self, xy), self.nodes.constant(3.0))


def swapped_points(self, xy):
    return POINTS(turned(self), xy)


def moved_pixels(self, values):
    assert values.shape is not None
    rank = len(values.shape)
    rows = self.nodes.Gather(values, self._seen(self.vertical), axis=rank - 2)
    ahead = self.nodes.Add(self._seen(self.horizontal), self.nodes.constant(3, np.int64))
    last = self.nodes.constant(self.horizontal.size - 1, np.int64)
    return self.nodes.Gather(rows, self.nodes.Min(ahead, last), axis=rank - 1)


def turned(inverse):
    other = copy.copy(inverse)
    other.vertical, other.horizontal = inverse.horizontal, inverse.vertical
    return other


POINTS = Inverse.points


@pytest.mark.parametrize(
    ("name", "fault"),
    [("points", moved), ("points", swapped_points), ("pixels", moved_pixels)],
)
def test_places_that_are_brought_back_wrongly_are_refused(tmp_path, monkeypatch, name, fault):
    """A shift of three pixels and swapped axes: what images that need no scaling cannot show."""
    monkeypatch.setitem(KINDS, "made up", MADE_UP)
    monkeypatch.setattr(Inverse, name, fault)
    given = [Image.fromarray(images(97, 60)[0])]
    with pytest.raises(ProofFailed, match="places in the image, in pixels by"):
        export_model(make("pad"), tmp_path / "spots.onnx", given)
    assert not list(tmp_path.iterdir())


def test_large_golden_arrays_are_kept_whole(exported, monkeypatch):
    from resnets.runtime import golden

    monkeypatch.setattr(golden, "MOST_LISTED", 100)
    export_model(make("pad"), exported, [Image.fromarray(images(97, 60)[0])])
    file = read_onnx(exported)
    assert file.metadata["golden"][0]["outputs"]["depth"]["dtype"] == "float32"
    expected = np.arange(SIZE[0] * SIZE[1], dtype=np.float32).reshape(1, 1, *SIZE)
    np.testing.assert_array_equal(file.golden[0].outputs["depth"], expected)


@pytest.mark.parametrize("engine", available_engines())
def test_predictions_are_in_pixels_of_the_image(exported, tmp_path, engine):
    """The image is scaled before the engine sees it; what comes back is of the image itself."""
    model, predictor = make("pad"), load(exported, engine)
    for height, width in SIZES:
        (image, _) = images(height, width)
        expected = TorchEngine(model)(image[None])
        found = predictor.predict_image(image)
        np.testing.assert_array_equal(found.parts, expected["parts"][0])
        np.testing.assert_allclose(found.spots, expected["spots"][0], rtol=1e-3, atol=0.01)
    turned = Image.fromarray(images(50, 70)[0])
    turned.getexif()[0x0112] = 6  # lies on its side
    assert predictor.predict_image(turned).parts.shape == (70, 50)


def test_several_rows_of_one_image_go_into_a_table(exported, tmp_path):
    predictor, names = load(exported), []
    for number in range(3):
        names.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(images(40 + number, 30)[0]).save(names[-1])
    (tmp_path / "2.png").write_bytes(b"no image")
    columns, source = Columns.of(predictor.kind), {"model": "x", "sha256": predictor.sha256}
    for suffix in (".csv", ".jsonl", ".parquet"):
        out = tmp_path / f"out{suffix}"
        with open_output(out, names, source, columns) as output:
            assert output.write(predictor.predict(output.files())) == 5
            rows = list(output.table.rows())
        assert [row["file"] for row in rows] == [names[0], names[0], names[1], names[1], names[2]]
        assert list(rows[0]) == ["file", "left", "number", "error", "notes"]
        with open_output(out, names[:2], source, columns) as output:
            assert list(output.files()) == []
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[1])["number"] == 1


def test_a_column_for_each_class_is_refused_where_classes_have_no_numbers():
    with pytest.raises(ValueError, match=r"--probs: .* task made up have no number for each class"):
        Columns.of(MADE_UP, ("a", "b"))
    assert Columns.of(CLASSES, ("a",)).types["p_a"] is float


def test_a_terminal_shows_the_columns_of_any_kind(capsys, monkeypatch):
    from resnets.cli.terminal import show_best, show_predictions

    monkeypatch.setenv("COLUMNS", "60")
    spots = np.array([[1.25, 2, 3, 4], [12, 2, 3, 4]], np.float32)
    found = [Spots("a.png", ("a",), spots=spots), Spots("b.png", ("a",), error="broken")]
    columns = Columns.of(MADE_UP)
    show_predictions(found, ["a.png", "b.png"], columns, ("a",))
    assert capsys.readouterr().out.splitlines() == [
        "file      left   number",
        "a.png      1.2        0",
        "a.png     12.0        1",
        "b.png  broken",
    ]
    show_best(found[0], columns)
    assert capsys.readouterr().out.splitlines()[0] == "a.png"
