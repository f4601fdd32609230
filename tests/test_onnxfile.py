"""NAME.onnx as somebody else may have made it: weights elsewhere, metadata of any kind, resealed."""

import base64
import functools
import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.formats import FORMAT, upgrade
from resnets.kinds import KINDS
from resnets.preprocessing import Preprocessing
from resnets.runtime import load, protobuf
from resnets.runtime.engines import available_engines, make_engine
from resnets.runtime.onnxfile import read_onnx, seal, write_onnx
from resnets.runtime.proof import prove
from resnets.runtime.protobuf import MESSAGES, has_external_data

onnx = pytest.importorskip("onnx", reason="files are taken apart with the onnx package")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

TINY = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
CLASSES = ("ant", "bee", "Wespe mit Öl")
LARGEST = KINDS["classes"].limits["any"]


@functools.cache
def tiny() -> bytes:
    return TINY.read_bytes()


def model() -> "onnx.ModelProto":
    """The committed file without its seal."""
    loaded = onnx.load_model_from_string(tiny())
    del loaded.metadata_props[1]
    return loaded


def metadata() -> dict:
    return json.loads(model().metadata_props[0].value)


def with_metadata(text: str | None) -> bytes:
    """The committed file with another `resnets` property, sealed again; None: without it."""
    changed = model()
    del changed.metadata_props[:]
    if text is not None:
        changed.metadata_props.add(key="resnets", value=text)
    return changed.SerializeToString()


# --- weights in other files


def outside(name: str = "w") -> "onnx.TensorProto":
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    return tensor


def sparse(values: "onnx.TensorProto") -> "onnx.SparseTensorProto":
    indices = numpy_helper.from_array(np.arange(4), "indices")
    return helper.make_sparse_tensor(values, indices, [8])


def branch(tensor: "onnx.TensorProto") -> "onnx.GraphProto":
    return helper.make_graph([], "branch", [], [], [tensor])


def deeper(graph: "onnx.GraphProto", levels: int) -> "onnx.GraphProto":
    for _ in range(levels):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "outer", [], [])
    return graph


def constant(**attributes) -> "onnx.NodeProto":
    return helper.make_node("Constant", [], ["c"], **attributes)


def function(node: "onnx.NodeProto") -> "onnx.FunctionProto":
    return helper.make_function("local", "f", [], ["c"], [node], [helper.make_opsetid("", 18)])


