"""NAME-bf16.onnx: the float32 graph, computed in bfloat16 where an engine and the processor can, and
kept only where images show that it may be."""

import dataclasses
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from forms_data import CLASSES, export_fitted, make_up_speeds, write_images
from test_cli import only_json, refused, resnets

from resnets import load
from resnets.evaluation.verdict import NOT_PROVEN
from resnets.export.calibration import take_all
from resnets.export.forms import FORMS, check_form
from resnets.export.speed import Speed, fastest, gains
from resnets.kinds import KINDS
from resnets.kinds.sample import Sample, annotate
from resnets.runtime import engines
from resnets.runtime.engines import available_engines, engines_for, make_engine, precision_in
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.packages import import_openvino
from resnets.runtime.proof import prove

pytestmark = pytest.mark.skipif("openvino" not in available_engines(), reason="openvino")
BF16 = ("--precision", "bf16")
LIMITS = KINDS["classes"].limits


@pytest.fixture(scope="module", autouse=True)
def has_bfloat16():
    """Whether the processor has it. The tests run where it has not too: OpenVINO imitates it there,
    or computes in float32."""
    known = engines.has_bfloat16
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "has_bfloat16", lambda core: True)
        yield known(import_openvino().Core())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("bf16") / "images")


@pytest.fixture(scope="module")
def exported(images, tmp_path_factory):
    return export_fitted(images, tmp_path_factory.mktemp("float32") / "colours.onnx")


