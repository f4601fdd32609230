"""Large images in tiles: every pixel once, from the middle of a tile, at the scale of training."""

from __future__ import annotations

import csv
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.kinds import KINDS
from resnets.kinds.inverse import InverseTransform
from resnets.preprocessing import Preprocessing
from resnets.runtime.engines import EngineError
from resnets.runtime.predictor import Predictor
from resnets.runtime.tiles import STRIDE, TiledEngine, Tiles, cuts

MASK = KINDS["mask"]
SIZE = (24, 32)
INPUT = Preprocessing(SIZE, SIZE, fit="pad", pad_color=9)
KNOWN = {"image_size": [48, 64]}  # twice the input


class Levels:
    """Says of each pixel which of four levels of grey it has."""

    name, version = "levels", "1"

    def __init__(self):
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(image.shape)
        return {"mask": (image[..., 0] // 64).astype(np.uint8)}


class Depths:
    """Says of each pixel how far from the border of its input it is."""

    name, version = "depths", "1"

    def __call__(self, image):
        rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in image.shape[1:3])
        found = np.minimum(rows[:, None], columns[None])
        return {"mask": found[None].astype(np.uint8).repeat(len(image), 0)}


def predictor(engine=None, preprocessing=INPUT, metadata=KNOWN, kind=MASK):
    return Predictor(engine or Levels(), ("a", "b", "c", "d"), preprocessing, metadata, kind)


def noise(height, width, seed=0, block=8):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-height // block), -(-width // block), 3), np.uint8)
    return small.repeat(block, 0).repeat(block, 1)[:height, :width]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(0, 4000))
def test_every_pixel_is_taken_once_from_deep_in_a_tile(side, more):
    length = side + more
    found = list(cuts(length, side))
    assert [one.kept.start for one in found] == [0, *(one.kept.stop for one in found[:-1])]
    assert found[-1].kept.stop == length
    least = side // 6 - 1  # half of what two tiles share, where their step was rounded up
    for one in found:
        assert one.tile.start >= 0
        assert one.tile.stop == one.tile.start + side <= length
        assert one.kept.start < one.kept.stop
        assert one.kept.start == 0 or one.inner.start >= least
        assert one.kept.stop == length or side - one.inner.stop >= least
    if side >= 2 * STRIDE:
        assert all(one.tile.start % STRIDE == 0 for one in found[:-1])


@settings(max_examples=30, deadline=None)
@given(st.integers(24, 200), st.integers(32, 200), st.integers(0, 5))
def test_what_is_said_of_single_pixels_is_said_of_the_whole(height, width, seed):
    image = noise(height, width, seed)[None]
    engine = Levels()
    found = TiledEngine(engine, SIZE, MASK)(image)["mask"]
    np.testing.assert_array_equal(found, Levels()(image)["mask"])
    assert {shape[1:3] for shape in engine.shapes} == {SIZE}


def test_no_border_of_a_tile_is_seen():
    """But those that are borders of the image."""
    found = TiledEngine(Depths(), SIZE, MASK)(np.zeros((1, 100, 150, 3), np.uint8))["mask"][0]
    assert found[5:-5, 5:-5].min() >= 5
    assert found[0].max() == found[:, -1].max() == 0


def test_an_image_of_the_size_of_the_input_is_one_tile():
    engine = Levels()
    TiledEngine(engine, SIZE, MASK)(np.zeros((2, *SIZE, 3), np.uint8))
    assert engine.shapes == [(2, *SIZE, 3)]


def test_the_scale_is_that_of_the_images_of_training():
    tiles = Tiles.of(INPUT, KNOWN)
    vertical, horizontal = tiles.axes(480, 640)
    assert (vertical.size, horizontal.size) == (240, 320)
    assert (vertical.scale, horizontal.scale) == (2, 2)
    stretched = Preprocessing(SIZE, SIZE, fit="stretch")
    vertical, horizontal = Tiles.of(stretched, {"image_size": [24, 64]}).axes(480, 640)
    assert (vertical.scale, horizontal.scale) == (1, 2)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("size", [(48, 64), (10, 7), (70, 90), (24, 32), (60, 20)])
def test_an_image_that_is_not_large_is_seen_as_ever(fit, size):
    plain = Preprocessing(SIZE, SIZE, fit=fit, pad_color=9)
    tiles, image = Tiles.of(plain, KNOWN), Image.fromarray(noise(*size))
    assert tiles.axes(*size) == plain.axes(*size)
    np.testing.assert_array_equal(tiles.pixels(image), plain.pixels(image))
    whole = predictor(preprocessing=plain)
    one, other = whole.predict_image(image), whole.tiled().predict_image(image)
    np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("size", [(480, 640), (481, 333), (1000, 30), (30, 1000), (200, 201)])
def test_a_large_image_is_scaled_as_one(fit, size):
    """Band by band, and yet as if it were done at once; a narrow one gets a border."""
    tiles = Tiles.of(Preprocessing(SIZE, SIZE, fit=fit, pad_color=9), KNOWN)
    image, (vertical, horizontal) = Image.fromarray(noise(*size)), tiles.axes(*size)
    found = tiles.pixels(image)
    assert found.shape == (vertical.size, horizontal.size, 3)
    once = np.asarray(image.resize((horizontal.resized, vertical.resized), 2))
    inside = found[slice(*vertical.inside), slice(*horizontal.inside)]
    assert np.abs(inside.astype(int) - once).max() <= 1
    border = np.ones(found.shape[:2], bool)
    border[slice(*vertical.inside), slice(*horizontal.inside)] = False
    assert (found[border] == 9).all()


