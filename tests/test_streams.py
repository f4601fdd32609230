"""Many images: batches on every core give what one image at a time gives, and nothing waits."""

import io
import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.preprocessing import Preprocessing
from resnets.runtime import Predictor, decoding, load, opening, streams
from resnets.runtime.decoding import read_input
from resnets.runtime.engines import available_engines, make_engine
from resnets.runtime.file_engine import EngineError
from resnets.runtime.onnxfile import read_onnx

TINY = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
CLASSES = ("dark", "gray", "light")


class Brightness:
    """An engine that says `dark`, `gray` or `light` by the mean of the pixels."""

    name, version = "brightness", "1"

    def __init__(self, shape=None, pause=0.0):
        self.shape, self.pause, self.counts, self.opened = shape, pause, [], []

    def for_batches(self, shape):
        made = type(self)(shape, self.pause)
        self.opened.append(made)
        return made

    def __call__(self, image):
        time.sleep(self.pause)
        self.counts.append(len(image))
        unit = image.astype(np.float32).mean((1, 2, 3)) / 255
        return {"probabilities": np.stack([(1 - unit) ** 2, 2 * unit * (1 - unit), unit**2], 1)}


def brightness(**changes) -> Predictor:
    return Predictor(Brightness(), CLASSES, Preprocessing(**{"fit": "stretch", **changes}))


def plain(number: int) -> np.ndarray:
    return np.full((9, 13, 3), number * 37 % 256, np.uint8)


def said(predictions) -> list[tuple[str, str | None, list[float] | None]]:
    return [
        (one.file, one.error, None if one.error else one.probabilities.tolist())
        for one in predictions
    ]


@pytest.mark.parametrize("count", [1, streams.FEW, streams.FEW + 1, 61])
def test_batches_give_what_single_images_give_in_their_order(count, tmp_path):
    """With images that cannot be read among them, and remarks."""
    images = [plain(number) for number in range(count)]
    images[count // 2] = b"no image"
    images[-1] = Image.new("LA", (3, 3))
    ready = brightness()
    batched, alone = ready.predict(images), ready.exactly().predict(images)
    assert said(batched) == said(alone)
    assert bool(ready.engine.opened) == (count > streams.FEW)
    for engine in ready.engine.opened:
        assert set(engine.counts) <= set(range(1, engine.shape[0] + 1))
        assert max(engine.counts) > 1 or count == streams.FEW + 1
    last = list(ready.predict(images))[-1]
    assert last.notes == ("transparency laid on white",)


def test_an_image_of_another_shape_is_a_mistake_that_is_raised_in_its_turn():
    images = [plain(number) for number in range(40)]
    images[30] = images[30].astype(np.float64)
    given = []

    def take():
        for one in brightness().predict(images):
            given.append(one.file)

    with pytest.raises(ValueError, match="this network takes"):
        take()
    assert given == [f"image {number}" for number in range(30)]


def test_where_a_batch_fails_each_image_is_computed_alone():
    """One image, or the memory for a batch, fails no other."""

    class Choosy(Brightness):
        def __call__(self, image):
            if len(image) > 1 or (image == 255).all():
                raise EngineError("not enough memory")
            return super().__call__(image)

    images = [
        np.full((4, 4, 3), 255 if number in (20, 33) else 7, np.uint8) for number in range(40)
    ]
    ready = Predictor(Choosy(), CLASSES, Preprocessing(fit="stretch"))
    errors = [one.error for one in ready.predict(images)]
    assert [number for number, error in enumerate(errors) if error] == [20, 33]
    assert set(filter(None, errors)) == {"not enough memory"}


def test_few_images_wait_and_a_caller_who_stops_leaves_no_thread():
    asked, ready = 0, brightness()
    height, width, _ = ready.preprocessing.framed_shape
    size = streams.batch_size(height, width)

    def endless():
        nonlocal asked
        for asked in itertools.count(1):
            yield plain(asked)

    ready._threads = 2
    predictions = ready.predict(endless())
    next(predictions)
    assert asked <= 4
    given = 1 + sum(1 for _ in itertools.islice(predictions, 200))
    assert asked - given <= size * (2 * streams.BATCHES_AHEAD + 2)
    predictions.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("decode", "predict"))]


def test_sizes_of_batches():
    assert streams.batch_size(256, 256) == 8
    assert streams.batch_size(32, 32) == streams.MOST
    assert streams.batch_size(1024, 1024) == 1


# --- which engine


def test_the_faster_engine_computes_the_rest_and_all_results_are_used():
    ready = brightness()
    slow, fast = Brightness(pause=0.02), Brightness(pause=0.001)
    ready.engine, ready._threads = slow, 2
    ready._find_others = lambda: {"fast": lambda shape: fast}
    few = [plain(number) for number in range(streams.MANY)]
    assert said(ready.predict(few)) == said(brightness().predict(few))
    assert not fast.counts
    assert not ready.remark
    slow.opened.clear()
    images = [plain(number) for number in range(16 + 3 * streams.MANY)]
    assert said(ready.predict(images)) == said(brightness().predict(images))
    assert ready.remark.startswith("fast ")
    assert ready.remark.endswith(" times as fast as brightness here")
    (opened,) = slow.opened
    assert streams.MANY <= sum(opened.counts) < streams.MANY + 16 * opened.shape[0]
    assert sum(opened.counts) + sum(fast.counts) == 3 * streams.MANY


