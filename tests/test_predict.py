"""`resnets predict` and the Python interface around it: outputs that are continued, what may be
given, what the terminal shows."""

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len

import resnets
from resnets.evaluation.maps import draw_map
from resnets.images import BadImage
from resnets.kinds.classes import ClassPrediction
from resnets.preprocessing import Preprocessing
from resnets.runtime import Predictor
from resnets.screen import printable

DATA = Path(__file__).parent / "data" / "format1"
ONNX, MODEL = DATA / "tiny.onnx", DATA / "tiny.safetensors"


class Brightness:
    """An engine that says `dark`, `gray` or `light` by the mean of the pixels."""

    name, version = "brightness", "1"

    def __call__(self, image):
        assert image.dtype in (np.uint8, np.uint16)
        unit = image.astype(np.float32).mean((1, 2, 3)) / np.iinfo(image.dtype).max
        return {"probabilities": np.stack([(1 - unit) ** 2, 2 * unit * (1 - unit), unit**2], 1)}


def brightness(**changes) -> Predictor:
    return Predictor(
        Brightness(), ("dark", "gray", "light"), Preprocessing(**{"fit": "stretch", **changes})
    )


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 256, (9, 13, 3), np.uint8)


def content(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


# --- the terminal


@given(st.text())
def test_no_character_of_a_name_acts_on_the_terminal(name):
    shown = printable(name)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
    shown.encode()  # whatever the name, it can be written


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2Jcat\n", r"\x1b[2Jcat\n"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("raw \udcff", r"raw \udcff"),
        ("내 사진 01.png", "내 사진 01.png"),
        ("C:\\photos", "C:\\photos"),
        ("\N{MAN}\u200d\N{WOMAN}", "\N{MAN}\u200d\N{WOMAN}"),
    ],
)
def test_names_stay_readable_in_the_terminal(name, shown):
    assert printable(name) == shown