PLACES = {
    "initializer": lambda m: m.graph.initializer.append(outside()),
    "sparse values": lambda m: m.graph.sparse_initializer.append(sparse(outside())),
    "constant": lambda m: m.graph.node.append(constant(value=outside())),
    "sparse constant": lambda m: m.graph.node.append(constant(sparse_value=sparse(outside()))),
    "tensors": lambda m: m.graph.node.append(constant(values=[outside(), outside()])),
    "subgraph": lambda m: m.graph.node.extend(deeper(branch(outside()), 1).node),
    "deep subgraph": lambda m: m.graph.node.extend(deeper(branch(outside()), 30).node),
    "function": lambda m: m.functions.append(function(constant(value=outside()))),
    "function default": lambda m: m.functions.add().attribute_proto.append(
        helper.make_attribute("a", outside())
    ),
    "training": lambda m: m.training_info.add().algorithm.initializer.append(outside()),
    "location alone": lambda m: m.graph.initializer.append(
        TensorProto(name="w", data_location=TensorProto.EXTERNAL)
    ),
    "entries alone": lambda m: m.graph.initializer.add().external_data.add(key="location"),
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_refused_before_and_after_writing(tmp_path, place):
    changed = model()
    write_onnx(tmp_path / "a.onnx", changed.SerializeToString())  # without them it is ours
    PLACES[place](changed)
    content = changed.SerializeToString()
    with pytest.raises(ValueError, match=r"b\.onnx: some of its weights lie in another file.*make"):
        write_onnx(tmp_path / "b.onnx", content)
    (tmp_path / "b.onnx").write_bytes(seal(content))
    with pytest.raises(ValueError, match=r"weights lie in another file"):
        load(tmp_path / "b.onnx")


def test_a_file_saved_with_its_weights_beside_it_is_refused(tmp_path):
    """As the onnx package does it; before, it was verified, also with zeroed weights."""
    onnx.save_model(
        model(), tmp_path / "a.onnx", save_as_external_data=True, size_threshold=0, location="w.bin"
    )
    (tmp_path / "a.onnx").write_bytes(seal((tmp_path / "a.onnx").read_bytes()))
    with pytest.raises(ValueError, match="weights lie in another file"):
        read_onnx(tmp_path / "a.onnx")


def test_the_table_has_every_way_to_a_tensor():
    """Walked through the descriptors of the onnx package: a new field would be missed by hand."""
    ways: dict[str, dict[int, str]] = {}

    def leads(kind, seen=()) -> bool:
        if kind.name == "TensorProto":
            return True
        inner = [field.message_type for field in kind.fields if field.message_type]
        return any(leads(one, (*seen, kind.name)) for one in inner if one.name not in seen)

    def walk(kind) -> None:
        if kind.name in ways:
            return
        ways[kind.name] = {}
        for field in kind.fields if kind.name != "TensorProto" else ():
            if field.message_type and leads(field.message_type):
                ways[kind.name][field.number] = field.message_type.name
                walk(field.message_type)

    walk(onnx.ModelProto.DESCRIPTOR)
    assert ways == MESSAGES
    numbers = {field.name: field.number for field in TensorProto.DESCRIPTOR.fields}
    assert numbers["external_data"] == protobuf.EXTERNAL_DATA
    assert numbers["data_location"] == protobuf.DATA_LOCATION


def test_a_large_file_is_looked_through_at_once_and_a_scattered_one_given_up(monkeypatch):
    large = model()
    large.graph.initializer.append(numpy_helper.from_array(np.zeros(25_000_000, np.float32), "w"))
    started = time.perf_counter()
    assert not has_external_data(memoryview(large.SerializeToString()))
    assert time.perf_counter() - started < 2
    monkeypatch.setattr(protobuf, "MOST_FIELDS", 1000)
    scattered = b"\x08\x01" * 1001
    with pytest.raises(ValueError, match="more than 1,000 fields"):
        has_external_data(memoryview(scattered))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_altered_and_resealed_files_open_or_are_refused(tmp_path_factory, data):
    content = bytearray(tiny()[: -len(seal(b""))])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "altered.onnx"
    path.write_bytes(seal(bytes(content)))
    reason = ""
    try:
        file = read_onnx(path)
    except ValueError as error:
        reason = str(error)
    if reason:
        assert reason.startswith(str(path))
        assert "export" in reason or "upgrade" in reason
    else:
        assert file.classes
        assert all(0 < file.limits[name] <= most for name, most in LARGEST.items())
        assert file.golden


# --- metadata


def changed(**values) -> str:
    return json.dumps(metadata() | values)


def golden(**values) -> str:
    return changed(golden=[metadata()["golden"][0] | values])


def preprocessing(**values) -> str:
    return changed(preprocessing=metadata()["preprocessing"] | values)


BAD = {
    "none": (None, "missing: resnets"),
    "empty": ("", "not those"),
    "no JSON": ("{", "not those"),
    "an empty object": ("{}", "missing: format"),
    "null": ("null", "a JSON object"),
    "a list": ("[]", "a JSON object"),
    "a text": ('"format"', "a JSON object"),
    "deep": ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
    "deep inside": ('{"format": 1, "x": ' + '{"a":' * 100_000 + "1" + "}" * 100_001, "too deeply"),
    "huge": ('{"format": 1, "x": "' + "x" * 32_000_000 + '"}', "characters; allowed"),
    "a huge number": ('{"format": ' + "9" * 5000 + "}", "not those"),
    "format true": (changed(format=True), "format: a whole number"),
    "format 0": (changed(format=0), "format: a whole number"),
    "format 1.0": (changed(format=1.0), "format: a whole number"),
    "format list": (changed(format=[1]), "format: a whole number"),
    "limit text": (changed(limit="inf"), "limits: finite numbers above 0"),
    "limit inf": (changed(limit=float("inf")), "limits: finite numbers above 0"),
    "limit nan": (changed(limit=float("nan")), "limits: finite numbers above 0"),
    "limit negative": (changed(limit=-1), "limits: finite numbers above 0"),
    "limit true": (changed(limit=True), "limits: finite numbers above 0"),
    "limit null": (changed(limit=None), "limits: finite numbers above 0"),
    "model null": (changed(model=None), "model: a text"),
    "classes text": (changed(classes="abc"), "classes: a list"),
    "classes numbers": (changed(classes=[1, 2, 3]), "classes: a list"),
    "classes nested": (changed(classes=[["a"], ["b"], ["c"]]), "classes: a list"),
    "classes none": (changed(classes=[]), "classes: a list"),
    "classes twice": (changed(classes=["a", "a", "b"]), "different names"),
    "a class less": (changed(classes=["a", "b"]), r"golden: probabilities of shape \(2\)"),
    "a class more": (changed(classes=list("abcd")), r"golden: probabilities of shape \(4\)"),
    "golden text": (changed(golden="x"), "golden: a list"),
    "golden empty": (changed(golden=[]), "golden: 1 to 64 images"),
    "golden many": (changed(golden=[metadata()["golden"][0]] * 65), "golden: 1 to 64 images"),
    "golden numbers": (changed(golden=[1]), "golden: a list of JSON objects"),
    "no png": (changed(golden=[{"probabilities": [1, 0, 0]}]), "missing: png"),
    "png number": (golden(png=3), "golden: png as a list of one text"),
    "png no base64": (golden(png="§§"), "not those"),
    "png no image": (golden(png=base64.b64encode(b"no image").decode()), "cannot be read"),
    "png cut": (golden(png=metadata()["golden"][0]["png"][:400]), "not those"),
    "probabilities text": (golden(probabilities="abc"), r"golden: probabilities of shape \(3\)"),
    "probabilities nan": (
        golden(probabilities=[float("nan"), 0, 1]),
        r"golden: probabilities of shape \(3\)",
    ),
    "probabilities large": (
        golden(probabilities=[1e9, 0, 0]),
        r"golden: probabilities of shape \(3\)",
    ),
    "probabilities nested": (
        golden(probabilities=[[1], [0], [0]]),
        r"golden: probabilities of shape \(3\)",
    ),
    "preprocessing list": (changed(preprocessing=[]), "preprocessing: a JSON object"),
    "preprocessing mean": (preprocessing(mean=["a", "b", "c"]), "not those"),
    "preprocessing size": (preprocessing(size=7), "not those"),
    "preprocessing deep": (preprocessing(size=[[1], 2]), "not those"),
    "preprocessing huge": (preprocessing(size=[9**9] * 2, resize=[9**9] * 2), "up to 4096 pixels"),
}


def present(**values) -> str:
    """Of the present format, with changes."""
    return json.dumps(upgrade(metadata()) | {"format": FORMAT} | values)


def outputs(value: object) -> str:
    """Of the present format, with a golden image that gave this for the probabilities."""
    entry = upgrade(metadata())["golden"][0]
    return present(golden=[entry | {"outputs": {"probabilities": value}}])


def array(**changes: object) -> str:
    """The same in base64, with changes."""
    numbers = base64.b64encode(np.array([1, 0, 0], "<f4").tobytes()).decode()
    return outputs({"base64": numbers, "dtype": "float32", "shape": [3]} | changes)


BAD |= {
    "task text": (present(task="classes"), "task is 'classes'; wanted a JSON object"),
    "task empty": (present(task={}), "wanted a JSON object with a name"),
    "task number": (present(task={"name": 3}), "wanted a JSON object with a name"),
    "limits list": (present(limits=[1]), "limits: finite numbers above 0"),
    "limits nested": (present(limits={"probability": [1]}), "limits: finite numbers above 0"),
    "limits huge": (present(limits={"probability": 10**400}), "not those"),
    "png text": (
        present(golden=[upgrade(metadata())["golden"][0] | {"png": "x"}]),
        "golden: png as a list of one text",
    ),
    "png two": (
        present(golden=[upgrade(metadata())["golden"][0] | {"png": ["x", "y"]}]),
        "golden: png as a list of one text",
    ),
    "outputs list": (
        present(golden=[upgrade(metadata())["golden"][0] | {"outputs": [1]}]),
        "golden: outputs as a JSON object",
    ),
    "outputs empty": (
        present(golden=[upgrade(metadata())["golden"][0] | {"outputs": {}}]),
        "missing: probabilities",
    ),
    "output huge": (outputs([10**400, 0, 0]), r"probabilities of shape \(3\)"),
    "output ragged": (outputs([[1], [2, 3], 0]), r"probabilities of shape \(3\)"),
    "array short": (array(shape=[4]), "12 bytes for an array of shape"),
    "array other": (array(shape=[3, 1]), r"shape \(3\), not \(3, 1\)"),
    "array negative": (array(shape=[-3]), "an array of shape"),
    "array of objects": (array(dtype="object"), "and type 'object'"),
    "array of a list": (array(dtype=[1]), r"and type \[1\]"),
    "array no base64": (array(base64="§"), r"probabilities of shape \(3\)"),
    "array number": (array(base64=3), r"probabilities of shape \(3\)"),
    "array nan": (
        array(base64=base64.b64encode(np.full(3, np.nan, "<f4").tobytes()).decode()),
        "a number that is none or too large",
    ),
}


def test_a_file_of_the_present_format_is_read(tmp_path):
    """The golden probabilities as a list, and as an array in base64."""
    for number, text in enumerate((present(), outputs([1, 0, 0]), array())):
        path = tmp_path / f"{number}.onnx"
        write_onnx(path, with_metadata(text))
        file = read_onnx(path)
        assert (file.kind.name, file.options) == ("classes", {})
        image, golden = file.golden[0]
        assert image.dtype == np.uint8
        assert golden["probabilities"].dtype == np.float32
        assert golden["probabilities"].shape == (1, 3)
        if number:
            assert golden["probabilities"].tolist() == [[1, 0, 0]]


def test_a_task_of_a_later_version_is_told(tmp_path):
    (tmp_path / "a.onnx").write_bytes(
        seal(with_metadata(present(task={"name": "depth", "scale": 2}, golden=3)))
    )
    message = r"made by a newer resnets \(task 'depth'\); this one knows .*classes.*: upgrade"
    with pytest.raises(ValueError, match=message):
        read_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize("name", BAD)
def test_metadata_are_looked_at_where_they_are_read(tmp_path, name):
    text, message = BAD[name]
    path = tmp_path / "a.onnx"
    with pytest.raises(ValueError, match=message):
        write_onnx(path, with_metadata(text))
    assert not list(tmp_path.iterdir())
    path.write_bytes(seal(with_metadata(text)))
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: its metadata are not those of `resnets export`")
    assert str(caught.value).endswith("export it again")
    assert caught.value.__suppress_context__  # one message, no chain of causes


def test_a_limit_is_not_believed_beyond_the_constant(tmp_path):
    write_onnx(tmp_path / "a.onnx", with_metadata(changed(limit=1e9)))
    file = read_onnx(tmp_path / "a.onnx")
    assert file.limits == LARGEST
    predictor = load(tmp_path / "a.onnx")
    assert prove(predictor, file).ok
    wrong = np.array([0.5, 0.4, 0.1], np.float64)
    write_onnx(
        tmp_path / "b.onnx",
        with_metadata(
            json.dumps(
                metadata()
                | {"limit": 1e9}
                | {"golden": [metadata()["golden"][0] | {"probabilities": wrong.tolist()}]}
            )
        ),
    )
    proof = prove(load(tmp_path / "b.onnx"), read_onnx(tmp_path / "b.onnx"))
    assert not proof.ok
    assert str(proof).startswith("NOT VERIFIED: ONNX differs from PyTorch on 1 golden images")
    write_onnx(tmp_path / "c.onnx", with_metadata(changed(limit=1e-9)))  # a narrower one counts
    assert read_onnx(tmp_path / "c.onnx").limits == LARGEST | {"probability": 1e-9}


@pytest.mark.parametrize("engine", available_engines())
def test_classes_are_held_against_the_network(tmp_path, engine):
    """Golden entries that fit a wrong list of classes do not help it."""
    four = [0.25] * 4
    text = json.dumps(
        metadata()
        | {"classes": list("abcd")}
        | {"golden": [metadata()["golden"][0] | {"probabilities": four}]}
    )
    write_onnx(tmp_path / "a.onnx", with_metadata(text))
    with pytest.raises(ValueError, match=r"names 4 classes, but its network gives 3.*export it"):
        load(tmp_path / "a.onnx", engine)
    bare = make_engine(engine, tmp_path / "a.onnx")
    proof = prove(bare, read_onnx(tmp_path / "a.onnx"))
    assert not proof.ok
    assert "shape (3,) for 4 classes" in str(proof)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_graph_between_other_names_is_refused_when_it_is_opened(tmp_path, engine, side):
    other = model()
    for node in other.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == ("image" if side == "input" else "probabilities"):
                    names[place] = "other"
    entry = other.graph.input[0] if side == "input" else other.graph.output[0]
    assert entry.name in ("image", "probabilities")
    entry.name = "other"
    write_onnx(tmp_path / "a.onnx", other.SerializeToString())
    with pytest.raises(ValueError, match="does not go from `image` to `probabilities`"):
        load(tmp_path / "a.onnx", engine)


def test_a_pickled_predictor_opens_its_file_again(tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(tiny())
    monkeypatch.chdir(tmp_path)
    first = load("a.onnx", threads=1)
    pickled = pickle.dumps(first)
    assert len(pickled) < 1000  # neither weights nor metadata
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    same = pickle.loads(pickle.dumps(first.engine))
    for images in (image[None], np.stack([image, image])):  # of another size than it was made for
        np.testing.assert_array_equal(
            same(images)["probabilities"], first.engine(images)["probabilities"]
        )
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(
        again.predict_image(image).probabilities, first.predict_image(image).probabilities
    )
    assert again.engine._engine._threads == 1
    path.write_bytes(tiny()[:-1])
    with pytest.raises(ValueError, match=r"a\.onnx"):  # the seal counts there too
        pickle.loads(pickled)


def test_committed_file_is_what_these_tests_change():
    assert read_onnx(TINY).classes == CLASSES
    value = Preprocessing.square(16, 0.875, deep_range=(0, 65535))  # as format 1 is read
    assert read_onnx(TINY).preprocessing == value


def test_a_file_of_format_2_from_before_tasks_is_read_as_classes(tmp_path):
    """Made while the format was in work: it has one limit, and golden probabilities."""
    text = json.dumps(metadata() | {"format": 2, "limit": 0.003})
    write_onnx(tmp_path / "a.onnx", with_metadata(text))
    file = read_onnx(tmp_path / "a.onnx")
    assert file.metadata["task"] == {"name": "classes"}
    assert file.limits == LARGEST | {"probability": 0.003}
    assert file.preprocessing.deep_range is None  # that format 1 meant another one is not applied
    assert prove(load(tmp_path / "a.onnx"), file).ok
    assert "limit" not in file.metadata
