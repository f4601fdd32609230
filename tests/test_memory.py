"""Large images in bounded memory, with the same bits as small ones: scaled beforehand, cut in bands,
decoded within a budget, in processes that were forked."""

import functools
import io
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from resnets import preprocessing as module
from resnets.images import BadImage, open_image, to_mode
from resnets.kinds.classes import CLASSES
from resnets.preprocessing import Preprocessing
from resnets.runtime import decoding, load
from resnets.runtime.decoding import Budget, Upright, image_input, read_input
from resnets.runtime.engines import available_engines, make_engine

TINY = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
ENGINES = available_engines()
COLOURS = [(3, 255), (1, 255), (1, 65535)]


def value_of(
    fit: str, interpolation: str, colours: tuple[int, int], more: int = 4
) -> Preprocessing:
    channels, value_range = colours
    return Preprocessing(
        (17, 24),
        (17 + more, 24 + 2 * more + 1),
        channels,
        value_range,
        fit,
        7,
        interpolation,
        mean=(0.4, 0.5, 0.3)[:channels],
        std=(0.3, 0.2, 0.25)[:channels],
    )


def noise(height: int, width: int, colours: tuple[int, int] = (3, 255), seed: int = 0):
    kind = np.uint8 if colours[1] == 255 else np.uint16
    shape = (height, width, 3) if colours[0] == 3 else (height, width)
    values = np.random.default_rng(seed).integers(0, colours[1] + 1, shape, kind)
    return Image.fromarray(values)


# --- scaled beforehand: the graph's own scaling is the identity


@functools.cache
def front_of(engine: str, value: Preprocessing):
    """The nodes before the network, run by an engine."""
    pytest.importorskip("torch")
    from test_export import identity

    from resnets.export import graph

    trace, graph._trace = graph._trace, identity
    try:
        return make_engine(
            engine, graph.front(graph.to_bytes(graph.build_graph(None, value, CLASSES), "{}"))
        )
    finally:
        graph._trace = trace


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("colours", COLOURS, ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), more=st.sampled_from([0, 1, 4]))
@example(height=3, width=900, more=4)  # panoramas
@example(height=900, width=3, more=1)
def test_the_graph_gets_the_pixels_of_the_preprocessing_to_the_bit(
    fit, interpolation, colours, engine, height, width, more
):
    value = value_of(fit, interpolation, colours, more)
    pixels = value.pixels(noise(height, width, colours))
    framed = value.framed(pixels)
    prepared = front_of(engine, value)(framed[None])["prepared"]
    assert prepared.shape == (1, value.channels, *value.size)
    levels = np.asarray(value.std, np.float64).reshape(1, -1, 1, 1) * value.value_range
    shift = np.asarray(value.mean, np.float64).reshape(1, -1, 1, 1) * value.value_range
    found = prepared * levels + shift
    np.testing.assert_array_equal(np.round(found)[0].transpose(1, 2, 0), pixels)
    # and nothing was between two grey levels: the same numbers as from an image of the input's size
    assert np.abs(found - np.round(found)).max() < 0.02
    again = value.pixels(Image.fromarray(framed if colours[0] == 3 else framed[:, :, 0]))
    np.testing.assert_array_equal(again, pixels)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_predictor_sees_what_evaluation_sees(engine, tmp_path):
    """To the bit, for files and for images in memory; the graph alone rounds a little otherwise."""
    predictor = load(TINY, engine)
    photo = noise(200, 331, seed=3).resize((661, 402), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "a.png")
    value = predictor.preprocessing
    expected = predictor.engine(value.framed(value.pixels(photo))[None])["probabilities"][0]
    (found,) = predictor.predict(tmp_path / "a.png")
    np.testing.assert_array_equal(found.probabilities, expected)
    for given_ in (photo, np.asarray(photo), (tmp_path / "a.png").read_bytes()):
        np.testing.assert_array_equal(predictor.predict_image(given_).probabilities, expected)


# --- bands


def saved(image: Image.Image, **options) -> Image.Image:
    """Through a file, as images come."""
    buffer = io.BytesIO()
    image.save(buffer, options.pop("format", "PNG"), **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, exif=exif)


