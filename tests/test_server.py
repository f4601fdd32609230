"""The server: what it says of images, what it refuses and why, and that nothing it is sent stops it."""

import base64
import http.client
import importlib
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzz import changed_bytes, changed_value, dumps
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from server_process import ask, running

from resnets import load
from resnets.kinds import KINDS
from resnets.preprocessing import Preprocessing
from resnets.runtime import Predictor
from resnets.runtime.engines import available_engines
from resnets.runtime.file_engine import EngineError
from resnets.sampling import Sampling
from resnets.server import need_packages
from resnets.server.limits import Limits
from resnets.server.page import Page
from resnets.server.served import (
    ProofFailed,
    Served,
    check_names,
    measured,
    open_model,
)
from resnets.server.serving import listen

TINY = Path(__file__).parent / "data" / "format2" / "tiny.onnx"
PICTURE = TINY.with_name("picture.png")
SMALL = Limits(body_mb=0.3, megapixels=0.2, body_seconds=1.0, seconds=5.0, queue=4)


class Engine:
    """Outputs of any kind, after a while."""

    name = version = "test"

    def __init__(self, outputs, seconds=0.0, shapes=()):
        self.outputs, self.seconds, self.shapes = outputs, seconds, dict(shapes)
        self.running = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, image):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self.lock:
            self.running -= 1
        if isinstance(self.outputs, Exception):
            raise self.outputs
        return self.outputs


def made(name, kind, outputs, options=None, seconds=0.0, fit="stretch"):
    """A file that is served, with an engine of the tests."""
    engine = Engine(outputs, seconds)
    value = Preprocessing.square(16, fit=fit)
    predictor = Predictor(engine, ("ant", "bee"), value, {}, KINDS[kind], options)
    types = {} if isinstance(outputs, Exception) else {k: v.dtype.name for k, v in outputs.items()}
    return Served(name, predictor, types)


BOXES = made(
    "boxes",
    "boxes",
    {
        "boxes": np.float32([[[2, 3, 10, 12], [1, 1, 5, 5]]]),
        "scores": np.float32([[0.9, 0.1]]),
        "labels": np.int64([[1, 0]]),
    },
    {"threshold": 0.5},
)
MASKED = made("masked", "mask", {"mask": np.uint8([[[0] * 16] * 8 + [[1] * 16] * 8])})
BROKEN = made("broken", "classes", EngineError("no memory"))


def png(size=(40, 30), mode="RGB"):
    stream = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def form(*files):
    """A body of multipart/form-data, and its headers."""
    body = b""
    for number, content in enumerate(files):
        body += b'--b\r\nContent-Disposition: form-data; name="x"; filename="%d"\r\n' % number
        body += b"Content-Type: image/png\r\n\r\n" + content + b"\r\n"
    return body + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def address():
    with running([open_model(TINY), BOXES, MASKED, BROKEN], SMALL) as found:
        yield found


def error_of(answer, status, code):
    """The message of a refusal, which must be JSON and of this kind."""
    found, headers, content = answer
    assert (found, content["error"]["code"]) == (status, code), content
    assert headers["content-type"] == "application/json"
    assert set(content) == {"error"}
    return content["error"]["message"]


# ---- predictions


def test_a_prediction_is_that_of_the_runtime(address):
    body = PICTURE.read_bytes()
    status, headers, content = ask(address, "POST", "/v1/predict", body)
    assert status == 200
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    expected = load(TINY, threads=1).predict_image(body)
    assert content["model"] == "tiny"
    (found,) = content["predictions"]
    assert (found["label"], found["probability"]) == (
        expected.label,
        pytest.approx(expected.probability, abs=1e-6),
    )
    assert [one["label"] for one in found["top"]] == [label for label, _ in expected.top()]
    assert "images" not in found


def test_a_form_holds_several_images_one_of_which_may_be_broken(address):
    body, headers = form(PICTURE.read_bytes(), b"no image", png())
    status, _, content = ask(address, "POST", "/v1/predict?top=1", body, headers)
    assert status == 200
    first, second, third = content["predictions"]
    assert second == {"error": {"code": "bad_image", "message": second["error"]["message"]}}
    assert len(first["top"]) == len(third["top"]) == 1
    alone = ask(address, "POST", "/v1/predict?top=1", PICTURE.read_bytes())[2]["predictions"][0]
    assert (first["label"], first["probability"]) == (alone["label"], alone["probability"])