@pytest.fixture(scope="module")
def kept(has_bfloat16, exported, images, tmp_path_factory):
    """A file in bfloat16, with what was said and printed."""
    path = tmp_path_factory.mktemp("kept") / "colours.onnx"
    path.write_bytes(exported.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        make_up_speeds(patch, 1.06)
        done = resnets("export", path, *BF16, "--calibrate", images, "--max-drop", 10, "--json")
    assert done.code == 0, done.err
    return path.with_name("colours-bf16.onnx"), done


@pytest.fixture
def fast(monkeypatch):
    make_up_speeds(monkeypatch, 1.06)


def command(exported, images, tmp_path, *options):
    """The words of an export of a copy, and the file that it is about."""
    path = tmp_path / "colours.onnx"
    path.write_bytes(exported.read_bytes())
    words = ("export", path, *BF16, "--calibrate", images, *options)
    return words, path.with_name("colours-bf16.onnx")


# ----------------------------------------------------------------------------------------------------
# a file


def test_a_file_is_the_float32_graph_and_says_so(kept, exported, images):
    path, done = kept
    values = only_json(done)["bfloat16"]
    assert (values["path"], values["verdict"]) == (str(path), "kept")
    assert sorted(os.listdir(path.parent)) == ["colours-bf16.onnx", "colours.onnx"]  # noqa: PTH208
    file, model, before = read_onnx(path), onnx.load(path), onnx.load(exported)
    assert model.graph == before.graph
    assert (file.precision, file.metadata["limits"]) == ("bfloat16", LIMITS["bfloat16"])
    account = file.metadata["judgement"]
    assert (account["verdict"], account["images"]) == ("kept", "judged on 120 images of images")
    assert account["table"][0] == ["", "float32", "bfloat16", "difference"]
    assert file.metadata["versions"]["openvino"]
    one = values["engines"]["openvino"]
    assert one["difference"]["n"] == one["agreement"]["n"] == 120  # none is spent on ranges
    assert one["agreement"]["value"] >= 0.95
    assert file.metadata["metrics"]["accuracy"] == one["bfloat16"]["accuracy"]
    assert list(values["engines"]["onnxruntime"]) == ["float32"]  # it does not compute in bfloat16
    assert str(images.parent).encode() not in path.read_bytes()


def test_openvino_computes_it_in_bfloat16_unless_told_otherwise(kept, exported):
    path, _ = kept
    file, found = read_onnx(path), load(path)
    assert (found.engine.name, found.engine.precision) == ("openvino", "bfloat16")
    assert found.engine.for_batches((4, *file.preprocessing.framed_shape)).precision == "bfloat16"
    assert not found._find_others()  # none is tried that computes otherwise
    assert pickle.loads(pickle.dumps(found)).engine.precision == "bfloat16"
    assert load(path, "onnxruntime").engine.precision == "float32"
    assert load(exported).engine.name == "onnxruntime"
    assert load(exported, "openvino").engine.precision == "float32"
    assert (precision_in("openvino", "int8"), engines_for("int8")[0]) == ("float32", "onnxruntime")


@pytest.mark.parametrize("engine", available_engines())
def test_it_is_verified_in_either_precision(kept, engine):
    """Processors without bfloat16 compute it in float32."""
    path, _ = kept
    file = read_onnx(path)
    assert prove(load(path, engine), file).ok
    assert prove(make_engine(engine, path, 0, file.kind, file.framed_shape), file).ok


def test_its_golden_outputs_are_those_of_openvino_in_bfloat16(kept):
    path, _ = kept
    file = read_onnx(path)
    shape = file.framed_shape
    for golden in file.golden:
        expected = {
            precision: make_engine("openvino", path, 0, file.kind, shape, precision)(
                golden.image[None]
            )["probabilities"]
            for precision in ("float32", "bfloat16")
        }
        stored = golden.outputs["probabilities"]
        np.testing.assert_allclose(stored, expected["bfloat16"], atol=1e-6)
        if np.abs(expected["float32"] - expected["bfloat16"]).max() > 1e-5:  # the processor has it
            assert np.abs(stored - expected["float32"]).max() > 1e-5


def test_it_is_opened_as_any_other(kept, images, tmp_path):
    path, _ = kept
    done = resnets("val", path, images, "--json")
    assert only_json(done)["metrics"]["accuracy"] > 0.9
    assert "equals its own outputs at export on 3 golden images (openvino" in done.err
    files = sorted(images.rglob("*.png"))
    right = [one.label == Path(one.file).parent.name for one in load(path).predict(files)]
    assert np.mean(right) > 0.9
    assert resnets("predict", path, images, "-o", tmp_path / "found.csv").code == 0
    assert len((tmp_path / "found.csv").read_text("utf-8").splitlines()) == 121
    served = pytest.importorskip("resnets.server.served").open_model(path)
    assert served.predictor.engine.precision == "bfloat16"
    done = resnets("show", path, "--json")
    values = only_json(done)
    assert (values["precision"], values["judgement"]["verdict"]) == ("bfloat16", "kept")
    assert "judged on 120 images of images" in done.err


def test_bench_measures_it_in_its_precision(kept, has_bfloat16):
    path, short = kept[0], "bfloat16" if has_bfloat16 else "float32"
    for words in ((), ("--engine", "openvino", *BF16)):
        values = only_json(resnets("bench", path, "--rounds", 1, "--json", *words))["speeds"]
        found = {one["engine"].split()[0]: one["precision"] for one in values}
        expected = {"onnxruntime": "float32"} if not words else {}
        assert found == expected | {"openvino": short}


# ----------------------------------------------------------------------------------------------------
# what is refused


def test_an_altered_file_is_refused(kept, tmp_path):
    content = bytearray(kept[0].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="altered or damaged"):
        load(tmp_path / "a.onnx")


def test_few_images_prove_nothing_but_may_be_accepted(exported, images, tmp_path, fast):
    words, target = command(exported, images, tmp_path)
    assert "was not written: not proven: " in refused(*words, code=1)
    found = only_json(resnets(*words, "--accept-unproven", "--json"))["bfloat16"]
    assert found["verdict"] == NOT_PROVEN
    assert read_onnx(target).metadata["judgement"]["verdict"] == NOT_PROVEN


def test_what_is_not_faster_is_refused(exported, images, tmp_path, monkeypatch):
    make_up_speeds(monkeypatch, 1.04)
    words, target = command(exported, images, tmp_path, "--max-drop", 10, "--accept-unproven")
    target.write_text("of an earlier model")
    assert "refused: it is not faster here: 1.04 and 1.04 times" in refused(*words, code=1)
    assert os.listdir(tmp_path) == ["colours.onnx"]  # noqa: PTH208


def test_a_processor_without_bfloat16_is_told_and_computes_in_float32(
    exported, kept, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(engines, "has_bfloat16", lambda core: False)
    words, target = command(exported, images, tmp_path, "--max-drop", 10, "--accept-unproven")
    target.write_text("of an earlier model")
    message = refused(*words, code=1)
    assert "refused: it is not faster here, since this processor does not compute in bf" in message
    assert os.listdir(tmp_path) == ["colours.onnx"]  # noqa: PTH208
    found = load(kept[0])
    assert (found.engine.name, found.engine.precision) == ("openvino", "float32")
    assert prove(found, read_onnx(kept[0])).ok


def test_a_network_that_float32_is_too_far_from_is_refused(
    exported, images, tmp_path, fast, monkeypatch
):
    monkeypatch.setitem(LIMITS, "bfloat16", dict.fromkeys(LIMITS["bfloat16"], 1e-9))
    words, target = command(exported, images, tmp_path, "--max-drop", 10)
    message = refused(*words, code=1)
    assert "(float32) at batch 1 it differs from openvino in its probability by" in message
    assert not target.exists()


def test_without_openvino_the_cure_is_named(kept, exported, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    words, target = command(exported, images, tmp_path)
    for message in (refused(*words), refused("predict", kept[0], images)):
        assert 'the engine openvino is not installed; run: pip install "resnets[openvino]"' in (
            message
        )
    assert not target.exists()


def test_mistakes_are_one_message(exported, kept, images):
    for words, message in {
        ("--int8", *BF16): "--int8 and --precision bf16: one of them at a time",
        ("--precision", "int4"): "--precision int4: did you mean int8?",
        ("--precision", "half"): "--precision half: allowed: bf16, int8",
        BF16: "bfloat16 is judged on images, and this model has none",
    }.items():
        assert message in refused("export", exported, *words)
    assert "in bfloat16 already" in refused("export", kept[0], *BF16, "--calibrate", images)
    assert os.listdir(exported.parent) == ["colours.onnx"]  # noqa: PTH208


def test_a_task_without_limits_is_refused():
    kind = dataclasses.replace(KINDS["classes"], name="odd", limits={"float32": {}, "any": {}})
    with pytest.raises(ValueError, match="no bfloat16 for the task odd"):
        check_form(FORMS["bfloat16"], kind, "a.onnx")


# ----------------------------------------------------------------------------------------------------
# its parts


def test_all_images_judge_but_those_of_training():
    samples = [
        Sample(Path(f"{place}.png"), f"{place}.png", annotate(CLASSES[place % 3]), split)
        for place, split in enumerate(["train", "val", "test", "", "train", "val"])
    ]
    found = take_all(samples, CLASSES, "data")
    assert [one.name for one in found.judged] == ["1.png", "2.png", "3.png", "5.png"]
    assert found.calibration == []
    with pytest.raises(ValueError, match="no images that the network was not trained on"):
        take_all([dataclasses.replace(one, split="train") for one in samples], CLASSES, "data")


def test_gains_are_medians_over_turns_that_met_the_same_machine():
    """A load that slows both down in some turns changes nothing."""
    load = np.array([1, 1, 5, 5, 9])
    before = Speed(tuple(0.02 * load), tuple(0.2 * load), 8)
    after = Speed(tuple(0.01 * load), tuple(0.1 * load * [1, 1, 1, 30, 1]), 8)
    assert gains(before, after) == pytest.approx((2, 2))
    both = fastest([Speed((2, 2), (1, 1), 8), Speed((1, 1), (2, 2), 8)])
    assert (both.latency, both.throughput) == (1, 8)