def half_transparent(height: int, width: int) -> Image.Image:
    image = noise(height, width).convert("RGBA")
    alpha = Image.fromarray(np.tile(np.arange(height, dtype=np.uint8)[:, None], (1, width)))
    alpha.paste(255, (0, 0, width, height // 2))
    image.putalpha(alpha)
    return image


KINDS = {
    "RGB": lambda h, w: saved(noise(h, w)),
    "L": lambda h, w: saved(noise(h, w, (1, 255))),
    "RGBA": lambda h, w: saved(half_transparent(h, w)),
    "LA": lambda h, w: saved(half_transparent(h, w).convert("LA")),
    "P": lambda h, w: saved(noise(h, w).quantize(40)),
    "P transparent": lambda h, w: saved(noise(h, w).quantize(40), transparency=3),
    "1": lambda h, w: saved(noise(h, w, (1, 255)).convert("1")),
    "CMYK": lambda h, w: saved(noise(h, w).convert("CMYK"), format="TIFF"),
    "I;16": lambda h, w: saved(noise(h, w, (1, 65535))),
    "I;16B": lambda h, w: Image.frombytes("I;16B", (w, h), noise(h, w, (1, 65535)).tobytes()),
    "I": lambda h, w: noise(h, w, (1, 65535)).convert("I"),
    "F": lambda h, w: saved(
        Image.fromarray(np.asarray(noise(h, w, (1, 65535)), np.float32)), format="TIFF"
    ),
    **{
        f"turned {number}": functools.partial(lambda o, h, w: turned(noise(h, w), o), number)
        for number in range(1, 10)
    },
}


@pytest.mark.parametrize("colours", COLOURS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_in_bands_is_the_whole_image(kind, colours, monkeypatch):
    for fit, (height, width) in itertools.product(
        ("crop", "pad"), ((97, 60), (60, 97), (4, 700), (700, 4))
    ):
        value = value_of(fit, "bicubic", colours)
        notes: list[str] = []
        upright = ImageOps.exif_transpose(KINDS[kind](height, width))
        whole = to_mode(upright, value.channels, value.value_range, notes)
        monkeypatch.setattr(module, "BAND", 1 << 30)
        expected = value.framed(value.pixels(whole))
        for band in (1, 1000):  # pixels: a row at a time, and several
            monkeypatch.setattr(module, "BAND", band)
            found, size, remarks = image_input(KINDS[kind](height, width), value)
            np.testing.assert_array_equal(found, expected)
            assert size == (upright.height, upright.width)
            assert set(remarks) <= set(notes)
            if fit == "pad":  # everything is seen
                assert remarks == notes


def test_what_is_cut_from_an_upright_image_is_what_lies_there():
    for orientation in range(1, 9):
        image = turned(noise(30, 41), orientation)
        value, whole = Preprocessing(), np.asarray(ImageOps.exif_transpose(image))
        upright = Upright(image, value)
        assert (upright.height, upright.width) == whole.shape[:2]
        np.testing.assert_array_equal(np.asarray(upright.crop((3, 5, 20, 19))), whole[5:19, 3:20])


def test_a_file_through_the_bands_is_the_opened_file(tmp_path):
    value = Preprocessing.square(24)
    for name, image in (("a.jpg", noise(80, 60)), ("b.png", half_transparent(80, 60))):
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / name, exif=exif)
        found, size, notes = read_input(tmp_path / name, value)
        opened, remarks, _ = open_image(tmp_path / name)
        np.testing.assert_array_equal(found, value.framed(value.pixels(opened)))
        assert size == (opened.height, opened.width)
        assert notes == remarks


# --- the budget


def test_a_budget_is_kept_and_everyone_gets_a_turn():
    budget, lock = Budget(10), threading.Lock()
    now, most, alone, done = 0, 0, [], 0

    def work(amount):
        nonlocal now, most, done
        for _ in range(10):
            with budget.take(amount):
                with lock:
                    now += amount
                    most = max(most, now if amount <= 10 else 0)
                    alone.append(amount <= 10 or now == amount)
                time.sleep(0.0005)
                with lock:
                    now -= amount
        with lock:
            done += 1

    threads = [threading.Thread(target=work, args=[n]) for n in (3, 4, 5, 6, 25, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert done == len(threads)  # 25, which is more than all of it, had its turn as well
    assert most <= 10
    assert all(alone)


def test_a_failure_gives_back_what_it_took(tmp_path):
    budget = Budget(10)
    with pytest.raises(BadImage), budget.take(10):
        raise BadImage("cut")
    with budget.take(10):
        pass


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """With two threads that decode, and a limit that lets two small ones in. Nothing at all is
    decoded outside of the budget: Pillow does it for the EXIF of a PNG file, too."""
    budget, predictor = Budget(2 * 4 * 900), load(TINY).exactly()
    monkeypatch.setattr(decoding, "DECODING", budget)
    true, free = ImageFile.ImageFile.load, {30: [], 300: []}

    def load_it(image):
        if image.tile:  # not decoded yet
            time.sleep(0.01)
            free[image.width].append(budget._free)
        return true(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load_it)
    for number in range(12):
        side = 300 if number % 4 == 1 else 30
        noise(side, side).save(tmp_path / f"{number:02d}.{'jpg' if number % 2 else 'png'}")
    assert not [p.error for p in predictor.predict(tmp_path) if p.error]
    assert free[300] == [0] * 3
    assert len(free[30]) == 9
    assert set(free[30]) == {0, 3600}


@pytest.mark.parametrize(
    ("form", "options", "side"),
    [("WEBP", {}, 40), ("JPEG", {"progressive": True}, 40), ("TIFF", {}, 60), ("PNG", {}, 80)],
)
def test_what_would_take_too_much_to_decode_is_refused_before(form, options, side, monkeypatch):
    """Each format at its own measured cost; a size smaller is read."""
    monkeypatch.setattr(decoding, "LARGEST", 16_000)
    monkeypatch.setattr(decoding, "DECODING", Budget(16_000))
    for factor, fits in ((1.0, False), (0.5, True)):
        buffer = io.BytesIO()
        noise(int(side * factor), int(side * factor)).save(buffer, form, **options)
        if fits:
            read_input(buffer.getvalue(), Preprocessing.square(8))
        else:
            with pytest.raises(BadImage, match=rf"pixels of {form} take 0 MB to decode; allowed"):
                read_input(buffer.getvalue(), Preprocessing.square(8))


@pytest.mark.parametrize(
    ("mode", "form", "each"), [("L", "PNG", 4), ("I;16", "PNG", 10), ("F", "TIFF", 16)]
)
def test_deep_images_are_budgeted_for_their_conversion(mode, form, each):
    buffer = io.BytesIO()
    Image.new(mode, (10, 20)).save(buffer, form)
    assert decoding.decoded_bytes(Image.open(buffer)) == 200 * each


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_an_image_too_narrow_to_scale_is_a_reason(fit):
    value = Preprocessing(fit=fit)
    with pytest.raises(BadImage, match="1 x 17000000 pixels: too long and narrow"):
        value.pixels(Image.new("L", (1, 17_000_000)))
    assert value.pixels(Image.new("RGB", (1, 60_000), "red"))[100, 112].tolist() == [255, 0, 0]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L"])
def test_a_large_image_is_in_memory_once(mode, tmp_path):
    """Peak of a process above what it had before; four times the pixels in bytes is one copy."""
    fill = {"RGBA": (200, 30, 30, 128), "RGB": (200, 30, 30), "L": 90}[mode]
    Image.new(mode, (6000, 6000), fill).save(tmp_path / "a.png", compress_level=1)
    program = """
import sys
from resnets.preprocessing import Preprocessing
from resnets.runtime.decoding import read_input
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
value = Preprocessing()
read_input(sys.argv[2], value)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
read_input(sys.argv[1], value)
print(peak() - before)
"""
    noise(100, 100).save(tmp_path / "small.png")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", program, str(tmp_path / "a.png"), str(tmp_path / "small.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    copy = 6000 * 6000 * (1 if mode == "L" else 4)
    assert copy * 0.9 < int(done.stdout) < copy + 45_000_000


# --- other processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_predictor_goes_on_in_a_forked_process(engine, threads, tmp_path):
    """Also while the budget is taken by a thread that the child does not have; and it ends."""
    predictor = load(TINY, engine, threads)
    image = noise(50, 70)
    image.save(tmp_path / "a.png")
    expected = predictor.predict_image(image).probabilities
    with decoding.DECODING.take(decoding.TOGETHER):
        child = os.fork()
        if child == 0:
            (found,) = predictor.predict(tmp_path / "a.png")
            del predictor
            os._exit(0 if np.array_equal(found.probabilities, expected) else 4)
    deadline, status = time.monotonic() + 30, None
    while status is None and time.monotonic() < deadline:
        ended, code = os.waitpid(child, os.WNOHANG)
        status = code if ended else None
        time.sleep(0.02)
    if status is None:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status == 0, "hangs" if status is None else status
    np.testing.assert_array_equal(predictor.predict_image(image).probabilities, expected)


def in_worker(predictor, path):
    (found,) = predictor.predict(path)
    return found.probabilities


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_predictor_is_sent_to_spawned_workers(engine, tmp_path):
    noise(50, 70).save(tmp_path / "a.png")
    predictor = load(TINY, engine)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(in_worker, (predictor, str(tmp_path / "a.png"))).get(60)
    np.testing.assert_array_equal(found, in_worker(predictor, tmp_path / "a.png"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_folder_of_photos_and_of_huge_images():
    script = Path(__file__).parents[1] / "benchmarks" / "memory.py"
    command = [sys.executable, str(script), "--photos", "8", "--huge", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