def test_boxes_and_masks_have_the_keys_of_predict(address):
    found = ask(address, "POST", "/v1/predict?model=boxes", png((16, 16)))[2]["predictions"][0]
    assert found["boxes"] == [{"label": "bee", "score": 0.9, "box": [2.0, 3.0, 10.0, 12.0]}]
    assert "top" not in found
    found = ask(address, "POST", "/v1/predict?model=masked", png((16, 16)))[2]["predictions"][0]
    assert found["shares"] == {"ant": 0.5, "bee": 0.5}


@pytest.mark.parametrize(
    ("model", "draw"),
    [("tiny", "heat"), ("tiny", "overlay"), ("boxes", "overlay"), ("masked", "mask")],
)
def test_a_drawing_has_the_shape_of_the_image(address, model, draw):
    body, path = png((64, 48)), f"/v1/predict?model={model}&draw={draw}"
    found = ask(address, "POST", path, body)[2]["predictions"][0]
    assert found["size"] == [64, 48]
    drawn = Image.open(io.BytesIO(base64.b64decode(found["images"][draw])))
    assert drawn.size == (64, 48)
    original = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
    assert (np.asarray(drawn.convert("RGB")) != original).any()
    status, headers, content = ask(address, "POST", path, body, {"Accept": "image/png"})
    assert (status, headers["content-type"]) == (200, "image/png")
    assert content == base64.b64decode(found["images"][draw])


def test_boxes_are_drawn_at_their_places_in_a_smaller_copy(address):
    """Of a large image a copy of 1,024 pixels is drawn."""
    stream = io.BytesIO()
    Image.new("RGB", (1600, 100), "black").save(stream, "PNG")
    outputs = {
        "boxes": np.float32([[[8, 0, 16, 16]]]),  # of the input: the right half
        "scores": np.float32([[1]]),
        "labels": np.int64([[0]]),
    }
    with running([made("one", "boxes", outputs, {"threshold": 0.5})], SMALL) as there:
        headers = {"Accept": "image/png"}
        content = ask(there, "POST", "/v1/predict?draw=overlay", stream.getvalue(), headers)[2]
    drawn = np.asarray(Image.open(io.BytesIO(content)))
    assert drawn.shape == (64, 1024, 3)
    assert drawn[:, 510:516].any()
    assert drawn[:, 1021:].any()
    assert not drawn[:, :500].any()


def test_the_crop_that_the_network_saw_is_told(address):
    found = ask(address, "POST", "/v1/predict?draw=overlay", png((80, 40)))[2]["predictions"][0]
    left, top, right, bottom = load(TINY).preprocessing.view(40, 80).box
    assert found["seen"] == pytest.approx([left, top, right, bottom], abs=0.06)
    assert left > 0


def test_a_video_is_predicted_and_not_drawn():
    pytest.importorskip("tensorcodec", reason="the extra video is not installed")
    engine = Engine({"probabilities": np.float32([[0.25, 0.75]])})
    predictor = Predictor(
        engine,
        ("left", "right"),
        Preprocessing.square(16),
        {},
        KINDS["clips"],
        None,
        Sampling(4, 1.0),
    )
    content = (TINY.parents[1] / "clips" / "one.mp4").read_bytes()
    with running([Served("clips", predictor, {"probabilities": "float32"})], Limits()) as address:
        (found,) = ask(address, "POST", "/v1/predict", content)[2]["predictions"]
        assert (found["label"], found["probability"]) == ("right", 0.75)
        assert found["windows"]
        error_of(ask(address, "POST", "/v1/predict?draw=overlay", content), 422, "draw")
        error_of(ask(address, "POST", "/v1/predict", b"no video"), 422, "bad_image")
        error_of(infer(address, IMAGE, "clips"), 422, "takes_clips")