@pytest.mark.parametrize("size", [(480, 640), (1000, 30), (331, 477)])
def test_the_prediction_lies_where_it_was_seen(size):
    image = noise(*size, block=32)
    prediction = predictor().tiled().predict_image(image)
    assert prediction.mask.shape == size
    wanted = (image[..., 0] // 64).astype(np.uint8)
    inner = np.zeros(size, bool)  # away from the borders of blocks, which scaling mixes
    rows, columns = (np.abs(np.arange(n) % 32 - 15.5) < 12 for n in size)
    inner[np.ix_(rows, columns)] = True
    np.testing.assert_array_equal(prediction.mask[inner], wanted[inner])


def test_files_folders_and_turned_images(tmp_path):
    image = Image.fromarray(noise(300, 400, block=32))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    broken, turned, upright = predictor().tiled().predict(tmp_path)
    assert broken.error
    assert upright.mask.shape == (400, 300)
    np.testing.assert_array_equal(turned.mask, upright.mask)
    assert turned.notes == ("turned upright (EXIF)",)


def test_predictions_that_are_no_pixels_cannot_be_put_together():
    for name in set(KINDS) - {"mask"}:
        plain = Preprocessing.square(32, fit="pad")
        with pytest.raises(ValueError, match=f"tiles: predictions of the task {name} are not"):
            predictor(preprocessing=plain, kind=KINDS[name]).tiled()


@pytest.mark.parametrize(
    "said", [None, [], [48], [48, 64, 3], [0, 64], [48.0, 64], ["48", "64"], "48", 48, {"a": 1}]
)
def test_a_file_that_does_not_say_the_scale_is_refused(said):
    metadata = {} if said is None else {"image_size": said}
    with pytest.raises(ValueError, match="nothing says how large the images of training were"):
        predictor(metadata=metadata).tiled()


def test_a_network_that_gives_something_else_for_a_tile_is_told():
    class Smaller(Levels):
        def __call__(self, image):
            return {"mask": super().__call__(image)["mask"][:, ::2]}

    with pytest.raises(EngineError, match="for a tile"):
        predictor(Smaller()).tiled().predict_image(noise(300, 400))


def test_predictions_in_tiles_are_those_of_another_model():
    """So that a table of whole images is not continued with them."""
    whole = predictor()
    whole.name, whole.sha256 = "scene.onnx", "ab"
    tiled = whole.tiled()
    assert tiled.name == "scene.onnx in tiles"
    assert tiled.sha256 not in ("", whole.sha256)
    assert tiled.sha256 == whole.tiled().sha256


def test_a_predictor_in_tiles_can_be_pickled():
    again = pickle.loads(pickle.dumps(predictor().tiled()))
    image = noise(100, 200)
    found = [one.predict_image(image).mask for one in (predictor().tiled(), again)]
    np.testing.assert_array_equal(*found)


def test_the_inverse_transform_knows_the_border():
    tiles = Tiles.of(INPUT, KNOWN)
    axes = tiles.axes(1000, 30)
    columns = np.arange(axes[1].size)[None].repeat(axes[0].size, 0)
    found = InverseTransform(*axes).pixels(columns)
    assert found.shape == (1000, 30)
    assert (found.min(), found.max()) == (8, 22)  # 15 columns, 8 of 17 to their left


def test_a_large_file_from_the_command_line(tmp_path):
    torch = pytest.importorskip("torch", reason="training install")
    from typer.testing import CliRunner

    from resnets.cli.app import app
    from resnets.export import export_model
    from resnets.modelfile import Model, describe_network
    from resnets.models import Network
    from resnets.tasks.mask import Segmentation

    torch.manual_seed(0)
    network = Network.parse("resnet18 depths=1-1-1-1 widths=8-8-16-16", 2, 3)
    net, names = Segmentation().build(network, 2), ("a", "b")
    description = describe_network(network, net, 2, 3)
    size = Preprocessing((64, 96), (64, 96), fit="pad")
    metadata = {"image_size": [128, 192]}
    model = Model(net, names, size, description, Segmentation(), metadata)
    small, large = (Image.fromarray(noise(*sides)) for sides in ((128, 192), (400, 500)))
    export_model(model, tmp_path / "scene.onnx", [small])
    large.save(tmp_path / "large.png")
    small.save(tmp_path / "small.png")

    found = {}
    for folder, options in (("whole", []), ("tiles", ["--tiles"])):
        words = [tmp_path / "scene.onnx", tmp_path / "small.png", tmp_path / "large.png", *options]
        words += ["-o", tmp_path / f"{folder}.csv", "--masks", tmp_path / folder]
        result = CliRunner().invoke(app, ["predict", *map(str, words)])
        assert result.exit_code == 0, result.output
        for name, image in (("small", small), ("large", large)):
            with Image.open(tmp_path / folder / f"{name}.png.mask.png") as mask:
                assert mask.size == image.size
                found[folder, name] = np.asarray(mask)
        with (tmp_path / f"{folder}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        large_rows = [row for row in rows if row["file"].endswith("large.png")]
        shares = {row["label"]: float(row["share"]) for row in large_rows}
        assert shares.get("a", 0) == pytest.approx((found[folder, "large"] == 0).mean(), abs=1e-6)
    np.testing.assert_array_equal(found["whole", "small"], found["tiles", "small"])
    assert (found["whole", "large"] != found["tiles", "large"]).any()
    words = [
        tmp_path / "scene.onnx",
        tmp_path / "small.png",
        "--tiles",
        "-o",
        tmp_path / "whole.csv",
    ]
    result = CliRunner().invoke(app, ["predict", *map(str, words)])
    assert "its rows are of another model" in str(result.exception)
    assert "scene.onnx in tiles, sha256" in str(result.exception)
