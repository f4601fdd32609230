"""Files of every format there ever was open, and answer as on the day they were made
(tools/make_format_files.py)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnets
from resnets import formats, modelfile
from resnets.preprocessing import Preprocessing
from resnets.runtime.engines import available_engines
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.proof import prove
from resnets.torch_engine import TorchEngine

DATA = Path(__file__).parent / "data"
FORMATS = sorted(int(folder.name.removeprefix("format")) for folder in DATA.glob("format*"))
# In format 1 images with more than 8 bits were read as 0 to 65535
DEEP_RANGES = {1: (0, 65535), 2: None}
CLASSES = ("ant", "bee", "Wespe mit Öl")


def answers(number: int, name: str) -> np.ndarray:
    return np.array(
        json.loads((DATA / f"format{number}" / "answers.json").read_text("utf-8"))[name], np.float32
    )


def picture(number: int) -> Image.Image:
    return Preprocessing().open(DATA / f"format{number}" / "picture.png")


def preprocessing(number: int) -> Preprocessing:
    return Preprocessing.square(16, 0.875, deep_range=DEEP_RANGES[number])


def test_there_are_files_of_every_format():
    assert list(range(1, formats.FORMAT + 1)) == FORMATS
    for number in FORMATS:
        files = {entry.name: entry.stat().st_size for entry in os.scandir(DATA / f"format{number}")}
        assert set(files) == {"answers.json", "picture.png", "tiny.onnx", "tiny.safetensors"}
        assert max(files.values()) < 60_000


@pytest.mark.parametrize("number", FORMATS)
def test_a_model_file_opens_and_answers(number):
    model = modelfile.load_model(DATA / f"format{number}" / "tiny.safetensors")
    assert model.metadata["format"] == number
    assert model.classes == CLASSES
    assert model.network_name == "resnet20 depths=1-1 widths=4-8"
    assert model.preprocessing == preprocessing(number)
    assert model.metadata["task"]["name"] == model.task.kind.name == "classes"
    expected = answers(number, "tiny.safetensors")
    np.testing.assert_allclose(
        TorchEngine(model)(np.asarray(picture(number))[None])["probabilities"][0],
        expected,
        atol=1e-5,
    )
    assert expected.max() - expected.min() > 0.1


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("number", FORMATS)
def test_an_exported_file_opens_and_answers(number, engine):
    path = DATA / f"format{number}" / "tiny.onnx"
    file = read_onnx(path)
    assert (file.metadata["format"], file.classes, file.preprocessing) == (
        number,
        CLASSES,
        preprocessing(number),
    )
    assert file.kind.name == "classes"
    assert file.metadata["limits"]["probability"] == file.limits["probability"] <= 0.02

    predictor = resnets.load(path, engine)
    found = predictor.predict_image(picture(number), heat=True)
    np.testing.assert_allclose(found.probabilities, answers(number, "tiny.safetensors"), atol=1e-5)
    scaled_by_the_graph = predictor.engine(np.asarray(picture(number))[None])["probabilities"][0]
    # rounding a grey level to the other side moves a probability
    np.testing.assert_allclose(scaled_by_the_graph, answers(number, "tiny.onnx"), atol=1e-3)
    assert found.label == CLASSES[int(answers(number, "tiny.onnx").argmax())]
    assert found.heat.shape == (3, 8, 8)
    assert found.embedding.shape == (8,)
    proof = prove(predictor, file)
    assert proof.ok
    assert proof.images == 1


@pytest.mark.parametrize("number", FORMATS)
def test_both_files_say_the_same(number):
    np.testing.assert_allclose(
        answers(number, "tiny.onnx"), answers(number, "tiny.safetensors"), atol=0.02
    )