def test_a_response_does_not_wait_for_an_acknowledgement(address):
    """Nagle's algorithm would hold its second part back for 40 ms."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    seconds = []
    for _ in range(9):
        begin = time.monotonic()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        seconds.append(time.monotonic() - begin)
    connection.close()
    assert sorted(seconds)[4] < 0.03


# ---- what is served


def test_models_are_described(address):
    first = ask(address, "GET", "/v1/models")[2]["models"][0]
    assert first["name"] == "tiny"
    assert first["classes"] == ["ant", "bee", "Wespe mit Öl"]
    assert first["preprocessing"]["size"] == [16, 16]
    assert first["sha256"] == load(TINY).sha256
    assert first["draws"] == ["overlay", "heat"]
    assert first["measured"] is None


def test_metrics_come_with_their_interval_first_that_which_chose_the_weights():
    metrics = {
        **{"balanced": 0.4, "balanced_interval": [0.1, 0.6], "n": 9, "loss": 0.1},
        **{"score": 0.5, "score_interval": [0.2, 0.8], "per_class": []},
    }
    found = measured({"metrics": metrics, "weights": {"score": 0.5, "step": 3}})
    assert found["n"] == 9
    assert [one["name"] for one in found["metrics"]] == ["score", "balanced"]
    assert found["metrics"][0]["interval"] == [0.2, 0.8]


def test_data_are_told_by_name_and_not_by_path():
    predictor = load(TINY)
    predictor.metadata["training"] = {"data": "/home/somebody/photos"}
    assert Served("x", predictor, {}).describe()["data"] == "photos"


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="would both be served as tiny"):
        check_names([TINY, tmp_path / "tiny.onnx"])


def test_a_file_that_fails_its_verification_is_not_served(monkeypatch):
    served = importlib.import_module("resnets.server.served")
    proof = served.prove(load(TINY), served.read_onnx(TINY))
    monkeypatch.setattr(type(proof), "ok", False)
    with pytest.raises(ProofFailed, match="tiny"):
        open_model(TINY)


def test_health_and_documents(address):
    assert ask(address, "GET", "/healthz")[::2] == (200, {"status": "ok"})
    assert ask(address, "GET", "/readyz")[::2] == (200, {"status": "ready"})
    paths = ask(address, "GET", "/openapi.json")[2]["paths"]
    assert {"/v1/predict", "/v1/models", "/v2/models/{name}/infer"} <= set(paths)
    assert ask(address, "GET", "/docs")[0] == 404  # it would load scripts from elsewhere


def test_the_page_may_run_its_own_script_alone(address):
    status, headers, content = ask(address, "GET", "/")
    policy = headers["content-security-policy"]
    assert (status, policy) == (200, Page.read().headers["Content-Security-Policy"])
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    text = content.decode()
    assert not [word for word in ("http://", "https://", "cookie", " src=") if word in text]


# ---- KServe


def infer(address, tensor, model="tiny", **more):
    body = json.dumps({"inputs": [tensor], **more})
    return ask(address, "POST", f"/v2/models/{model}/infer", body)


def test_kserve_gives_outputs_for_pixels_and_for_files(address):
    array = np.asarray(Image.open(PICTURE).convert("RGB"))[None]
    pixels = {
        **{"name": "image", "datatype": "UINT8", "shape": list(array.shape)},
        "data": array.ravel().tolist(),
    }
    status, _, content = infer(address, pixels, id="7")
    assert (status, content["model_name"], content["id"]) == (200, "tiny", "7")
    outputs = {one["name"]: one for one in content["outputs"]}
    expected = load(TINY, threads=1).outputs_for(PICTURE)
    assert set(outputs) == {"probabilities", "embedding"}
    assert outputs["probabilities"]["datatype"] == "FP32"
    np.testing.assert_allclose(
        outputs["probabilities"]["data"], expected["probabilities"].ravel(), atol=1e-6
    )
    text = base64.b64encode(PICTURE.read_bytes()).decode()
    files = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [text, text]}
    status, _, content = infer(address, files, outputs=[{"name": "heat"}])
    (heat,) = content["outputs"]
    assert heat["shape"] == [2, *expected["heat"].shape[1:]]
    np.testing.assert_allclose(
        heat["data"][: len(heat["data"]) // 2], expected["heat"].ravel(), atol=1e-5
    )


def test_kserve_says_what_it_is(address):
    assert ask(address, "GET", "/v2")[2]["name"] == "resnets"
    assert ask(address, "GET", "/v2/health/live")[2] == {"live": True}
    assert ask(address, "GET", "/v2/health/ready")[2] == {"ready": True}
    assert ask(address, "GET", "/v2/models/tiny/ready")[2] == {"name": "tiny", "ready": True}
    found = ask(address, "GET", "/v2/models/tiny")[2]
    assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]} in found["outputs"]
    error_of(ask(address, "GET", "/v2/models/none"), 404, "no_model")


IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [0] * 12}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"name": "x"}, 400, "request"),
        ({"datatype": "FP32"}, 400, "request"),
        ({"shape": [1, 2, 2, 1]}, 400, "request"),
        ({"shape": [1, 2, 2, 3.5]}, 400, "request"),
        ({"shape": [1, 10**9, 10**9, 3]}, 413, "too_many_pixels"),
        ({"shape": [10**9, 2, 2, 3]}, 413, "too_many_images"),
        ({"data": [0] * 11}, 400, "request"),
        ({"data": [0.5] * 12}, 400, "request"),
        ({"data": [256] * 12}, 400, "request"),
        ({"data": [[0], [0, 1]]}, 400, "request"),
        ({"data": None}, 400, "request"),
        ({"datatype": "BYTES"}, 400, "request"),
        ({"datatype": "BYTES", "shape": [1], "data": ["?"]}, 400, "request"),
        ({"datatype": "BYTES", "shape": [1], "data": ["AAAA"]}, 422, "bad_image"),
    ],
)
def test_kserve_refuses_what_is_no_tensor(address, change, status, code):
    error_of(infer(address, IMAGE | change), status, code)


def test_kserve_refuses_outputs_that_are_not_there(address):
    assert "probabilities" in error_of(
        infer(address, IMAGE, outputs=[{"name": "mask"}]), 400, "request"
    )


# ---- bad input


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("POST", "/v1/predict", b"", {}, 400, "no_image"),
        ("POST", "/v1/predict", b"no image", {}, 422, "bad_image"),
        ("POST", "/v1/predict", png()[:200], {}, 422, "bad_image"),
        ("POST", "/v1/predict", b"{}", {"Content-Type": "application/json"}, 415, "content_type"),
        ("POST", "/v1/predict?model=none", png(), {}, 404, "no_model"),
        ("POST", "/v1/predict?draw=mask", png(), {}, 422, "draw"),
        ("POST", "/v1/predict?top=many", png(), {}, 422, "parameter"),
        ("POST", "/v1/predict?draw=heat,overlay", png(), {"Accept": "image/png"}, 422, "draw"),
        ("POST", "/v1/predict?model=broken", png(), {}, 503, "engine"),
        ("POST", "/v1/predict", *form(), 400, "no_image"),
        ("POST", "/v1/predict", form(png())[0][:-9], form()[1], 400, "form"),
        ("POST", "/v1/predict", png(), {"Content-Type": "multipart/form-data"}, 400, "form"),
        ("POST", "/v1/predict", form(*[b"x"] * 65)[0], form()[1], 413, "too_many_images"),
        ("POST", "/v1/predict", png((500, 500), "1"), {}, 413, "too_many_pixels"),
        ("POST", "/v1/predict", bytes(400_000), {}, 413, "body_too_large"),
        ("GET", "/v1/predict", None, {}, 405, "method"),
        ("GET", "/favicon.ico", None, {}, 404, "not_found"),
        ("POST", "/nowhere", png(), {}, 404, "not_found"),
        ("POST", "/v2/models/tiny/infer", b"no json", {}, 400, "request"),
        ("POST", "/v2/models/tiny/infer", b"[" * 100_000, {}, 400, "request"),
    ],
)
def test_bad_input_is_refused_with_a_reason(address, method, path, body, headers, status, code):
    assert error_of(ask(address, method, path, body, headers), status, code)
    assert ask(address, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize("boundary", ["idna''b", "undefined''b", "utf-7''+2AA-"])
def test_a_boundary_in_a_charset_that_cannot_be_read_is_refused(address, boundary):
    body, _ = form(png())
    headers = {"Content-Type": f"multipart/form-data; boundary*={boundary}"}
    message = error_of(ask(address, "POST", "/v1/predict", body, headers), 400, "form")
    assert "readable boundary" in message


def test_a_body_without_length_is_counted_as_it_arrives(address):
    chunks = (bytes(10_000) for _ in range(100))
    error_of(ask(address, "POST", "/v1/predict", chunks), 413, "body_too_large")


def test_a_bomb_is_refused_by_its_header(address):
    stream = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(stream, "PNG")
    assert len(stream.getvalue()) < 100_000
    begin = time.monotonic()
    error_of(ask(address, "POST", "/v1/predict", stream.getvalue()), 413, "too_many_pixels")
    assert time.monotonic() - begin < 1


def send(address, data):
    """What comes back for some bytes, until the server closes the connection."""
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(data)
        found = b""
        while more := connection.recv(65536):
            found += more
    return found


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (
            b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nslow",
            408,
            "slow_body",
        ),
        (b"POST /v1/pre", 408, "slow_request"),
        (b"", 408, "slow_request"),
        (b"GARBAGE\r\n\r\n", 400, "http"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, "http"),
    ],
)
def test_who_is_slow_or_speaks_no_http_is_told_and_left(address, data, status, code):
    begin = time.monotonic()
    head, _, body = send(address, data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert json.loads(body)["error"]["code"] == code
    assert time.monotonic() - begin < 4


def mutated(rng, number):
    """A request that was sound, with one to three wounds: path, body and headers."""
    image = PICTURE.read_bytes()
    match number % 4:
        case 0:
            return "/v1/predict", changed_bytes(rng, image), {}
        case 1:
            body, headers = form(image, image)
            return "/v1/predict?draw=heat", changed_bytes(rng, body), headers
        case 2:
            text = base64.b64encode(image).decode()
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
            body = dumps(changed_value(rng, {"inputs": [tensor], "outputs": [{"name": "heat"}]}))
            return "/v2/models/tiny/infer", body.encode(), {}
        case _:
            body = json.dumps({"inputs": [IMAGE]}).encode()
            return "/v2/models/tiny/infer", changed_bytes(rng, body), {}


def send_mutated(address, count):
    ends = {}
    for number in range(count):
        path, body, headers = mutated(np.random.default_rng((5, number)), number)
        status, _, content = ask(address, "POST", path, body, headers)
        assert status < 500, (number, content)
        assert status == 200 or content["error"]["message"], number
        ends[status] = ends.get(status, 0) + 1
    assert ends[200] > count // 50
    assert sum(ends.values()) - ends[200] > count // 3
    assert ask(address, "GET", "/healthz")[0] == 200


def test_mutated_bodies_are_answered_or_refused(address):
    send_mutated(address, 200)


@pytest.mark.slow
def test_ten_thousand_mutated_bodies(address):
    send_mutated(address, 10_000)


# ---- many at once


def ask_together(address, count, path="/v1/predict"):
    """Answers to requests that are sent at the same time, and the seconds of each."""
    answers = [None] * count

    def one(number):
        begin = time.monotonic()
        answers[number] = (ask(address, "POST", path, png()), time.monotonic() - begin)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def slow_model(seconds):
    outputs = {"probabilities": np.float32([[0.25, 0.75]])}
    return made("slow", "classes", outputs, seconds=seconds)


def test_beyond_the_queue_there_is_503_at_once():
    served = slow_model(0.5)
    with running([served], Limits(queue=2), threads=0) as address:  # one worker
        answers = ask_together(address, 8)
        good = [one for (one, _) in answers if one[0] == 200]
        refused = [(one, seconds) for (one, seconds) in answers if one[0] != 200]
        assert len(good) == 3
        for answer, seconds in refused:
            error_of(answer, 503, "busy")
            assert answer[1]["retry-after"] == "1"
            assert seconds < 0.45
        assert served.predictor.engine.most == 1
        assert ask(address, "POST", "/v1/predict", png())[0] == 200  # places were given back


def test_a_prediction_that_outlasts_its_request_keeps_its_place():
    with running([slow_model(1.2)], Limits(queue=0, seconds=0.3), threads=0) as address:
        error_of(ask(address, "POST", "/v1/predict", png()), 503, "timeout")
        error_of(ask(address, "POST", "/v1/predict", png()), 503, "busy")
        time.sleep(1.2)
        error_of(ask(address, "POST", "/v1/predict", png()), 503, "timeout")


# ---- the command


def start(*words):
    """`resnets serve` in a process of its own, and where it listens."""
    command = [sys.executable, "-m", "resnets", "serve", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    while "http://" not in (line := process.stderr.readline()):
        lines.append(line)
        assert line, lines
    host, _, port = line.partition("http://")[2].partition("/")[0].rpartition(":")
    return process, (host, int(port)), lines


def test_the_command_ends_gracefully_and_tells_nothing_of_images():
    process, address, _ = start(TINY, "--port", 0)
    with socket.create_connection(address, timeout=10) as connection:
        body = PICTURE.read_bytes()
        head = b"POST /v1/predict?model=tiny HTTP/1.1\r\nHost: a\r\nX-Secret: hush\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:50])
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(OSError):  # noqa: PT011 - no new request is taken
            socket.create_connection(address, timeout=2)
        connection.sendall(body[50:])
        found = connection.recv(65536)
    assert b" 200 OK" in found
    _, errors = process.communicate(timeout=20)
    assert "POST /v1/predict 200" in errors
    assert "hush" not in errors
    assert "Traceback" not in errors
    assert process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def complain(*words):
    command = [sys.executable, "-m", "resnets", "serve", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.returncode, done.stderr


def test_what_is_not_installed_is_named_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ValueError, match=r'needs uvicorn, .*pip install "resnets\[serve\]"'):
        need_packages()


def test_a_port_in_use_is_one_message():
    with listen("127.0.0.1", 0) as taken:
        code, text = complain(TINY, "--port", taken.getsockname()[1])
    assert code == 2
    assert "--port 0" in text


def test_mistakes_are_one_message(tmp_path):
    assert complain(TINY, TINY, "--port", 0)[0] == 2
    assert complain(tmp_path / "none.onnx", "--port", 0)[0] == 2
    assert complain(TINY, "--port", 0, "--host", "192.0.2.1")[0] == 2
    code, text = complain(TINY, "--port", 0, "--queue", -1)
    assert (code, "allowed: 0 to 10000" in text) == (2, True)


def test_whoever_listens_elsewhere_is_warned():
    process, _, lines = start(TINY, "--port", 0, "--host", "0.0.0.0")
    process.terminate()
    process.communicate(timeout=20)
    assert len(lines) == 1
    assert "no password" in lines[0]


SOCKETS = """
import socket, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", sys.argv[-1]):
            raise SystemExit(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
attempts, connect, lookup = [], socket.socket.connect, socket.getaddrinfo
def refuse(what):
    attempts.append(what)
    raise OSError("refused by the test")
def connecting(self, address):
    local = self.family == getattr(socket, "AF_UNIX", None) or address[0] == "127.0.0.1"
    return connect(self, address) if local else refuse(address)
def looking(host, *rest, **more):
    return lookup(host, *rest, **more) if host in ("127.0.0.1", None) else refuse(host)
socket.socket.connect = socket.socket.connect_ex = connecting
socket.getaddrinfo = looking
if sys.argv[1] == "bare":
    try:
        socket.create_connection(("192.0.2.1", 80), 1)
    except OSError:
        pass
else:
    from server_process import ask, running
    from resnets.server.limits import Limits
    from resnets.server.served import open_model
    with running([open_model(*sys.argv[1:4:2])], Limits()) as address:
        with open(sys.argv[2], "rb") as file:
            assert ask(address, "POST", "/v1/predict?draw=heat", file.read())[0] == 200
        assert ask(address, "GET", "/")[0] == 200
print(len(attempts))
"""


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((TINY, PICTURE, "auto"), "0"),
        ((TINY, PICTURE, "onnxruntime", "openvino"), "0"),  # the other one is not imported
        (("bare",), "1"),
    ],
)
def test_nothing_but_loopback_is_connected_to_and_torch_is_not_imported(words, count, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name in ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    done = subprocess.run(
        [sys.executable, "-c", SOCKETS, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == count, done.stderr


@pytest.mark.skipif(len(available_engines()) < 2, reason="one engine is installed")
@pytest.mark.parametrize("fastest", available_engines())
def test_the_fastest_engine_serves(monkeypatch, fastest):
    served = importlib.import_module("resnets.server.served")
    monkeypatch.setattr(served, "_seconds", lambda one, file: one.engine.name != fastest)
    found = open_model(TINY)
    assert found.predictor.engine.name == fastest
    assert open_model(TINY, "onnxruntime").predictor.engine.name == "onnxruntime"
    assert set(found.types) == set(found.predictor.outputs)
    assert "heat" in found.draws


@pytest.mark.skipif(len(available_engines()) < 2, reason="one engine is installed")
def test_an_engine_that_gives_others_does_not_serve(monkeypatch):
    served = importlib.import_module("resnets.server.served")
    prove = served.prove

    def proved(predictor, file):
        proof = prove(predictor, file)
        wrong = predictor.engine.name == "openvino"
        return replace(proof, difference=1.0) if wrong else proof

    monkeypatch.setattr(served, "prove", proved)
    monkeypatch.setattr(served, "_seconds", lambda one, file: one.engine.name != "openvino")
    assert open_model(TINY).predictor.engine.name == "onnxruntime"
    with pytest.raises(ProofFailed, match="not served"):
        open_model(TINY, "openvino")
