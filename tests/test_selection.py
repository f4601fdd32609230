"""Resizing that changes nothing is left out in OpenVINO, and so are large outputs nobody asked
for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.kinds import KINDS
from resnets.runtime import engines, load
from resnets.runtime.engines import available_engines, make_engine
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.selection import _selected, select_pixels

TINY = Path(__file__).parent / "data" / "format1" / "tiny.onnx"

needs_openvino = pytest.mark.skipif("openvino" not in available_engines(), reason="needs OpenVINO")


@pytest.fixture
def counted(monkeypatch):
    """How many products were replaced, of each graph that is opened."""
    counts = []
    monkeypatch.setattr(engines, "select_pixels", lambda graph: counts.append(select_pixels(graph)))
    return counts


def noise(shape) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A file for each fit, of a network of one layer, whose input is not square."""
    pytest.importorskip("torch")
    from test_export import image, make_model, noisy

    from resnets.export import export_model

    made = {}
    for fit in ("crop", "pad", "stretch"):
        model = make_model()
        model.preprocessing = dataclasses.replace(model.preprocessing, fit=fit, size=(24, 32))
        made[fit] = tmp_path_factory.mktemp("fits") / f"{fit}.onnx"
        export_model(model, made[fit], [image(noisy(40, 60))])
    return made


@needs_openvino
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("count", [1, 3])
def test_both_products_are_left_out_where_the_image_has_its_size(
    exported, fit, count, counted, monkeypatch
):
    file = read_onnx(exported[fit])
    images = noise((count, *file.framed_shape[1:]))
    found = make_engine("openvino", file.path, 0, file.kind, images.shape)(images)
    assert counted == [2]
    monkeypatch.setattr(engines, "select_pixels", lambda graph: 0)
    expected = make_engine("openvino", file.path, 0, file.kind, images.shape)(images)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6)


@needs_openvino
@pytest.mark.parametrize("shape", [(1, 50, 71, 3), (1, 12, 90, 3)])
def test_products_that_scale_stay(exported, shape, counted):
    file, images = read_onnx(exported["stretch"]), noise(shape)
    found = make_engine("openvino", file.path, 0, file.kind, shape)(images)
    assert counted == [0]
    free = make_engine("onnxruntime", file.path, 0, file.kind)(images)
    np.testing.assert_allclose(found["probabilities"], free["probabilities"], atol=1e-5)


@given(size=st.integers(1, 40), start=st.integers(0, 20), rows=st.integers(1, 20), data=st.data())
def test_a_selection_is_told_from_all_else(size, start, rows, data):
    assert _selected(np.empty((0, 0))) is None
    matrix = np.eye(start + rows + size, dtype=np.float32)[start : start + rows]
    assert _selected(matrix) == (start, start + rows)
    places = [st.integers(0, side - 1) for side in matrix.shape]
    place = data.draw(st.tuples(*places))
    changed = matrix.copy()
    changed[place] = np.nextafter(changed[place], np.float32(0.5))
    assert _selected(changed) is None
    if rows > 1:
        assert _selected(matrix[::-1]) is None
        assert _selected(matrix[[0, 0]]) is None


@pytest.mark.parametrize("images", [3, 40], ids=["alone", "in batches"])
@pytest.mark.parametrize("engine", available_engines())
def test_maps_are_there_when_they_are_asked_for(engine, images):
    """Engines that are faster without them are opened for them on the first request."""
    predictor, pixels = load(TINY, engine), list(noise((images, 40, 60, 3)))
    assert "heat" in predictor.outputs
    plain = list(predictor.predict(pixels))
    assert not any(one.error or one.heat is not None for one in plain)
    opened = predictor._whole
    mapped = list(predictor.predict(pixels, heat=True))
    assert opened is None
    assert (predictor._whole is not None) == (engine == "openvino")
    for one, other in zip(plain, mapped, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
        assert other.heat.shape[0] == len(predictor.classes)
    outputs = predictor.outputs_for(pixels[0])
    assert set(outputs) == set(predictor.outputs)
    np.testing.assert_allclose(outputs["heat"][0], mapped[0].heat, atol=1e-5)
    assert set(predictor.outputs_for(pixels[0], large=False)) == set(outputs) - {"heat"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_an_engine_gives_all_that_is_proved(kind):
    """The map of scores of a detector is large, and among the golden outputs."""
    light = set(kind.light.outputs)
    assert light >= {name for name, output in kind.outputs.items() if output.golden}
    assert light >= {name for name, output in kind.outputs.items() if output.always}
    assert set(kind.small.outputs) <= light <= set(kind.outputs)


@needs_openvino
def test_a_file_that_is_gone_is_a_reason(tmp_path):
    """The engine for maps is opened late."""
    path = tmp_path / "a.onnx"
    path.write_bytes(TINY.read_bytes())
    predictor = load(path, "openvino")
    path.unlink()
    assert predictor.predict_image(noise((40, 60, 3))).error is None
    (found,) = predictor.predict([noise((40, 60, 3))], heat=True)
    assert "a.onnx" in found.error