def test_an_engine_that_cannot_run_the_graph_is_left_out():
    def refuse(shape):
        raise ValueError("cannot run it")

    ready = brightness()
    ready._find_others = lambda: {"other": refuse}
    images = [plain(number) for number in range(2 * streams.MANY)]
    assert said(ready.predict(images)) == said(brightness().predict(images))
    assert not ready.remark


@pytest.mark.skipif(len(available_engines()) < 2, reason="one engine is installed")
def test_nobody_is_given_the_predictions_of_an_engine_that_gives_others(monkeypatch):
    """`auto` compares the images inside the file before it takes another engine for batches."""
    from resnets.runtime.engines import OpenVinoEngine

    file, true = read_onnx(TINY), OpenVinoEngine._run
    shape = (4, *file.preprocessing.framed_shape)
    assert opening._open_other(file, "openvino", shape).name == "openvino"

    def turned_around(self, image):
        return {name: array[:, ::-1] for name, array in true(self, image).items()}

    monkeypatch.setattr(OpenVinoEngine, "_run", turned_around)
    with pytest.raises(ValueError, match="NOT VERIFIED"):
        opening._open_other(file, "openvino", shape)
    ready, images = load(TINY), [plain(number) for number in range(2 * streams.MANY)]
    expected = np.stack([one.probabilities for one in ready.exactly().predict(images)])
    found = np.stack([one.probabilities for one in ready.predict(images)])
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(expected - expected[:, ::-1]).max() > 0.01  # what was refused would show
    assert not ready.remark


@pytest.mark.parametrize("name", available_engines())
def test_a_graph_made_for_batches_gives_the_same_for_any_number_of_images(name):
    """Fewer than a batch, one, and several; to float32 rounding."""
    file = read_onnx(TINY)
    whole = make_engine(name, TINY, kind=file.kind)
    batches = whole.for_batches((4, *file.preprocessing.framed_shape))
    images = np.random.default_rng(0).integers(
        0, 256, (11, *file.preprocessing.framed_shape), np.uint8
    )
    for count in (1, 3, 4, 5, 11):
        expected, found = whole(images[:count]), batches(images[:count])
        assert found.keys() == expected.keys()
        for output, array in found.items():
            np.testing.assert_allclose(array, expected[output], atol=2e-6, rtol=1e-5)
    with pytest.raises(EngineError, match="was made for"):
        batches(images[:, :-1])


def test_precisions(tmp_path):
    with pytest.raises(ValueError, match="float32 alone"):
        make_engine("onnxruntime", TINY, precision="bfloat16")
    with pytest.raises(ValueError, match="allowed: float32, bfloat16"):
        make_engine("onnxruntime", TINY, precision="int4")


# --- decoded at a smaller scale


def photo(width: int, height: int, **options) -> bytes:
    """A JPEG file with something to see in it at every scale."""
    y, x = np.mgrid[0:height, 0:width]
    values = [127 + 60 * np.sin(x / period) + 60 * np.cos(y / period) for period in (97, 23, 11)]
    stream = io.BytesIO()
    image = Image.fromarray(np.stack(values, 2).clip(0, 255).astype(np.uint8))
    image.save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(2000, 1500), (1500, 2003), (1025, 1999)], ids=str)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_large_photo_shows_the_same_at_a_smaller_scale(fit, size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content, value = photo(*size, exif=exif), Preprocessing(fit=fit)
    exact, reduced = (read_input(content, value, exact) for exact in (True, False))
    assert reduced.size == exact.size
    assert reduced.notes == exact.notes
    assert reduced.framed.shape == exact.framed.shape
    off = np.abs(reduced.framed.astype(int) - exact.framed)
    assert 0 < off.mean() < 0.3
    assert off.max() <= 3


def test_only_what_is_four_times_as_large_as_needed_is_decoded_at_a_smaller_scale():
    value = Preprocessing()  # 256 px before it is cut
    for content, fits in ((photo(1024, 1024), False), (photo(1023, 1400), True)):
        pairs = [read_input(content, value, exact).framed for exact in (True, False)]
        assert np.array_equal(*pairs) == fits
    png = io.BytesIO()
    Image.open(io.BytesIO(photo(1024, 1024))).save(png, "PNG")
    pairs = [read_input(png.getvalue(), value, exact).framed for exact in (True, False)]
    np.testing.assert_array_equal(*pairs)


def test_a_smaller_scale_takes_less_of_the_memory_that_is_shared(monkeypatch):
    taken, take = [], decoding.DECODING.take

    def noted(amount):
        taken.append(amount)
        return take(amount)

    monkeypatch.setattr(decoding.DECODING, "take", noted)
    for content in (photo(2048, 2048), photo(2048, 2048, progressive=True)):
        for exact in (True, False):
            read_input(content, Preprocessing(), exact)
    whole = 2048 * 2048
    assert taken == [4 * whole, 4 * whole / 16, 12 * whole, 12 * whole]
