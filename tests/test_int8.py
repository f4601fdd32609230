"""NAME-int8.onnx: three verdicts by their arithmetic, a file that is kept only where images show that
it may be, and engines that give wrong predictions found."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from forms_data import CLASSES, export_fitted, make_up_speeds, write_images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shared_data import UNPACK, unpacked
from test_cli import only_json, refused, resnets

from resnets import load
from resnets.evaluation.comparison import UNDECIDED, Comparison
from resnets.evaluation.verdict import FASTER, KEPT, NOT_PROVEN, REFUSED, decide, images_needed
from resnets.export import forms, quantiser
from resnets.export.calibration import FEWEST, MOST, divide
from resnets.formats import FORMAT
from resnets.kinds import KINDS
from resnets.kinds.sample import Sample, annotate
from resnets.runtime.engines import available_engines, make_engine
from resnets.runtime.file_engine import EngineError
from resnets.runtime.onnxfile import PROPERTY, read_onnx, write_onnx
from resnets.runtime.proof import prove

GAINS = (0.9, FASTER + 0.01)
needs_openvino = pytest.mark.skipif("openvino" not in available_engines(), reason="openvino")


# ----------------------------------------------------------------------------------------------------
# the verdict


def counted(both, a_alone, b_alone, neither):
    """The comparison that follows from counts: int8 alone right, float32 alone right."""
    n = both + a_alone + b_alone + neither
    difference = (a_alone - b_alone) / n
    whole = Comparison("accuracy", difference, 0, 0, n, (a_alone, b_alone), None, both)
    return whole.scaled(1)


COUNTS = st.tuples(*[st.integers(0, 400)] * 4).filter(lambda counts: sum(counts) > 0)
DROPS = st.sampled_from([0.0, 0.003, 0.005, 0.02, 0.1])


@given(COUNTS, DROPS)
@settings(max_examples=200, deadline=None)
def test_the_verdict_is_where_the_interval_lies(counts, max_drop):
    one = counted(*counts)
    verdict = decide({"X": one}, GAINS, max_drop)
    assert (verdict.word == KEPT) == (one.low >= -max_drop)
    assert (verdict.word == REFUSED) == (one.high < -max_drop)
    assert decide({"X": one}, (FASTER, 0.9), max_drop).word == REFUSED  # no more than noise


@given(COUNTS, DROPS)
@settings(max_examples=200, deadline=None)
def test_so_many_images_decide_and_fewer_do_not(counts, max_drop):
    one = counted(*counts)
    needed = images_needed(one, max_drop)
    if one.verdict(max_drop) != UNDECIDED:
        assert needed == one.n
    elif needed is not None:
        assert needed > one.n
        assert one.scaled(1.05 * needed / one.n).verdict(max_drop) != UNDECIDED or needed < 50
        assert one.scaled(0.8 * needed / one.n).verdict(max_drop) == UNDECIDED or needed < 50
    else:  # the loss is as large as what is allowed
        assert one.difference == pytest.approx(-max_drop, abs=1e-4)


@given(st.floats(-0.3, 0.3), st.floats(1e-4, 0.3), DROPS)
@settings(max_examples=200, deadline=None)
def test_where_nothing_is_counted_the_interval_narrows_by_the_root(difference, half, max_drop):
    one = Comparison("map", difference, difference - half, difference + half, 100)
    needed = images_needed(one, max_drop)
    apart = abs(difference + max_drop)
    if apart > 1e-3 and half > apart:
        assert needed == pytest.approx(100 * (half / apart) ** 2, rel=0.05, abs=2)


def test_the_worst_engine_decides():
    good, bad = counted(9000, 0, 0, 1000), counted(8000, 0, 1000, 1000)
    unsure = counted(90, 0, 0, 10)
    assert decide({"A": good, "B": good}, GAINS, 0.005).word == KEPT
    assert decide({"A": good, "B": unsure}, GAINS, 0.005).word == NOT_PROVEN
    verdict = decide({"A": unsure, "B": bad, "C": good}, GAINS, 0.005)
    assert verdict.word == REFUSED
    assert "in B, n = 10,000" in verdict.reason


def test_a_reason_says_what_would_decide():
    verdict = decide({"X": counted(81, 0, 0, 19)}, GAINS, 0.005)
    assert verdict.word == NOT_PROVEN
    assert "changes by +0.0 points" in verdict.reason
    assert "more images like these would decide it" in verdict.reason
    lost = decide({"X": counted(190, 0, 1, 9)}, GAINS, 0.005)  # a loss of half a point is allowed
    assert "no number of images" in lost.reason
    slow = decide({"X": counted(9000, 0, 0, 1000)}, (0.9, 1.0), 0.005)
    assert (slow.word, "not faster here: 0.90 and 1.00" in slow.reason) == (REFUSED, True)


# ----------------------------------------------------------------------------------------------------
# which images


def some(count, split="", classes=CLASSES, group=0):
    return [
        Sample(
            Path(f"{split}{place}.png"),
            f"{split}{place}.png",
            annotate(classes[place % len(classes)]),
            split,
            f"{split}{place // group}" if group else "",
        )
        for place in range(count)
    ]


@pytest.mark.parametrize("group", [0, 7])
@pytest.mark.parametrize("count", [120, 155, 700])
def test_halves_share_no_image_and_no_group(count, group):
    found = divide(some(count, group=group), CLASSES, "data")
    assert len(found.calibration) + len(found.judged) == count
    assert 0.8 * min(MOST, count // 2) <= len(found.calibration) <= min(MOST, count // 2)
    assert not {one.name for one in found.calibration} & {one.name for one in found.judged}
    if group:
        assert not {one.group for one in found.calibration} & {one.group for one in found.judged}
    else:
        counts = [sum(one.labels == (name,) for one in found.calibration) for name in CLASSES]
        assert max(counts) - min(counts) <= 2


def test_a_test_split_is_judged_on_and_never_calibrated_with():
    found = divide([*some(60, "val"), *some(30, "test"), *some(90, "train")], CLASSES, "data")
    assert {one.split for one in found.judged} == {"test"}
    assert {one.split for one in found.calibration} == {"val"}
    assert (len(found.calibration), len(found.judged)) == (60, 30)
    found = divide([*some(120, "val"), *some(90, "train")], CLASSES, "data")
    assert {one.split for one in (*found.calibration, *found.judged)} == {"val"}


def test_too_few_images_and_other_classes_are_told():
    with pytest.raises(ValueError, match=f"data: 49 images .* at least {FEWEST}"):
        divide(some(99), CLASSES, "data")
    with pytest.raises(ValueError, match="data: 0 images"):
        divide(some(300, "train"), CLASSES, "data")
    with pytest.raises(ValueError, match="classes the model does not know: cow; it knows: ant"):
        divide(some(300, classes=("cow",)), CLASSES, "data")


# ----------------------------------------------------------------------------------------------------
# a file


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("int8") / "images")


@pytest.fixture(scope="module")
def exported(images, tmp_path_factory):
    return export_fitted(images, tmp_path_factory.mktemp("float32") / "colours.onnx")


@pytest.fixture
def fast(monkeypatch):
    make_up_speeds(monkeypatch, 2)


@pytest.fixture(scope="module")
def kept(exported, images, tmp_path_factory):
    """An int8 file, with what was said and printed."""
    path = tmp_path_factory.mktemp("kept") / "colours.onnx"
    path.write_bytes(exported.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        make_up_speeds(patch, 2)
        options = ("--int8", "--calibrate", images, "--max-drop", 10, "--json")
        done = resnets("export", path, *options)
    assert done.code == 0, done.err
    return path.with_name("colours-int8.onnx"), done


def test_a_file_that_loses_nothing_is_kept_and_says_so(kept, exported):
    path, done = kept
    values = only_json(done)["int8"]
    assert (values["path"], values["verdict"]) == (str(path), "kept")
    assert sorted(os.listdir(path.parent)) == ["colours-int8.onnx", "colours.onnx"]  # noqa: PTH208
    assert values["bytes"]["int8"] == pytest.approx(path.stat().st_size, abs=4000)
    assert values["bytes"]["int8"] < values["bytes"]["float32"]
    assert set(values["engines"]) == set(available_engines())
    for one in values["engines"].values():
        assert one["difference"]["n"] == one["agreement"]["n"] == 60
        assert one["agreement"]["value"] >= 0.95
        assert one["float32"]["latency"] == 2 * one["int8"]["latency"]
    file = read_onnx(path)
    assert (file.precision, file.metadata["format"]) == ("int8", FORMAT)
    account = file.metadata["judgement"]
    assert account["verdict"] == "kept"
    assert account["images"].startswith(
        "calibrated with 60 images of images, judged on 60 others; mean over"
    )
    assert account["table"][0] == ["", "float32", "int8", "difference"]
    assert (
        file.metadata["metrics"]["accuracy"] == values["engines"]["onnxruntime"]["int8"]["accuracy"]
    )
    assert "kept: " in done.err
    assert str(path.parent.parent).encode() not in path.read_bytes()


def test_show_tells_what_a_file_is(kept, exported):
    path, _ = kept
    done = resnets("show", path, "--json")
    values = only_json(done)
    assert (values["precision"], values["judgement"]["verdict"]) == ("int8", "kept")
    assert "calibrated with" in done.err
    assert "kept: Accuracy changes by" in done.err
    values = only_json(resnets("show", exported, "--json"))
    assert (values["precision"], values["classes"]) == ("float32", list(CLASSES))
    assert "judgement" not in values
    assert "a file is shown by itself" in refused("show", path, "--layers")
    assert "no such file" in refused("show", path.with_name("none.onnx"))


def test_show_of_a_file_needs_no_torch(kept):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['resnets', 'show', {str(kept[0])!r}]\n"
        "from resnets.cli import main; main()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_layers_are_in_int8_and_both_ends_in_float32(kept):
    graph = onnx.load(kept[0]).graph
    weights = {one.name: one.data_type for one in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    of_weights = [made.get(node.input[1]) for node in convolutions]
    quantised = [one for one in of_weights if one is not None and one.op_type == "DequantizeLinear"]
    assert len(quantised) == 19  # all of ResNet-20; the maps of classes are the last layer
    assert all(weights[one.input[0]] == onnx.TensorProto.INT8 for one in quantised)
    for one in quantised:  # a scale for each channel, and 7 bits: see `quantiser`
        (values,) = (
            onnx.numpy_helper.to_array(tensor)
            for tensor in graph.initializer
            if tensor.name == one.input[0]
        )
        assert np.abs(values.astype(int)).max() == 64
    (gemm,) = (node for node in graph.node if node.op_type == "Gemm")
    assert weights[gemm.input[1]] == onnx.TensorProto.FLOAT
    sums = [node for node in graph.node if node.op_type == "Add"]
    shortcuts = [
        node
        for node in sums
        if all(name in made and made[name].op_type == "DequantizeLinear" for name in node.input)
    ]
    assert len(shortcuts) == 8  # of nine; behind the last one is no layer in int8
    assert made["prepared"].op_type == "Div"
    assert {entry.domain for entry in onnx.load(kept[0]).opset_import} == {""}


@pytest.mark.parametrize("engine", available_engines())
def test_an_int8_file_is_opened_as_any_other(kept, images, engine):
    path, _ = kept
    assert prove(load(path, engine), read_onnx(path)).ok
    done = resnets("val", path, images, "--engine", engine, "--json")
    assert only_json(done)["metrics"]["accuracy"] > 0.9
    assert "equals its own outputs at export on 3 golden images" in done.err
    files = sorted(images.rglob("*.png"))[:30]
    right = [one.label == Path(one.file).parent.name for one in load(path, engine).predict(files)]
    assert np.mean(right) > 0.9
    large = Image.open(files[0]).resize((300, 200))
    assert load(path, engine).predict_image(large).label == files[0].parent.name


@needs_openvino
def test_openvino_runs_int8_at_fixed_sizes_alone(kept):
    path, _ = kept
    file = read_onnx(path)
    with pytest.raises(ValueError, match="in int8, which openvino runs for images of one size"):
        make_engine("openvino", path)
    with pytest.raises(EngineError, match="was made for"):
        load(path, "openvino").engine(np.zeros((1, 50, 70, 3), np.uint8))
    images = np.concatenate([one.image[None] for one in file.golden])
    expected = load(path, "onnxruntime").engine(images)
    for count in (1, 2, 5):
        engine = make_engine("openvino", path, 0, file.kind, (count, *images.shape[1:]))
        found = file.kind.differences(engine(images), expected, {})
        assert found.values["probability"] < file.limits["probability"]


# ----------------------------------------------------------------------------------------------------
# what is refused


def command(exported, images, tmp_path, *options):
    """The words of an export of a copy, and the int8 file that it is about."""
    path = tmp_path / "colours.onnx"
    path.write_bytes(exported.read_bytes())
    return ("export", path, "--int8", "--calibrate", images, *options), path.with_name(
        "colours-int8.onnx"
    )


def test_few_images_prove_nothing_but_may_be_accepted(exported, images, tmp_path, fast):
    words, target = command(exported, images, tmp_path)
    target.write_text("of an earlier model")
    message = refused(*words, code=1)
    assert "was not written: not proven: " in message
    assert "more images like these would decide it; to keep it all the same: --accept" in message
    assert os.listdir(tmp_path) == ["colours.onnx"]  # noqa: PTH208
    assert (
        only_json(resnets(*words, "--accept-unproven", "--json"))["int8"]["verdict"] == NOT_PROVEN
    )
    assert read_onnx(target).metadata["judgement"]["verdict"] == NOT_PROVEN


def test_a_bad_quantisation_is_refused(exported, images, tmp_path, fast, monkeypatch):
    """Ranges from images that are all black: everything is cut off."""
    read = forms.read_inputs
    monkeypatch.setattr(
        forms, "read_inputs", lambda *given: [np.zeros_like(one) for one in read(*given)]
    )
    words, target = command(exported, images, tmp_path, "--max-drop", 1, "--accept-unproven")
    assert "colours-int8.onnx was not written: refused: Accuracy changes by" in refused(
        *words, code=1
    )
    assert not target.exists()


def test_what_is_not_faster_is_refused(exported, images, tmp_path, monkeypatch):
    make_up_speeds(monkeypatch, 0.5)
    words, target = command(exported, images, tmp_path, "--max-drop", 10)
    assert "refused: it is not faster here: 0.50 and 0.50 times" in refused(*words, code=1)
    assert not target.exists()


@needs_openvino
@pytest.mark.parametrize("batch", forms.BATCHES)
def test_an_engine_that_is_wrong_at_one_batch_size_is_found(
    exported, images, tmp_path, fast, monkeypatch, batch
):
    make = forms.make_engine

    def wrong(name, source, threads=0, kind=None, shape=None, precision="float32"):
        engine = make(name, source, threads, kind, shape, precision)
        if name != "openvino" or shape[0] != batch:
            return engine
        run = engine._run
        engine._run = lambda image: {key: array[..., ::-1] for key, array in run(image).items()}
        return engine

    monkeypatch.setattr(forms, "make_engine", wrong)
    words, target = command(exported, images, tmp_path, "--max-drop", 10)
    message = refused(*words, code=1)
    assert f"at batch {batch} it differs from onnxruntime in its probability by" in message
    assert not target.exists()


def test_mistakes_are_one_message_and_leave_nothing(exported, images, kept, tmp_path):
    few, other = tmp_path / "few", tmp_path / "other"
    for folder, name, count in ((few, "ant", 9), (other, "cow", 120)):
        (folder / name).mkdir(parents=True)
        (folder / "bee").mkdir()
        for number in range(count):
            for label in (name, "bee"):
                file = next((images / "bee").iterdir())
                (folder / label / f"{number}.png").write_bytes(file.read_bytes())
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(exported.read_bytes()[:-9])
    before = sorted(tmp_path.rglob("*"))
    for words, message in {
        (exported, "--int8"): "this model has none; name some: --calibrate DATA",
        (exported, "--int8", "--calibrate", few): "few: 9 images to calibrate int8 with",
        (exported, "--int8", "--calibrate", other): "classes the model does not know: cow",
        (exported, "--int8", "--calibrate", tmp_path / "none"): "no such folder",
        (kept[0], "--int8", "--calibrate", images): "in int8 already",
        (cut, "--int8", "--calibrate", images): "only the beginning of one",
        (exported, "--calibrate", images): "--calibrate is for files in int8 or bf16",
        (exported, "--accept-unproven"): "--accept-unproven is for files in int8 or bf16",
        (exported,): "exported already",
    }.items():
        assert message in refused("export", *words)
    assert sorted(tmp_path.rglob("*")) == before
    assert os.listdir(exported.parent) == ["colours.onnx"]  # noqa: PTH208


def resealed(path, target, **changes):
    """The file with other metadata."""
    model = onnx.load(path)
    values = json.loads({one.key: one.value for one in model.metadata_props}[PROPERTY])
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {PROPERTY: json.dumps(values | changes)})
    write_onnx(target, model.SerializeToString())


def test_what_a_file_says_of_int8_is_looked_at(kept, tmp_path):
    path, target = kept[0], tmp_path / "a.onnx"
    resealed(path, target)
    for changes, message in (
        ({"precision": "int4"}, "precision: float32 or int8 or bfloat16"),
        ({"judgement": {}}, "judgement"),
        ({"judgement": 3}, "judgement"),
        ({"limits": {"probability": "much"}}, "limits"),
    ):
        with pytest.raises(ValueError, match=message):
            resealed(path, target, **changes)
    resealed(path, target, limits={"probability": 1e6})
    assert read_onnx(target).limits["probability"] == KINDS["classes"].limits["int8"]["probability"]


def test_a_task_without_limits_is_refused():
    kind = dataclasses.replace(KINDS["classes"], name="odd", limits={"float32": {}, "any": {}})
    with pytest.raises(ValueError, match="no int8 for the task odd"):
        forms.check_form(forms.FORMS["int8"], kind, "a.onnx")


def test_a_network_of_one_layer_is_told():
    graph = onnx.helper.make_graph([], "nothing", [], [])
    assert quantiser.quantised_nodes(graph) == []


@pytest.mark.slow
def test_a_genuine_network_agrees_with_its_int8_file(tmp_path):
    """ResNet-18 on 200 photos: ranges from 100, compared on the others; 97 of 100 were measured."""
    photos = unpacked("photos")
    decode = UNPACK.with_name("decode-weights")
    if not decode.is_file():
        pytest.skip("no weights of resnet18: ../shared/bin/decode-weights is not there")
    weights = tmp_path / "resnet18.safetensors"
    subprocess.run([sys.executable, decode, "resnet18", weights], check=True, capture_output=True)
    words = ("export", weights, "--model", "resnet18", "--int8", "--calibrate", photos)
    assert "not proven" in refused(*words, code=1)
    values = only_json(resnets(*words, "--accept-unproven", "--json"))["int8"]
    for one in values["engines"].values():
        assert one["agreement"]["n"] == 100
        assert one["agreement"]["value"] >= 0.95
    assert read_onnx(values["path"]).precision == "int8"