class Done:
    """`resnets WORDS` in a process of its own; one of its streams may be a terminal."""

    def __init__(self, *words, terminal: int = 0, stream: str = "stdout", **options):
        command = [sys.executable, "-m", "resnets", *map(str, words)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        if terminal:
            ours, theirs = pty.openpty()
            options[stream] = theirs
            options["env"] = {**os.environ, "COLUMNS": str(terminal), "TERM": "xterm"}
            reader = threading.Thread(target=self._read, args=[ours])
            reader.start()
        done = subprocess.run(command, text=True, timeout=120, check=False, **options)
        shown = {"stdout": done.stdout or "", "stderr": done.stderr or ""}
        if terminal:
            os.close(theirs)
            reader.join()
            shown[stream] = self._found
        self.code, self.out, self.err = done.returncode, shown["stdout"], shown["stderr"]
        assert "Traceback" not in self.err

    def _read(self, terminal: int) -> None:
        found = b""
        while True:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            found += part
        os.close(terminal)
        self._found = found.decode().replace("\r\n", "\n")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(pixels(number)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_gets_a_table_that_fits(photos, width):
    shutil.copy(photos / "0.png", photos / f"{'long ' * 30}\x1b[31m.png")
    (photos / "9.png").write_bytes(b"no image")
    done = Done("predict", ONNX, photos, terminal=width)
    assert (done.code, done.err) == (0, "1 of 5 images could not be predicted\n")
    header, *lines = done.out.splitlines()
    assert header.split() == ["file", "label", "probability"]
    assert len(lines) == 5
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].endswith(" %")
    assert "0.png" in lines[0]
    assert lines[0].index("%") == header.index("probability") + len("probability") - 1
    assert "not readable" in next(line for line in lines if "9.png" in line)
    assert "\x1b" not in done.out
    assert r"\x1b[31m.png" in done.out


def test_a_terminal_gets_the_best_classes_of_one_image(photos):
    done = Done("predict", ONNX, photos / "0.png", terminal=80)
    name, *lines = done.out.splitlines()
    assert name.endswith("0.png")
    best = [line.rsplit(None, 2) for line in lines]
    assert {label.strip() for label, _, _ in best} == {"ant", "bee", "Wespe mit Öl"}
    shown = [float(number) for _, number, _ in best]
    assert shown == sorted(shown, reverse=True)
    assert sum(shown) == pytest.approx(100, abs=0.2)
    assert (done.code, done.err) == (0, "")


def test_a_pipe_gets_csv_and_no_bar(photos):
    done = Done("predict", ONNX, photos)
    assert done.out.splitlines()[0] == "file,label,probability,error,notes"
    assert len(done.out.splitlines()) == 4
    assert (done.code, done.err) == (0, "")


def test_the_bar_is_drawn_only_where_no_row_can_come_between(tmp_path, photos):
    for number in range(40):
        shutil.copy(photos / "0.png", photos / f"copy {number}.png")
    watched = {"terminal": 80, "stream": "stderr"}
    piped = Done("predict", ONNX, photos, **watched)  # perhaps into a command that prints it
    assert piped.err == ""
    assert piped.out.count("\n") == 44
    table = Done("predict", ONNX, photos, "-o", tmp_path / "out.csv", **watched)
    assert "predicting" in table.err
    assert table.out == ""
    with (tmp_path / "redirected.csv").open("wb") as file:
        assert "predicting" in Done("predict", ONNX, photos, stdout=file, **watched).err
    quiet = Done("predict", ONNX, photos, "-q", "-o", tmp_path / "quiet.csv", **watched)
    assert quiet.err == ""


def test_a_reader_that_has_seen_enough_ends_it_quietly(photos):
    for number in range(50):
        shutil.copy(photos / "0.png", photos / f"copy {number}.png")
    command = [sys.executable, "-m", "resnets", "predict", str(ONNX), str(photos)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.readline().startswith(b"file,")
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(60) in (0, 1)


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_without_a_standard_output_it_says_so(photos):
    command = f'"{sys.executable}" -m resnets predict "{ONNX}" "{photos}" >&-'
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "resnets: the standard output is closed; name an output: -o FILE.csv\n"


# --- the command


def test_only_broken_images_are_a_failure(tmp_path, photos):
    broken = tmp_path / "broken"
    broken.mkdir()
    for number in range(2):
        (broken / f"{number}.png").write_bytes(b"no image")
    output = tmp_path / "out.csv"
    done = Done("predict", ONNX, broken, "-o", output)
    assert done.code == 1
    assert "2 of 2 images could not be predicted" in done.err
    assert len(output.read_text().splitlines()) == 3
    assert Done("predict", ONNX, broken).code == 1
    assert Done("predict", ONNX, broken, photos, "-o", output).code == 0
    again = Done("predict", ONNX, broken, photos, "-o", output)  # the good ones have their rows
    assert "3 files are predicted already" in again.err
    assert "2 failed or changed files are predicted again" in again.err
    assert again.code == 0


def test_another_model_is_refused_on_the_command_line(tmp_path, photos):
    pytest.importorskip("torch")
    from test_cli import resnets as run

    output = tmp_path / "out.csv"
    assert run("predict", MODEL, photos, "-o", output).code == 0
    before = output.read_bytes()
    done = run("predict", ONNX, photos, "-o", output)
    assert done.code == 2
    assert "its rows are of another model" in done.err
    assert output.read_bytes() == before
    assert "3 files are predicted already" in run("predict", MODEL, photos, "-o", output).err
    assert "--probs" in run("predict", MODEL, photos, "-o", output, "--probs").err
    assert run("predict", MODEL, photos).out.splitlines() == before.decode().splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([ONNX, "--threads", "-5"], "--threads"),
        ([ONNX, "--engine", "abacus"], "no engine is called 'abacus'"),
        ([ONNX, "--model", "resnet18"], "model 'resnet18' does not apply"),
        ([ONNX, "--classes", "imagenet"], "classes 'imagenet' does not apply"),
        ([MODEL, "--engine", "openvino"], "engine 'openvino' does not apply"),
        ([MODEL, "--threads", "2"], "threads 2 does not apply"),
        ([ONNX, "-o", "out.xlsx"], ".csv, .jsonl, .parquet"),
        ([ONNX, "-o", "none/out.csv"], "there is no folder none"),
        ([ONNX, "--heat", ONNX], "not a folder"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, photos, words, message):
    if words[1] not in ("--engine",) or words[0] != ONNX:
        photos = tmp_path / "nothing is looked at"
        photos.mkdir()
    done = Done("predict", words[0], photos, *words[1:], cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.replace("│", " ").split())
    assert {path.name for path in tmp_path.iterdir()} <= {photos.name, "photos"}


def test_maps_are_drawn_and_nothing_is_overwritten(tmp_path, photos):
    maps = tmp_path / "maps"
    (photos / "sub").mkdir()
    long = f"{'x' * 245}.png"
    for name in ("0.png", long):
        shutil.copy(photos / "0.png", photos / "sub" / name)
    (photos / "broken.png").write_bytes(b"no image")
    assert Done("predict", ONNX, photos, "--heat", maps).code == 0
    names = {path.name for path in maps.iterdir()}
    assert {"0.png.heat.jpg", "0.png.heat.2.jpg", "1.png.heat.jpg"} < names
    assert len(names) == 5
    before = {path: path.read_bytes() for path in maps.iterdir()}
    draw_map(photos / "0.png", np.ones((2, 2)), maps)
    assert len(list(maps.iterdir())) == 6
    assert all(path.read_bytes() == content for path, content in before.items())


# --- Python


def test_images_are_taken_as_people_have_them(tmp_path):
    ready, array = brightness(), pixels()
    image = Image.fromarray(array)
    path = tmp_path / "a.png"
    image.save(path)
    whole = content(image)
    expected = ready.predict_image(array).probabilities
    with path.open("rb") as file, io.BytesIO() as written:
        written.write(whole)  # and not rewound
        same = [
            *(path, str(path), whole, bytearray(whole), memoryview(whole), file, written),
            *(io.BytesIO(whole), image, Image.open(path), image.convert("RGBA")),
            *(array, array[:, ::-1][:, ::-1], np.broadcast_to(array, array.shape)),
            np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        ]
        for given_ in same:
            np.testing.assert_array_equal(ready.predict_image(given_).probabilities, expected)
            (found,) = ready.predict(given_)
            np.testing.assert_array_equal(found.probabilities, expected)
        found = list(ready.predict(same))
    assert len(found) == len(same)
    for one in found:
        np.testing.assert_array_equal(one.probabilities, expected)
    assert [one.file for one in found[:4]] == [str(path), str(path), "image 2", "image 3"]
    assert ready.predict_image(path).file == str(path)
    assert ready.predict_image(path, file="upload").file == "upload"


def test_gray_and_transparent_arrays_are_converted():
    ready, gray = brightness(), pixels()[:, :, 0]
    expected = ready.predict_image(Image.fromarray(gray)).probabilities
    for array in (gray, gray[:, :, None]):
        np.testing.assert_array_equal(ready.predict_image(array).probabilities, expected)
    clear = np.zeros((4, 4, 4), np.uint8)
    found = ready.predict_image(clear)
    assert (found.label, found.notes) == ("light", ("transparency laid on white",))
    one = brightness(channels=1, mean=(0.5,), std=(0.5,))
    np.testing.assert_array_equal(one.predict_image(gray).probabilities, expected)
    assert one.predict_image(pixels()).label == "light"
    deep = brightness(channels=1, value_range=65535, mean=(0.5,), std=(0.5,))
    wide = gray.astype(np.uint16) * 257
    for array in (wide, wide.astype(">u2"), wide[:, :, None], gray):
        np.testing.assert_allclose(deep.predict_image(array).probabilities, expected, atol=1e-5)


class Sequence:
    """The shape of a Dataset."""

    def __len__(self):
        return 1

    def __getitem__(self, number):
        return pixels(), 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "None is no image; allowed: the name of a file"),
        (3, "type int is no image"),
        (1.5, "type float is no image"),
        (object(), "type object is no image"),
        ({"image": 1}, "row['image']"),
        ((pixels(), 1), "a tuple, as data sets give them"),
        ([pixels()], "a list in the place of an image"),
        (pixels().tolist(), "np.array(list, 'uint8')"),
        (Sequence(), "made for training; give the folder or the files"),
        ("", "'' is not the name of a file"),
        ("a\0b", "is not the name of a file"),
        (io.StringIO("text"), "open(name, 'rb')"),
        (pixels() / 255, "(array * 255).round().astype('uint8')"),
        (pixels().astype(np.float32), "array.round().astype('uint8')"),
        (np.full((4, 4, 3), np.nan), ".astype('uint8')"),
        (pixels() > 128, "array.astype('uint8') * 255"),
        (pixels().astype(np.int64), "scale its values to 0 to 255"),
        (pixels().astype(np.uint16), "scale its values to 0 to 255"),
        (pixels().astype(complex), "give pixels"),
        (np.array([["a"]]), "type ndarray is no image"),
        (pixels().transpose(2, 0, 1), "array.transpose(1, 2, 0)"),
        (pixels()[None], "predict(list(array))"),
        (pixels()[0, 0], "give one image"),
        (np.uint8(3), "give one image"),
        (pixels()[:0], "there are no pixels"),
        (pixels()[:, :, :2], "1, 3 or 4 channels"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused_with_the_cure(image, message):
    ready = brightness()
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        ready.predict_image(image)
    assert not isinstance(caught.value, BadImage)
    with pytest.raises(ValueError, match=re.escape(message)):
        list(ready.predict([pixels(), image]))
    with pytest.raises(ValueError, match=re.escape(message)):
        list(ready.predict(each for each in (pixels(), image)))


def test_what_cannot_be_predicted_is_refused_at_once():
    ready = brightness()
    for inputs in (
        None,
        3,
        {"a": 1},
        Sequence(),
        [],
        np.array([]).astype(str),
        [None],
        ["none.png"],
    ):
        with pytest.raises(ValueError, match=r"no image|made for|nothing to predict|no such file"):
            ready.predict(inputs)  # nothing is taken from the iterator


def test_broken_images_in_memory_have_an_error():
    ready = brightness()
    whole = content(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    )
    closed = Image.open(io.BytesIO(whole))
    closed.close()
    gone = Image.fromarray(pixels())
    gone.close()
    cut = whole[:500]
    broken = [cut, b"", b"text", io.BytesIO(cut), Image.open(io.BytesIO(cut)), closed]
    broken += [Image.new("RGB", (0, 5)), Image.new("LA", (3, 3)).convert("La")]
    for image in broken:
        with pytest.raises(BadImage):
            ready.predict_image(image)
    found = list(ready.predict([*broken, pixels()]))
    assert [bool(one.error) for one in found] == [True] * len(broken) + [False]
    assert found[0].file == "image 0"


def test_lists_are_mixed_and_folders_in_them_expand(photos):
    ready = brightness()
    inputs = [photos, pixels(), str(photos / "0.png"), (photos / "1.png").read_bytes()]
    expected = [*(str(photos / f"{i}.png") for i in range(3)), "image 1", str(photos / "0.png")]
    expected += ["image 3"]
    assert [one.file for one in ready.predict(inputs)] == expected
    assert [one.file for one in ready.predict(each for each in inputs)] == expected
    assert len(list(ready.predict(np.array([str(photos / "0.png"), str(photos)])))) == 4
    assert len(list(ready.predict({photos / "0.png"}))) == 1
    pandas = pytest.importorskip("pandas")
    assert len(list(ready.predict(pandas.Series([str(photos / "0.png")])))) == 1


def test_tensors_and_data_sets_of_torch_are_taken_or_refused(photos):
    torch = pytest.importorskip("torch")
    ready, array = brightness(), pixels()
    expected = ready.predict_image(array).probabilities
    np.testing.assert_array_equal(ready.predict_image(torch.tensor(array)).probabilities, expected)
    assert len(list(ready.predict([torch.tensor(array)] * 2))) == 2
    cures = [
        (torch.tensor(array).permute(2, 0, 1), r"array\.transpose\(1, 2, 0\)"),
        (torch.rand(9, 13, 3), r"\* 255"),
        (torch.rand(9, 13, 3, requires_grad=True), r"detach\(\)\.cpu\(\)\.numpy\(\)"),
    ]
    for tensor, cure in cures:
        with pytest.raises(ValueError, match=cure):
            ready.predict_image(tensor)
    data = torch.utils.data.TensorDataset(torch.tensor(array)[None])
    for given_ in (data, torch.utils.data.DataLoader(data)):
        with pytest.raises(ValueError, match=r"made for training.*image for image, label"):
            ready.predict(given_)


def test_load_opens_what_a_network_lies_in(tmp_path, photos):
    pytest.importorskip("torch")
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    shutil.copy(MODEL, run / "weights" / "best.safetensors")
    image = photos / "0.png"
    expected = resnets.load(ONNX).predict_image(image).probabilities

    class Run:
        folder = run

    digests = set()
    for path in (MODEL, str(MODEL), run, Run()):
        ready = resnets.load(path)
        np.testing.assert_allclose(ready.predict_image(image).probabilities, expected, atol=0.02)
        digests.add(ready.sha256)
    assert len(digests) == 1
    assert resnets.load(ONNX).sha256 not in digests


def test_what_a_model_predicts_decides_its_digest():
    torch = pytest.importorskip("torch")
    from resnets.modelfile import load_model

    first = load_model(MODEL)
    digests = {first.sha256}
    with torch.no_grad():
        next(first.net.parameters()).add_(1e-6)
    digests.add(first.sha256)
    first.classes = ("a", "b", "c")
    digests.add(first.sha256)
    first.preprocessing = Preprocessing.square(32)
    digests.add(first.sha256)
    assert len(digests) == 4


def test_load_refuses_other_types_and_arguments_that_do_not_apply():
    for wrong in (None, 3, b"a.onnx", ["a.onnx"], {}, object(), "", Image.new("L", (1, 1))):
        with pytest.raises(ValueError, match="is loaded by the name of its file"):
            resnets.load(wrong)
    for arguments in ({"threads": -5}, {"threads": 1.5}, {"threads": True}, {"engine": ["x"]}):
        with pytest.raises(ValueError, match="allowed"):
            resnets.load(ONNX, **arguments)
    with pytest.raises(ValueError, match="model 'resnet18' does not apply"):
        resnets.load(ONNX, model="resnet18")
    with pytest.raises(ValueError, match="engine 'openvino' does not apply"):
        resnets.load(MODEL, "openvino")


def test_loading_an_exported_file_imports_no_torch(photos):
    code = (
        "import sys, resnets\n"
        f"print([p.label for p in resnets.load({str(ONNX)!r}).predict({str(photos)!r})])\n"
        "assert 'torch' not in sys.modules and 'resnets.run' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_values_say_what_they_are(photos):
    ready = resnets.load(ONNX)
    assert repr(ready).startswith(f"Predictor({str(ONNX)!r}, 3 classes, onnxruntime ")
    found = brightness().predict_image(np.full((4, 4, 3), 255, np.uint8), file="a.png")
    assert repr(found) == "ClassPrediction('a.png', 'light', 1.000)"
    broken = ClassPrediction("\x1b.png", ("a",), error="empty file")
    assert repr(broken) == r"ClassPrediction('\x1b.png', error='empty file')"
    assert found != brightness().predict_image(pixels())  # and does not raise
    assert len({found, broken}) == 2


def test_a_folder_is_opened_once(photos, monkeypatch):
    opened, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(str(path)) or scandir(path))
    assert list(brightness().predict(photos))
    assert opened.count(str(photos)) == 1


def test_what_is_gone_when_its_turn_comes_is_a_prediction_with_an_error(photos):
    names = [str(photos / "gone.png"), *map(str, sorted(photos.glob("*.png"))[:1])]
    first, *rest = brightness().predict(name for name in names)
    assert first.error == "no such file"
    assert rest
    assert all(one.error is None for one in rest)
    with pytest.raises(ValueError, match="no such file or folder"):
        brightness().predict(names)
